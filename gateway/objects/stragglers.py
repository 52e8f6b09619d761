"""How long a write waits for its last fragments once it has enough: as long as nodes usually take.

The p95 of each node is followed by steps, as in `hedging`. The measure is the median node's, not
the late one's own: a node far slower than the others is left to repair, while on a machine where
everything is slow nobody is. The bounds keep a moment's hiccup from costing a repair, and a frozen
node from being waited for.
"""

from statistics import median_low

P95_S_FIRST = 0.03  # of a node that nothing is known of yet
P95_S_MIN, P95_S_MAX = 0.001, 1.0
QUANTILE = 0.95
STEP = 0.05
RAISE, LOWER = 1 + STEP * QUANTILE, 1 - STEP * (1 - QUANTILE)
USUAL_RATIO = 8.0  # times the median p95, from the moment that cells are sent
PATIENCE_S_MIN, PATIENCE_S_MAX = 0.15, 0.5
AFTER_QUORUM_S_MIN = 0.05
SAMPLES_PER_MEDIAN = 64  # it changes slowly


class Stragglers:
    """What one gateway knows of how long its nodes take to write a cell."""

    def __init__(self) -> None:
        self._p95_s: dict[int, float] = {}
        self._noted = 0
        self._patience_s = PATIENCE_S_MAX

    def note(self, disk_id: int, taken_s: float) -> None:
        """A disk has taken a cell."""
        p95_s = self._p95_s.get(disk_id, P95_S_FIRST)
        p95_s *= RAISE if taken_s > p95_s else LOWER
        self._p95_s[disk_id] = min(max(p95_s, P95_S_MIN), P95_S_MAX)
        self._noted += 1
        if not self._noted % SAMPLES_PER_MEDIAN:
            usual_s = USUAL_RATIO * median_low(self._p95_s.values())
            self._patience_s = min(max(usual_s, PATIENCE_S_MIN), PATIENCE_S_MAX)

    def wait_s(self, since_sent_s: float) -> float:
        """How much longer to wait, when a quorum has answered so long after the cells were sent."""
        return max(self._patience_s - since_sent_s, AFTER_QUORUM_S_MIN)
