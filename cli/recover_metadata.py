"""`ostraka recover metadata`: the metadata of a lost disk, from the storage nodes.

For a local cluster the storage nodes are started for it; those of a deployed one must run. The
result is a new folder for the metadata service, which then starts as ever.
"""

import asyncio
import datetime
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from cli.control import host_and_port
from cli.folder import DEFAULT_DIRECTORY, ClusterFolder
from cli.lifeline import end_all, processes_of
from cli.plan import Plan
from cli.processes import STOP_S, Child, stop
from common import faults
from common.buffers import BufferPool
from common.clock import SystemClock
from common.erasure.code import load_codes
from common.folders import sync_folder
from common.keyring import KeyRing
from common.limits import MIB
from common.rocks import RocksDatabase
from metaservice.journal.blobs import BlobKeeper
from metaservice.journal.recovery import Recovery, Report
from metaservice.kv.interface import Row
from proto import journal_pb2
from storagenode.client import Method, NodeClient

NODES_S = 15.0  # until the nodes must answer
ASK_S = 3.0
BUFFER_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class Source:
    """Where metadata is brought back from, and to."""

    addresses: tuple[str, ...]
    secret: bytes
    keyring_file: Path
    target: Path
    cluster_id: str  # empty: that of the nodes


@dataclass(frozen=True, slots=True)
class How:
    """What is wanted. base: rows to begin with, instead of a checkpoint on the nodes."""

    until_ns: int | None = None
    accept_loss: bool = False
    base: Callable[[KeyRing], AsyncIterator[list[Row]]] | None = None
    is_base_all: bool = False  # nothing that came after it is wanted


@click.command("metadata")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="A local cluster's folder; it must not run.",
)  # fmt: skip
@click.option("--nodes", "addresses", type=host_and_port, multiple=True, metavar="HOST:PORT",
              help="Hot plane of each storage node of a deployed cluster; repeat it.")  # fmt: skip
@click.option("--secret", "secret_file", type=click.Path(path_type=Path),
              help="With --nodes: what its processes prove to one another.")  # fmt: skip
@click.option("--keyring", "keyring_file", type=click.Path(path_type=Path),
              help="With --nodes: its key ring.")  # fmt: skip
@click.option("--target", type=click.Path(path_type=Path),
              help="With --nodes: the folder of the new metadata; empty or absent.")  # fmt: skip
@click.option("--until", type=click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]),
              help="An earlier moment, UTC, as far back as the journal is kept.")  # fmt: skip
@click.option("--accept-loss", is_flag=True,
              help="Go on even if acknowledged writes may be lost.")  # fmt: skip
def command(  # noqa: PLR0913 - one parameter per option
    directory: Path,
    addresses: tuple[str, ...],
    secret_file: Path | None,
    keyring_file: Path | None,
    target: Path | None,
    until: datetime.datetime | None,
    accept_loss: bool,
) -> None:
    """Bring the metadata back from the storage nodes, after its disk was lost.

    The old metadata service, should it still run somewhere, can acknowledge nothing from then on.
    Exit code 0: the new folder has everything that was acknowledged; 1: it could not be done, or
    only with a loss, which is then named; nothing was written.
    """
    how = How(moment_ns(until), accept_loss)
    if addresses:
        if secret_file is None or keyring_file is None or target is None:
            raise click.UsageError("--nodes needs --secret, --keyring and --target")
        secret = secret_file.read_bytes()
        source = Source(addresses, secret, keyring_file, target, "")
        report = asyncio.run(recover(source, how, len(addresses)))
    else:
        report = recover_local(ClusterFolder(directory), how)
    show(report)


def moment_ns(until: datetime.datetime | None) -> int | None:
    """The end of a second, UTC."""
    if until is None:
        return None
    return int(until.replace(tzinfo=datetime.UTC).timestamp()) * 10**9 + 10**9 - 1


def recover_local(folder: ClusterFolder, how: How) -> Report:
    """Recover a local cluster that does not run. raises Invalid, NotFound, Unavailable"""
    identity = folder.load()
    lock = folder.lock()  # nobody starts it meanwhile
    try:
        end_all(lambda: processes_of(folder.path / "config"), STOP_S)  # of a killed supervisor
        plan = Plan(folder, identity)
        source = Source(
            tuple(node.address for node in plan.nodes),
            folder.secret_file.read_bytes(),
            folder.keyring_file,
            folder.meta,
            identity.cluster_id,
        )
        click.echo("starting the storage nodes", err=True)
        _start(plan.nodes)
        try:
            return asyncio.run(recover(source, how, len(plan.nodes)))
        finally:
            stop(plan.nodes)
    finally:
        lock.close()


def _start(nodes: Sequence[Child]) -> None:
    for node in nodes:
        node.start()


class NodeSet:
    """Nodes by their addresses until they have told their names and disks."""

    def __init__(self, addresses: Sequence[str], secret: bytes) -> None:
        self._by_address: dict[str, NodeClient] = {}
        self._by_name: dict[str, NodeClient] = {}
        self._by_disk: dict[int, NodeClient] = {}
        for address in addresses:
            host, _, port = address.rpartition(":")
            self._by_address[address] = NodeClient(address, host, int(port), secret)

    async def start(self) -> None:
        """Connect to as many as answer in time, and ask who they are."""
        clients = list(self._by_address.values())
        await asyncio.gather(*[client.start() for client in clients])
        await asyncio.gather(*[self._meet(client) for client in clients])

    async def _meet(self, client: NodeClient) -> None:
        try:
            await client.wait_up(NODES_S)
            status = await client.status()
        except faults.Fault as fault:
            click.echo(f"{client.address} does not answer: {faults.in_words(fault)}", err=True)
            return
        self._by_name[status.node_name] = client
        for disk in status.disks:
            self._by_disk[disk.disk_id] = client

    @property
    def names(self) -> list[str]:
        """Of those that answer."""
        return sorted(self._by_name)

    def peer(self, name: str) -> NodeClient | None:
        """A node by its name."""
        client = self._by_name.get(name)
        return client if client is not None and client.is_up else None

    def client_of(self, disk_id: int) -> NodeClient | None:
        """The node that has a disk."""
        client = self._by_disk.get(disk_id)
        return client if client is not None and client.is_up else None

    async def cluster_id(self) -> str:
        """The cluster whose journal the nodes hold. raises NotFound, Invalid if of several"""
        found = set()
        for client in self._by_name.values():
            answer = await client.journal_call(
                Method.JOURNAL_FENCE, journal_pb2.Fence(), deadline_s=ASK_S
            )
            found.add(journal_pb2.FenceReply.FromString(answer.header).cluster_id)
        found.discard("")
        if len(found) > 1:
            raise faults.Invalid("nodes", ", ".join(sorted(found)), "of several clusters")
        if not found:
            raise faults.NotFound("journal of metadata on", ", ".join(self.names) or "any node")
        return found.pop()

    async def stop(self) -> None:
        """Close."""
        await asyncio.gather(*[client.stop() for client in self._by_address.values()])


async def recover(source: Source, how: How, count: int) -> Report:
    """Bring metadata back into the target folder, which appears when it is whole.

    raises   Invalid (target in use), NotFound, Unavailable (what is missing)
    """
    ring = KeyRing.load(source.keyring_file)
    nodes = NodeSet(source.addresses, source.secret)
    try:
        await nodes.start()
        cluster_id = source.cluster_id or await nodes.cluster_id()
        keeper = BlobKeeper(nodes, load_codes(), BufferPool(BUFFER_BYTES))
        recovery = Recovery(nodes, ring, keeper, SystemClock(), cluster_id)
        click.echo(f"{len(nodes.names)} of {count} storage nodes answer", err=True)
        await recovery.take_over(nodes.names)
        with new_engine(source.target) as database:
            base = how.base(ring) if how.base is not None else None
            await recovery.restore(database, how.until_ns, base, how.is_base_all)
            if recovery.report.losses and not how.accept_loss:
                raise faults.Unavailable(
                    "; ".join(recovery.report.losses)
                    + ". Bring these nodes back, or accept the loss with --accept-loss"
                )
            recovery.finish(database)
        await recovery.announce()
        return recovery.report
    finally:
        await nodes.stop()


@contextmanager
def new_engine(target: Path) -> Iterator[RocksDatabase]:
    """An engine to be filled; its folder appears when that went well. raises Invalid (in use)"""
    if target.exists() and any(target.iterdir()):
        raise faults.Invalid(
            "metadata", str(target), "is not empty: move it away first if it is worthless"
        )
    building = target.with_name(target.name + ".recovering")
    shutil.rmtree(building, ignore_errors=True)
    try:
        database = RocksDatabase(building)
        try:
            yield database
            database.sync_blocking()
        finally:
            database.close()
        if target.exists():
            target.rmdir()
        building.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def show(report: Report) -> None:
    """Tell what was brought back."""
    moment = _moment(report.last_ns) if report.last_ns else "the checkpoint"
    click.echo(
        f"metadata is back as of {moment}: {report.row_count:,} rows of checkpoint"
        f" {report.checkpoint_sequence}, and {report.group_count:,} groups of commits after it"
    )
    for loss in report.losses:
        click.echo(f"lost: {loss}")
    click.echo(f"epoch {report.epoch}: any older metadata service can acknowledge nothing more")
    if report.losses:
        sys.stdout.flush()


def _moment(time_ns: int) -> str:
    moment = datetime.datetime.fromtimestamp(time_ns / 1e9, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f UTC")
