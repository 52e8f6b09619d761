"""Waiting for the fragments of a stripe: for enough of them, and a short while for the rest."""

import asyncio
from collections.abc import Callable

from common import faults
from common.frames import Reply
from gateway.objects.stragglers import Stragglers


class Quorum:
    """Collects one call per fragment; `done` when all have answered, or enough have and time is up.

    One future and a few callbacks: a task per call would cost more than the call.
    """

    __slots__ = (
        "_begun_s", "_loop", "_needed", "_on_failed", "_pending", "_stragglers", "_succeeded",
        "_timer", "done",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        needed: int,
        on_failed: Callable[[int, BaseException], None],
        stragglers: Stragglers,
    ) -> None:
        """on_failed   told of every fragment that failed or was too late"""
        self._stragglers = stragglers
        self._begun_s = loop.time()
        self._loop = loop
        self._needed = needed
        self._on_failed = on_failed
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._succeeded = 0
        self._timer: asyncio.TimerHandle | None = None
        self.done: asyncio.Future[None] = loop.create_future()

    def add(self, index: int, disk_id: int, call: "asyncio.Future[Reply]") -> None:
        """Wait for a fragment's call; all are added in one tick."""
        self._pending[index] = call
        call.add_done_callback(lambda finished: self._finished(index, disk_id, finished))

    def close(self) -> None:
        """No more calls come; done at once if there are none."""
        if not self._pending:
            self._finish()

    def _finished(self, index: int, disk_id: int, call: "asyncio.Future[Reply]") -> None:
        if self._pending.pop(index, None) is None:
            if not call.cancelled():
                call.exception()  # seen: nobody waits for it any more
            return
        failure = faults.Unavailable("cancelled") if call.cancelled() else call.exception()
        taken_s = self._loop.time() - self._begun_s
        if failure is None:
            self._succeeded += 1
            self._stragglers.note(disk_id, taken_s)
        else:
            self._on_failed(index, failure)
        if not self._pending:
            self._finish()
        elif self._succeeded >= self._needed and self._timer is None:
            self._timer = self._loop.call_later(self._stragglers.wait_s(taken_s), self._finish)

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        late, self._pending = self._pending, {}
        for index, call in late.items():
            # Its cell's memory is about to be somebody else's: a call that is cancelled sends
            # nothing more of it, if need be by cutting the connection.
            call.cancel()
            self._on_failed(index, faults.Unavailable("too late"))
        if not self.done.done():
            self.done.set_result(None)
