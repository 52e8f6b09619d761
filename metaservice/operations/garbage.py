"""Blobs that are no longer named, and the proof that others are.

Every blob that a version or part names has an owner row, written by the same commit. What stops
being named becomes a garbage row in the same commit, due after a grace in which readers finish.
Nothing is ever deleted because it was not found somewhere: orphans are the blobs of a session that
has ended (and was fenced) without an owner row.
"""

from collections.abc import Iterable

from common import faults, limits
from metaservice import keys
from metaservice.kv.interface import decode_counter
from metaservice.operations import repairs
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

EXPAND_PARTS_MAX = 50  # parts of an upload that one commit turns into blob garbage
BLOBS_PER_ROW = 50  # so that finishing one row stays a small commit
FINISHED_AT_ONCE_MAX = 2000  # rows and blobs of one commit
BEGIN, KEPT = b"g", b"G"
ROWS_READ_MAX = 1000
PENDING = keys.single("garbage_rows")


def own_blobs(
    transaction: Transaction,
    blobs: Iterable[records_pb2.BlobRef],
    owner: records_pb2.BlobOwner,
) -> None:
    """Write the owner row of each blob."""
    row = owner.SerializeToString()
    for blob in blobs:
        transaction.put(keys.blob_owner(blob.blob_id), row)


def add_garbage(
    transaction: Transaction,
    blobs: Iterable[records_pb2.BlobRef] = (),
    upload_id: bytes = b"",
    keep: Iterable[records_pb2.PartRun] = (),
) -> None:
    """Give blobs, or the parts of an upload, to the collector.

    keep   parts of the upload that a version names
    """
    due_ns = transaction.now_ns + transaction.garbage_grace_ns
    if upload_id:
        kept = _numbers_only(keep)
        _put(transaction, records_pb2.Garbage(upload_id=upload_id, due_ns=due_ns, keep=kept))
    _put_blobs(transaction, list(blobs), due_ns)


def release_version(transaction: Transaction, version: records_pb2.Version) -> None:
    """Give everything that a version names to the collector."""
    if version.blobs:
        add_garbage(transaction, version.blobs)
    if version.HasField("parts"):
        add_garbage(transaction, upload_id=version.parts.upload_id)


class GarbageQueue:
    """Reads what is due, from where the last reading found the first row.

    A scan over rows deleted long ago costs as much as over rows that are there. No row is ever
    written before the service's present, so what lay before the first row stays empty.
    """

    def __init__(self) -> None:
        self._begin = BEGIN

    async def list_garbage(
        self, transaction: Transaction, request: meta_pb2.ListGarbage
    ) -> meta_pb2.ListGarbageReply:
        """What is due now, oldest first, and how many rows wait, due or not.

        With disk_ids: what was kept for these disks while they were away, instead.
        """
        reply = meta_pb2.ListGarbageReply(pending=await pending_count(transaction))
        if request.disk_ids:
            reply.entries.extend(await _kept(transaction, request))
        elif request.limit:
            now_ns = transaction.now_ns
            end = keys.garbage(now_ns + 1, b"")
            rows = await transaction.scan(self._begin, end, request.limit)
            self._begin = rows[0][0] if rows else keys.garbage(now_ns, b"")
            for row, value in rows:
                reply.entries.add(row=row, garbage=records_pb2.Garbage.FromString(value))
        return reply


async def _kept(
    transaction: Transaction, request: meta_pb2.ListGarbage
) -> list[meta_pb2.GarbageEntry]:
    entries: list[meta_pb2.GarbageEntry] = []
    if not await transaction.scan(KEPT, keys.after(KEPT), 1):
        return entries  # nothing is kept for any disk, as nearly always
    for disk_id in request.disk_ids:
        left = min(request.limit, ROWS_READ_MAX) - len(entries)
        if left <= 0:
            break
        prefix = keys.kept_garbage(disk_id, b"")
        for row, value in await transaction.scan(prefix, keys.after(prefix), left):
            garbage = records_pb2.Garbage.FromString(value)
            entries.append(meta_pb2.GarbageEntry(row=row, garbage=garbage))
    return entries


def keep_walk(transaction: Transaction, disk_id: int, session_id: int) -> None:
    """Note that a disk which is away must be walked for an ended session when it returns."""
    _keep(transaction, records_pb2.Garbage(disk_id=disk_id, session_id=session_id))


async def pending_count(transaction: Transaction) -> int:
    """How many garbage rows there are."""
    return decode_counter(await transaction.get_unchecked(PENDING))


async def expand_garbage(
    transaction: Transaction, request: meta_pb2.ExpandGarbage
) -> meta_pb2.ExpandGarbageReply:
    """Turn some parts of a row's upload into blob garbage that is due at once.

    done   no part is left: the row is gone, and with it what else there was of the upload
    """
    row = await transaction.get(request.row)
    if row is None:
        return meta_pb2.ExpandGarbageReply(done=True)
    record = records_pb2.Garbage.FromString(row)
    prefix = keys.parts(record.upload_id)
    kept = {
        number
        for run in record.keep
        for number in range(run.first_number, run.first_number + run.count)
    }
    limit = min(request.limit or EXPAND_PARTS_MAX, EXPAND_PARTS_MAX)
    # Kept parts stay in the way of the scan; they are skipped, not counted.
    rows = await transaction.scan(prefix, keys.after(prefix), limit + len(kept))
    dropped = [(key, value) for key, value in rows if int.from_bytes(key[-2:], "big") not in kept][
        :limit
    ]
    blobs: list[records_pb2.BlobRef] = []
    for key, value in dropped:
        blobs.extend(records_pb2.Part.FromString(value).blobs)
        transaction.delete(key)
    _put_blobs(transaction, blobs, transaction.now_ns)
    is_done = len(dropped) < limit
    if is_done:
        _drop(transaction, request.row)
        if not kept:
            await _drop_runs(transaction, record.upload_id)
    return meta_pb2.ExpandGarbageReply(expanded=len(dropped), done=is_done)


async def finish_garbage(
    transaction: Transaction, request: meta_pb2.FinishGarbage
) -> meta_pb2.FinishGarbageReply:
    """Forget rows whose fragments are gone from every disk; keep the rest for disks that are away.

    What is kept for a disk lies apart: nobody reads it before the disk is there again, or removed,
    however much it becomes.
    raises   Invalid for a row that is no garbage row, or too many at once
    """
    count = len(request.rows) + len(request.blob_ids) + len(request.postponed)
    if count > FINISHED_AT_ONCE_MAX:
        raise faults.Invalid("rows", str(count), f"at most {FINISHED_AT_ONCE_MAX}")
    transaction.allow_large()  # deletes without order: another engine may split them
    for row in request.rows:
        await _take(transaction, row)
    for entry in request.postponed:
        if await _take(transaction, entry.row):
            _keep_blobs(transaction, entry.garbage.blobs)
    for blob_id in request.blob_ids:
        transaction.delete(keys.blob_owner(blob_id))
        await repairs.drop_repair(transaction, blob_id)
    return meta_pb2.FinishGarbageReply()


async def check_blobs(
    transaction: Transaction, request: meta_pb2.CheckBlobs
) -> meta_pb2.CheckBlobsReply:
    """Whether each blob has an owner row, or is a checkpoint's, which the journal looks after."""
    return meta_pb2.CheckBlobsReply(
        referenced=[
            blob_id.startswith(keys.CHECKPOINT_SESSION)
            or await transaction.get_unchecked(keys.blob_owner(blob_id)) is not None
            for blob_id in request.blob_ids
        ]
    )


def _numbers_only(runs: Iterable[records_pb2.PartRun]) -> list[records_pb2.PartRun]:
    """The same part numbers in the fewest runs: whatever the parts' sizes, the row stays small."""
    merged: list[records_pb2.PartRun] = []
    for run in runs:
        last = merged[-1] if merged else None
        if last is not None and last.first_number + last.count == run.first_number:
            last.count += run.count
        else:
            merged.append(records_pb2.PartRun(first_number=run.first_number, count=run.count))
    return merged


def _put_blobs(transaction: Transaction, blobs: list[records_pb2.BlobRef], due_ns: int) -> None:
    for begin in range(0, len(blobs), BLOBS_PER_ROW):
        _put(
            transaction,
            records_pb2.Garbage(blobs=blobs[begin : begin + BLOBS_PER_ROW], due_ns=due_ns),
        )


def _keep_blobs(transaction: Transaction, blobs: Iterable[records_pb2.BlobRef]) -> None:
    """One row per disk, with what is left there of the blobs of one row."""
    by_disk: dict[int, records_pb2.Garbage] = {}
    for blob in blobs:
        for index, disk_id in enumerate(blob.disk_ids):
            if disk_id:
                kept = by_disk.setdefault(disk_id, records_pb2.Garbage(disk_id=disk_id))
                kept.blobs.add(blob_id=blob.blob_id, disk_ids=[0] * index + [disk_id])
    for _, record in sorted(by_disk.items()):
        _keep(transaction, record)


def _keep(transaction: Transaction, record: records_pb2.Garbage) -> None:
    key = keys.kept_garbage(record.disk_id, transaction.random_bytes(8))
    transaction.put(key, record.SerializeToString())
    transaction.add(PENDING, 1)


def _put(transaction: Transaction, record: records_pb2.Garbage) -> None:
    key = keys.garbage(record.due_ns, transaction.random_bytes(8))
    transaction.put(key, record.SerializeToString())
    transaction.add(PENDING, 1)


async def _take(transaction: Transaction, row: bytes) -> bool:
    """Drop a row named by a caller; False if it was gone already."""
    if not row.startswith((BEGIN, KEPT)):
        raise faults.Invalid("row", row.hex(), "no garbage row")
    if await transaction.get(row) is None:
        return False
    _drop(transaction, row)
    return True


def _drop(transaction: Transaction, row: bytes) -> None:
    transaction.delete(row)
    transaction.add(PENDING, -1)


async def _drop_runs(transaction: Transaction, upload_id: bytes) -> None:
    """Delete the runs of a version whose parts are all gone."""
    prefix = keys.part_runs(upload_id, 0)[:-2]
    for key, _ in await transaction.scan(prefix, keys.after(prefix), limits.PART_NUMBER_MAX):
        transaction.delete(key)
