"""Figures of a scenario: percentiles, gaps, times to detect and to heal, figures over time."""

import math
from pathlib import Path
from random import Random

import pytest

from benchmarks.faults.measures import (
    figures,
    longest_gap,
    percentile,
    series,
    time_to_detect,
    time_to_health,
)
from benchmarks.faults.record import Health, ScenarioRecord, load_run
from common import faults
from tests.unit.benchmarks.records import make_run, make_scenario


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([1.0], 0.5, 1.0), ([1.0, 2.0], 0.5, 1.0), ([1.0, 2.0, 3.0], 0.5, 2.0),
     ([1.0, 2.0], 1.0, 2.0), ([1.0, 2.0], 0.0, 1.0)],
)  # fmt: skip
def test_percentile(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_percentile_is_exceeded_by_at_most_its_share() -> None:
    random = Random(7)
    for _ in range(200):
        values = sorted(random.random() for _ in range(random.randrange(1, 300)))
        share = random.random()
        found = percentile(values, share)
        assert sum(value > found for value in values) <= (1 - share) * len(values) + 1e-9
        assert sum(value < found for value in values) < share * len(values) or found == values[0]


def test_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 0.5))


def test_gap_is_between_moments_and_at_both_edges() -> None:
    assert longest_gap([2.0, 3.0, 7.0], 1.0, 8.0) == 4.0
    assert longest_gap([7.5], 1.0, 8.0) == 6.5
    assert longest_gap([1.5], 1.0, 8.0) == 6.5
    assert longest_gap([], 1.0, 8.0) == 7.0


def test_gap_ignores_order_and_what_lies_outside() -> None:
    assert longest_gap([9.0, 3.0, 0.5, 5.0], 1.0, 6.0) == 2.0


def health(*samples: tuple[float, bool]) -> list[Health]:
    return [Health(at_s, ok, "healthy" if ok else "degraded", 0) for at_s, ok in samples]


def test_detection_counts_from_the_fault_and_not_before() -> None:
    samples = health((1, False), (4, True), (5.5, True), (6.25, False), (7, False))
    assert time_to_detect(samples, 5.0) == 1.25
    assert time_to_detect(samples[:3], 5.0) is None


def test_full_health_is_what_lasts_until_the_end() -> None:
    samples = health((1, True), (6, False), (8, True), (9, False), (12, True), (13, True))
    assert time_to_health(samples, 5.0) == 7.0
    assert time_to_health(samples[:4], 5.0) is None
    assert time_to_health(samples[:1], 5.0) == 0.0
    assert time_to_health([], 5.0) is None


def test_health_that_came_before_the_end_of_the_fault_took_no_time() -> None:
    assert time_to_health(health((1, False), (2, True), (3, True)), 2.5) == 0.0


def test_figures_of_a_stall() -> None:
    figure = figures(make_scenario())
    assert figure.requests == 4000
    assert (figure.failed, figure.failed_tries, figure.wrong_reads) == (1, 2, 0)
    assert 1.99 < figure.longest_gap_s < 2.03
    assert figure.detect_s == 1.5
    assert figure.health_s == 5.0
    assert figure.healthy.rate == pytest.approx(100, rel=0.01)
    assert 15 < figure.healthy.p99_ms < 21
    assert figure.fault.p99_ms > 1900
    assert figure.repair_bytes == 5 * 1024 * 1024


def test_gap_of_one_kind_is_its_own() -> None:
    scenario = make_scenario()
    scenario.requests.status = [
        500 if kind and 1500 <= number < 1900 else 200
        for number, kind in enumerate(scenario.requests.kind)
    ]
    read_gap, write_gap = figures(scenario).longest_gap_by_kind_s
    assert read_gap < 2.1
    assert write_gap > 3.9


def test_series_loses_no_request() -> None:
    scenario = make_scenario()
    cut = series(scenario, 0.5)
    assert len(cut.rate) == 80
    assert sum(cut.rate) * 0.5 + sum(cut.failed) == pytest.approx(4000, abs=2)
    assert cut.rate[int(11 / 0.5)] == 0
    assert sum(cut.failed_tries) == 2
    assert cut.p99_ms[20] > 1900, "a stall shows where it began"


def test_series_of_no_requests() -> None:
    cut = series(ScenarioRecord("n", "N", "", 1.0, 2.0, 3.0), 1.0)
    assert cut.rate == [0.0, 0.0, 0.0]
    assert all(math.isnan(value) for value in cut.p50_ms)


def test_a_run_comes_back_from_its_file(tmp_path: Path) -> None:
    run = make_run("store", make_scenario(), make_scenario("frozen-node"))
    run.save(tmp_path / "run.json")
    assert load_run(tmp_path / "run.json") == run


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "load": 3}'])
def test_what_is_no_run_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(faults.Invalid):
        load_run(tmp_path / "run.json")
