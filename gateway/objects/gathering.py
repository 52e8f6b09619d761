"""Cells of small objects that leave for a storage node together.

What a node does for a small fragment it does for the most part once for all that arrive at the same
time: it wakes, reads the connection, writes to the disk and syncs it, answers. So while many small
objects are being stored, their cells wait for one another, twice as long as the node usually
takes to answer; those of a few clients that store one object after another never wait.
"""

from common.limits import KIB

SMALL_CELL_BYTES_MAX = 32 * KIB  # what is large keeps a node busy long enough
AT_ONCE_MIN = 8  # small objects under way in this gateway; with fewer nobody waits


class Gathering:
    """How many small objects a gateway is storing, and whether a cell of theirs may wait."""

    def __init__(self) -> None:
        self._under_way = 0

    def begin(self) -> None:
        """A small object is about to be stored; pair with `end`."""
        self._under_way += 1

    def end(self) -> None:
        """It has been committed, or given up."""
        self._under_way -= 1

    def may_wait(self, cell_bytes: int) -> bool:
        """Whether a cell may wait for others to the same node, or must leave at once."""
        return cell_bytes <= SMALL_CELL_BYTES_MAX and self._under_way >= AT_ONCE_MIN
