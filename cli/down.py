"""`ostraka down`: stop a local cluster, in order, losing nothing."""

import os
import signal
import time
from pathlib import Path

import click

from cli.folder import DEFAULT_DIRECTORY, ClusterFolder, is_alive
from common import faults

STOP_S = 90.0
POLL_S = 0.05


@click.command("down")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="The cluster's folder.",
)  # fmt: skip
def command(directory: Path) -> None:
    """Stop a local cluster: gateways first, the metadata service last."""
    folder = ClusterFolder(directory)
    folder.load()
    state = folder.read_state()
    if not folder.is_locked() or state is None:
        click.echo("the cluster does not run")
        return
    pid = state["supervisor"]
    os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + STOP_S
    while is_alive(pid) and folder.is_locked():
        if time.monotonic() > deadline_s:
            raise faults.Unavailable(f"the supervisor (pid {pid}) did not stop")
        time.sleep(POLL_S)
    click.echo("stopped")
