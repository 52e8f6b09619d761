"""Background work of a process: named loops that go on after a fault, and stop when asked.

No task is ever fired and forgotten: it belongs to a supervisor, which logs its faults, waits
longer after each in a row, and cancels it at the end.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from prometheus_client import Counter

from common import faults
from common.clock import Clock

log = logging.getLogger(__name__)

BACKOFF_S_MAX = 30.0
FAILURES = Counter("ostraka_worker_failures", "Rounds of a background loop that failed", ["worker"])

Step = Callable[[], Awaitable[object]]


class Supervisor:
    """Runs loops: each step, then a pause."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loops: dict[str, tuple[float, Step]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, name: str, pause_s: float, step: Step) -> None:
        """Register a loop; before `start`."""
        self._loops[name] = (pause_s, step)

    async def start(self) -> None:
        """Begin all loops."""
        loop = asyncio.get_running_loop()
        for name, (pause_s, step) in self._loops.items():
            self._tasks.append(loop.create_task(self._run(name, pause_s, step), name=name))

    async def stop(self) -> None:
        """Cancel all loops and wait until they are gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _run(self, name: str, pause_s: float, step: Step) -> None:
        failed_in_a_row = 0
        while True:
            try:
                await step()
                failed_in_a_row = 0
            except faults.Fault as fault:
                failed_in_a_row += 1
                FAILURES.labels(name).inc()
                log.warning("%s: %s: %s", name, type(fault).__name__, fault)
            except Exception:
                failed_in_a_row += 1
                FAILURES.labels(name).inc()
                log.exception("%s failed", name)
            await self._clock.sleep(min(pause_s * 2**failed_in_a_row, pause_s + BACKOFF_S_MAX))
