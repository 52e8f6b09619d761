"""settings.toml of a cluster's folder: what users set for the processes of a local cluster."""

import tomllib
from pathlib import Path

import pytest

from cli.folder import ClusterFolder
from cli.plan import ROLES, Plan
from common import faults
from common.config import load
from gateway.config import GatewayConfig


def prepared(path: Path, settings: str) -> ClusterFolder:
    path.mkdir()
    (path / "settings.toml").write_text(settings)
    folder = ClusterFolder(path)
    folder.prepare()
    return folder


def test_they_override_what_up_writes(tmp_path: Path) -> None:
    folder = prepared(
        tmp_path / "d", "[gateway]\nthreads = 7\n[gateway.connections]\nhead_s = 1.5\n"
    )
    plan = Plan(folder, folder.create(1, "us-east-1", []))
    found = load(GatewayConfig, plan.gateways[0].config_file)
    assert (found.threads, found.connections.head_s, found.connections.count_max) == (
        7, 1.5, GatewayConfig("", 0, Path()).connections.count_max,
    )  # fmt: skip
    assert plan.metaservice.config_file is not None
    assert "threads" not in tomllib.loads(plan.metaservice.config_file.read_text())


@pytest.mark.parametrize(
    ("text", "words"), [("[node]\na = 1", "node is none of"), ("gateway = 1", "gateway is none of"),
                        ("[gateway", "Expected")],
)  # fmt: skip
def test_what_is_no_setting_is_refused(tmp_path: Path, text: str, words: str) -> None:
    folder = prepared(tmp_path / "d", text)
    with pytest.raises(faults.Invalid, match=words):
        folder.settings(ROLES)
