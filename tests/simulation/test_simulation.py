"""A whole cluster under random troubles keeps every promise, for a hundred seeds, exactly again.

Method: each seed draws a plan of requests and troubles, and runs it on a virtual clock; afterwards
histories must be linearizable, every acknowledged byte readable, metadata and disks in agreement.
What the world really did is counted, so that a trouble which does nothing is found out.
A failing seed: `python -m tests.simulation --replay SEED --shortest`.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest

from tests.simulation.history import Violation
from tests.simulation.many import make_pool, run_seeds
from tests.simulation.plan import Action, Plan, draw
from tests.simulation.shortest import shorten
from tests.simulation.world import Outcome, run

SEEDS = range(1, 101)
SEEDS_PER_TEST = 10

TROUBLES = (
    "crash of meta", "crash of workers-1", "crash of workers-2",
    "crash of gateway-1", "crash of gateway-2", "crash of a zone",
    "crash between two writes", "crash at a fault point", "zombie at a fault point",
    "blackout", "freeze", "zombie",
    "connection reset",
    "held by a cut", "held by a one-way cut", "segment lost", "segment overtook another",
    "segment sent twice", "slow disk", "clock back", "clock ahead", "days passed",
    "came back after long", "page lost", "page torn", "page kept", "rows lost", "sync that lied",
    "no space", "read refused", "write refused", "bit flipped", "page misdirected", "file lost",
    "index broken", "disk replaced",
)  # fmt: skip
NEVER_RECORDED = (Action.ABANDON_UPLOAD,)  # nobody is told how it ends
CONDITIONAL = (Action.CREATE, Action.REPLACE, Action.CREATE_BY_UPLOAD)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Processes to run seeds in."""
    with make_pool() as pool:
        yield pool


@pytest.fixture(scope="module")
def seen() -> "Counter[str]":
    """What all seeds together have met."""
    return Counter()


@pytest.mark.parametrize("first", SEEDS[::SEEDS_PER_TEST])
def test_seeds_are_clean(first: int, pool: ProcessPoolExecutor, seen: "Counter[str]") -> None:
    for each in run_seeds(pool, range(first, first + SEEDS_PER_TEST)):
        seen.update(each.seen)
        seen["seeds"] += 1
        seen["simulated hours"] += round(each.simulated_s / 3600)
        wrong = "\n".join(each.violations)
        assert not wrong, f"python -m tests.simulation --replay {each.seed}\n{wrong}"


def test_every_kind_of_trouble_and_request_was_met(seen: "Counter[str]") -> None:
    if seen["seeds"] < len(SEEDS):
        pytest.skip("needs all seeds of this module, run it whole")
    print(dict(sorted(seen.items())))
    assert [trouble for trouble in TROUBLES if not seen[trouble]] == []
    requests = [action for action in Action if action not in NEVER_RECORDED]
    assert [each.name for each in requests if not seen[f"{each.name} answered"]] == []
    assert [each.name for each in CONDITIONAL if not seen[f"{each.name} refused"]] == []


@pytest.mark.parametrize("seed", [3, 44])
def test_a_seed_replays_exactly(seed: int) -> None:
    first, second = run(draw(seed), keeps_trace=True), run(draw(seed), keeps_trace=True)
    assert first.digest == second.digest
    assert first.trace == second.trace
    assert run(replace(draw(seed), variant=1)).digest != first.digest


def test_a_failing_plan_is_made_as_short_as_its_cause() -> None:
    """Stand-in for a run: it fails whenever requests 3 and 11 are both made."""
    outcome = run(replace(draw(1), requests=(), troubles=(), rounds=0, idle_s=0.0))
    failure = replace(outcome, violations=(Violation("pretended", "3 and 11"),))
    runs = 0

    def pretend(plan: Plan) -> Outcome:
        nonlocal runs
        runs += 1
        numbers = {request.number for request in plan.requests}
        is_failing = {3, 11} <= numbers
        return replace(failure if is_failing else outcome, plan=plan)

    found = shorten(replace(failure, plan=draw(1)), pretend, runs_max=400)
    assert {request.number for request in found.plan.requests} == {3, 11}
    assert not found.plan.troubles
    assert runs <= 400
