"""The image holds what its processes need; the units start what exists.

Method: read Dockerfile, .dockerignore and units as text; no engine.
"""

import os
import re
import tomllib
from pathlib import Path

import pytest

from cli.bootstrap import read_bootstrap
from cli.service import SERVICES

ROOT = Path(__file__).parents[3]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def test_build_context_has_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in allowed
    for package in packages:
        assert f"!{package.rstrip('*')}" in allowed
    for needed in ("pyproject.toml", project["project"]["readme"], "deploy/config", "deploy/ready"):
        assert f"!{needed}" in allowed


def test_image_ends_as_an_ordinary_user() -> None:
    users = re.findall(r"^USER (.*)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert users[-1] == "10001:10001"


def test_health_check_can_be_executed() -> None:
    assert os.access(ROOT / "deploy" / "ready", os.X_OK)


def test_bootstrap_file_as_shipped_makes_nothing() -> None:
    assert read_bootstrap(ROOT / "deploy" / "bootstrap.toml").accounts == ()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_unit_starts_a_service_with_its_configuration(unit: Path) -> None:
    command = r"^ExecStart=/opt/ostraka/bin/ostraka (\w+) --config (\S+)"
    found = re.search(command, unit.read_text(), re.MULTILINE)
    assert found is not None
    role, config_file = found.groups()
    assert role in SERVICES
    assert unit.stem == f"ostraka-{role}"
    assert config_file == f"/etc/ostraka/{role}.toml"
    assert (ROOT / "deploy" / "config" / Path(config_file).name).is_file()


def test_every_service_has_a_unit() -> None:
    assert {unit.stem for unit in UNITS} == {f"ostraka-{name}" for name in SERVICES}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_never_give_up(unit: Path) -> None:
    """What cannot start because another is away tries again for as long as that takes."""
    sections = re.split(r"^\[(\w+)\]$", unit.read_text(), flags=re.MULTILINE)
    lines = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert "StartLimitIntervalSec=0" in lines["Unit"].splitlines()
    assert "Restart=always" in lines["Service"].splitlines()


def test_all_services_fit_on_one_host() -> None:
    """No port twice, and room above the gateways' for one admin port of each process."""
    ports: dict[int, str] = {}
    for file in (ROOT / "deploy" / "config").glob("*.toml"):
        for name, value in tomllib.loads(file.read_text()).items():
            if name == "port" or (name.endswith("_port") and name != "metaservice_port"):
                assert value not in ports, f"{file.name}: {name} is {ports[value]}"
                ports[value] = f"{name} of {file.name}"
    assert ports[max(ports)] == "admin_port of gateway.toml"
