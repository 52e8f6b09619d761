"""How long an append may take before its node is replaced: from what appends have taken lately.

Commits stand still meanwhile, so a node that is frozen should not cost the whole of the configured
time where appends take milliseconds. The p95 is followed by steps: one that took longer raises it
by 19 times as much as one that did not lowers it. Late ones count too: where every node is slow,
each is given more time.
"""

P95_S_MIN, P95_S_MAX = 0.001, 10.0
QUANTILE = 0.95
STEP = 0.1
RAISE, LOWER = 1 + STEP * QUANTILE, 1 - STEP * (1 - QUANTILE)
USUAL_RATIO = 8.0  # times the p95
PATIENCE_S_MIN = 0.25  # a disk's hiccup is no reason for a new segment
DOUBLINGS_MAX = 3


class AppendPatience:
    """Of one writer. patience_s: at most, for a first attempt; also while nothing is known"""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self._p95_s = patience_s / USUAL_RATIO

    def note(self, taken_s: float) -> None:
        """An append to all nodes has ended, one way or the other."""
        self._p95_s *= RAISE if taken_s > self._p95_s else LOWER
        self._p95_s = min(max(self._p95_s, P95_S_MIN), P95_S_MAX)

    def deadline_s(self, attempt: int) -> float:
        """Seconds for an attempt; later ones get twice as long, a few times."""
        usual_s = max(USUAL_RATIO * self._p95_s, PATIENCE_S_MIN)
        return min(usual_s, self.patience_s) * 2.0 ** min(attempt, DOUBLINGS_MAX)
