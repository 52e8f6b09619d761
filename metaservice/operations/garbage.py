"""Blobs that are no longer named, and the proof that others are.

Every blob that a version or part names has an owner row, written by the same commit. What stops
being named becomes a garbage row in the same commit, due after a grace in which readers finish.
Nothing is ever deleted because it was not found somewhere: orphans are the blobs of a session that
has ended (and was fenced) without an owner row.
"""

from collections.abc import Iterable

from common import limits
from metaservice import keys
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

GRACE_NS = int(limits.GARBAGE_GRACE_S * 1e9)
EXPAND_PARTS_MAX = 50
PENDING_COUNTED_MAX = 10_000
BEGIN, END = b"g", b"h"


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
    due_ns = transaction.now_ns + GRACE_NS
    record = records_pb2.Garbage(blobs=blobs, upload_id=upload_id, due_ns=due_ns, keep=keep)
    if record.blobs or upload_id:
        transaction.put(
            keys.garbage(due_ns, transaction.random_bytes(8)), record.SerializeToString()
        )


def release_version(transaction: Transaction, version: records_pb2.Version) -> None:
    """Give everything that a version names to the collector."""
    if version.blobs:
        add_garbage(transaction, version.blobs)
    if version.HasField("parts"):
        add_garbage(transaction, upload_id=version.parts.upload_id)


async def list_garbage(
    transaction: Transaction, request: meta_pb2.ListGarbage
) -> meta_pb2.ListGarbageReply:
    """What is due now, and roughly how much waits."""
    now = keys.garbage(transaction.now_ns, b"")
    rows = await transaction.scan(BEGIN, now, request.limit)
    pending = await transaction.scan(BEGIN, END, PENDING_COUNTED_MAX)
    return meta_pb2.ListGarbageReply(
        entries=[
            meta_pb2.GarbageEntry(row=row, garbage=records_pb2.Garbage.FromString(value))
            for row, value in rows
        ],
        pending=len(pending),
    )


async def expand_garbage(
    transaction: Transaction, request: meta_pb2.ExpandGarbage
) -> meta_pb2.ExpandGarbageReply:
    """Turn some parts of a row's upload into blob garbage that is due at once."""
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
    if blobs:
        due = records_pb2.Garbage(blobs=blobs, due_ns=record.due_ns)
        transaction.put(
            keys.garbage(record.due_ns, transaction.random_bytes(8)), due.SerializeToString()
        )
    is_done = len(dropped) < limit
    if is_done:
        transaction.delete(request.row)
    return meta_pb2.ExpandGarbageReply(expanded=len(dropped), done=is_done)


async def finish_garbage(
    transaction: Transaction, request: meta_pb2.FinishGarbage
) -> meta_pb2.FinishGarbageReply:
    """Forget rows whose fragments are gone from every disk."""
    for row in request.rows:
        transaction.delete(row)
    for blob_id in request.blob_ids:
        transaction.delete(keys.blob_owner(blob_id))
        transaction.delete(keys.repair(blob_id))
    return meta_pb2.FinishGarbageReply()


async def check_blobs(
    transaction: Transaction, request: meta_pb2.CheckBlobs
) -> meta_pb2.CheckBlobsReply:
    """Whether each blob has an owner row."""
    return meta_pb2.CheckBlobsReply(
        referenced=[
            await transaction.get_unchecked(keys.blob_owner(blob_id)) is not None
            for blob_id in request.blob_ids
        ]
    )
