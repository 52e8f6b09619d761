"""A new cluster wants free space; tests that write none do not depend on the machine's."""

import shutil
from types import SimpleNamespace

import pytest

from common.limits import GIB


@pytest.fixture(autouse=True)
def roomy_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100 * GIB))
