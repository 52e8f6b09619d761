"""One cluster for all integration tests, a fresh bucket for each."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import Cluster, running


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("ostraka")) as started:
        yield started


@pytest.fixture(scope="session")
def s3(cluster: Cluster) -> Any:
    return cluster.s3()


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"test-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name)
    return name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration" in str(item.fspath) or "tests/faults" in str(item.fspath):
            item.add_marker(pytest.mark.cluster)
