"""The simulation catches known bugs, each planted alone, and is silent without them.

Method: run seeds with the bug until one fails; the same seed without the bug must be clean.
"""

import pytest

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.world import run


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug) -> None:
    for seed in range(1, bug.seeds_max + 1):
        plan = bug.plan(seed)
        with bug.plant():
            outcome = run(plan)
        if outcome.violations:
            break
    print(f"seed {seed}: {[str(violation)[:200] for violation in outcome.violations]}")
    assert outcome.violations, f"not caught in {bug.seeds_max} seeds"
    assert run(plan).violations == ()
