"""A minute of a fault campaign: random faults, a judged workload, nothing lost, wrong or leaked.

Method: tests/faults/campaign.py with a fixed seed (FAULTS_SEED changes it) and short episodes; what
each kind of fault does, and that it is undone, is the nemesis' business. The same as a command:
`python -m tests.faults.campaign --minutes 60`.
"""

import os
from pathlib import Path

import pytest

from tests.faults.campaign import Options, run
from tests.faults.nemesis import ORDINARY, WITH_SHIM, Pace

SECONDS = 60.0
SEED = int(os.environ.get("FAULTS_SEED", "4"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_faults(tmp_path: Path) -> None:
    pace = Pace(hold_s_min=1.0, hold_s_max=5.0, long_hold_share=0.0)
    options = Options(
        SECONDS, SEED, sorted(ORDINARY | WITH_SHIM), tmp_path / "campaign",
        round_s=30.0, pace=pace,
    )  # fmt: skip
    report = run(options)
    assert report.violations == []
