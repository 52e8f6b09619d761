"""Durability arithmetic against independent ways to the same figures.

Method: published figures; the chain's own differential equation, solved by its matrix exponential;
a seeded simulation of single fragments with exponential lives and repairs, at rates high enough to
be seen; limits that are known in closed form.
"""

import math
import os
from random import Random

import numpy as np
import numpy.typing as npt
import pytest

from common.placement.durability import (
    YEAR_S,
    Cause,
    annual_loss,
    any_loss,
    groups,
    loss_while_degraded,
    mean_years_to_loss,
    nines,
    rate_of,
)

DAY_S, HOUR_S = 86_400.0, 3600.0
SEED = int(os.environ.get("DURABILITY_SEED", "7"))


def chain(k: int, m: int, rate: float, repair_years: float) -> npt.NDArray[np.float64]:
    """The chain's generator: states 0 to m + 1 missing, the last one absorbing."""
    matrix = np.zeros((m + 2, m + 2))
    for i in range(m + 1):
        matrix[i, i + 1] = (k + m - i) * rate
        if i:
            matrix[i, i - 1] = i / repair_years
        matrix[i, i] = -matrix[i].sum()
    return matrix


def exponential(matrix: npt.NDArray[np.float64], squarings: int = 60) -> npt.NDArray[np.float64]:
    """exp(matrix) by scaling and squaring, on what differs from the unit matrix.

    Working on exp - 1 keeps probabilities of 1e-12, which 1 - tiny would swallow.
    """
    small = matrix / 2.0**squarings
    rest = small + small @ small / 2
    for _ in range(squarings):
        rest = 2 * rest + rest @ rest
    return rest


@pytest.mark.parametrize(
    ("geometry", "share", "repair_s", "expected"),
    [
        # Backblaze's published model and figure: 17 + 3, 0.405 % a year, 6.5 days, eleven nines.
        ((17, 3), 0.00405, 6.5 * DAY_S, 11.1),
        ((4, 2), 0.0041, 6.5 * DAY_S, 9.4),
        ((4, 2), 0.015, 1 * DAY_S, 9.3),
        ((4, 2), 0.015, HOUR_S, 12.0),
        ((8, 3), 0.015, 1 * DAY_S, 12.5),
        ((10, 4), 0.04, 1 * DAY_S, 13.9),
        ((1, 2), 0.0041, 6.5 * DAY_S, 10.7),
    ],
)
def test_published_figures(
    geometry: tuple[int, int], share: float, repair_s: float, expected: float
) -> None:
    loss = annual_loss(*geometry, [Cause(rate_of(share), repair_s)])
    assert nines(loss.binomial) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("geometry", [(4, 2), (8, 3), (10, 4), (1, 2), (1, 1)])
@pytest.mark.parametrize("repair_s", [HOUR_S, DAY_S, 20 * DAY_S])
def test_markov_agrees_with_the_matrix_exponential(
    geometry: tuple[int, int], repair_s: float
) -> None:
    rate = rate_of(0.04)
    within_a_year = exponential(chain(*geometry, rate, repair_s / YEAR_S))[0, -1]
    loss = annual_loss(*geometry, [Cause(rate, repair_s)])
    # The formula takes a cluster that is long in use; the equation begins with a whole blob.
    assert loss.markov == pytest.approx(within_a_year, rel=0.25 if repair_s > DAY_S else 0.02)
    assert loss.markov >= within_a_year * 0.99


@pytest.mark.parametrize("geometry", [(4, 2), (2, 1), (3, 3)])
def test_mean_time_agrees_with_linear_equations(geometry: tuple[int, int]) -> None:
    k, m = geometry
    transient = chain(k, m, 0.7, 0.02)[:-1, :-1]
    exact = np.linalg.solve(transient, -np.ones(m + 1))[0]
    assert mean_years_to_loss(k, m, 0.7, 0.02) == pytest.approx(exact, rel=1e-9)


def years_until_loss(random: Random, k: int, m: int, rate: float, repair_years: float) -> float:
    """One life of one blob: each fragment lives and is repaired for itself."""
    now = 0.0
    next_event = [random.expovariate(rate) for _ in range(k + m)]
    is_missing = [False] * (k + m)
    while True:
        fragment = min(range(k + m), key=next_event.__getitem__)
        now = next_event[fragment]
        is_missing[fragment] = not is_missing[fragment]
        if sum(is_missing) > m:
            return now
        mean_years = repair_years if is_missing[fragment] else 1 / rate
        next_event[fragment] = now + random.expovariate(1 / mean_years)


@pytest.mark.parametrize(("k", "m", "rate", "repair_years"), [(4, 2, 1.0, 0.05), (3, 1, 0.5, 0.02)])
def test_mean_time_agrees_with_a_simulation(
    k: int, m: int, rate: float, repair_years: float
) -> None:
    print(f"seed {SEED}")
    random, lives = Random(SEED), 3000
    times = [years_until_loss(random, k, m, rate, repair_years) for _ in range(lives)]
    mean = sum(times) / lives
    deviation = math.sqrt(sum((time - mean) ** 2 for time in times) / lives / (lives - 1))
    assert abs(mean - mean_years_to_loss(k, m, rate, repair_years)) < 4 * deviation


def test_loss_while_degraded_agrees_with_a_simulation() -> None:
    print(f"seed {SEED}")
    random, tries, lost = Random(SEED), 20_000, 0
    k, m, rate, repair_years = 4, 2, 1.0, 0.1
    for _ in range(tries):
        missing = 1
        while 0 < missing <= m:
            up, down = (k + m - missing) * rate, missing / repair_years
            missing += 1 if random.random() < up / (up + down) else -1
        lost += missing > m
    expected = loss_while_degraded(k, m, 1, [Cause(rate, repair_years * YEAR_S)])
    assert abs(lost / tries - expected) < 4 * math.sqrt(expected / tries)


def test_more_parity_faster_repair_and_better_disks_never_hurt() -> None:
    def worst(m: int, share: float, repair_s: float) -> float:
        return annual_loss(4, m, [Cause(rate_of(share), repair_s)]).worst

    base = worst(2, 0.02, DAY_S)
    assert worst(3, 0.02, DAY_S) < base < worst(1, 0.02, DAY_S)
    assert worst(2, 0.01, DAY_S) < base < worst(2, 0.02, 2 * DAY_S)


def test_causes_add_up() -> None:
    one = annual_loss(4, 2, [Cause(0.02, DAY_S)])
    split = annual_loss(4, 2, [Cause(0.005, DAY_S), Cause(0.015, DAY_S), Cause(0.0, 1e9)])
    assert split.binomial == pytest.approx(one.binomial)
    assert split.markov == pytest.approx(one.markov)


def test_edges() -> None:
    assert annual_loss(4, 2, [Cause(0.0, DAY_S)]).worst == 0.0
    assert nines(0.0) == math.inf
    assert nines(1.0) == 0.0
    single = annual_loss(1, 0, [Cause(rate_of(0.015), DAY_S)])
    assert single.markov == pytest.approx(0.015)
    assert single.binomial == pytest.approx(0.015)
    assert annual_loss(4, 2, [Cause(1e9, 100 * YEAR_S)]).worst == pytest.approx(1.0)
    assert loss_while_degraded(4, 2, 3, [Cause(0.1, DAY_S)]) == 1.0
    assert loss_while_degraded(4, 2, 0, [Cause(0.1, DAY_S)]) == 0.0
    with pytest.raises(ValueError):
        rate_of(1.0)


def test_quorum_of_five_against_four() -> None:
    """Why one more than k must be durable: the sixth fragment an hour late, or two of them."""
    causes = [Cause(rate_of(0.015), HOUR_S)]
    five, four = (loss_while_degraded(4, 2, missing, causes) for missing in (1, 2))
    assert five == pytest.approx(3.0e-11, rel=0.02)
    assert four / five > 1e5


def test_sets_of_disks() -> None:
    assert groups([1] * 6, 6) == 1
    assert groups([2] * 6, 6) == 64
    assert groups([1, 2, 3], 2) == 1 * 2 + 1 * 3 + 2 * 3
    assert groups([5, 5], 3) == 0
    assert any_loss(1e-12, 64) == pytest.approx(64e-12)
    assert any_loss(1.0, 3) == 1.0
