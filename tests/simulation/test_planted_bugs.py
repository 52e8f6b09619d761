"""The simulation catches known bugs, each planted alone, and is silent without them.

Method: run seeds with the bug until one fails; the same seed without the bug must be clean. Bugs
are hunted side by side in a few processes.
"""

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.many import Hunt, hunt, make_pool


@pytest.fixture(scope="module")
def hunts(request: pytest.FixtureRequest) -> "Iterator[dict[str, Future[Hunt]]]":
    """A hunt for each bug whose test is to be run, begun at once."""
    selected = [each for each in request.session.items if each.path == request.path]
    names = [each.callspec.params["bug"].name for each in selected]  # type: ignore[attr-defined]
    with make_pool() as pool:
        yield {name: pool.submit(hunt, name) for name in names}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug, hunts: "dict[str, Future[Hunt]]") -> None:
    found = hunts[bug.name].result()
    print(f"seed {found.seed}: {[each[:200] for each in found.violations]}")
    assert found.violations, f"not caught in {bug.seeds_max} seeds"
    assert not found.without, "the same seed fails without the bug"
