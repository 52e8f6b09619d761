"""The shortest history that still fails: leave things out of a plan as long as it goes wrong.

Leaving something out changes what happens after it, so each attempt is made in a few variants of
the run's random numbers. Bounded in runs, not in time: the same seed always ends in the same plan.
source  delta debugging, Zeller and Hildebrandt, IEEE TSE 28(2), 2002
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.simulation.plan import IDLE_S_MIN, Plan
from tests.simulation.world import Outcome

RUNS_MAX = 150
VARIANTS = 2

Run = Callable[[Plan], Outcome]
ItemT = TypeVar("ItemT")


def shorten(found: Outcome, run: Run, runs_max: int = RUNS_MAX) -> Outcome:
    """Look for a shorter plan that fails in one of the same ways as a failed run."""
    return _Search(found, run, runs_max).search()


class _Search:
    def __init__(self, found: Outcome, run: Run, runs_max: int) -> None:
        self._best = found
        self._kinds = {violation.kind for violation in found.violations}
        assert self._kinds, "only a failed run can be made shorter"
        self._run = run
        self._runs_left = runs_max

    def search(self) -> Outcome:
        plan = self._best.plan
        self._fails(replace(plan, days=0, idle_s=IDLE_S_MIN))
        self._leave_out_rounds()
        size = -1
        while size != self._size() and self._runs_left > 0:
            size = self._size()
            self._reduce(self._best.plan.troubles, _with_troubles)
            self._reduce(self._best.plan.requests, _with_requests)
        return self._best

    def _size(self) -> int:
        return len(self._best.plan.requests) + len(self._best.plan.troubles)

    def _fails(self, plan: Plan) -> bool:
        """Whether a plan, in one of its variants, still fails; then it is the best one."""
        first = self._best.plan.variant
        for variant in range(first, first + VARIANTS):
            if self._runs_left <= 0:
                return False
            self._runs_left -= 1
            outcome = self._run(replace(plan, variant=variant))
            if self._kinds & {violation.kind for violation in outcome.violations}:
                self._best = outcome
                return True
        return False

    def _leave_out_rounds(self) -> None:
        """Only one of the rounds, if that is enough."""
        plan = self._best.plan
        for number in range(plan.rounds - 1, -1, -1):
            requests = tuple(replace(r, round=0) for r in plan.requests if r.round == number)
            troubles = tuple(replace(t, round=0) for t in plan.troubles if t.round == number)
            if self._fails(replace(plan, requests=requests, troubles=troubles, rounds=1)):
                return

    def _reduce(
        self, items: Sequence[ItemT], with_items: Callable[[Plan, tuple[ItemT, ...]], Plan]
    ) -> None:
        """Leave out ever smaller runs of items."""
        kept, size = list(items), max(1, len(items) // 2)
        while size and kept and self._runs_left > 0:
            at = 0
            while at < len(kept):
                rest = (*kept[:at], *kept[at + size :])
                if self._fails(with_items(self._best.plan, rest)):
                    kept = list(rest)
                else:
                    at += size
            size //= 2


def _with_troubles(plan: Plan, troubles: tuple[object, ...]) -> Plan:
    return replace(plan, troubles=troubles)


def _with_requests(plan: Plan, requests: tuple[object, ...]) -> Plan:
    return replace(plan, requests=requests)
