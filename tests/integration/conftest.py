"""One cluster for all integration tests, a fresh bucket for each."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import Cluster, running
from tests.support.s3 import enable_versioning


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("ostraka")) as started:
        yield started


@pytest.fixture(scope="session")
def s3(cluster: Cluster) -> Any:
    return cluster.s3()


@pytest.fixture(scope="session")
def other(cluster: Cluster) -> Any:
    """A client of another account."""
    return cluster.other()


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"test-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def versioned(s3: Any, bucket: str) -> str:
    """A bucket with versioning enabled."""
    enable_versioning(s3, bucket)
    return bucket


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration" in str(item.fspath) or "tests/faults" in str(item.fspath):
            item.add_marker(pytest.mark.cluster)
