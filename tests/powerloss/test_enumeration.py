"""Power loss at any moment of a workload leaves everything that was acknowledged, and nothing half.

Goal: the store of a disk, its index, the metadata engine and small files survive any choice of what
was not synced; and the enumeration sees planted mistakes. Method: a seeded sample of the states
that `python -m tests.powerloss` builds in full, in a process whose file operations are recorded.
"""

import json
from pathlib import Path

import pytest

from tests.powerloss import recorder
from tests.powerloss.plants import PLANTS

SEED = 1
STATES = {"store": 60, "rebuild": 20, "engine": 80, "small files": 0}  # 0: all
PLANTED_STATES = 250
TIMEOUT_S = 280.0  # seconds of work, where nothing else runs

pytestmark = pytest.mark.timeout(TIMEOUT_S + 10)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return recorder.build(tmp_path_factory.mktemp("recorder"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


def enumerate_states(library: Path, into: Path, *arguments: str) -> dict[str, object]:
    """Counts and failures of one workload."""
    arguments = ("tests.powerloss", "--seed", str(SEED), "--json", str(into), *arguments)
    recorder.run(library, arguments, TIMEOUT_S)
    results = json.loads(into.read_text())
    (result,) = results.values()
    return result


@pytest.mark.parametrize("workload", STATES)
def test_what_was_acknowledged_survives(library: Path, tmp_path: Path, workload: str) -> None:
    count = STATES[workload]
    result = enumerate_states(
        library, tmp_path / "result", "--only", workload, "--states", str(count), "--cuts", "3"
    )
    assert result["failures"] == [], f"seed {SEED}"
    assert result["states"] > 0.3 * count
    assert result["cuts"] > 0, "some recoveries are cut too"


# The metadata's workloads take a minute each, and are for the command.
@pytest.mark.parametrize(
    "plant", [name for name, (seen_by, _) in PLANTS.items() if seen_by in STATES]
)
def test_a_planted_mistake_is_seen(library: Path, tmp_path: Path, plant: str) -> None:
    result = enumerate_states(
        library, tmp_path / "result", "--plant", plant, "--states", str(PLANTED_STATES)
    )
    assert result["failures"], f"{plant} went unseen, seed {SEED}"
