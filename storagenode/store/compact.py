"""Giving space back: live fragments are copied out of sparse extents, which are then removed.

Order: copy, sync, let the index name the new place, remove the extent when no read uses it. A
crash in between leaves the fragment in two places; the index names one of them.
"""

import logging

from common import faults
from common.buffers import BufferPool
from common.checksum import crc32c_blocks
from storagenode.store.disk import Disk
from storagenode.store.extents import Extent, scan_blocking
from storagenode.store.record import Record
from storagenode.store.writes import Write

log = logging.getLogger(__name__)

LIVE_SHARE_MAX = 0.5  # emptier extents are worth copying
EXTENTS_AT_ONCE_MAX = 16  # of a full disk, whose clients wait for room


class Compactor:
    """Compacts the extents of one disk, one at a time."""

    def __init__(self, disk: Disk, pool: BufferPool) -> None:
        self._disk = disk
        self._pool = pool

    async def run_once(self) -> int:
        """Empty the sparsest extent, if one is sparse enough; returns the bytes given back.

        raises   Full (nothing is lost: the extent stays), Unavailable
        """
        disk = self._disk
        if disk.is_rebuilding or disk.failure:
            return 0  # what is live is not known, or nothing can be written
        with disk.in_use():
            return await self._empty_one(disk)

    async def _empty_one(self, disk: Disk) -> int:
        given_back = await disk.drop_empty_extents()
        sparse = [
            extent
            for extent in disk.extents.by_number.values()
            if extent.is_closed and 0 < extent.live_bytes < LIVE_SHARE_MAX * extent.file.size_bytes
        ]
        if not sparse:
            return given_back
        extent = min(sparse, key=lambda candidate: candidate.live_bytes)
        if extent.live_bytes > disk.room_for_moves_bytes:
            raise faults.Full(str(disk.settings.folder))  # half of it would be no help
        for record, table in await self._scan(extent):
            found = disk.lookup(record.blob_id, record.index)
            if table is not None and found is not None and found[0] == record:
                await self._move(extent, record, table)
        return given_back + await disk.drop_empty_extents()

    async def _scan(self, extent: Extent) -> list[tuple[Record, bytes | None]]:
        extent.readers += 1
        try:
            found: list[tuple[Record, bytes | None]] = await self._disk.run_scrub(
                list, scan_blocking(extent)
            )
            return found
        finally:
            extent.readers -= 1

    async def _move(self, source: Extent, record: Record, table: bytes) -> None:
        disk = self._disk
        target, offset = await disk.reserve(record.record_bytes, move_bytes=source.live_bytes)
        moved = Record(
            record.blob_id, record.index, target.number, offset, record.fragment_bytes,
            record.cell_bytes, record.block_bytes, record.identity_bytes, record.written_ns,
        )  # fmt: skip
        is_moved = False
        try:
            buffer = await disk.read(record, [(record.offset, record.record_bytes)])
            try:
                if _is_intact(record, table, buffer.view):
                    identity = record.identity_of(buffer.view)
                    header = moved.encode_header(identity)
                    buffer.view[: len(header)] = header
                    await disk.write(Write(target, offset, [buffer.view]))
                    is_moved = await disk.run_in_order(disk.index.repoint, record, moved, table)
            finally:
                buffer.release()
        finally:
            target.open_writes -= 1
            if is_moved:
                source.live_bytes -= record.record_bytes
            else:
                target.live_bytes -= record.record_bytes
            disk.close_if_done(target)


def _is_intact(record: Record, table: bytes, data: memoryview) -> bool:
    """Whether all blocks are what their checksums say; a bad one is left for repair to find."""
    found = b"".join(
        crc32c_blocks(
            data[at : at + record.cell_size(cell)],
            record.block_bytes,
        )
        for cell in range(record.cell_count)
        for at in (record.cell_offset(cell) - record.offset,)
    )
    if found != table:
        log.error("a fragment is corrupt", extra={"blob": record.blob_id.hex()})
        return False
    return True


async def compact_all(disks: list[Disk], pool: BufferPool) -> int:
    """Compact every disk once, a full one until it is not; returns the bytes given back."""
    given_back = 0
    for disk in disks:
        try:
            for _ in range(EXTENTS_AT_ONCE_MAX):
                gained = await Compactor(disk, pool).run_once()
                given_back += gained
                if not gained or disk.condition != "full":
                    break
        except faults.Full:
            log.warning("no room to compact", extra={"disk": str(disk.settings.folder)})
    return given_back
