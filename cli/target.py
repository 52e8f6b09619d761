"""The cluster that an administrator's command is for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from cli.control import call, control_address, host_and_port, with_control
from cli.folder import DEFAULT_DIRECTORY, ClusterFolder


@dataclass(frozen=True, slots=True)
class Target:
    """The cluster a command is for: a local one by its folder, or a deployed one by address."""

    directory: Path
    control: str | None

    @property
    def address(self) -> str:
        """Its control plane. raises NotFound, Unavailable"""
        return self.control or control_address(ClusterFolder(self.directory))

    def ask(self, method: str, request: Any) -> Any:
        """Make one call to the cluster's control plane."""
        return with_control(self.address, lambda stub: call(getattr(stub, method), request))


def for_cluster(function: Callable[..., None]) -> Callable[..., None]:
    """Options that name the cluster; the command gets a Target."""

    @click.option(
        "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY,
        show_default=True, help="A local cluster's folder.",
    )  # fmt: skip
    @click.option(
        "--control", type=host_and_port, metavar="HOST:PORT",
        help="A deployed cluster's metadata service, instead of a folder.",
    )  # fmt: skip
    @wraps(function)
    def with_target(directory: Path, control: str | None, **others: Any) -> None:
        function(Target(directory, control), **others)

    return with_target
