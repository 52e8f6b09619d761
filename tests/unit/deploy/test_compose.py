"""deploy/compose.yml describes a cluster that Ostraka's own configuration classes accept.

Method: read it as an engine would (defaults of variables, anchors), load every process's mounted
file with the service's environment, and check that what they say of one another agrees.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.service import SERVICES, read_config

DEPLOY = Path(__file__).parents[3] / "deploy"
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
NODES = [f"node-{number}" for number in range(1, 7)]
PROCESSES = ["metaservice", *NODES, "workers", "gateway"]
ONCE = ["init", "accounts"]


def read_compose() -> dict[str, Any]:
    text = VARIABLE.sub(lambda found: found[2], (DEPLOY / "compose.yml").read_text())
    document: dict[str, Any] = yaml.safe_load(text)
    return document


COMPOSE = read_compose()


def mounts(name: str) -> dict[str, str]:
    """Target to source of a service's mounts."""
    split = [volume.split(":") for volume in COMPOSE["services"][name]["volumes"]]
    return {parts[1]: parts[0] for parts in split}


def own_of(path: Path, name: str) -> str:
    """The source of the mount that a path of a container lies in."""
    found = [source for target, source in mounts(name).items() if path.is_relative_to(target)]
    assert len(found) == 1, f"{name}: {path} is in {found}"
    return found[0]


Configs = Callable[[str], Any]


@pytest.fixture
def config_of(monkeypatch: pytest.MonkeyPatch) -> Configs:
    """Loads a service's configuration as its process would."""

    def load(name: str) -> Any:
        service = COMPOSE["services"][name]
        role, option, inside, *_ = service["command"]
        assert option == "--config"
        with monkeypatch.context() as environment:
            for variable in [each for each in os.environ if each.startswith("OSTRAKA_")]:
                environment.delenv(variable)
            for variable, value in service.get("environment", {}).items():
                environment.setenv(variable, str(value or ""))
            return read_config(SERVICES[role], DEPLOY / mounts(name)[inside])

    return load


def test_services_are_the_expected_ones() -> None:
    assert sorted(COMPOSE["services"]) == sorted(PROCESSES + ONCE)


@pytest.mark.parametrize("name", PROCESSES)
def test_mounted_configuration_loads_and_its_files_are_mounted(
    name: str, config_of: Configs
) -> None:
    config = config_of(name)
    assert own_of(config.secret_file, name) == "peers"
    assert config.admin_host == "0.0.0.0"
    health = COMPOSE["services"][name]["healthcheck"]["test"]
    assert health[:3] == ["CMD", "ready", str(config.admin_port)]


@pytest.mark.parametrize("name", [*NODES, "workers", "gateway"])
def test_processes_find_the_metadata_service(name: str, config_of: Configs) -> None:
    config, metaservice = config_of(name), config_of("metaservice")
    assert config.metaservice_host == "metaservice"
    assert config.metaservice_port == metaservice.port
    assert set(COMPOSE["services"][name]["networks"]) & set(
        COMPOSE["services"]["metaservice"]["networks"]
    )


def test_nodes_are_six_zones_on_volumes_of_their_own(config_of: Configs) -> None:
    configs = [config_of(name) for name in NODES]
    assert len({config.zone for config in configs}) == len(NODES)
    assert [config.name for config in configs] == NODES
    assert [config.advertise_host for config in configs] == NODES
    volumes = {own_of(disk, config.name) for config in configs for disk in config.disks}
    assert volumes == set(NODES)
    assert sum(config.space_share for config in configs) <= 1
    profile = config_of("metaservice").profiles[0]
    assert (profile.k, profile.m) == (4, 2)


def test_only_gateways_and_metadata_see_the_key_ring(config_of: Configs) -> None:
    for name in ("gateway", "metaservice"):
        assert own_of(config_of(name).keyring_file, name) == "keys"
    holders = [name for name in COMPOSE["services"] if "keys" in mounts(name).values()]
    assert sorted(holders) == ["accounts", "gateway", "init", "metaservice"]


def test_gateway_and_metadata_agree_and_one_port_is_published(config_of: Configs) -> None:
    gateway = config_of("gateway")
    assert gateway.region == config_of("metaservice").region
    published = {name for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published == {"gateway"}
    assert COMPOSE["services"]["gateway"]["ports"] == [f"127.0.0.1:9000:{gateway.port}"]
    assert COMPOSE["networks"]["inside"]["internal"] is True


def test_health_check_asks_every_gateway_process() -> None:
    gateway = COMPOSE["services"]["gateway"]
    count = gateway["command"][gateway["command"].index("--processes") + 1]
    assert gateway["healthcheck"]["test"][3] == str(count)


def test_accounts_are_made_through_the_control_port(config_of: Configs) -> None:
    command = COMPOSE["services"]["accounts"]["command"]
    assert command[:2] == ["admin", "bootstrap"]
    port = config_of("metaservice").control_port
    assert command[command.index("--control") + 1] == f"metaservice:{port}"
    files = [word for word in command if word.startswith("/")]
    sources = [own_of(Path(file), "accounts") for file in files]
    assert sources == ["keys", "./bootstrap.toml"]


@pytest.mark.parametrize("name", PROCESSES + ONCE)
def test_containers_are_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] and "privileged" not in service
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    data = {"init": ["keys", "peers"], "accounts": ["keys"], "metaservice": ["meta"]}
    data |= {node: [node] for node in NODES}
    assert [volume.split(":")[0] for volume in writable] == data.get(name, [])


def test_everything_that_is_mounted_exists_and_is_declared() -> None:
    used = {source for name in COMPOSE["services"] for source in mounts(name).values()}
    files = {source for source in used if source.startswith(".")}
    assert used - files == set(COMPOSE["volumes"])
    assert all((DEPLOY / file).is_file() for file in files)


def test_every_variable_is_documented_with_its_default() -> None:
    used = dict(VARIABLE.findall((DEPLOY / "compose.yml").read_text()))
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    shown = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert shown == used


def test_dependencies_are_met_by_their_condition() -> None:
    for service in COMPOSE["services"].values():
        for name, dependency in service.get("depends_on", {}).items():
            condition = dependency["condition"]
            assert (condition == "service_completed_successfully") == (name in ONCE)
            assert condition != "service_healthy" or "healthcheck" in COMPOSE["services"][name]
