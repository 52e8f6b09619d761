"""Every step of the micro benchmark does its work: what raises would be measured as fast."""

from unittest.mock import patch

import pytest

from benchmarks.micro.steps import Step, coded, inline, protocol


@pytest.mark.parametrize(
    "step", [*protocol(), *inline(), *coded()], ids=lambda step: step[0].replace(" ", "-")
)
def test_a_step_runs_again_and_again(step: Step) -> None:
    _, run = step
    run()
    run()


def test_steps_may_run_long_after_they_were_made() -> None:
    steps = dict(protocol())
    with patch("time.time_ns", return_value=4_000_000_000 * 10**9):
        for run in steps.values():
            run()
