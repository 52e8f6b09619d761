"""Configurations of a local cluster's processes: the product reads what the plan writes."""

import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli.folder import ClusterFolder
from cli.plan import Plan, profile_of, toml
from cli.ports import PORTS, free_port, port_trouble
from cli.service import SERVICES, read_config
from common import faults


def planned(path: Path, zones: int = 6, gateways: int = 2) -> Plan:
    folder = ClusterFolder(path)
    if not folder.exists():
        folder.prepare()
        identity = folder.create(zones, "eu-west-7", ["s3.example.com"])
    else:
        identity = folder.load()
    identity.port, identity.gateways = 19_999, gateways
    return Plan(folder, identity)


def configs_of(plan: Plan) -> dict[str, Any]:
    return {c.name: read_config(SERVICES[c.role], c.config_file) for c in plan.children}


def test_every_configuration_is_read_by_its_service(tmp_path: Path) -> None:
    plan = planned(tmp_path / 'a "quoted" folder \\ with ünïcode 🏺')
    configs = configs_of(plan)
    assert len(configs) == 1 + 6 + 1 + 2
    assert {config.secret_file for config in configs.values()} == {
        tmp_path / 'a "quoted" folder \\ with ünïcode 🏺' / "secret"
    }
    nodes = [configs[f"node-{number}"] for number in range(1, 7)]
    assert len({node.zone for node in nodes}) == len({node.disks for node in nodes}) == 6
    assert sum(node.space_share for node in nodes) == pytest.approx(1)
    gateways = [configs["gateway-1"], configs["gateway-2"]]
    assert {gateway.port for gateway in gateways} == {19_999}
    assert {gateway.domains for gateway in gateways} == {("s3.example.com",)}
    assert {gateway.region for gateway in gateways} == {configs["metaservice"].region}
    assert (configs["metaservice"].profiles[0].k, configs["metaservice"].profiles[0].m) == (4, 2)


def test_ports_are_distinct_and_stay(tmp_path: Path) -> None:
    first = planned(tmp_path / "cluster")
    names = ("port", "control_port", "admin_port")
    ports = [
        getattr(config, name)
        for config in configs_of(first).values()
        for name in names
        if getattr(config, name, 19_999) != 19_999
    ]
    assert len(set(ports)) == len(ports) and all(port in PORTS for port in ports)
    again = planned(tmp_path / "cluster")
    assert [child.address for child in again.children] == [c.address for c in first.children]


def test_port_that_was_taken_meanwhile_is_replaced() -> None:
    taken = free_port()
    assert free_port(taken) == taken
    assert free_port(taken, {taken}) != taken


def test_taken_port_is_told() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert port_trouble(port) == "is taken by another program"
        assert free_port(port) != port
    assert port_trouble(port) == ""


@pytest.mark.parametrize(
    ("zones", "profile"),
    [(1, (1, 0)), (2, (1, 1)), (3, (1, 2)), (4, (2, 2)), (5, (3, 2)), (6, (4, 2)), (12, (4, 2))],
)
def test_geometry_fits_the_zones(zones: int, profile: tuple[int, int]) -> None:
    assert profile_of(zones) == profile
    assert sum(profile) <= zones
    assert zones < 3 or profile[1] == 2


@pytest.mark.parametrize(
    "value",
    ["", "a", 'a"b', "a\\b", "a\tb", "a\x7fb", "ünï 🏺", 7, -1, 0.5, True, ["a", "b"], []]
    + [[{"k": 4}]],
)
def test_values_survive_toml(value: Any) -> None:
    assert tomllib.loads(f"value = {toml(value)}")["value"] == value


def test_no_free_port_is_told() -> None:
    with pytest.raises(faults.Unavailable):
        free_port(0, PORTS)
