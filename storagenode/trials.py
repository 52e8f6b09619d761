"""When something that failed is tried again: soon at first, then more and more seldom."""

from common.clock import Clock

STEP_S = 1.0  # between two looks at whether a trial is due
PAUSE_S_MIN, PAUSE_S_MAX = 4.0, 3600.0  # several trials come before a disk's data is rebuilt
WELL_S = 3600.0  # after which a failure counts as the first


class Trials:
    """Pauses between trials. They are short again only after WELL_S without a failure.

    So a dying disk is not asked to take new data every few seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pause_s = 0.0  # before the next trial; 0: it has been well for long
        self._due_s = 0.0  # 0: it is well
        self._well_since_s = clock.monotonic_s()
        self.next_ns = 0  # the next trial, by the wall clock

    def is_due(self, *, is_failed: bool) -> bool:
        """Whether to try now; told again and again how it is."""
        now_s = self._clock.monotonic_s()
        if not is_failed:
            if self._due_s:
                self._due_s, self._well_since_s = 0.0, now_s
            if now_s - self._well_since_s >= WELL_S:
                self._pause_s = 0.0
            return False
        if not self._due_s:
            self.wait_longer()
            return False
        return now_s >= self._due_s

    def wait_longer(self) -> None:
        """It has failed, again."""
        self._pause_s = min(max(2 * self._pause_s, PAUSE_S_MIN), PAUSE_S_MAX)
        self._due_s = self._clock.monotonic_s() + self._pause_s
        self.next_ns = self._clock.now_ns() + int(self._pause_s * 1e9)
