"""Building a disk's index anew from its extents, while the node serves what it has found so far."""

import logging

from common import faults
from common.clock import Clock
from storagenode.store.disk import Disk
from storagenode.store.extents import scan_blocking
from storagenode.store.record import Record

log = logging.getLogger(__name__)

ROWS_PER_BATCH = 1000


async def rebuild(disk: Disk, clock: Clock) -> int:
    """Replace an index that cannot be trusted; returns how many fragments were found.

    Meanwhile the disk takes nothing new, and says of what it has not found that it does not know.
    Tombstones are taken over as far as they can be read; deleted fragments are marked in their
    extents too, so that one that is lost matters only for a mark that failed.
    """
    begun_s = clock.monotonic_s()
    with disk.in_use():
        found = await _build(disk)
    log.warning(
        "the index was rebuilt",
        extra={"fragments": found, "seconds": round(clock.monotonic_s() - begun_s, 1)},
    )
    return found


async def _build(disk: Disk) -> int:
    await disk.set_index_aside()
    found = 0
    for extent in list(disk.extents.by_number.values()):
        extent.readers += 1
        try:
            records: list[tuple[Record, bytes | None]] = await disk.run_scrub(
                list, scan_blocking(extent)
            )
            if not extent.is_closed:  # what was whole may never have been synced
                await disk.run_scrub(extent.file.sync)
        except (OSError, faults.Corrupt) as error:
            log.error("an extent cannot be read: %s", error, extra={"extent": extent.number})
            continue
        finally:
            extent.readers -= 1
        for record, table in records:
            if table is not None and not disk.index.is_dead(record):
                disk.index.put(record, table)
                found += 1
    _count_again(disk)
    disk.is_rebuilding = False
    return found


def _count_again(disk: Disk) -> None:
    """Set what is counted from the rows; extents being written keep at least what they had."""
    live: dict[int, int] = {}
    disk.fragment_count = 0
    for record in disk.index.all():
        live[record.extent] = live.get(record.extent, 0) + record.record_bytes
        disk.fragment_count += 1
    extents = disk.extents
    for number, extent in extents.by_number.items():
        counted = live.get(number, 0)
        extent.live_bytes = max(counted, extent.live_bytes if extent.open_writes else 0)
    if extents.active is None:
        unfinished = [extent for extent in extents.by_number.values() if not extent.is_closed]
        if unfinished:
            extents.active = max(unfinished, key=lambda extent: extent.number)
    for extent in extents.by_number.values():
        if extent.is_closed:
            disk.close_extent(extent.number)
        else:
            disk.close_if_done(extent)
