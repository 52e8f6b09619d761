"""What clients felt lately, from the histogram of requests: costs nothing per request.

Between two samples the histogram's buckets grew by the requests of that time; the percentile is
read off them, even within a bucket. Background work slows down when it rises.
"""

from collections import deque

from common.clock import Clock
from gateway.http.pipeline import SECONDS
from proto import meta_pb2

QUANTILE = 0.99
WINDOW_SAMPLES = 5  # each a second: fewer requests say little of a percentile


class Foreground:
    """Samples of one gateway."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._seen: deque[tuple[float, dict[float, float]]] = deque(maxlen=WINDOW_SAMPLES + 1)

    def sample(self) -> meta_pb2.Foreground:
        """The last seconds' 99th percentile and rate of requests."""
        now_s, counts = self._clock.monotonic_s(), _counts()
        self._seen.append((now_s, counts))
        begun_s, before = self._seen[0]
        grown = {bound: count - before.get(bound, 0.0) for bound, count in counts.items()}
        requests = max(grown.values(), default=0.0)
        return meta_pb2.Foreground(
            gateway=self._name,
            p99_us=int(quantile(grown, QUANTILE) * 1e6),
            requests_per_s=int(requests / max(now_s - begun_s, 1.0)),
        )


def quantile(cumulative: dict[float, float], share: float) -> float:
    """A quantile in seconds, from requests by upper bound; in the last bucket: its lower bound."""
    wanted = max(cumulative.values(), default=0.0) * share
    lower, below = 0.0, 0.0
    for bound, count in sorted(cumulative.items()):
        if count >= wanted and count > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (wanted - below) / (count - below)
        lower, below = bound, count
    return 0.0


def _counts() -> dict[float, float]:
    """All operations together: requests by upper bound in seconds."""
    counts: dict[float, float] = {}
    for family in SECONDS.collect():
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                counts[bound] = counts.get(bound, 0.0) + sample.value
    return counts
