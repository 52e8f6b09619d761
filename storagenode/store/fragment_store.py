"""Fragments over the disks of one node: the contract of a storage node.

A fragment is written cell by cell and exists when its last cell is on disk; before that nothing
can read it, and after a crash it is gone. It never changes. Deleting is idempotent, and what was
deleted cannot be written again.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial

from common import faults
from common.buffers import Buffer, BufferPool
from common.checksum import crc32c_blocks
from common.clock import Clock
from common.limits import IDENTITY_BYTES_MAX
from proto import scrub_pb2, storage_pb2
from storagenode.store.disk import Disk
from storagenode.store.extents import Extent
from storagenode.store.files import PAGE, align
from storagenode.store.index import Tombstone
from storagenode.store.record import HEADER_READ_BYTES, Record, decode_header, shape_of
from storagenode.store.verify import MISSING, Verdict
from storagenode.store.writes import Write

Piece = bytes | bytearray | memoryview

BLOB_ID_BYTES = 16
OPEN_IDLE_S = 600.0  # a fragment without a new cell for so long is given up
LIST_MAX = 1000
VERIFY_MAX = 64  # fragments of one call: it must end within its deadline


@dataclass(slots=True)
class _Open:
    """A fragment that is being written; `last` is the write that finishes it."""

    record: Record
    extent: Extent
    disk: Disk
    touched_s: float
    next_cell: int = 0
    table: bytes = b""
    last: Write | None = None


class FragmentStore:
    """All fragments of a node."""

    def __init__(self, disks: list[Disk], clock: Clock, pool: BufferPool) -> None:
        self.disks = disks
        self._clock = clock
        self._pool = pool
        self._open: dict[tuple[bytes, int], _Open] = {}
        self._opening: dict[tuple[bytes, int], asyncio.Task[_Open]] = {}

    def disk(self, disk_id: int) -> Disk:
        """A disk by its number. raises NotFound("disk")"""
        for disk in self.disks:
            if disk.identity.disk_id == disk_id:
                return disk
        raise faults.NotFound("disk", str(disk_id))

    # --- writing ------------------------------------------------------------------------------

    def begin_put(
        self, request: storage_pb2.PutCell, cell: Piece, slot: Buffer | None
    ) -> Awaitable[None]:
        """The same as `put_cell`; a small fragment for which there is room needs no task."""
        if request.last and not request.cell_index:
            done = self._put_whole(request, cell)
            if done is not None:
                return done
        return self.put_cell(request, cell, slot)

    async def put_cell(
        self, request: storage_pb2.PutCell, cell: Piece, slot: Buffer | None
    ) -> None:
        """Write one cell; after the last one the fragment is on disk when this returns.

        cell     its bytes; where they are in a slot, the slot's memory is written as it is
        raises   Invalid, Corrupt (not what its checksums say), Full, Unavailable, AlreadyExists,
                 Fenced (deleted, perhaps while it was written)
        """
        table = _checked_table(request, cell)
        opened = await self._opened(request)
        if len(cell) != opened.record.cell_size(request.cell_index):
            self._give_up(opened)
            raise faults.Invalid("cell", str(len(cell)), "not as large as was declared")
        if opened.record.is_packed:
            await self._write_packed(opened, request, cell)
            return
        try:
            await self._write_paged(opened, request, cell, slot, table)
        except BaseException:
            self._give_up(opened)
            raise
        opened.touched_s = self._clock.monotonic_s()
        if request.last:
            self._finish(opened)

    def _put_whole(
        self, request: storage_pb2.PutCell, cell: Piece
    ) -> "asyncio.Future[None] | None":
        """Begin to write a packed fragment; None: it is none, or must wait for its space."""
        _check_declaration(request)
        shape = shape_of(
            request.fragment_bytes, request.cell_bytes, request.block_bytes, len(request.identity)
        )
        if not shape.is_packed:
            return None
        _checked_table(request, cell)
        if len(cell) != request.fragment_bytes:
            raise faults.Invalid("cell", str(len(cell)), "not as large as was declared")
        key = (request.blob_id, request.index)
        if key in self._open or key in self._opening:
            raise faults.AlreadyExists("fragment", request.blob_id.hex())
        disk = self.disk(request.disk_id)
        written_ns = self._check_new(request, disk)
        place = disk.reserve_now(shape.record_bytes)
        if place is None:
            return None
        opened = self._open[key] = self._place(request, disk, place, written_ns)
        return self._write_packed(opened, request, cell)

    async def _opened(self, request: storage_pb2.PutCell) -> _Open:
        """The fragment of a cell; later cells wait in order while space is found for the first."""
        key = (request.blob_id, request.index)
        if request.cell_index == 0:
            if key in self._open or key in self._opening:
                raise faults.AlreadyExists("fragment", request.blob_id.hex())
            if request.last:  # no other cell will ask for it meanwhile
                self._open[key] = await self._begin(request)
            else:
                opening = asyncio.get_running_loop().create_task(self._begin(request))
                self._opening[key] = opening
                try:
                    self._open[key] = await opening
                finally:
                    del self._opening[key]
        elif key in self._opening:
            await asyncio.wait([self._opening[key]])
        opened = self._open.get(key)
        if opened is None or opened.next_cell != request.cell_index:
            raise faults.Invalid("cell_index", str(request.cell_index), "out of order")
        if request.last != (request.cell_index == opened.record.cell_count - 1):
            raise faults.Invalid("last", str(request.last), "not what was declared")
        opened.next_cell += 1
        return opened

    async def _begin(self, request: storage_pb2.PutCell) -> _Open:
        _check_declaration(request)
        disk = self.disk(request.disk_id)
        written_ns = self._check_new(request, disk)
        shape = shape_of(
            request.fragment_bytes, request.cell_bytes, request.block_bytes, len(request.identity)
        )
        return self._place(request, disk, await disk.reserve(shape.record_bytes), written_ns)

    def _check_new(self, request: storage_pb2.PutCell, disk: Disk) -> int:
        """Whether a fragment may be written; returns its time. raises Fenced, AlreadyExists"""
        disk.check_up()
        tombstone = disk.index.tombstone(request.blob_id, request.index)
        if disk.is_deleting(request.blob_id, request.index) or (
            tombstone is not None and not _may_return(tombstone, request.fence)
        ):
            raise faults.Fenced("fragment", request.blob_id.hex())
        if disk.lookup(request.blob_id, request.index) is not None:
            raise faults.AlreadyExists("fragment", request.blob_id.hex())
        # Later than its deletion, whatever the clock did since: a rebuild of the index compares.
        return max(self._clock.now_ns(), tombstone.deleted_ns + 1 if tombstone else 0)

    def _place(
        self,
        request: storage_pb2.PutCell,
        disk: Disk,
        place: tuple[Extent, int],
        written_ns: int,
    ) -> _Open:
        extent, offset = place
        record = Record(
            request.blob_id, request.index, extent.number, offset, request.fragment_bytes,
            request.cell_bytes, request.block_bytes, len(request.identity), written_ns,
        )  # fmt: skip
        return _Open(record, extent, disk, self._clock.monotonic_s())

    def _write_packed(
        self, opened: _Open, request: storage_pb2.PutCell, cell: Piece
    ) -> "asyncio.Future[None]":
        """Write a whole fragment; it is in the index when the future is done."""
        record, table = opened.record, request.block_checksums
        size = record.record_bytes
        buffer = self._pool.take_now(size)
        view = buffer.view
        header = record.encode_header(request.identity)
        middle = len(header) + len(cell)
        view[: len(header)] = header
        view[len(header) : middle] = cell
        view[middle:] = record.encode_trailer(table).ljust(size - middle, b"\x00")
        write = Write(
            opened.extent, record.offset, [view],
            is_alone=True, row=(record, table), release=buffer.release,
        )  # fmt: skip
        opened.last = write
        write.done.add_done_callback(partial(self._packed_written, opened))
        return opened.disk.write(write)

    def _packed_written(self, opened: _Open, done: "asyncio.Future[None]") -> None:
        if done.cancelled() or done.exception() is not None:
            self._give_up(opened)
        elif self._open.get((opened.record.blob_id, opened.record.index)) is opened:
            self._finish(opened)

    async def _write_paged(
        self,
        opened: _Open,
        request: storage_pb2.PutCell,
        cell: Piece,
        slot: Buffer | None,
        table: bytes,
    ) -> None:
        record, index = opened.record, request.cell_index
        size, taken = align(len(cell)), []
        opened.table += table
        if slot is None:
            slot = self._take(cell, size)
            taken.append(slot)
        body = slot.padded(size)
        body[len(cell) :] = bytes(size - len(cell))
        pieces, offset = [body], record.cell_offset(index)
        if index == 0:
            header = record.encode_header(request.identity)
            taken.append(self._take(header, len(header)))
            pieces.insert(0, taken[-1].view)
            offset = record.offset
        if request.last:
            trailer = record.encode_trailer(opened.table)
            taken.append(self._take(trailer, len(trailer)))
            pieces.append(taken[-1].view)
        write = Write(opened.extent, offset, pieces, needs_sync=request.last)
        if request.last:
            write.row, opened.last = (record, opened.table), write
        try:
            await opened.disk.write(write)
        finally:
            for buffer in taken:
                buffer.release()

    def _take(self, data: Piece, size: int) -> Buffer:
        """Page-aligned memory with a copy of some bytes."""
        assert size % PAGE == 0, "whole pages"
        buffer = self._pool.take_now(size)
        buffer.view[: len(data)] = data
        return buffer

    def _finish(self, opened: _Open) -> None:
        """Count a fragment that is on disk and in the index. raises Fenced: deleted meanwhile"""
        key = (opened.record.blob_id, opened.record.index)
        if self._open.get(key) is not opened:
            raise faults.Fenced("fragment", opened.record.blob_id.hex())
        del self._open[key]
        disk = opened.disk
        disk.damaged.pop(key, None)
        disk.fragment_count += 1
        opened.extent.open_writes -= 1
        disk.close_if_done(opened.extent)

    def _give_up(self, opened: _Open) -> None:
        """Forget a fragment; what of it is being written will not get into the index."""
        record = opened.record
        key = (record.blob_id, record.index)
        if self._open.get(key) is not opened:
            return
        del self._open[key]
        opened.extent.live_bytes -= record.record_bytes
        opened.extent.open_writes -= 1
        if opened.last is not None:
            opened.last.row = None
            if not opened.last.done.done():
                opened.last.done.set_exception(faults.Fenced("fragment", record.blob_id.hex()))
        opened.disk.close_if_done(opened.extent)

    def give_up(self, disk: Disk) -> None:
        """Forget what is unfinished on a disk that is closed."""
        for opened in [opened for opened in self._open.values() if opened.disk is disk]:
            self._give_up(opened)

    def give_up_idle(self) -> int:
        """Drop fragments whose writer went away; returns how many."""
        horizon = self._clock.monotonic_s() - OPEN_IDLE_S
        idle = [opened for opened in self._open.values() if opened.touched_s < horizon]
        for opened in idle:
            self._give_up(opened)
        return len(idle)

    # --- reading ------------------------------------------------------------------------------

    async def read(
        self, request: storage_pb2.ReadFragment
    ) -> tuple[storage_pb2.ReadFragmentReply, Buffer]:
        """Read ranges of whole blocks; the reader verifies them with the checksums in the reply.

        returns  the reply, and a buffer to release
        raises   NotFound("fragment"), Invalid, Corrupt, Unavailable
        """
        disk = self.disk(request.disk_id)
        found = disk.lookup(request.blob_id, request.index)
        if found is None:
            raise faults.NotFound("fragment", request.blob_id.hex())
        record, table = found
        places, checksums = [], []
        for wanted in request.ranges:
            places.append((record.place(wanted.offset, wanted.length), wanted.length))
            first, end = record.blocks(wanted.offset, wanted.length)
            checksums.append(table[4 * first : 4 * end])
        buffer = await disk.read(record, places)
        reply = storage_pb2.ReadFragmentReply(
            block_checksums=b"".join(checksums), fragment_bytes=record.fragment_bytes
        )
        if request.with_identity:
            try:
                reply.identity = await _identity(disk, record)
            except BaseException:
                buffer.release()
                raise
        return reply, buffer

    def stat(self, fragment: storage_pb2.FragmentId) -> storage_pb2.FragmentInfo | None:
        """What is known of a fragment; None: it is not here."""
        disk = self.disk(fragment.disk_id)
        found = disk.lookup(fragment.blob_id, fragment.index)
        if found is None:
            return None
        info = _info(found[0])
        info.damaged = (fragment.blob_id, fragment.index) in disk.damaged
        return info

    def stat_all(self, request: storage_pb2.StatFragments) -> storage_pb2.StatFragmentsReply:
        """Those of the named fragments that are here."""
        found = [self.stat(fragment) for fragment in request.fragments]
        return storage_pb2.StatFragmentsReply(fragments=[info for info in found if info])

    def list(self, request: storage_pb2.ListFragments) -> storage_pb2.ListFragmentsReply:
        """A page of a disk's fragments, by id. raises NotFound("disk")"""
        limit = min(request.limit or LIST_MAX, LIST_MAX)
        rows = self.disk(request.disk_id).page(request.after, request.blob_prefix, limit + 1)
        return storage_pb2.ListFragmentsReply(
            fragments=[_info(record) for record, _ in rows[:limit]], more=len(rows) > limit
        )

    async def verify(self, request: scrub_pb2.VerifyFragments) -> scrub_pb2.VerifyFragmentsReply:
        """Read fragments whole and judge each. raises NotFound("disk"), Invalid for too many"""
        if len(request.fragments) > VERIFY_MAX:
            raise faults.Invalid("fragments", str(len(request.fragments)), f"over {VERIFY_MAX}")
        reply = scrub_pb2.VerifyFragmentsReply()
        for fragment in request.fragments:
            verdict = await self._verify(fragment)
            reply.verdicts.add(
                fault=verdict.fault, bad_blocks=verdict.bad_blocks, bytes=verdict.bytes_read
            )
        return reply

    async def _verify(self, fragment: storage_pb2.FragmentId) -> Verdict:
        """One fragment; if it was found bad it must still be there: it may have been moved."""
        disk = self.disk(fragment.disk_id)
        found, verdict = disk.lookup(fragment.blob_id, fragment.index), MISSING
        while found is not None:
            (verdict,) = await disk.verify(found)
            before, found = found, disk.lookup(fragment.blob_id, fragment.index)
            if verdict.fault and before == found:
                disk.note_damage(fragment.blob_id, fragment.index, verdict.fault)
            if not verdict.fault or before == found:
                return verdict
        return MISSING

    # --- deleting -----------------------------------------------------------------------------

    async def delete(
        self, request: storage_pb2.DeleteFragments
    ) -> storage_pb2.DeleteFragmentsReply:
        """Delete fragments, also such as are still being written; durable when this returns.

        Those written at written_before_ns or later stay: a caller who was away for long does not
        delete what came after it had decided.
        """
        by_disk: dict[int, list[storage_pb2.FragmentId]] = {}
        for fragment in request.fragments:
            by_disk.setdefault(fragment.disk_id, []).append(fragment)
        deleted = 0
        for disk_id, fragments in by_disk.items():
            disk = self.disk(disk_id)
            if disk.health.is_waiting:
                raise faults.Unavailable("the disk lets its node wait; deletions can")
            records, others = [], []
            for fragment in fragments:
                opened = self._open.get((fragment.blob_id, fragment.index))
                if opened is not None:
                    self._give_up(opened)
                    others.append((fragment.blob_id, fragment.index))
                    continue
                found = disk.lookup(fragment.blob_id, fragment.index)
                if found is None:
                    others.append((fragment.blob_id, fragment.index))
                elif not 0 < request.written_before_ns <= found[0].written_ns:
                    records.append(found[0])
            deleted += await disk.delete(
                records, others, may_return=request.may_return, fence=request.fence
            )
        return storage_pb2.DeleteFragmentsReply(
            deleted=deleted, absent=len(request.fragments) - deleted
        )

    async def close(self) -> None:
        """Give up what is unfinished and close all disks cleanly."""
        for opened in list(self._open.values()):
            self._give_up(opened)
        for disk in self.disks:
            await disk.close()


async def _identity(disk: Disk, record: Record) -> bytes:
    """What a fragment's header says of its object. raises Corrupt, NotFound, Unavailable"""
    size = min(align(record.header_bytes), HEADER_READ_BYTES)
    buffer = await disk.read(record, [(record.offset, size)])
    try:
        found = decode_header(buffer.view, record.extent, record.offset)
        if found != record:
            raise faults.Corrupt("fragment header", record.blob_id.hex(), "not as indexed")
        return record.identity_of(buffer.view)
    finally:
        buffer.release()


def _may_return(tombstone: Tombstone, fence: int) -> bool:
    """Whether a deleted fragment may be written again: not by who is older than its deletion."""
    return tombstone.may_return and (tombstone.fence == 0 or fence > tombstone.fence)


def _check_declaration(request: storage_pb2.PutCell) -> None:
    if len(request.blob_id) != BLOB_ID_BYTES or not 0 <= request.index < 256:
        raise faults.Invalid("fragment id", request.blob_id.hex(), "malformed")
    if not 0 < request.cell_bytes <= request.fragment_bytes or not request.block_bytes:
        raise faults.Invalid("fragment size", str(request.fragment_bytes), "malformed")
    if len(request.identity) > IDENTITY_BYTES_MAX:
        raise faults.Invalid("identity", str(len(request.identity)), "too long")


def _checked_table(request: storage_pb2.PutCell, cell: Piece) -> bytes:
    """The cell's checksums, after its bytes were compared with them. raises Corrupt"""
    if not request.block_bytes:
        raise faults.Invalid("block_bytes", "0", "malformed")
    table = crc32c_blocks(memoryview(cell), request.block_bytes)
    if table != request.block_checksums:
        raise faults.Corrupt("cell", request.blob_id.hex(), f"cell {request.cell_index}")
    return table


def _info(record: Record) -> storage_pb2.FragmentInfo:
    return storage_pb2.FragmentInfo(
        blob_id=record.blob_id,
        index=record.index,
        fragment_bytes=record.fragment_bytes,
        written_ns=record.written_ns,
    )
