"""The JavaScript and the Go SDK, unmodified, by a small program of each in clients/.

Method: installed from their ordinary registries into a temporary folder, once for all tests, run
against the cluster. TEST_CLIENTS=long makes the large objects 1 GiB.
"""

import atexit
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.integration import test_clients as clients
from tests.integration.test_clients import need, run
from tests.support.cluster import Cluster

PROGRAMS = Path(__file__).parent / "clients"
INSTALL_S = 420


@cache
def installed(program: str, *command: str) -> Path:
    """A folder with a program and what it needs."""
    folder = Path(tempfile.mkdtemp(prefix="ostraka-clients-")) / program
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    shutil.copytree(PROGRAMS / program, folder)
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_javascript_sdk(cluster: Cluster, bucket: str, _folder: Path | None = None) -> None:
    node, npm = need("node"), need("npm")
    install = (npm, "install", "--no-audit", "--no-fund", "--no-package-lock")
    program = installed("javascript", *install) / "check.mjs"
    assert run(cluster, node, str(program), bucket, str(clients.LARGE_MIB)) == "ok\n"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_go_sdk(cluster: Cluster, bucket: str, _folder: Path | None = None) -> None:
    go = need("go")
    program = installed("go", go, "build", "-o", "check", ".") / "check"
    assert run(cluster, str(program), bucket, str(clients.LARGE_MIB)) == "ok\n"
