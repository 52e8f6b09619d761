"""Several processes of one service on one port: the kernel spreads connections over them.

They are started again when they die, as `ostraka up` does, and end with this process.
"""

import os
import signal
import threading
from pathlib import Path

import click

from cli.processes import Child, ostraka, stop, watch

WATCH_S = 0.5


def run_replicas(role: str, name: str, config_file: Path | None, count: int) -> int:
    """Run until SIGTERM or SIGINT, then stop all; returns the exit code."""
    is_told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_told.set())
    replicas = [_replica(role, name, config_file, number) for number in range(1, count + 1)]
    for replica in replicas:
        replica.start()
    while not is_told.wait(WATCH_S):
        for line in watch(replicas):
            click.echo(line, err=True)
    killed = stop(replicas)
    for late in killed:
        click.echo(f"{late} did not stop in time and was killed", err=True)
    return 1 if killed else 0


def _replica(role: str, name: str, config_file: Path | None, number: int) -> Child:
    config = ["--config", str(config_file.absolute())] if config_file is not None else []
    options = ["--parent", str(os.getpid()), "--replica", str(number)]
    return Child(
        role, f"{name}-{number}", "", "", config_file, None,
        program=tuple(ostraka(role, *config, *options)),
    )  # fmt: skip
