"""One disk of a node: identity, extents, index, writing in groups, reading, deleting, space.

One thread writes fragments and deletes them, in groups (`writes.py`). A failed write or sync
poisons the disk: it acknowledges nothing more until it was closed, opened again and what is really
there was read (`reopen.py`). source  the fsync behaviour of Linux: after a failure the dirty pages
may be marked clean, so a second fsync proves nothing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from prometheus_client import Counter

from common import faults
from common.buffers import Buffer, BufferPool
from common.clock import Clock
from common.worker_thread import WorkerThread
from storagenode.store.deletes import GroupDeleter
from storagenode.store.extents import Extent, Extents, as_fault
from storagenode.store.files import PAGE, Files
from storagenode.store.health import Counters, DiskHealth
from storagenode.store.identity import load_identity, save_identity
from storagenode.store.index import ClosedIndex, Tombstone, replace_index
from storagenode.store.opening import INDEX_DAMAGED, Opened, nothing_open, open_blocking
from storagenode.store.record import Record
from storagenode.store.settings import DiskSettings
from storagenode.store.verify import Verdict, buffer_bytes, verify_all_blocking
from storagenode.store.writes import GroupWriter, Write, read_blocking, read_now

log = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")
Row = tuple[Record, bytes]

FAILURES = Counter("ostraka_disk_failures", "Times that a disk has failed", ["disk"])
DRAIN_S = 0.1  # between looks at whether a failed disk is still used
DAMAGED_MAX = 10_000
BORROWED_SHARE_MAX = 0.75  # of the reserve, by moves; the journal may take more
TOMBSTONE_KEEP_NS = 7 * 86_400 * 10**9


class Disk:
    """Fragments on one folder. Open it in a running loop."""

    def __init__(
        self, settings: DiskSettings, files: Files, clock: Clock, pool: BufferPool
    ) -> None:
        """raises Invalid (another cluster's, newer format), Corrupt"""
        self.settings = settings
        self.counters = Counters()
        self._files = files
        self._clock = clock
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._writer = WorkerThread("disk-write")
        self._readers = ThreadPoolExecutor(2, "disk-read")
        self._scrubber = ThreadPoolExecutor(1, "disk-scrub")
        files.make_folder(settings.folder)
        self.identity = load_identity(files, settings.folder)
        self.health = DiskHealth(clock)
        self.damaged: dict[tuple[bytes, int], str] = {}  # found bad, not yet deleted; and why
        self.reports: deque[tuple[bytes, int, str]] = deque(maxlen=DAMAGED_MAX)
        self._deleter = GroupDeleter(
            self._writer,
            self.health,
            lambda: self.index,
            lambda: self._tombstones,
            lambda records: self._mark_dead_blocking(self.extents, records),
        )
        self._rolling: asyncio.Task[None] | None = None
        self._uses = 0
        self.next_trial_ns = 0  # of a failed disk, by the wall clock; see reopen.py
        self._begin(self._open_blocking())
        self._save_identity(is_clean=False)

    # --- opening ------------------------------------------------------------------------------

    def _save_identity(self, *, is_clean: bool) -> None:
        self.identity.is_clean = is_clean
        save_identity(self._files, self.settings.folder, self.identity)

    def adopt(self, cluster_id: str, disk_id: int) -> None:
        """Note the cluster and the number that the metadata service gave this disk."""
        if (self.identity.cluster_id, self.identity.disk_id) != (cluster_id, disk_id):
            self.identity.cluster_id, self.identity.disk_id = cluster_id, disk_id
            self._save_identity(is_clean=False)

    def _open_blocking(self) -> Opened:
        mark, has_log = self._mark_dead_blocking, self.identity.format > 1
        return open_blocking(self.settings, self._files, self._clock, mark, has_log=has_log)

    def _begin(self, opened: Opened) -> None:
        """Work with what was opened, from now on."""
        self.extents, self.index, self.failure = opened.extents, opened.index, ""
        self._tombstones = opened.tombstones
        self.index.on_failed = self._tombstones.on_failed = self.fail
        self.is_rebuilding, self.fragment_count = opened.is_rebuilding, opened.fragment_count
        self._state = "up"
        self._is_borrowed = False  # the active extent lies in the reserve: for moves only
        put_all = lambda rows: self.index.put_all(rows)  # noqa: E731
        self._group_writer = GroupWriter(
            self._writer, self.health, self.counters, put_all, self.fail
        )
        if opened.failure:
            self.fail(opened.failure)

    async def withdraw(self) -> None:
        """Close a disk that has failed; when this returns nothing uses it any more.

        Until it is opened again nothing can be read from it, and nothing deleted.
        """
        assert self._state == "failed", "withdrawn while it is used"
        old = Opened(self.extents, self.index, self._tombstones)
        nothing = nothing_open(self.settings, self._files, self.failure)
        self._group_writer.stop(self.failure)
        self.extents, self.index = nothing.extents, nothing.index  # for all that comes from now on
        self._tombstones = nothing.tombstones
        await self._group_writer.wait_idle()
        await self._deleter.wait_idle()
        while self._uses or self._rolling or any(e.readers for e in old.extents.by_number.values()):
            await self._clock.sleep(DRAIN_S)
        await self.run_in_order(partial(old.close, is_synced=False))
        self.damaged.clear()

    async def open_again(self) -> None:
        """Open a disk that was withdrawn; `failure` says whether it helped. raises Corrupt"""
        self._begin(await self.run_in_order(self._open_blocking))
        if not self.failure:
            await self.run_in_order(partial(self._save_identity, is_clean=False))

    async def probe(self) -> None:
        """Write and read a little. raises OSError"""
        await self.run_scrub(self._files.probe, self.settings.folder)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Around work that goes on with extents or rows it has found before."""
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1

    @property
    def condition(self) -> str:
        """What there is to say of the disk in one word; empty: it is well."""
        if self._state == "failed":
            return "failed"
        if self.health.is_hung:
            return "hung"
        if self.is_rebuilding:
            return "rebuilding"
        if self.health.is_slow:
            return "slow"
        if self._state == "read_only" and self._room_bytes >= self.settings.extent_bytes:
            self._state = "up"
        return "full" if self._state == "read_only" else ""

    @property
    def state(self) -> str:
        """What may be done with the disk: up, read_only or failed."""
        condition = self.condition
        if condition in ("failed", "hung"):
            return "failed"
        return "read_only" if condition else "up"

    # --- space --------------------------------------------------------------------------------

    @property
    def is_direct(self) -> bool:
        """Whether extents are written past the page cache."""
        extents = self.extents.by_number.values()
        return all(extent.file.is_direct for extent in extents)

    @property
    def used_bytes(self) -> int:
        """Live fragments, with headers and padding."""
        return sum(extent.live_bytes for extent in self.extents.by_number.values())

    @property
    def dead_bytes(self) -> int:
        """Handed out and no longer live."""
        used = sum(extent.used_bytes for extent in self.extents.by_number.values())
        return used - self.used_bytes

    @property
    def _room_bytes(self) -> int:
        """What the file system has beyond the reserve; negative: moves have taken of it."""
        return self._files.space(self.settings.folder)[1] - self.settings.reserve_bytes

    @property
    def free_bytes(self) -> int:
        """What new fragments may still take."""
        beyond = max(0, int(self._room_bytes * self.settings.share))
        return beyond + (0 if self._is_borrowed else self.extents.free_bytes)

    @property
    def room_for_moves_bytes(self) -> int:
        """What moves may take: beyond the reserve, of it, and of the active extent."""
        return max(0, self._room_bytes + self._lent_bytes) + self.extents.free_bytes

    @property
    def _lent_bytes(self) -> int:
        return int(BORROWED_SHARE_MAX * self.settings.reserve_bytes)

    async def reserve(self, record_bytes: int, *, move_bytes: int = 0) -> tuple[Extent, int]:
        """Hand out space for a fragment. raises Full, Unavailable

        move_bytes  it replaces one here, and so much is still to be moved like it: then a part of
                    the reserve may be used, and for a small extent, since a full disk gets its
                    space back by moving what lives out of extents with much that is dead
        """
        self.check_up()
        while not self.extents.fits(record_bytes):
            if self._rolling is None:
                self._rolling = self._loop.create_task(self._roll(record_bytes, move_bytes))
            rolling = self._rolling
            await asyncio.shield(rolling)
            self.check_up()
        if not move_bytes:
            if self._is_borrowed and self._room_bytes < 0:
                self._fill_up()
                raise faults.Full(str(self.settings.folder))
            self._is_borrowed = False
            self._state = "up" if self._state == "read_only" else self._state
        return self.extents.reserve(record_bytes)

    def reserve_now(self, record_bytes: int) -> tuple[Extent, int] | None:
        """The same where nothing has to be waited for or looked at; else None."""
        if self._state != "up" or self._is_borrowed or not self.extents.fits(record_bytes):
            return None
        return self.extents.reserve(record_bytes)

    async def _roll(self, record_bytes: int, move_bytes: int) -> None:
        """Preallocate the next extent and make it the active one."""
        try:
            size = max(self.settings.extent_bytes, record_bytes)
            is_borrowed = self._room_bytes < size
            if is_borrowed and move_bytes:
                size = max(record_bytes, min(size, move_bytes))
            lent_bytes = self._lent_bytes if move_bytes else 0
            if self._room_bytes + lent_bytes < size:
                self._fill_up()
                raise faults.Full(str(self.settings.folder))
            try:
                extent = await self._writer.call(self.extents.make_blocking, size)
            except OSError as error:
                raise as_fault(error, "new extent", self._fill_up) from error
            if self._room_bytes + lent_bytes < 0:  # others have taken the same room meanwhile
                await self._writer.call(self.extents.remove_blocking, extent)
                self._fill_up()
                raise faults.Full(str(self.settings.folder))
            previous = self.extents.active
            self.extents.roll(extent)
            self._is_borrowed = is_borrowed
            if previous is not None:
                self.close_if_done(previous)
        finally:
            self._rolling = None

    def _fill_up(self) -> None:
        if self._state == "up":
            log.error("the disk is full", extra={"disk": str(self.settings.folder)})
            self._state = "read_only"

    def close_if_done(self, extent: Extent) -> None:
        """Close an extent that takes nothing more and has nothing under way."""
        extents = self.extents
        if extents.by_number.get(extent.number) is not extent:
            return  # of before the disk was opened again
        if extent is not extents.active and not extent.open_writes and not extent.is_closed:
            extent.is_closed = True
            self.close_extent(extent.number)

    def close_extent(self, number: int) -> None:
        """Let the index say that an extent needs no scan, after what is being written to it."""
        closing = self._writer.call(lambda: self.index.close_extent_blocking(number))
        closing.add_done_callback(self._closed_extent)

    def _closed_extent(self, closing: "asyncio.Future[None]") -> None:
        error = None if closing.cancelled() else closing.exception()
        if error is not None:
            self.fail(f"the index does not sync: {error}")

    # --- writing ------------------------------------------------------------------------------

    def write(self, write: Write) -> "asyncio.Future[None]":
        """Do a write with others that come now; raises Unavailable through the future."""
        self._group_writer.add(write)
        return write.done

    def fail(self, why: str) -> None:
        """Acknowledge nothing more until the disk was opened again."""
        if self._state != "failed":
            FAILURES.labels(str(self.identity.disk_id)).inc()
            log.critical("the disk has failed: %s", why, extra={"disk": str(self.settings.folder)})
            self._state, self.failure = "failed", why

    def is_deleting(self, blob_id: bytes, index: int) -> bool:
        """Whether a fragment is being deleted: it cannot be written meanwhile."""
        return self._deleter.is_deleting((blob_id, index))

    def check_up(self) -> None:
        """Whether new fragments can be taken. raises Unavailable"""
        if self._state == "failed":
            raise faults.Unavailable("the disk has failed")
        if self.is_rebuilding or self.health.is_slow:
            raise faults.Unavailable(f"the disk takes nothing new: {self.condition}")

    # --- reading, deleting --------------------------------------------------------------------

    async def read(self, record: Record, places: Sequence[tuple[int, int]]) -> Buffer:
        """Read byte ranges (offset in the extent, length) one behind another into a pool's buffer.

        raises   Unavailable, Corrupt, NotFound("fragment")
        """
        extent = self.extents.by_number.get(record.extent)
        if extent is None and self.failure:
            raise faults.Unavailable(f"the disk has failed: {self.failure}")
        if extent is None:
            raise faults.NotFound("fragment", record.blob_id.hex(), "extent is missing")
        size = sum(length for _, length in places)
        buffer = self._pool.take_now(size)
        if read_now(extent, places, buffer.view):
            self.counters.bytes_read += size
            return buffer
        extent.readers += 1
        try:
            with self.health.call():
                await self._loop.run_in_executor(
                    self._readers, read_blocking, extent, places, buffer.view
                )
        except OSError as error:
            buffer.release()
            self.health.read_errors += 1
            self.note_damage(record.blob_id, record.index, "unreadable")
            raise faults.Unavailable(f"read failed: {error.strerror}") from error
        except faults.Fault:
            buffer.release()
            raise
        finally:
            extent.readers -= 1
        self.counters.bytes_read += size
        return buffer

    async def verify(self, *rows: tuple[Record, bytes]) -> list[Verdict]:
        """Judge fragments by what is on the medium, in one go, beside everything else."""
        extents = [self.extents.by_number.get(record.extent) for record, _ in rows]
        present = [extent for extent in extents if extent is not None]
        files = [extent.file if extent is not None else None for extent in extents]
        found = [(file, *row) for file, row in zip(files, rows, strict=True)]
        buffer = self._pool.take_now(max(buffer_bytes(record) for record, _ in rows))
        for extent in present:
            extent.readers += 1
        try:
            with self.health.call():
                return await self.run_scrub(verify_all_blocking, found, buffer.view)
        finally:
            for extent in present:
                extent.readers -= 1
            buffer.release()

    async def run_scrub(self, work: Callable[..., ResultT], *values: Any) -> ResultT:
        """Do blocking work beside reads and writes, one at a time."""
        return await self._loop.run_in_executor(self._scrubber, work, *values)

    # --- the index, doubted -------------------------------------------------------------------

    def lookup(self, blob_id: bytes, index: int) -> tuple[Record, bytes] | None:
        """A fragment's row. raises Unavailable if the index cannot tell now"""
        try:
            found = self.index.get(blob_id, index)
        except faults.Corrupt as corrupt:
            raise self._doubt(corrupt) from corrupt
        if found is None and self.is_rebuilding:
            raise faults.Unavailable("the disk's index is being rebuilt")
        return found

    def page(self, after: bytes, prefix: bytes, limit: int) -> list[tuple[Record, bytes]]:
        """Rows in order. raises Unavailable if the index cannot tell now"""
        if self.is_rebuilding:
            raise faults.Unavailable("the disk's index is being rebuilt")
        try:
            return self.index.scan(after, prefix, limit)
        except faults.Corrupt as corrupt:
            raise self._doubt(corrupt) from corrupt

    def _doubt(self, corrupt: faults.Corrupt) -> faults.Fault:
        if not self.is_rebuilding:
            INDEX_DAMAGED.inc()
        log.critical("the index is damaged and will be rebuilt: %s", str(corrupt))
        self.is_rebuilding = True
        return faults.Unavailable("the disk's index is damaged")

    async def set_index_aside(self) -> None:
        """Give up an index that cannot be trusted and begin an empty one, with its tombstones."""
        await self.run_in_order(self._set_index_aside_blocking)

    def _set_index_aside_blocking(self) -> None:
        if isinstance(self.index, ClosedIndex):
            raise faults.Unavailable("the disk has failed and is not open")
        name = f"index.broken-{self._clock.now_ns()}"
        folder = self.settings.folder / "index"
        bury = self._tombstones.replay_blocking
        self.index = replace_index(self._files, self.index, folder, name, bury)
        self.index.on_failed = self.fail

    def restore(self, record: Record, table: bytes) -> None:
        """Put back the row of a fragment that is whole."""
        self.index.put(record, table)
        self.extents.by_number[record.extent].live_bytes += record.record_bytes
        self.fragment_count += 1

    def note_damage(self, blob_id: bytes, index: int, reason: str) -> None:
        """Keep a bad fragment in mind, and report it."""
        if len(self.damaged) < DAMAGED_MAX:
            self.damaged[blob_id, index] = reason
        self.reports.append((blob_id, index, reason))

    async def delete(
        self,
        records: Sequence[Record],
        others: Sequence[tuple[bytes, int]],
        *,
        may_return: bool = False,
        fence: int = 0,
    ) -> int:
        """Delete fragments; durable when this returns. Returns how many were there.

        others      ids without a fragment: only tombstones; may_return: tokens above `fence` may
        """
        # Never before what is deleted was written, whatever the clock did since.
        now_ns = max(self._clock.now_ns(), *(record.written_ns for record in records), 0)
        tombstone = Tombstone(now_ns, may_return, fence)
        with self.in_use():
            try:
                deleted = await self._deleter.delete(records, others, tombstone)
            except faults.Corrupt as corrupt:
                raise self._doubt(corrupt) from corrupt
            for record in deleted:
                self.damaged.pop((record.blob_id, record.index), None)
                extent = self.extents.by_number.get(record.extent)
                if extent is not None:
                    extent.live_bytes -= record.record_bytes
                self.fragment_count -= 1
            await self.drop_empty_extents()
        return len(deleted)

    async def run_in_order(self, work: Callable[..., ResultT], *values: Any) -> ResultT:
        """Do blocking work in the thread that writes and deletes, between two groups."""
        return await self._writer.call(work, *values)

    def _mark_dead_blocking(self, extents: Extents, records: Iterable[Record]) -> None:
        try:
            with self._pool.take_now(PAGE) as buffer:
                extents.mark_dead_blocking(records, buffer.view)
        except OSError as error:
            # The tombstone is durable already; the mark only helps a rebuild without index.
            log.warning("a deleted fragment could not be marked: %s", error)

    async def drop_empty_extents(self) -> int:
        """Remove closed extents without a live fragment; returns the bytes given back."""
        dropped = 0
        if self.is_rebuilding:
            return 0  # what is live is not known
        for extent in list(self.extents.by_number.values()):
            if self.extents.by_number.get(extent.number) is not extent:
                continue  # somebody removes it already
            if extent.is_closed and not extent.live_bytes and not extent.readers:
                self.extents.forget(extent)  # before anybody else runs: nobody reads it from now on
                await self._writer.call(self.extents.remove_blocking, extent)
                self.index.reopen_extent(extent.number)
                dropped += extent.file.size_bytes
        return dropped

    async def trim(self) -> None:
        """Forget old tombstones."""
        if self._state == "failed":
            return
        before_ns = self._clock.now_ns() - TOMBSTONE_KEEP_NS
        self.index.trim_tombstones(before_ns)
        await self.run_in_order(self._tombstones.trim_blocking, self.index, before_ns)

    async def close(self) -> None:
        """Finish writes and close cleanly."""
        await self._group_writer.wait_idle()
        await self._deleter.wait_idle()
        self._writer.shutdown()
        self._readers.shutdown()
        self._scrubber.shutdown()
        Opened(self.extents, self.index, self._tombstones).close()
        self._save_identity(is_clean=True)
