"""Services alone, and several processes of one on a port."""

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.service import SERVICES, as_replica, read_config
from common.keyring import KeyRing
from tests.support.cluster import wait_for

ROOT = Path(__file__).parents[3]


def gateway_config(folder: Path, text: str = "") -> Path:
    path = folder / "gateway.toml"
    path.write_text(
        'name = "edge"\nmetaservice_host = "127.0.0.1"\nmetaservice_port = 1\n'
        f'keyring_file = "{folder}/absent.json"\n{text}'
    )
    return path


def test_replicas_differ_in_name_and_admin_port_only(tmp_path: Path) -> None:
    config = read_config(SERVICES["gateway"], gateway_config(tmp_path, "admin_port = 9100\n"))
    first, second = as_replica(config, 1), as_replica(config, 2)
    assert (first.name, second.name) == ("edge-1", "edge-2")
    assert (first.admin_port, second.admin_port) == (9100, 9101)
    assert first.port == second.port == config.port


def test_free_admin_port_stays_free_to_choose(tmp_path: Path) -> None:
    config = read_config(SERVICES["gateway"], gateway_config(tmp_path))
    assert as_replica(config, 3).admin_port == 0


def test_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRAKA_NAME", "other")
    assert read_config(SERVICES["gateway"], gateway_config(tmp_path)).name == "other"


def test_other_variables_do_not_stop_a_process_and_one_line_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OSTRAKA_IMAGE", "ostraka:latest")
    monkeypatch.setenv("OSTRAKA_EXTENT_BYTES", "1")  # of storage nodes
    before = logging.getLogger().handlers[:]
    try:
        assert read_config(SERVICES["gateway"], gateway_config(tmp_path)).name == "edge"
    finally:
        logging.getLogger().handlers[:] = before
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"].endswith("no such settings: OSTRAKA_IMAGE")


def test_replicas_are_started_again_and_end_when_told(tmp_path: Path) -> None:
    """They cannot start here, without a key ring: each end is told, until all are stopped."""
    log_file = tmp_path / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "gateway", "--processes", "2",
             "--config", str(gateway_config(tmp_path))],
            cwd=ROOT, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        for name in ("edge-1", "edge-2"):
            words = f"{name} ended with code 2: starting it again"
            wait_for(lambda words=words: log_file.read_text().count(words) >= 2, words)  # type: ignore[misc]
        assert "absent.json" in log_file.read_text()
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _is_of(path, tmp_path)]
    assert not left


@pytest.mark.parametrize("name", ["port", "control_port", "admin_port"])
def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "metaservice.toml"
        config.write_text(
            f'engine = "memory"\ndirectory = "{tmp_path}"\n'
            f'keyring_file = "{tmp_path}/keyring.json"\n{name} = {taken.getsockname()[1]}\n'
        )
        KeyRing.make().save(tmp_path / "keyring.json")
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "metaservice", "--config", str(config)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith("{")]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot start" in said[-1]


def _is_of(cmdline: Path, folder: Path) -> bool:
    try:
        return os.fsencode(folder) in cmdline.read_bytes()
    except OSError:
        return False
