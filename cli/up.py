"""`ostraka up`: start a local cluster, or start it again on its data, and look after it."""

import asyncio
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cli.bootstrap import AccountPlan, Bootstrap, read_bootstrap, root_account
from cli.control import call, with_control
from cli.folder import DEFAULT_DIRECTORY, ClusterFolder, ClusterIdentity, is_alive, is_port_free
from cli.processes import Plan, profile_of, stop, watch
from cli.status import collect
from common import faults
from proto import admin_pb2, records_pb2

START_S = 60.0
POLL_S = 0.05
WATCH_S = 0.5
READY, FAILED = b"ready\n", b"failed "


@click.command("up")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="Where the cluster keeps everything.",
)  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), default=9000, show_default=True,
              help="Of the S3 endpoint.")  # fmt: skip
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
    port: int,
    bootstrap_file: Path | None,
    zones: int | None,
    gateways: int | None,
    detach: bool,
    ready_fd: int | None,
) -> None:
    """Start a whole local cluster and keep it running until Ctrl-C."""
    if detach:
        sys.exit(_detach())
    folder = ClusterFolder(directory)
    bootstrap = read_bootstrap(bootstrap_file) if bootstrap_file is not None else None
    supervisor = LocalCluster(folder, Console(stderr=True), ready_fd)
    try:
        supervisor.start(port, zones, gateways or os.cpu_count() or 1, bootstrap)
    except BaseException as error:
        supervisor.stop()
        if ready_fd is not None and isinstance(error, faults.Fault):
            os.write(ready_fd, FAILED + str(error).encode())
        raise
    supervisor.run()


def _detach() -> int:
    """Start the supervisor in a session of its own; wait until it is ready or has failed."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    reader, writer = os.pipe()
    read_error, write_error = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments, "--ready-fd", str(writer)],
        pass_fds=(writer,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=write_error,
        start_new_session=True,
    )
    os.close(writer)
    os.close(write_error)
    with os.fdopen(reader, "rb") as ready, os.fdopen(read_error, "rb") as messages:
        if ready.readline() == READY:
            # The supervisor goes on writing there; nobody reads any more.
            os.set_blocking(messages.fileno(), False)
            sys.stderr.write((messages.read() or b"").decode())
            return 0
        child.wait()
        sys.stderr.write(messages.read().decode())
    return child.returncode or 1


class LocalCluster:
    """The supervisor of a local cluster."""

    def __init__(self, folder: ClusterFolder, console: Console, ready_fd: int | None) -> None:
        self._folder = folder
        self._console = console
        self._ready_fd = ready_fd
        self._plan: Plan | None = None
        self._identity: ClusterIdentity | None = None
        self._stopping = 0

    def start(
        self, port: int, zones: int | None, gateways: int, bootstrap: Bootstrap | None
    ) -> None:
        """Start everything. raises Invalid, Full, Unavailable"""
        begun_s = time.monotonic()
        self._folder.prepare()
        self._lock = self._folder.lock()
        self._end_leftovers()
        if not is_port_free(port):
            raise faults.Invalid("port", str(port), "is taken by another program")
        identity = self._load_or_create(zones, bootstrap)
        identity.port, identity.gateways = port, gateways
        self._identity = identity
        plan = self._plan = Plan(self._folder, identity)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._on_signal)
        for child in (plan.metaservice, *plan.nodes, plan.workers):
            child.start()
        self._write_state()
        accounts = list(bootstrap.accounts) if bootstrap is not None else []
        if not accounts:
            accounts = [root_account(self._folder)]
        with self._console.status("starting"):
            address = f"127.0.0.1:{plan.control_port}"
            with_control(address, lambda stub: self._prepare(stub, accounts, identity.zones))
            for gateway in plan.gateways:
                gateway.start()
            self._wait_for_endpoint(port)
        self._write_state()
        self._say_welcome(accounts, time.monotonic() - begun_s)
        if self._ready_fd is not None:
            os.write(self._ready_fd, READY)
            os.close(self._ready_fd)
            self._ready_fd = None
            self._log_to_file()

    def _log_to_file(self) -> None:
        """Nobody reads a detached supervisor's messages: writing them to the pipe would end it."""
        with (self._folder.path / "logs" / "supervisor.log").open("ab") as log:
            os.dup2(log.fileno(), sys.stdout.fileno())
            os.dup2(log.fileno(), sys.stderr.fileno())

    def run(self) -> None:
        """Restart what dies until told to stop, then stop everything in order."""
        assert self._plan is not None
        while not self._stopping:
            for line in watch(self._plan.children):
                self._console.print(line)
                self._write_state()
            time.sleep(WATCH_S)
        self._console.print("stopping")
        self.stop()

    def stop(self) -> None:
        """End all processes."""
        if self._plan is not None:
            stop(self._plan.children)
            self._write_state()

    def _load_or_create(self, zones: int | None, bootstrap: Bootstrap | None) -> ClusterIdentity:
        if not self._folder.exists():
            region = bootstrap.region if bootstrap is not None else "us-east-1"
            domains = list(bootstrap.domains) if bootstrap is not None else []
            return self._folder.create(zones or 6, region, domains)
        identity = self._folder.load()
        if zones is not None and zones != identity.zones:
            raise faults.Invalid(
                "zones", str(zones), f"this cluster was made with {identity.zones}"
            )
        if bootstrap is not None:
            if bootstrap.region != identity.region:
                raise faults.Invalid(
                    "region", bootstrap.region, f"this cluster is in {identity.region}"
                )
            identity.domains = list(bootstrap.domains)
        return identity

    def _end_leftovers(self) -> None:
        """Children of a supervisor that was killed end with it; wait for those that still do."""
        state = self._folder.read_state() or {}
        pids = [entry["pid"] for entry in state.get("processes", []) if entry.get("pid")]
        deadline_s = time.monotonic() + START_S
        while any(_is_ours(pid) for pid in pids) and time.monotonic() < deadline_s:
            for pid in pids:
                if _is_ours(pid):
                    os.kill(pid, signal.SIGTERM)
            time.sleep(POLL_S)

    async def _prepare(self, stub: Any, accounts: list[AccountPlan], zones: int) -> None:
        """Wait for the metadata service, make accounts and keys, wait for all disks."""
        await self._until(lambda: _is_up(stub), "the metadata service")
        for plan in accounts:
            await _make_account(stub, plan)
        await self._until(lambda: _has_disks(stub, zones), "the storage nodes")

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline_s = time.monotonic() + START_S
        while not await condition():
            self._check_children()
            if time.monotonic() > deadline_s:
                raise faults.Unavailable(f"{what} did not start; see {self._folder.path}/logs")
            await asyncio.sleep(POLL_S)

    def _check_children(self) -> None:
        assert self._plan is not None
        for child in self._plan.children:
            if child.process is not None and not child.is_running:
                raise faults.Unavailable(f"{child.name} does not start; see {child.log_file}")

    def _wait_for_endpoint(self, port: int) -> None:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            self._check_children()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            try:
                connection.request("GET", "/")
                connection.getresponse().read()
            except OSError:
                time.sleep(POLL_S)
            else:
                return
            finally:
                connection.close()
        raise faults.Unavailable("the endpoint does not answer")

    def _write_state(self) -> None:
        if self._plan is None or self._identity is None:
            return
        self._folder.write_state(
            {
                "endpoint": f"http://127.0.0.1:{self._identity.port}",
                "supervisor": os.getpid(),
                "processes": [child.describe() for child in self._plan.children],
            }
        )

    def _say_welcome(self, accounts: list[AccountPlan], took_s: float) -> None:
        assert self._identity is not None
        identity = self._identity
        k, m = profile_of(identity.zones)
        picture = collect(self._folder)
        endpoint = f"http://127.0.0.1:{identity.port}"
        key = next((key for plan in accounts for key in plan.keys), None)
        out = self._console
        out.print(f"Ostraka is up at [bold]{endpoint}[/bold] ({took_s:.1f} s)", highlight=False)
        out.print(f"  region      {identity.region}", highlight=False)
        if key is not None:
            out.print(f"  access key  {key.access_key}", highlight=False)
            out.print(f"  secret key  {key.secret_key}", highlight=False)
        out.print(
            f"  data        {k}+{m} erasure-coded; survives the loss of {picture['survives']}"
        )
        out.print(f"  metadata    survives the loss of {picture['metadata_survives']}")
        if key is not None:
            lines = _snippets(endpoint, key.access_key, key.secret_key, identity.region)
            out.print(lines, soft_wrap=True, highlight=False, markup=False)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stopping += 1
        if self._stopping > 1 and self._plan is not None:
            for child in self._plan.children:
                if child.process is not None and child.is_running:
                    child.process.kill()


def _snippets(endpoint: str, access_key: str, secret_key: str, region: str) -> str:
    return f"""
aws CLI:
  export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key}
  export AWS_DEFAULT_REGION={region} AWS_ENDPOINT_URL={endpoint}
  aws s3 mb s3://first && aws s3 cp FILE s3://first/
boto3:
  boto3.client("s3", endpoint_url="{endpoint}", region_name="{region}",
               aws_access_key_id="{access_key}", aws_secret_access_key="{secret_key}")
rclone:
  rclone config create ostraka s3 provider=Other endpoint={endpoint} region={region} \\
    access_key_id={access_key} secret_access_key={secret_key}"""


async def _is_up(stub: Any) -> bool:
    try:
        await call(stub.ListAccounts, admin_pb2.ListAccountsRequest())
    except faults.Unavailable:
        return False
    return True


async def _has_disks(stub: Any, zones: int) -> bool:
    status = await call(stub.ClusterStatus, admin_pb2.ClusterStatusRequest())
    alive: int = sum(node.is_alive for node in status.nodes)
    return alive >= zones


async def _make_account(stub: Any, plan: AccountPlan) -> None:
    account = records_pb2.Account(
        account_id=plan.account_id,
        canonical_id=plan.canonical_id,
        name=plan.name,
        email=plan.email,
    )
    await call(stub.CreateAccount, admin_pb2.CreateAccountRequest(account=account))
    for key in plan.keys:
        await call(
            stub.CreateKey,
            admin_pb2.CreateKeyRequest(
                account_id=plan.account_id, access_key=key.access_key, secret_key=key.secret_key
            ),
        )


def _is_ours(pid: int) -> bool:
    """Whether a pid of an earlier run is still one of our processes."""
    if not is_alive(pid):
        return False
    try:
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"cli.main" in command_line
