"""`ostraka down`: stop a local cluster, in order, losing nothing."""

import os
import signal
import time
from pathlib import Path

import click
from rich.console import Console

from cli.folder import DEFAULT_DIRECTORY, ClusterFolder
from cli.lifeline import end_all, processes_of
from cli.processes import STOP_ORDER, STOP_S
from common import faults

PATIENCE_S = STOP_S * len(STOP_ORDER) + 5
POLL_S = 0.05


@click.command("down")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="The cluster's folder.",
)  # fmt: skip
def command(directory: Path) -> None:
    """Stop a local cluster: gateways first, the metadata service last.

    Exit code 0 if it does not run afterwards.
    """
    folder = ClusterFolder(directory)
    folder.load()
    with Console(stderr=True).status("stopping"):
        was_running = _stop_supervisor(folder)
        # Of a supervisor that was killed a moment ago.
        left = end_all(lambda: processes_of(folder.path / "config"), STOP_S)
    click.echo("stopped" if was_running or left else "the cluster does not run")


def _stop_supervisor(folder: ClusterFolder) -> bool:
    pid = folder.supervisor()
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    deadline_s = time.monotonic() + PATIENCE_S
    while folder.supervisor() == pid:
        if time.monotonic() > deadline_s:
            raise faults.Unavailable(f"the supervisor (pid {pid}) did not stop")
        time.sleep(POLL_S)
    return True
