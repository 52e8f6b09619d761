"""Random histories of the S3 API against a dictionary model, on a real cluster.

Method: a rule-based state machine over buckets, versions, delete markers, multipart uploads,
copies, tags, conditional writes and listings, in rounds of a few machines, each round with a seed
of its own, until the time is up. API_MODEL_SECONDS gives it more time; API_MODEL_SEED runs
the one round of a seed that an earlier run printed, and shrinks what fails.
"""

import os
import secrets
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.s3_machine import ApiMachine
from tests.support.cluster import Cluster, running

SECONDS = float(os.environ.get("API_MODEL_SECONDS", "25"))
SEED = os.environ.get("API_MODEL_SEED")
ROUND = settings(
    max_examples=4,
    stateful_step_count=60,
    deadline=None,
    database=None,
    phases=[Phase.generate] if SEED is None else [Phase.generate, Phase.shrink],
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("model")) as started:
        yield started


def run_round(cluster: Cluster, number: int) -> None:
    print(f"API_MODEL_SEED={number}")
    ApiMachine.s3 = cluster.s3(retries={"total_max_attempts": 1})
    run_state_machine_as_test(seed(number)(ApiMachine), settings=ROUND)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_the_api_does_what_the_model_says(cluster: Cluster) -> None:
    if SEED is not None:
        run_round(cluster, int(SEED))
        return
    end_s = time.monotonic() + SECONDS
    rounds = 0
    while time.monotonic() < end_s or not rounds:
        run_round(cluster, secrets.randbelow(2**32))
        rounds += 1
    assert ApiMachine.machines >= ROUND.max_examples, "the machine has run"
