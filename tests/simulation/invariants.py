"""What must hold when all is quiet: metadata and disks compared, fragment by fragment."""

from collections.abc import Iterator
from dataclasses import dataclass

from metaservice import keys
from metaservice.kv.interface import decode_counter
from metaservice.kv.rocks import RocksStore
from metaservice.operations import garbage, repairs
from proto import records_pb2
from storagenode.store.fragment_store import FragmentStore
from tests.simulation.history import History

ROWS_MAX = 1 << 30

Fragment = tuple[bytes, int, int]  # blob id, index, disk id


def rows(store: RocksStore, kind: bytes) -> list[tuple[bytes, bytes]]:
    """All rows of a kind, see metaservice/keys.py."""
    return store.scan(kind, bytes([kind[0] + 1]), ROWS_MAX)


@dataclass(frozen=True, slots=True)
class Damage:
    """What the world did that explains differences.

    disks      nodes whose disks lost or changed what they had acknowledged
    forgetful  of them, those that may have forgotten what they had deleted
    strays     fragments (blob id, index) that came too late for their commit
    """

    disks: set[str]
    forgetful: set[str]
    strays: set[tuple[bytes, int]]


def named_blobs(store: RocksStore, *, with_garbage: bool = False) -> Iterator[records_pb2.BlobRef]:
    """Blobs that versions and parts name, and perhaps those that none names any more."""
    for _, value in rows(store, b"v"):
        yield from records_pb2.Version.FromString(value).blobs
    for _, value in rows(store, b"p"):
        yield from records_pb2.Part.FromString(value).blobs
    if with_garbage:
        for _, value in rows(store, b"g"):
            yield from records_pb2.Garbage.FromString(value).blobs


def check_quiet(
    store: RocksStore, nodes: dict[str, FragmentStore], damage: Damage, history: History
) -> None:
    """Compare, after all garbage was collected and all sessions have ended."""
    disks = {node.disks[0].identity.disk_id: name for name, node in nodes.items()}
    wanted: dict[Fragment, records_pb2.BlobRef] = {}
    for blob in named_blobs(store):
        for index, disk_id in enumerate(blob.disk_ids):
            if disk_id:
                wanted[blob.blob_id, index, disk_id] = blob
    found = {
        (record.blob_id, record.index, disk_id)
        for disk_id, name in disks.items()
        for record in nodes[name].disks[0].index.all()
        if not record.blob_id.startswith(keys.CHECKPOINT_SESSION)  # the journal's own
    }
    for blob_id, index, disk_id in sorted(wanted.keys() - found):
        if disks.get(disk_id, "wiped") not in damage.disks and disk_id in disks:
            history.violate(
                "lost fragment", f"{blob_id.hex()} {index} of {disks[disk_id]} is committed"
            )
    for blob_id, index, disk_id in sorted(found - wanted.keys()):
        if (blob_id, index) in damage.strays or disks[disk_id] in damage.forgetful:
            continue
        history.violate("leaked fragment", f"{blob_id.hex()} {index} of {disks[disk_id]}")
    _check_rows(store, {blob.blob_id for blob in wanted.values()}, history)
    _check_heads(store, history)


def _check_rows(store: RocksStore, named: set[bytes], history: History) -> None:
    owned = {key[1:] for key, _ in rows(store, b"o")}
    for blob_id in sorted(named - owned):
        history.violate("unowned blob", f"{blob_id.hex()} is named and has no owner row")
    for blob_id in sorted(owned - named):
        history.violate("owner of nothing", f"{blob_id.hex()} has an owner row, nothing names it")
    if left := rows(store, b"g") + rows(store, b"G"):
        history.violate("garbage left", f"{len(left)} rows")
    pending = decode_counter(store.get(garbage.PENDING))
    if pending != len(left):
        history.violate("wrong counter", f"{pending} garbage rows counted, {len(left)} there")
    jobs, counted = rows(store, b"j"), decode_counter(store.get(repairs.DEGRADED))
    if counted != len(jobs):
        history.violate("wrong counter", f"{counted} repairs counted, {len(jobs)} there")
    for key, _ in jobs:
        if key[1:] not in named:
            history.violate("repair of nothing", key[1:].hex())


def _check_heads(store: RocksStore, history: History) -> None:
    """A head row names the newest version of its key; each inline version has its data."""
    newest: dict[bytes, tuple[bytes, records_pb2.Version]] = {}
    for key, value in rows(store, b"v"):
        prefix, version = key[1:-16], records_pb2.Version.FromString(value)
        newest.setdefault(prefix, (key[-16:], version))
        if version.is_inline and store.get(b"d" + key[1:]) is None:
            history.violate("lost data row", key.hex())
    for prefix, (row, version) in newest.items():
        bucket_id, name = prefix[:8], prefix[8:-2].replace(b"\x00\xff", b"\x00")
        stored = store.get(b"h" + bucket_id + name)
        if version.is_delete_marker is not (stored is None):
            history.violate("wrong head", f"{name!r}: a head row, or none, against the marker")
        elif stored is not None and records_pb2.Head.FromString(stored).row != row:
            history.violate("wrong head", f"{name!r} does not name the newest version")
    heads = sum(1 for _ in rows(store, b"h"))
    visible = sum(not version.is_delete_marker for _, version in newest.values())
    if heads != visible:
        history.violate("wrong head", f"{heads} head rows for {visible} visible keys")
