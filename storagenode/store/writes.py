"""The blocking half of a disk's reads and writes: pieces of work, and how they are joined."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from storagenode.store.extents import Extent

READ_NOW_BYTES_MAX = 2 * 1024 * 1024  # copied in the event loop, if it is cached
PIECES_MAX = 512  # of one write call; the kernel takes 1,024


@dataclass(slots=True)
class Write:
    """One piece of work for the writer thread."""

    extent: Extent
    offset: int
    pieces: Sequence[memoryview]
    needs_sync: bool
    done: "asyncio.Future[None]"


def joined(group: list[Write]) -> Iterator[tuple[Extent, int, list[memoryview]]]:
    """Writes that continue one another in an extent, as one: small fragments come in bunches."""
    extent: Extent | None = None
    begin = end = 0
    pieces: list[memoryview] = []
    for write in group:
        if write.extent is not extent or write.offset != end or len(pieces) >= PIECES_MAX:
            if extent is not None:
                yield extent, begin, pieces
            extent, begin, end, pieces = write.extent, write.offset, write.offset, []
        pieces.extend(write.pieces)
        end += sum(len(piece) for piece in write.pieces)
    if extent is not None:
        yield extent, begin, pieces


def read_now(extent: Extent, places: Sequence[tuple[int, int]], into: memoryview) -> bool:
    """Read ranges one behind another if all are cached: a thread's hop costs more than the copy."""
    if len(into) > READ_NOW_BYTES_MAX:
        return False
    at = 0
    for offset, length in places:
        if not extent.file.read_now(offset, into[at : at + length]):
            return False
        at += length
    return True


def read_blocking(extent: Extent, places: Sequence[tuple[int, int]], into: memoryview) -> None:
    """Read ranges one behind another."""
    at = 0
    for offset, length in places:
        extent.file.read(offset, into[at : at + length])
        at += length
