"""The pass over all placements: finds what disks that are out of use held, and what lies badly.

A row per disk and blob would find it without looking at anything else, but would cost every commit
k + m more rows. So the rows that name blobs are read instead, in order, a page per commit, from a
cursor that is a row itself: whoever goes on begins there. A pass begins when the set of disks that
are out, or of zones, is another than the last pass looked for; one under way goes round once more
to where it was.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.placement.repair import Blob, DiskView, plan
from common.placement.topology import Topology
from metaservice import keys
from metaservice.operations.repairs import put_job
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

Disk = records_pb2.Disk
PARTS, VERSIONS = b"p", b"v"
ROWS_PER_PAGE_MAX = 1000
FOUND_PER_PAGE_MAX = 30  # jobs of one commit, two rows and three counters each
DISKS_MAX = 100_000
EPOCH = keys.single("topology_epoch")


@dataclass(frozen=True, slots=True)
class _Picture:
    """The disks now: what is out, and a quick test of blobs that are well."""

    view: DiskView
    out: frozenset[int]
    zone_of: dict[int, str]

    def is_plainly_whole(self, blob: records_pb2.BlobRef) -> bool:
        """Whether every fragment is on a disk in use, each in a zone of its own."""
        zones = {self.zone_of.get(disk_id, "") for disk_id in blob.disk_ids}
        return len(zones) == len(blob.disk_ids) and "" not in zones


async def scan_placements(
    transaction: Transaction, request: meta_pb2.ScanPlacements
) -> meta_pb2.ScanPlacementsReply:
    """Look at the next page of rows, and write a job for every blob that is not as it should be."""
    picture = await _picture(transaction, request.lost_disk_ids)
    stored = await transaction.get(keys.repair_pass())
    progress = records_pb2.RepairPass.FromString(stored or b"")
    wanted = _wanted(picture)
    if progress.wanted != wanted or stored is None:
        await _mark_lost(transaction, request.lost_disk_ids)
        _begin(progress, wanted)
    elif progress.done:
        if not (request.again and progress.named):
            # One that was lost may have been replaced since: that is no new set to look for.
            await _forget_gone(transaction, progress)
            return meta_pb2.ScanPlacementsReply(progress=progress)
        _begin(progress, wanted)
    transaction.allow_large()  # blobs of one row all get their job in one commit
    limit = min(request.limit or ROWS_PER_PAGE_MAX, ROWS_PER_PAGE_MAX)
    await _look(transaction, picture, progress, limit)
    if progress.done:
        progress.ended_ns = transaction.now_ns
        await _forget_gone(transaction, progress)
    transaction.put(keys.repair_pass(), progress.SerializeToString())
    return meta_pb2.ScanPlacementsReply(progress=progress)


async def is_out_and_empty(transaction: Transaction, disk_id: int) -> bool:
    """Whether the last whole pass looked for fragments on a disk, and found none."""
    progress = await last_pass(transaction)
    out = progress.wanted.partition(b";")[0].split(b",")
    return progress.done and str(disk_id).encode() in out and disk_id not in progress.named


async def last_pass(transaction: Transaction) -> records_pb2.RepairPass:
    """The pass under way, or the last one."""
    stored = await transaction.get_unchecked(keys.repair_pass())
    return records_pb2.RepairPass.FromString(stored or b"")


def _begin(progress: records_pb2.RepairPass, wanted: bytes) -> None:
    if progress.done or not progress.cursor:
        progress.rows_before = progress.rows or progress.rows_before
        progress.cursor, progress.end, progress.wrapped = PARTS, b"", False
    else:
        progress.end, progress.wrapped = progress.cursor, False
    progress.wanted, progress.done = wanted, False
    progress.rows = progress.found = progress.ended_ns = 0
    progress.named.clear()


async def _look(
    transaction: Transaction,
    picture: _Picture,
    progress: records_pb2.RepairPass,
    limit: int,
) -> None:
    found = 0
    kind = progress.cursor[:1]
    end = keys.after(kind)
    if progress.wrapped and progress.end[:1] == kind:
        end = progress.end
    rows = await transaction.scan(progress.cursor, end, limit)
    for key, value in rows:
        progress.rows += 1
        progress.cursor = key + b"\x00"
        for blob in _blobs_of(kind, value):
            if not picture.is_plainly_whole(blob):
                found += await _note(transaction, picture, progress, blob)
        if found >= FOUND_PER_PAGE_MAX:
            return
    if len(rows) == limit:
        return
    if progress.wrapped and progress.end[:1] == kind:
        progress.done = True
    elif kind == PARTS:
        progress.cursor = VERSIONS
    elif progress.end:
        progress.cursor, progress.wrapped = PARTS, True
    else:
        progress.done = True


def _blobs_of(kind: bytes, value: bytes) -> Sequence[records_pb2.BlobRef]:
    record = records_pb2.Part if kind == PARTS else records_pb2.Version
    return record.FromString(value).blobs


async def _note(
    transaction: Transaction,
    picture: _Picture,
    progress: records_pb2.RepairPass,
    blob: records_pb2.BlobRef,
) -> int:
    """Write the job of a blob that needs one; returns 1 if it is new."""
    for disk_id in blob.disk_ids:
        if disk_id in picture.out:
            progress.named[disk_id] += 1
    found = plan(Blob(blob.blob_id, blob.k, blob.m, blob.disk_ids), picture.view)
    if not found.is_needed():
        return 0
    reason = "lost_disk" if found.missing else "misplaced"
    is_new = await put_job(transaction, blob, found.missing, reason)
    progress.found += is_new
    return int(is_new)


async def _picture(transaction: Transaction, lost: Iterable[int]) -> _Picture:
    record = records_pb2.Topology()
    for _, value in await transaction.scan(b"D", b"E", DISKS_MAX):
        record.disks.append(Disk.FromString(value))
    view = view_of(Topology(record), frozenset(lost))
    removed = {disk.disk_id for disk in record.disks if disk.state == Disk.REMOVED}
    out = frozenset(view.lost | view.leaving | removed)
    zone_of = {disk.disk_id: disk.zone for disk in view.disks.values() if disk.disk_id not in out}
    return _Picture(view, out, zone_of)


def view_of(topology: Topology, lost: frozenset[int]) -> DiskView:
    """The disks as placements should be on them, whoever answers just now."""
    disks = {disk.disk_id: disk for zone in topology.zones for disk in zone}
    states = {disk.disk_id: disk.state for disk in topology.record.disks}
    leaving = frozenset(i for i in disks if states[i] == Disk.DRAINING)
    usable = frozenset(i for i in disks if states[i] == Disk.UP and i not in lost)
    return DiskView(disks, lost & disks.keys(), leaving, usable)


def _wanted(picture: _Picture) -> bytes:
    out = ",".join(map(str, sorted(picture.out)))
    zones = ",".join(sorted({disk.zone for disk in picture.view.disks.values()}))
    return f"{out};{zones}".encode()


async def _mark_lost(transaction: Transaction, lost: Iterable[int]) -> None:
    """Note that disks must be walked when they come back."""
    for disk_id in lost:
        stored = await transaction.get(keys.disk(disk_id))
        disk = Disk.FromString(stored) if stored is not None else None
        if disk is not None and not disk.was_lost:
            disk.was_lost = True
            transaction.put(keys.disk(disk_id), disk.SerializeToString())
            await _raise_epoch(transaction)


async def mark_disk_walked(
    transaction: Transaction, request: meta_pb2.MarkDiskWalked
) -> meta_pb2.MarkDiskWalkedReply:
    """A disk that came back holds nothing any more that must not stay."""
    stored = await transaction.get(keys.disk(request.disk_id))
    disk = Disk.FromString(stored) if stored is not None else None
    if disk is not None and disk.was_lost:
        disk.was_lost = False
        transaction.put(keys.disk(request.disk_id), disk.SerializeToString())
        await _raise_epoch(transaction)  # or workers would walk it again and again
    return meta_pb2.MarkDiskWalkedReply()


async def _forget_gone(transaction: Transaction, progress: records_pb2.RepairPass) -> None:
    """Remove disks that their nodes run without and that nothing names: they were replaced."""
    out = set(map(int, filter(None, progress.wanted.partition(b";")[0].split(b","))))
    for key, value in await transaction.scan(b"D", b"E", DISKS_MAX):
        disk = Disk.FromString(value)
        is_replaced = disk.gone and disk.state == Disk.FAILED
        if is_replaced and disk.disk_id in out and disk.disk_id not in progress.named:
            await transaction.get(key)
            disk.state, disk.forgotten = Disk.REMOVED, True
            transaction.put(key, disk.SerializeToString())
            await _raise_epoch(transaction)


async def _raise_epoch(transaction: Transaction) -> None:
    """Let everybody read the topology again."""
    epoch = await transaction.get(EPOCH)
    transaction.put(EPOCH, keys.uint64(int.from_bytes(epoch or b"", "big") + 1))
