"""How fast repair may go: bytes per second, lowered when clients have to wait longer.

A bucket of bytes that fills at the rate now allowed; who wants some waits in a queue, so that tasks
take their bytes one after another and never all at once. Without foreground load the rate is the
limit of the configuration. Under load repair begins at the least rate and goes up step by step
while the 99th percentile of requests stays near what it was before; when that rises it goes down by
half, never below the least rate: data at risk is repaired even on a cluster that is too slow.
"""

import asyncio
from collections import deque

from common.clock import Clock
from proto import meta_pb2

BUSY_REQUESTS_PER_S = 5  # fewer are no foreground load
WORSE_RATIO = 1.5  # of the percentile now to the one before: clients feel it
BETTER_RATIO = 1.25
RAISE = 1.15
LOWER = 0.5
NOISE_US = 3_000  # differences below this are no reason
CALM_LEARNED = 0.2  # weight of a new sample of the percentile without repair
DRIFT = 1.003  # per sample under repair, so that a workload that became another one is believed
BURST_S = 0.1
WAIT_S_MAX = 0.25  # then it is looked whether the rate is another by now


class Pace:
    """A rate that many tasks share."""

    def __init__(self, clock: Clock, bytes_per_s_max: int, bytes_per_s_min: int) -> None:
        self._clock = clock
        self._max, self._min = bytes_per_s_max, min(bytes_per_s_min, bytes_per_s_max)
        self.bytes_per_s = float(bytes_per_s_max)
        self._level = self.bytes_per_s * BURST_S
        self._filled_s = clock.monotonic_s()
        self._calm_us = 0.0
        self._is_busy = False
        self._used = False
        self._recent: deque[int] = deque(maxlen=3)
        self._queue = asyncio.Lock()  # first come, first served

    @property
    def is_throttled(self) -> bool:
        """Whether clients make repair go slower than it may."""
        return self.bytes_per_s < self._max

    async def take(self, size: int) -> None:
        """Wait until `size` bytes may be read."""
        async with self._queue:
            self._used = True
            self._fill()
            while self._level < 0:
                await self._clock.sleep(min(-self._level / self.bytes_per_s, WAIT_S_MAX))
                self._used = True
                self._fill()
            self._level -= size  # a debt that the next one waits for

    def _fill(self) -> None:
        now_s = self._clock.monotonic_s()
        self._level += (now_s - self._filled_s) * self.bytes_per_s
        self._level = min(self._level, self.bytes_per_s * BURST_S)
        self._filled_s = now_s

    def felt(self, foreground: meta_pb2.Foreground) -> None:
        """Adjust to what clients feel; once a second."""
        self._fill()
        used, self._used = self._used, False
        if foreground.requests_per_s < BUSY_REQUESTS_PER_S:
            self._is_busy = False
            self._recent.clear()
            self.bytes_per_s = float(self._max)
            return
        self._recent.append(foreground.p99_us)
        now_us = sorted(self._recent)[len(self._recent) // 2]
        if not self._is_busy:
            self._is_busy = True
            self.bytes_per_s = float(self._min)
        if not used:
            before = self._calm_us or now_us
            self._calm_us = before + CALM_LEARNED * (now_us - before)
            return
        self._calm_us = min(self._calm_us * DRIFT, now_us) if self._calm_us else now_us
        over_us = now_us - self._calm_us
        if over_us > NOISE_US and now_us > WORSE_RATIO * self._calm_us:
            self.bytes_per_s = max(self.bytes_per_s * LOWER, self._min)
        elif over_us <= NOISE_US or now_us < BETTER_RATIO * self._calm_us:
            self.bytes_per_s = min(self.bytes_per_s * RAISE, self._max)
