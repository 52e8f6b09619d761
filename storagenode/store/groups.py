"""Work that is collected in the event loop and done in groups by a thread of the disk."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from common import faults
from common.worker_thread import WorkerThread
from storagenode.store.health import DiskHealth

ItemT = TypeVar("ItemT")


class Groups(Generic[ItemT]):
    """What comes in one turn of the loop, or while the thread is busy, is one group."""

    def __init__(
        self,
        thread: WorkerThread,
        health: DiskHealth,
        work_blocking: Callable[[list[ItemT]], None],
        settle: Callable[[list[ItemT], BaseException | None], None],
    ) -> None:
        """settle   told in the loop what became of each group"""
        self._loop = asyncio.get_running_loop()
        self._thread, self._health = thread, health
        self._work_blocking, self._settle = work_blocking, settle
        self._queue: list[ItemT] = []
        self._is_begun = False
        self._idle: asyncio.Future[None] | None = None

    def add(self, item: ItemT) -> None:
        """Queue an item."""
        self._queue.append(item)
        if not self._is_begun:
            self._is_begun = True
            self._loop.call_soon(self._begin)

    def take_queue(self) -> list[ItemT]:
        """Take back what is queued and not begun."""
        queue, self._queue = self._queue, []
        return queue

    async def wait_idle(self) -> None:
        """Wait until everything that was queued is done."""
        while self._is_begun:
            if self._idle is None or self._idle.done():
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def _begin(self) -> None:
        group, self._queue = self._queue, []
        serial = self._health.begin()
        work = self._thread.call(self._work_blocking, group)
        work.add_done_callback(partial(self._ended, group, serial))

    def _ended(self, group: list[ItemT], serial: int, work: "asyncio.Future[None]") -> None:
        self._health.end(serial)
        error = faults.Unavailable("stopped") if work.cancelled() else work.exception()
        self._settle(group, error)
        if self._queue:
            self._begin()
            return
        self._is_begun = False
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
