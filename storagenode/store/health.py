"""How well a disk does: calls that have not come back, how long the others took, what failed.

A disk that lets a call wait for SLOW_TICKS takes no new fragments until the call has come back;
after HUNG_TICKS it is taken for failed. Neither is for ever: a disk that answers again is used
again. Only a failed write or sync is for ever, see disk.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.clock import Clock

SLOW_TICKS = 4  # seconds
HUNG_TICKS = 12
WEIGHT = 0.05  # of the newest call in the mean time


@dataclass(slots=True)
class Counters:
    """Since the process started."""

    bytes_read: int = 0
    bytes_written: int = 0
    syncs: int = 0


class DiskHealth:
    """Counts and times the calls of one disk; used in the event loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun_s: dict[int, float] = {}
        self._serial = 0
        self._oldest: int | None = None
        self._ticks = 0
        self.mean_s = 0.0
        self.read_errors = 0
        self.write_errors = 0

    def begin(self) -> int:
        """A call of a thread begins; returns its number for `end`."""
        self._serial += 1
        self._begun_s[self._serial] = self._clock.monotonic_s()
        return self._serial

    def end(self, serial: int) -> None:
        """It has come back, whatever came of it."""
        taken_s = self._clock.monotonic_s() - self._begun_s.pop(serial)
        if serial == self._oldest:
            self._oldest, self._ticks = None, 0
        self.mean_s += WEIGHT * (taken_s - self.mean_s)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around the waiting for one call of a thread."""
        serial = self.begin()
        try:
            yield
        finally:
            self.end(serial)

    def tick(self) -> None:
        """A second has gone by in which the event loop ran: only such count.

        A process that was frozen, or starved, has calls that look old and are not.
        """
        oldest = next(iter(self._begun_s), None)
        self._ticks = self._ticks + 1 if oldest is not None and oldest == self._oldest else 0
        self._oldest = oldest

    @property
    def is_waiting(self) -> bool:
        """Whether a call has been under way for a second: what can wait should."""
        return self._ticks >= 1

    @property
    def is_slow(self) -> bool:
        """Whether a call waits for longer than a well disk needs."""
        return self._ticks >= SLOW_TICKS

    @property
    def is_hung(self) -> bool:
        """Whether a call waits for so long that nobody should wait for it."""
        return self._ticks >= HUNG_TICKS
