"""`ostraka gateway|metaservice|storagenode|workers`: one process alone, or gateways on one port."""

import dataclasses
import importlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cli.lifeline import end_with
from cli.replicas import run_replicas
from common import exit_codes, faults
from common.config import load
from common.telemetry import configure_logging

log = logging.getLogger(__name__)

REPLICAS_MAX = 64


@dataclass(frozen=True, slots=True)
class Service:
    """A process that can be run alone. Its package is imported only then."""

    name: str
    config_class: str
    what: str
    has_replicas: bool = False  # several share a port


SERVICES = {
    service.name: service
    for service in (
        Service("gateway", "GatewayConfig", "the S3 endpoint", has_replicas=True),
        Service("metaservice", "MetaServiceConfig", "the metadata service"),
        Service("storagenode", "StorageNodeConfig", "a storage node"),
        Service("workers", "WorkersConfig", "background workers"),
    )
}


def service_command(service: Service) -> click.Command:
    """The command that runs a service."""

    @click.command(service.name, help=f"Run {service.what} alone, as containers and systemd do.")
    @click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        help="TOML file; OSTRAKA_SECTION__FIELD in the environment overrides it.",
    )
    @click.option("--parent", type=int, hidden=True)
    def run_service(
        config_file: Path | None,
        parent: int | None,
        processes: int = 1,
        replica: int | None = None,
    ) -> None:
        if parent is not None:
            end_with(parent)
        try:
            config = read_config(service, config_file)
        except faults.Invalid as invalid:
            click.echo(f"ostraka {service.name}: {faults.in_words(invalid)}", err=True)
            sys.exit(exit_codes.CONFIG)
        if processes != 1:
            count = processes or os.cpu_count() or 1
            sys.exit(run_replicas(service.name, config.name, config_file, count))
        if replica is not None:
            config = as_replica(config, replica)
        run: Callable[[Any], int] = importlib.import_module(f"{service.name}.app").run
        sys.exit(run(config))

    if service.has_replicas:
        run_service.params += [
            click.Option(
                ["--processes"], type=click.IntRange(0, REPLICAS_MAX), default=1,
                show_default=True,
                help="So many on the same port, admin ports counting up; 0: one per core.",
            ),
            click.Option(["--replica"], type=int, hidden=True),
        ]  # fmt: skip
    return run_service


def read_config(service: Service, path: Path | None) -> Any:
    """A service's configuration. raises Invalid with the place of the mistake"""
    return load(
        _config_class(service), path, [_config_class(other) for other in SERVICES.values()], _warn
    )


def _config_class(service: Service) -> type[Any]:
    found: type[Any] = getattr(
        importlib.import_module(f"{service.name}.config"), service.config_class
    )
    return found


def _warn(words: str) -> None:
    """One line, in the form of the log that is to follow."""
    configure_logging("config")
    log.warning(words)


def as_replica(config: Any, number: int) -> Any:
    """What differs between processes on one port: the name, and the admin port."""
    admin_port = config.admin_port + number - 1 if config.admin_port else 0
    return dataclasses.replace(config, name=f"{config.name}-{number}", admin_port=admin_port)
