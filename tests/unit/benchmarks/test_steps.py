"""Every step of the micro benchmark does its work: what raises would be measured as fast."""

import pytest

from benchmarks.micro.steps import Step, coded, inline, protocol


@pytest.mark.parametrize(
    "step", [*protocol(), *inline(), *coded()], ids=lambda step: step[0].replace(" ", "-")
)
def test_a_step_runs_again_and_again(step: Step) -> None:
    _, run = step
    run()
    run()
