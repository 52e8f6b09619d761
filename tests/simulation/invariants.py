"""What must hold when all is quiet: metadata and disks compared, fragment by fragment."""

from collections.abc import Iterable, Iterator, Mapping, Set

from metaservice import keys
from metaservice.journal.writer import HEADER
from metaservice.kv.interface import decode_counter
from metaservice.kv.rocks import RocksStore
from metaservice.operations import garbage, repairs
from proto import journal_pb2, records_pb2
from storagenode.store.compact import LIVE_SHARE_MAX
from storagenode.store.disk import Disk
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.record import Record
from storagenode.store.verify import VERIFY_BUFFER_BYTES, verify_blocking
from tests.simulation.disk import Table
from tests.simulation.history import History

ROWS_MAX = 1 << 30

Fragment = tuple[bytes, int, int]  # blob id, index, disk id


def rows(store: RocksStore, kind: bytes) -> list[tuple[bytes, bytes]]:
    """All rows of a kind, see metaservice/keys.py."""
    return store.scan(kind, bytes([kind[0] + 1]), ROWS_MAX)


def named_blobs(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[records_pb2.BlobRef]:
    """Blobs that versions and parts name."""
    for key, value in rows:
        if key[:1] == b"v":
            yield from records_pb2.Version.FromString(value).blobs
        elif key[:1] == b"p":
            yield from records_pb2.Part.FromString(value).blobs


def check_kept(table: Table, disk: Disk, name: str, history: History) -> None:
    """What metadata's disk names is on a disk that was only ever crashed, as it starts again."""
    disk_id = disk.identity.disk_id
    memory = memoryview(bytearray(VERIFY_BUFFER_BYTES))
    for blob in named_blobs(table.rows.items()):
        for index in [index for index, each in enumerate(blob.disk_ids) if each == disk_id]:
            row = disk.index.get(blob.blob_id, index)
            extent = disk.extents.by_number.get(row[0].extent) if row is not None else None
            if row is None or extent is None:
                fault = "missing"
            else:
                fault = verify_blocking(extent.file, *row, memory).fault
            if fault:
                history.violate("not kept", f"{blob.blob_id.hex()} {index} of {name}: {fault}")


def check_named(store: RocksStore, nodes: Mapping[str, Disk], history: History) -> None:
    """At any moment, what metadata names on a disk that nothing damaged is there.

    nodes   these disks, open
    """
    disks = {disk.identity.disk_id: (name, disk) for name, disk in nodes.items()}
    named = named_blobs([*rows(store, b"v"), *rows(store, b"p")])
    for blob in (*named, *checkpoint_blobs(store)):
        for index, disk_id in enumerate(blob.disk_ids):
            name, disk = disks.get(disk_id, ("", None))
            if disk is not None and disk.index.get(blob.blob_id, index) is None:
                history.violate("named and gone", f"{blob.blob_id.hex()} {index} of {name}")


def checkpoint_blobs(store: RocksStore) -> list[records_pb2.BlobRef]:
    """Blobs of the metadata's newest checkpoint."""
    for _, value in store.scan(HEADER, HEADER + b"\x00", 1):
        header = journal_pb2.Header.FromString(value)
        if header.checkpoints and not header.ended:
            return list(header.checkpoints[-1].blobs)
    return []


def _is_checkpoint(record: Record) -> bool:
    return record.blob_id.startswith(keys.CHECKPOINT_SESSION)


def check_quiet(store: RocksStore, nodes: dict[str, FragmentStore], history: History) -> None:
    """Compare metadata with all disks, when all is over that background work does."""
    for name, node in nodes.items():
        if node.disks[0].failure:
            history.violate("failed disk", f"of {name}: {node.disks[0].failure}")
            return
    disks = {node.disks[0].identity.disk_id: name for name, node in nodes.items()}
    wanted: set[Fragment] = set()
    blobs = list(named_blobs([*rows(store, b"v"), *rows(store, b"p")]))
    for blob in blobs:
        wanted.update((blob.blob_id, index, disk) for index, disk in enumerate(blob.disk_ids))
        if blob.degraded or not set(blob.disk_ids) <= disks.keys():
            history.violate("degraded", f"{blob.blob_id.hex()} on {list(blob.disk_ids)}")
        elif len(set(blob.disk_ids)) < len(disks):
            history.violate("badly spread", f"{blob.blob_id.hex()} on {list(blob.disk_ids)}")
    everything = {
        (record.blob_id, record.index, disk_id): record
        for disk_id, name in disks.items()
        for record in nodes[name].disks[0].index.all()
    }
    found = {place for place, record in everything.items() if not _is_checkpoint(record)}
    _check_checkpoint(store, everything.keys(), len(disks), history)
    for blob_id, index, disk_id in sorted(wanted - found):
        if disk_id in disks:
            history.violate(
                "lost fragment", f"{blob_id.hex()} {index} of {disks[disk_id]} is committed"
            )
    for blob_id, index, disk_id in sorted(found - wanted):
        history.violate("leaked fragment", f"{blob_id.hex()} {index} of {disks[disk_id]}")
    _check_rows(store, {blob.blob_id for blob in blobs}, history)
    _check_quarantine(store, disks, history)
    _check_heads(store, history)


def _check_checkpoint(
    store: RocksStore, found: Set[Fragment], zones: int, history: History
) -> None:
    for blob in checkpoint_blobs(store):
        places = {(blob.blob_id, index, disk) for index, disk in enumerate(blob.disk_ids)}
        if not places <= found or len(set(blob.disk_ids)) < zones:
            history.violate("thin checkpoint", f"{blob.blob_id.hex()} on {list(blob.disk_ids)}")


async def check_disk(disk: Disk, name: str, history: History) -> None:
    """Read every fragment of a disk; account for all of its space.

    Of a checkpoint of metadata a damaged fragment is not mended: the next one takes its place.
    """
    if disk.failure:
        return
    table = [disk.index.get(record.blob_id, record.index) for record in disk.index.all()]
    extents = disk.extents.by_number
    whole = [row for row in table if row is not None]
    whole = [row for row in whole if row[0].extent in extents or not _is_checkpoint(row[0])]
    verdicts = await disk.verify(*whole) if whole else []
    for (record, _), verdict in zip(whole, verdicts, strict=True):
        if verdict.fault and not _is_checkpoint(record):
            what = f"{record.blob_id.hex()} {record.index} of {name}: {verdict.fault}"
            history.violate("damaged fragment", what)
    live = sum(record.record_bytes for record, _ in whole)
    if live != disk.used_bytes:
        history.violate("lost space", f"{name}: {disk.used_bytes} bytes used, {live} named")
    for extent in disk.extents.by_number.values():
        if extent.is_closed and extent.live_bytes < LIVE_SHARE_MAX * extent.file.size_bytes:
            what = f"{name}: {extent.live_bytes} of {extent.file.size_bytes} in {extent.number}"
            history.violate("space not given back", what)


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
        what = "repair left" if key[1:] in named else "repair of nothing"
        history.violate(what, key[1:].hex())
    for kind, what in ((b"J", "stray left"), (b"s", "session left")):
        for key, _ in rows(store, kind):
            history.violate(what, key[1:].hex())


def _check_quarantine(store: RocksStore, disk_ids: Iterable[int], history: History) -> None:
    for disk_id in disk_ids:
        begin = keys.quarantined(disk_id)
        for key, _ in store.scan(begin, keys.after(begin), ROWS_MAX):
            history.violate("quarantine left", key[9:].hex())


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
