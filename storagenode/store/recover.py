"""What a disk's extents hold when it is opened: unfinished ones are scanned, live bytes counted.

Afterwards at most one extent is open for new fragments. A process that was killed leaves others
that were never closed; open for good, they would neither be compacted nor removed.
"""

import errno
import logging
import mmap
from collections.abc import Callable, Sequence

from storagenode.store.extents import Extent, Extents, scan_blocking
from storagenode.store.index import Index
from storagenode.store.record import Record
from storagenode.store.verify import buffer_bytes, verify_blocking

log = logging.getLogger(__name__)


def recover_blocking(
    extents: Extents, index: Index, mark_dead: Callable[[Sequence[Record]], None]
) -> None:
    """Bring the index up to date; afterwards at most one extent is open. `count_live` comes next.

    raises   Corrupt, Unavailable (the index), OSError (an extent is not read, or does not sync)
    """
    closed = index.closed_extents()
    extents.numbers_used = max(closed, default=0)
    for number, extent in extents.by_number.items():
        if number in closed:
            extent.is_closed = True
            extent.used_bytes = extent.file.size_bytes
            continue
        found: dict[tuple[bytes, int], tuple[Record, bytes]] = {}
        dead = []
        for record, table in scan_blocking(extent):
            if table is not None and index.is_dead(record):
                dead.append(record)
            elif table is not None and _is_known_or_whole(index, extent, record, table):
                name = record.blob_id, record.index
                if name not in found or found[name][0].written_ns <= record.written_ns:
                    found[name] = record, table
        if found:
            # What was whole may never have been synced, and is answered for from now on: a row
            # says that its fragment was, so it comes after.
            extent.file.sync()
            index.put_all(found.values())
        # Their marks were lost with the power; without them they would be found again once
        # their tombstones are forgotten.
        mark_dead(dead)
        log.info("scanned extent", extra={"extent": number, "fragments": len(found)})
    _close_all_but_one(extents, index)


def _is_known_or_whole(index: Index, extent: Extent, record: Record, table: bytes) -> bool:
    """Whether a fragment was synced, or has arrived whole all the same.

    Of one that was under way the header and the trailer may be there, and not all between them.
    It is judged by the medium: after a failed sync the page cache shows what is not on it.
    """
    known = index.get(record.blob_id, record.index)
    if known is not None and known[0] == record:
        return True
    with mmap.mmap(-1, buffer_bytes(record)) as memory, memoryview(memory) as view:
        fault = verify_blocking(extent.file, record, table, view).fault
    if fault == "unreadable":
        raise OSError(errno.EIO, "a fragment that was not indexed cannot be read")
    if fault:
        log.warning("a fragment was cut short", extra={"blob": record.blob_id.hex()})
    return not fault


def count_live(extents: Extents, index: Index) -> int:
    """Set the extents' figures from the rows; returns how many fragments there are.

    raises   Corrupt (the index cannot be read to its end)
    """
    count = 0
    missing: dict[int, int] = {}
    for record in index.all():
        count += 1  # as many as rows, whatever became of their extents
        owner = extents.by_number.get(record.extent)
        if owner is None:
            # Its number is not given again: rows of what was lost would name what is new.
            extents.numbers_used = max(extents.numbers_used, record.extent)
            missing[record.extent] = missing.get(record.extent, 0) + 1
            continue
        owner.live_bytes += record.record_bytes
        # A damaged header ends the scan early; what lies behind it is not free.
        owner.used_bytes = max(owner.used_bytes, record.offset + record.record_bytes)
    for number, fragments in missing.items():
        log.error("an extent is missing", extra={"extent": number, "fragments": fragments})
    return count


def _close_all_but_one(extents: Extents, index: Index) -> None:
    unfinished: list[Extent] = [e for e in extents.by_number.values() if not e.is_closed]
    if not unfinished:
        return
    extents.active = max(unfinished, key=lambda extent: extent.number)
    for extent in unfinished:
        if extent is not extents.active:
            extent.is_closed = True
            index.close_extent_blocking(extent.number)
