"""The JavaScript and the Go SDK, unmodified, by a small program of each in clients/.

Method: installed from their ordinary registries into a temporary folder, run against the cluster.
TEST_CLIENTS=long makes the large objects 1 GiB.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.test_clients import LARGE_MIB, need, run
from tests.support.cluster import Cluster

PROGRAMS = Path(__file__).parent / "clients"
INSTALL_S = 420


def install(folder: Path, *command: str) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_javascript_sdk(cluster: Cluster, bucket: str, tmp_path: Path) -> None:
    node, npm = need("node"), need("npm")
    folder = shutil.copytree(PROGRAMS / "javascript", tmp_path / "javascript")
    install(folder, npm, "install", "--no-audit", "--no-fund", "--no-package-lock")
    assert run(cluster, node, str(folder / "check.mjs"), bucket, str(LARGE_MIB)) == "ok\n"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_go_sdk(cluster: Cluster, bucket: str, tmp_path: Path) -> None:
    go = need("go")
    folder = shutil.copytree(PROGRAMS / "go", tmp_path / "go")
    install(folder, go, "build", "-o", "check", ".")
    assert run(cluster, str(folder / "check"), bucket, str(LARGE_MIB)) == "ok\n"
