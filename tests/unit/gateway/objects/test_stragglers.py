"""How long a write waits for the rest: from what nodes usually take, within bounds."""

from random import Random

import pytest

from gateway.objects.stragglers import (
    AFTER_QUORUM_S_MIN,
    PATIENCE_S_MAX,
    PATIENCE_S_MIN,
    Stragglers,
)

DISKS = range(1, 7)


def taught(mean_s: float, slow: dict[int, float] | None = None, seed: int = 1) -> Stragglers:
    """After some thousand writes of nodes that take about so long."""
    random, stragglers = Random(seed), Stragglers()
    for _ in range(3000):
        for disk_id in DISKS:
            mean = (slow or {}).get(disk_id, mean_s)
            stragglers.note(disk_id, random.uniform(0.5, 1.5) * mean)
    return stragglers


def test_a_new_gateway_is_patient() -> None:
    assert Stragglers().wait_s(0.0) == PATIENCE_S_MAX


@pytest.mark.parametrize("seed", range(3))
def test_fast_nodes_are_waited_for_only_for_a_moment(seed: int) -> None:
    assert taught(0.002, seed=seed).wait_s(0.0) == PATIENCE_S_MIN


@pytest.mark.parametrize("seed", range(3))
def test_slow_machines_get_more_time(seed: int) -> None:
    assert PATIENCE_S_MIN < taught(0.03, seed=seed).wait_s(0.0) < PATIENCE_S_MAX
    assert taught(1.0, seed=seed).wait_s(0.0) == PATIENCE_S_MAX


def test_two_slow_nodes_do_not_make_writes_wait_for_them() -> None:
    assert taught(0.002, {2: 0.4, 5: 0.4}).wait_s(0.0) == PATIENCE_S_MIN


def test_the_time_before_the_quorum_counts_but_a_moment_is_always_left() -> None:
    stragglers = taught(0.002)
    assert stragglers.wait_s(0.03) == pytest.approx(PATIENCE_S_MIN - 0.03)
    assert stragglers.wait_s(10.0) == AFTER_QUORUM_S_MIN


def test_it_follows_when_everything_becomes_slow() -> None:
    stragglers = taught(0.002)
    for _ in range(200):
        for disk_id in DISKS:
            stragglers.note(disk_id, 0.2)
    assert stragglers.wait_s(0.0) == PATIENCE_S_MAX
