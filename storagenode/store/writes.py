"""A disk's reads and writes: pieces of work, how they are joined, and the thread that does them.

Writes are collected; one thread writes what has come, syncs once if a fragment was finished among
it, and only then names those that are whole in the index, all in one write. Whatever arrives
meanwhile goes with the next round. So the event loop never waits for the disk.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from common import fault_points, faults
from common.worker_thread import WorkerThread
from storagenode.store.extents import Extent
from storagenode.store.groups import Groups
from storagenode.store.health import Counters, DiskHealth
from storagenode.store.record import Record

READ_NOW_BYTES_MAX = 2 * 1024 * 1024  # copied in the event loop, if it is cached
PIECES_MAX = 512  # of one write call; the kernel takes 1,024


def _new_future() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class Write:
    """One piece of work for the writer thread: whole pages. `done` when it is as it was wanted.

    needs_sync  what was written to the extent before, too, is on disk when it is done
    is_alone    this write is all that must be on disk: nothing written before belongs to it
    row         what the index shall say once this is on disk
    release     gives the pieces' memory back when the thread has done with it, whatever came of it
    """

    extent: Extent
    offset: int
    pieces: Sequence[memoryview]
    needs_sync: bool = True
    is_alone: bool = False
    row: tuple[Record, bytes] | None = None
    release: Callable[[], None] | None = None
    done: "asyncio.Future[None]" = field(default_factory=_new_future)


class GroupWriter:
    """Writes of one disk, in groups. Used in the event loop; `write_blocking` runs in a thread."""

    def __init__(
        self,
        thread: WorkerThread,
        health: DiskHealth,
        counters: Counters,
        put_rows: Callable[[list[tuple[Record, bytes]]], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """on_failed   told once, by the first write or sync that fails; nothing works after it"""
        self._counters, self._health = counters, health
        self._put_rows, self._on_failed = put_rows, on_failed
        self._groups = Groups[Write](thread, health, self.write_blocking, self._settle)
        self._failure = ""

    def add(self, write: Write) -> None:
        """Queue a write; its future is done when it is written, and synced if it needs that."""
        if self._failure:
            _fail([write], self._failure)
            _release([write])
        else:
            self._groups.add(write)

    def stop(self, why: str) -> None:
        """Take nothing more, of a disk that failed elsewhere; what was queued is refused."""
        self._failure = self._failure or why
        queue = self._groups.take_queue()
        _fail(queue, self._failure)
        _release(queue)

    async def wait_idle(self) -> None:
        """Wait until everything that was queued has been written."""
        await self._groups.wait_idle()

    def _settle(self, group: list[Write], error: BaseException | None) -> None:
        if error is None:
            for write in group:
                if not write.done.done():
                    write.done.set_result(None)
        else:
            self._health.write_errors += 1
            self.poison(error, group)
        _release(group)

    def write_blocking(self, group: list[Write]) -> None:
        """Write, sync, index. raises OSError, Unavailable"""
        self.store_blocking(group)
        rows = [write.row for write in group if write.row is not None]
        if rows:
            fault_points.reach("fragment.after_sync")
            self._put_rows(rows)
            fault_points.reach("fragment.after_index")

    def store_blocking(self, group: list[Write]) -> None:
        """Write and sync. raises OSError"""
        fault_points.reach("fragment.before_write")
        runs = list(joined(group))
        is_one = len(runs) == 1 and all(write.is_alone for write in group)
        for extent, offset, pieces in runs:
            if is_one:
                extent.file.write_durable(pieces, offset)
            else:
                extent.file.write(pieces, offset)
            self._counters.bytes_written += sum(len(piece) for piece in pieces)
        fault_points.reach("fragment.before_sync")
        if is_one:
            self._counters.syncs += 1
            return
        to_sync = {}
        for write in group:
            if write.needs_sync:
                to_sync[write.extent.number] = write.extent
        for extent in to_sync.values():
            extent.file.sync()
            self._counters.syncs += 1

    def poison(self, error: BaseException, group: list[Write]) -> None:
        """Acknowledge nothing more, not even what was queued."""
        self._failure = faults.in_words(error) if isinstance(error, faults.Fault) else str(error)
        self._on_failed(self._failure)
        queue = self._groups.take_queue()
        _fail([*group, *queue], self._failure)
        _release(queue)


def _fail(writes: Sequence[Write], why: str) -> None:
    for write in writes:
        if not write.done.done():
            write.done.set_exception(faults.Unavailable(f"the disk has failed: {why}"))


def _release(writes: Sequence[Write]) -> None:
    for write in writes:
        if write.release is not None:
            write.release()


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
