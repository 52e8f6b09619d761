"""`ostraka up`: start a local cluster, or start it again on its data, and look after it."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console

from cli.bootstrap import read_bootstrap
from cli.folder import DEFAULT_DIRECTORY, ClusterFolder
from cli.processes import ROOT, ostraka
from cli.supervisor import Interrupted, LocalCluster

EXIT_INTERRUPTED = 130
READY = b"ready"


@click.command("up")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="Where the cluster keeps everything.",
)  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), default=None,
              help="Of the S3 endpoint. [default: as before; 9000]")  # fmt: skip
@click.option("--bootstrap", "bootstrap_file", type=click.Path(path_type=Path),
              help="TOML file with region, domains and accounts.")  # fmt: skip
@click.option("--zones", type=click.IntRange(1, 12), default=None,
              help="Storage nodes, each a zone; for a new cluster. [default: 6]")  # fmt: skip
@click.option("--gateways", type=click.IntRange(1, 64), default=None,
              help="Gateway processes on the port. [default: one per core]")  # fmt: skip
@click.option("--detach", is_flag=True, help="Return once the endpoint answers.")
@click.option("--ready-fd", type=int, hidden=True)
def command(  # noqa: PLR0913 - one parameter per option
    directory: Path,
    port: int | None,
    bootstrap_file: Path | None,
    zones: int | None,
    gateways: int | None,
    detach: bool,
    ready_fd: int | None,
) -> None:
    """Start a whole local cluster and keep it running until Ctrl-C.

    Exit code 0 once it is stopped (with --detach: once it is up), 1 with a line that says why it
    could not start, 130 when interrupted before it was up.
    """
    bootstrap = read_bootstrap(bootstrap_file) if bootstrap_file is not None else None
    if detach:
        options = {"--port": port, "--zones": zones, "--gateways": gateways}
        arguments = [f"{name}={value}" for name, value in options.items() if value is not None]
        if bootstrap_file is not None:
            arguments.append(f"--bootstrap={bootstrap_file.absolute()}")
        sys.exit(_detach([f"--directory={directory.absolute()}", *arguments]))
    folder = ClusterFolder(directory)
    with Console(stderr=True).status("starting") as spinner:
        cluster = LocalCluster(folder, spinner.update, lambda line: click.echo(line, err=True))
        try:
            text = cluster.start(port, zones, gateways, bootstrap)
        except BaseException as error:
            spinner.update("stopping")
            cluster.stop()
            if isinstance(error, Interrupted):
                sys.exit(EXIT_INTERRUPTED)
            raise
    click.echo(text)
    if ready_fd is not None:
        _leave(ready_fd, folder.path / "logs" / "supervisor.log")
    cluster.run()


def _detach(arguments: list[str]) -> int:
    """Start the supervisor in a session of its own; wait until it is ready or has failed."""
    reader, writer = os.pipe()
    supervisor = subprocess.Popen(
        [*ostraka("up", *arguments), f"--ready-fd={writer}"],
        pass_fds=(writer,),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(writer)
    assert supervisor.stdout is not None and supervisor.stderr is not None
    try:
        with Console(stderr=True).status("starting"), os.fdopen(reader, "rb") as ready:
            is_ready = ready.read() == READY
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait()
        return EXIT_INTERRUPTED
    # It has left both pipes, or has ended.
    click.echo(supervisor.stdout.read().decode(errors="replace"), nl=False)
    click.echo(supervisor.stderr.read().decode(errors="replace"), nl=False, err=True)
    return 0 if is_ready else supervisor.wait() or 1


def _leave(ready_fd: int, log_file: Path) -> None:
    """Let go of whoever started us: messages go to a log from now on."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log_file.open("ab") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more
        os.write(ready_fd, READY)
    os.close(ready_fd)
