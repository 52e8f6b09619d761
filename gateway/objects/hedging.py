"""When to ask others for what a node is late with: at its recent p95, for a few percent of reads.

The p95 of each node is followed by steps: a read that took longer raises the estimate by 19 times
as much as one that did not lowers it, so it rests where 5 % take longer. Extra reads are paid from
tokens that ordinary reads earn. A node that loses several times in a row without answering
anything is doubted: then others are asked at once, which costs no tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass

DELAY_S_MIN = 0.01  # what a busy event loop takes anyway
DELAY_S_MAX = 0.25  # later than this a cell is decoded around, tokens or not
DELAY_S_FIRST = 0.1  # of a node that nothing is known of yet
QUANTILE = 0.95
STEP = 0.05
EXTRA_SHARE = 0.04  # extra cells per cell that is read
TOKENS_MAX = 128.0  # cells
LOSSES_MAX = 3  # in a row, without an answer in between


@dataclass(slots=True)
class _Node:
    p95_s: float = DELAY_S_FIRST
    losses: int = 0


class Hedging:
    """What one gateway knows of its nodes' latency, and the budget of extra reads."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._tokens = TOKENS_MAX

    def note(self, name: str, taken_s: float) -> None:
        """A node has answered a read."""
        node = self._nodes.setdefault(name, _Node())
        node.losses = 0
        factor = 1 + STEP * QUANTILE if taken_s > node.p95_s else 1 - STEP * (1 - QUANTILE)
        node.p95_s = min(max(node.p95_s * factor, DELAY_S_MIN), DELAY_S_MAX)
        self._tokens = min(self._tokens + EXTRA_SHARE, TOKENS_MAX)

    def delay_s(self, names: Iterable[str]) -> float:
        """How long to wait for answers of these nodes before others are asked."""
        known = [self._nodes[name].p95_s for name in names if name in self._nodes]
        return max(known, default=DELAY_S_FIRST)

    def take(self, cells: int) -> bool:
        """Pay for extra cells; False: too many were read lately."""
        if self._tokens < cells:
            return False
        self._tokens -= cells
        return True

    def lost(self, name: str) -> bool:
        """Others were faster than a node. Returns whether it should be doubted."""
        node = self._nodes.setdefault(name, _Node())
        node.losses += 1
        return node.losses >= LOSSES_MAX
