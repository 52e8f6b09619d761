"""The time that an append gets follows what appends take, within bounds."""

import pytest

from metaservice.journal.patience import DOUBLINGS_MAX, PATIENCE_S_MIN, AppendPatience

MOST_S = 1.0


def after(taken_s: float, times: int = 2000) -> AppendPatience:
    patience = AppendPatience(MOST_S)
    for _ in range(times):
        patience.note(taken_s)
    return patience


def test_it_begins_with_the_setting() -> None:
    assert AppendPatience(MOST_S).deadline_s(0) == pytest.approx(MOST_S)


def test_fast_appends_make_it_short_but_not_shorter_than_a_hiccup() -> None:
    assert after(0.002).deadline_s(0) == PATIENCE_S_MIN


def test_slow_appends_get_more_time_up_to_the_setting() -> None:
    assert PATIENCE_S_MIN < after(0.06).deadline_s(0) < MOST_S
    assert after(0.5).deadline_s(0) == MOST_S


def test_it_grows_when_appends_become_slow() -> None:
    patience = after(0.002)
    for _ in range(60):
        patience.note(PATIENCE_S_MIN)
    assert patience.deadline_s(0) == MOST_S


def test_later_attempts_get_longer_a_few_times() -> None:
    patience = after(0.002)
    assert [patience.deadline_s(n) for n in (1, DOUBLINGS_MAX, 50)] == [0.5, 2.0, 2.0]


def test_a_short_setting_is_kept() -> None:
    assert AppendPatience(0.05).deadline_s(0) == pytest.approx(0.05)
