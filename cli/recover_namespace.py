"""`ostraka recover namespace`: metadata from fragments' headers, when all else is gone."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from cli.folder import DEFAULT_DIRECTORY, ClusterFolder
from cli.namespace import Cluster, Namespace, Report
from cli.plan import profile_of
from cli.survey import Piece, PieceReader, gather
from common import faults
from common.clock import SystemClock
from common.config import load
from common.erasure.code import load_codes
from common.keyring import KeyRing
from metaservice.kv.rocks import RocksStore
from proto import records_pb2
from storagenode.config import StorageNodeConfig
from storagenode.store.files import SystemFiles
from storagenode.store.survey import Survey

SHOWN_MAX = 20
JOURNAL = "journal"  # of the metadata, in a disk's folder
LOST = """\
What fragments do not know, and so is not back:
- objects of at most 16 KiB, which live in the metadata; tags; delete markers; version ids
- settings of buckets but versioning; buckets with small objects only
- accounts and keys: `ostraka up` makes those of its credentials or bootstrap file again
- whether an upload was completed, and with which parts: all its parts are an object now, without
  those of at most 16 KiB
- deletions since the collector last ran: what was deleted may be back"""


@click.command("namespace")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="A local cluster's folder; its meta/ must be gone or empty.",
)  # fmt: skip
@click.option("--disk", "disks", multiple=True, type=click.Path(path_type=Path),
              help="A disk's folder of a deployed cluster; once for each.")  # fmt: skip
@click.option("--meta", type=click.Path(path_type=Path), help="With --disk: the new metadata.")
@click.option("--keyring", type=click.Path(path_type=Path), help="With --disk: the key ring.")
@click.option("--region", default="us-east-1", show_default=True, help="With --disk.")
@click.option("--set-journal-aside", "drops_journal", is_flag=True,
              help="Although the disks still hold a journal of the metadata.")  # fmt: skip
@click.option("--no-reading", is_flag=True,
              help="Leave the data unread: ETags are made up, checksums missing.")  # fmt: skip
def command(  # noqa: PLR0913, PLR0917 - one per option
    directory: Path, disks: tuple[Path, ...], meta: Path | None, keyring: Path | None,
    region: str, drops_journal: bool, no_reading: bool,
) -> None:  # fmt: skip
    """Build new metadata from what the fragments on the disks say of themselves.

    For when the metadata, its journal and its backups are all lost. No node may run. No fragment is
    changed. All disks must be here: what is on others is left out.
    """
    if disks:
        if meta is None or keyring is None:
            raise click.UsageError("--disk needs --meta and --keyring")
        source = Source([path.absolute() for path in disks], meta.absolute(), keyring, region)
    else:
        source = local_source(ClusterFolder(directory))
    source.check(drops_journal=drops_journal)
    out = Console(stderr=True)
    with out.status("reading headers") as line:
        report, unknown = asyncio.run(recover(source, not no_reading, line.update))
    if drops_journal:
        source.set_journal_aside()
    say(report, unknown)


class Source:
    """Where the disks are, and where the metadata goes."""

    def __init__(
        self, disks: Sequence[Path], meta: Path, keyring: Path, region: str,
        profile: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.disks = disks
        self.meta = meta
        self.keyring = keyring
        self.region = region
        self.profile = profile
        self.nodes: dict[Path, tuple[str, str]] = {}  # of each disk: its node and zone, if known

    @property
    def journals(self) -> list[Path]:
        """The journals that are still on the disks."""
        found = [disk / JOURNAL for disk in self.disks]
        return [folder for folder in found if folder.is_dir() and any(folder.iterdir())]

    def set_journal_aside(self) -> None:
        """Let the new metadata begin a journal of its own; the old one stays under another name."""
        for folder in self.journals:
            SystemFiles().set_aside(folder, f"{JOURNAL}.before-{SystemClock().now_ns()}")

    def check(self, *, drops_journal: bool) -> None:
        """Never write over metadata, nor beside what is better. raises Invalid"""
        if self.journals and not drops_journal:
            raise faults.Invalid(
                "journal",
                str(self.journals[0]),
                "is still there and knows more than fragments do: try `ostraka recover metadata`, "
                "and only if that fails add --set-journal-aside",
            )
        if self.meta.exists() and any(self.meta.iterdir()):
            raise faults.Invalid("meta", str(self.meta), "is not empty: move it away first")


def local_source(folder: ClusterFolder) -> Source:
    """The disks of a local cluster. raises NotFound, Invalid"""
    identity = folder.load()
    if folder.supervisor() is not None:
        raise faults.Invalid("directory", str(folder.path), "its cluster runs: stop it first")
    disks = [folder.path / f"zone-{number}" for number in range(1, identity.zones + 1)]
    source = Source(
        disks, folder.meta, folder.keyring_file, identity.region, profile_of(identity.zones)
    )
    for file in sorted((folder.path / "config").glob("node-*.toml")):
        config = load(StorageNodeConfig, file)
        for disk in config.disks:
            source.nodes[disk] = (config.name, config.zone)
    return source


async def recover(source: Source, reads: bool, say_step: object) -> tuple[Report, int]:
    """Do it; returns what was done, and how many headers told too little."""
    ring = KeyRing.load(source.keyring)
    surveys = []
    for path in source.disks:
        try:
            surveys.append(Survey(path))
        except faults.NotFound:
            continue  # an empty or lost disk: others have the rest
    if not surveys:
        raise faults.NotFound("disk in", ", ".join(map(str, source.disks)))
    try:
        pieces, unknown = gather(surveys)
        cluster = _cluster(source, surveys, pieces)
        reader = PieceReader(ring, load_codes()) if reads else None
        source.meta.mkdir(parents=True, exist_ok=True)
        store = RocksStore(source.meta)
        try:
            assert callable(say_step), "a function of words"
            namespace = Namespace(store, cluster, reader, say_step)
            return await namespace.write(pieces), unknown
        finally:
            await store.close()
    finally:
        for survey in surveys:
            survey.close()


def _cluster(source: Source, surveys: Sequence[Survey], pieces: Sequence[Piece]) -> Cluster:
    """raises Invalid if the disks are of several clusters, or of none yet"""
    ids = {survey.identity.cluster_id for survey in surveys if survey.identity.cluster_id}
    if len(ids) != 1:
        raise faults.Invalid("disks", ", ".join(sorted(ids)), "are not of one cluster")
    geometries = Counter(
        (blob.identity.k, blob.identity.m) for piece in pieces for blob in piece.blobs.values()
    )
    k, m = source.profile or (geometries.most_common(1)[0][0] if geometries else (4, 2))
    disks = []
    for survey in surveys:
        if survey.identity.disk_id:
            node, zone = source.nodes.get(survey.folder, ("", ""))
            disks.append(
                records_pb2.Disk(
                    disk_id=survey.identity.disk_id,
                    disk_uuid=survey.identity.disk_uuid,
                    node_name=node,
                    zone=zone,
                    state=records_pb2.Disk.UP if node else records_pb2.Disk.FAILED,
                )
            )
    profile = records_pb2.Profile(name="STANDARD", k=k, m=m)
    return Cluster(ids.pop(), source.region, disks, profile)


def say(report: Report, unknown: int) -> None:
    """What was done, for people."""
    click.echo(
        f"brought back: {report.buckets:,} buckets, {report.versions:,} versions, "
        f"{report.parts:,} parts, {report.bytes:,} bytes"
    )
    for count, words in (
        (report.degraded, "versions miss fragments: repair will make them whole"),
        (report.superseded, "older writings of keys without versions are kept as versions"),
        (report.cut, "versions without system and user metadata: it was too long for the headers"),
        (report.unread, "objects or parts with a made-up ETag"),
        (unknown, "fragments whose headers say too little: an older Ostraka wrote them"),
        (len(report.left_out), "objects or parts could not be brought back, or read:"),
    ):
        if count:
            click.echo(f"{count:,} {words}")
    for line in report.left_out[:SHOWN_MAX]:
        click.echo(f"    {line}")
    if len(report.left_out) > SHOWN_MAX:
        click.echo(f"    ... and {len(report.left_out) - SHOWN_MAX:,} more")
    click.echo(LOST)
