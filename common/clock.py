"""Time, injected: rules about days and hours are tested on a clock that tests move."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the product knows of time. Never call `time` or `datetime.now` elsewhere."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since 1970 UTC. May jump; orders nothing."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back; for durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait on this clock."""
        ...


class SystemClock:
    """The machine's clocks; waiting goes through the running loop."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock for tests: stands still until `advance`, which wakes the sleepers that are due."""

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self._now_ns = int(now_s * 1e9)
        self._monotonic_s = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_s(self) -> float:
        return self._monotonic_s

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._monotonic_s + seconds, future))
        await future

    def advance(self, seconds: float) -> None:
        """Move both clocks and wake every sleeper whose time has come."""
        self._now_ns += int(seconds * 1e9)
        self._monotonic_s += seconds
        due = [entry for entry in self._sleepers if entry[0] <= self._monotonic_s]
        self._sleepers = [entry for entry in self._sleepers if entry[0] > self._monotonic_s]
        for _, future in due:
            if not future.done():
                future.set_result(None)
