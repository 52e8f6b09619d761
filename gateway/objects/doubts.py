"""Which nodes a gateway leaves out for a while, and when it trusts them again.

A node that let a caller wait is doubted for DOUBT_S, twice as long each time that it is late again
soon after. Meanwhile it is asked how it is. As long as it does not answer at all it stays doubted;
once it does after it stood still, or is connected anew, it is used at once, and so is one that
answers quickly and whose disks are quick: what made it late is over. One that answers slowly, or
whose disks do, is tried again when its time is over. A node that the metadata service misses is
doubted too, until it answers here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from common.clock import Clock

DOUBT_S = 3.0
DOUBT_S_MAX = 12.0
REMEMBERED_S = 30.0  # after a doubt's end; being late within it doubles the next
PROBE_S = 0.5  # between two questions to a doubted node
PROBE_DEADLINE_S = 1.0  # who takes longer to answer stands still
QUICK_S = 0.05  # an answer, and the mean call of a disk, of a node that is well


@dataclass(slots=True)
class _Doubt:
    until_s: float
    length_s: float = DOUBT_S
    stands_still: bool = False


class Doubts:
    """What one gateway thinks of its nodes, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._doubts: dict[str, _Doubt] = {}
        self._silent: frozenset[str] = frozenset()
        self._vouched: set[str] = set()
        self._down: set[str] = set()

    @property
    def are_none(self) -> bool:
        """Whether no node is doubted, or was of late."""
        return not self._doubts and not self._silent

    def is_doubtful(self, name: str) -> bool:
        """Whether others are asked first."""
        if name in self._silent and name not in self._vouched:
            return True
        doubt = self._doubts.get(name)
        return doubt is not None and (
            doubt.stands_still or self._clock.monotonic_s() < doubt.until_s
        )

    def was_late(self, name: str) -> None:
        """A node let a caller wait."""
        now_s, doubt = self._clock.monotonic_s(), self._doubts.get(name)
        self._vouched.discard(name)
        if doubt is None or now_s > doubt.until_s + REMEMBERED_S:
            self._doubts[name] = _Doubt(now_s + DOUBT_S)
        elif not doubt.stands_still and now_s >= doubt.until_s:
            doubt.length_s = min(2 * doubt.length_s, DOUBT_S_MAX)
            doubt.until_s = now_s + doubt.length_s

    def heard(self, silent: Iterable[str]) -> None:
        """The metadata service misses these nodes."""
        self._silent = frozenset(silent)
        self._vouched &= self._silent

    def connected(self, name: str, is_up: bool) -> None:
        """Note whether a node is connected now: one that is so again is trusted."""
        if not is_up:
            self._down.add(name)
            self._vouched.discard(name)
        elif name in self._down:
            self._down.discard(name)
            self._forgive(name)

    def to_ask(self, names: Iterable[str]) -> list[str]:
        """Of these, the nodes to ask how they are."""
        return [
            name
            for name in names
            if self.is_doubtful(name) and name not in self._down
        ]  # fmt: skip

    def answered(self, name: str, slowest_s: float) -> None:
        """A node was asked how it is, and answered: itself or its disks within so long."""
        doubt = self._doubts.get(name)
        if doubt is None or doubt.stands_still or slowest_s < QUICK_S:
            self._forgive(name)

    def stood_still(self, name: str) -> None:
        """A node was asked how it is, and did not answer."""
        doubt = self._doubts.get(name)
        if doubt is not None:
            doubt.stands_still = True
        self._vouched.discard(name)

    def _forgive(self, name: str) -> None:
        doubt = self._doubts.get(name)
        if doubt is not None:  # remembered: late again soon, it is doubted for longer
            doubt.stands_still = False
            doubt.until_s = min(doubt.until_s, self._clock.monotonic_s())
        if name in self._silent:
            self._vouched.add(name)
