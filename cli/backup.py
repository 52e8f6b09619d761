"""`ostraka backup create|list|restore`: copies of the metadata, apart from the cluster.

NAME/manifest.json   format, cluster, sequence, time, wrapped key, parts with their SHA-256
NAME/part-NNNNNN     sealed rows

A backup exists once its manifest does, which is written last.
"""

import asyncio
import datetime
import hashlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from cli.backup_store import BackupStore, FolderStore, S3Place, S3Store
from cli.control import control_address, host_and_port, with_control
from cli.folder import DEFAULT_DIRECTORY, ClusterFolder
from cli.recover_metadata import How, moment_ns, new_engine, recover_local, show
from common import faults, rpc
from common.keyring import KeyRing
from metaservice.journal.export import FORMAT, open_part
from metaservice.kv.interface import Row
from proto import admin_pb2

CREATE_S = 24 * 3600.0  # the whole stream
MANIFEST = "manifest.json"
OWN_NOTES = b"W"  # of the journal: a restored engine without its nodes has none


@dataclass(slots=True)
class Manifest:
    """What a backup is."""

    name: str
    cluster_id: str
    sequence: int
    time_ns: int
    wrapped_key: str
    format: int = FORMAT
    row_count: int = 0
    size_bytes: int = 0
    parts: list[str] = field(default_factory=list)  # SHA-256 of each


@click.group("backup")
def command() -> None:
    """Copies of the metadata in a folder, or in a bucket of another S3 endpoint (s3://bucket/prefix).

    The data is on the storage nodes and survives by itself; metadata too, on them. A backup is for
    what takes all of them at once, and for mistakes. It opens with the cluster's key ring only.
    """


def place_options(function: Any) -> Any:
    """Options that name an S3 endpoint."""
    for option in (
        click.option("--endpoint", envvar="AWS_ENDPOINT_URL", help="Of s3:// places."),
        click.option("--region", envvar="AWS_DEFAULT_REGION", default="us-east-1",
                     show_default=True),
        click.option("--access-key", envvar="AWS_ACCESS_KEY_ID",
                     help="Better in AWS_ACCESS_KEY_ID."),
        click.option("--secret-key", envvar="AWS_SECRET_ACCESS_KEY",
                     help="Better in AWS_SECRET_ACCESS_KEY."),
    ):  # fmt: skip
        function = option(function)
    return function


def store_of(place: str, keys: dict[str, Any]) -> BackupStore:
    """Where a place leads. raises UsageError"""
    if not place.startswith("s3://"):
        return FolderStore(Path(place).absolute())
    missing = [name for name in ("endpoint", "access_key", "secret_key") if not keys[name]]
    if missing:
        raise click.UsageError(f"an s3:// place needs --{missing[0].replace('_', '-')}")
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
    return S3Store(
        S3Place(
            keys["endpoint"], keys["region"], keys["access_key"], keys["secret_key"], bucket,
            prefix,
        )
    )  # fmt: skip


@command.command("create")
@click.argument("place")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="The running cluster's folder.",
)  # fmt: skip
@click.option("--control", type=host_and_port, metavar="HOST:PORT",
              help="A deployed cluster's metadata service, instead of a folder.")  # fmt: skip
@place_options
def create(place: str, directory: Path, control: str | None, **keys: Any) -> None:
    """Copy all metadata of a running cluster, as of one moment, to PLACE."""
    store = store_of(place, keys)
    address = control or control_address(ClusterFolder(directory))
    manifest = with_control(address, lambda stub: _receive(stub, store))
    click.echo(
        f"{manifest.name}: {manifest.row_count:,} rows, {manifest.size_bytes:,} bytes, as of"
        f" {_time(manifest)}; keep the key ring apart from it"
    )


async def _receive(stub: Any, store: BackupStore) -> Manifest:
    """Store a stream of chunks; the manifest is last."""
    manifest: Manifest | None = None
    part = bytearray()
    stream = stub.ExportMetadata(admin_pb2.ExportMetadataRequest(), timeout=CREATE_S)
    iterator = aiter(stream)
    while (chunk := await rpc.call(anext(iterator, None))) is not None:
        if chunk.HasField("header"):
            manifest = _begin(chunk.header)
            continue
        assert manifest is not None, "the header comes first"
        part += chunk.data
        if chunk.ends_part:
            data = bytes(part)
            part.clear()
            manifest.parts.append(hashlib.sha256(data).hexdigest())
            manifest.row_count += chunk.row_count
            manifest.size_bytes += len(data)
            await asyncio.to_thread(store.put, _part(manifest.name, len(manifest.parts)), data)
    if manifest is None:
        raise faults.Unavailable("the metadata service sent nothing")
    text = json.dumps(asdict(manifest), indent=1).encode()
    await asyncio.to_thread(store.put, f"{manifest.name}/{MANIFEST}", text)
    return manifest


def _begin(header: admin_pb2.ExportHeader) -> Manifest:
    moment = datetime.datetime.fromtimestamp(header.time_ns / 1e9, datetime.UTC)
    name = f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond:06d}Z-{header.sequence}"
    return Manifest(
        name, header.cluster_id, header.sequence, header.time_ns, header.wrapped_key.hex()
    )


@command.command("list")
@click.argument("place")
@click.option("--json", "as_json", is_flag=True)
@place_options
def list_backups(place: str, as_json: bool, **keys: Any) -> None:
    """List the backups at PLACE, oldest first."""
    manifests = _manifests(store_of(place, keys))
    if as_json:
        click.echo(json.dumps([asdict(manifest) for manifest in manifests], indent=1))
        return
    for manifest in manifests:
        click.echo(
            f"{manifest.name}  {_time(manifest)}  {manifest.row_count:,} rows"
            f"  {manifest.size_bytes:,} bytes  cluster {manifest.cluster_id}"
        )


@command.command("restore")
@click.argument("place")
@click.option("--name", help="Which; the newest, if not given.")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="A local cluster's folder; it must not run. Its meta folder must be away or empty.",
)  # fmt: skip
@click.option("--target", type=click.Path(path_type=Path),
              help="Only write this folder: nodes that have a journal are not told, and refuse it."
              )  # fmt: skip
@click.option("--keyring", "keyring_file", type=click.Path(path_type=Path),
              help="With --target: the cluster's key ring.")  # fmt: skip
@click.option("--until", type=click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]),
              help="Go on from the backup to this moment, UTC, by the journal on the nodes."
              )  # fmt: skip
@click.option("--accept-loss", is_flag=True, help="Go on even if the journal has gaps.")
@place_options
def restore(  # noqa: PLR0913 - one parameter per option
    place: str,
    name: str | None,
    directory: Path,
    target: Path | None,
    keyring_file: Path | None,
    until: datetime.datetime | None,
    accept_loss: bool,
    **keys: Any,
) -> None:
    """Make metadata from a backup at PLACE; what was committed after it is gone.

    Objects whose data was deleted since the backup cannot be read, and are found by `ostraka fsck`.
    """
    store = store_of(place, keys)
    manifest = _chosen(_manifests(store), name)
    if target is not None:
        if keyring_file is None or until is not None:
            raise click.UsageError("--target needs --keyring, and goes without --until")
        count = asyncio.run(_write_alone(store, manifest, KeyRing.load(keyring_file), target))
        click.echo(f"{count:,} rows of {manifest.name} are in {target}")
        return
    folder = ClusterFolder(directory)
    if folder.load().cluster_id != manifest.cluster_id:
        raise faults.Invalid("backup", manifest.name, "is of another cluster")
    how = How(
        moment_ns(until), accept_loss, lambda ring: read_rows(store, manifest, ring),
        is_base_all=until is None,
    )  # fmt: skip
    show(recover_local(folder, how))


def _manifests(store: BackupStore) -> list[Manifest]:
    found = []
    for name in store.list():
        if name.endswith(f"/{MANIFEST}") and name.count("/") == 1:
            try:
                manifest = Manifest(**json.loads(store.get(name)))
            except (ValueError, TypeError) as error:
                raise faults.Corrupt("backup", name, f"{name} is damaged") from error
            if manifest.format > FORMAT:
                raise faults.Invalid("backup", manifest.name, "is of a newer Ostraka")
            found.append(manifest)
    return sorted(found, key=lambda manifest: manifest.time_ns)


def _chosen(manifests: list[Manifest], name: str | None) -> Manifest:
    if name is None and manifests:
        return manifests[-1]
    for manifest in manifests:
        if manifest.name == name:
            return manifest
    raise faults.NotFound("backup", name or "there")


async def read_rows(
    store: BackupStore, manifest: Manifest, ring: KeyRing
) -> AsyncIterator[list[Row]]:
    """All rows, a part at a time. raises Corrupt, NotFound("master key"), Unavailable"""
    header = admin_pb2.ExportHeader(
        format=manifest.format, cluster_id=manifest.cluster_id, sequence=manifest.sequence,
        time_ns=manifest.time_ns, wrapped_key=bytes.fromhex(manifest.wrapped_key),
    )  # fmt: skip
    count = 0
    for number, digest in enumerate(manifest.parts, 1):
        data = await asyncio.to_thread(store.get, _part(manifest.name, number))
        if hashlib.sha256(data).hexdigest() != digest:
            raise faults.Corrupt("backup", manifest.name, f"part {number} is damaged")
        rows = open_part(header, ring, number, data)
        count += len(rows)
        yield rows
    if count != manifest.row_count:
        raise faults.Corrupt("backup", manifest.name, "rows are missing")


async def _write_alone(store: BackupStore, manifest: Manifest, ring: KeyRing, target: Path) -> int:
    """A new engine without its journal's notes, in a folder that appears when it is whole."""
    count = 0
    with new_engine(target) as database:
        async for rows in read_rows(store, manifest, ring):
            kept = {key: row for key, row in rows if not key.startswith(OWN_NOTES)}
            database.write(kept)
            count += len(kept)
    return count


def _part(name: str, number: int) -> str:
    assert re.fullmatch(r"[0-9TZ.-]+", name), "a name of ours"
    return f"{name}/part-{number:06d}"


def _time(manifest: Manifest) -> str:
    moment = datetime.datetime.fromtimestamp(manifest.time_ns / 1e9, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
