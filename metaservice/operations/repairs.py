"""Blobs that want repair: written by the commit that left them so, or reported by a reader.

One job per blob, and a counter of jobs: what is degraded is told at once, however much it is.
"""

from collections.abc import Iterable

from metaservice import keys
from metaservice.kv.interface import decode_counter
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

BEGIN, END = b"j", b"k"
DEGRADED = keys.single("degraded_blobs")


async def add_repairs(transaction: Transaction, blobs: Iterable[records_pb2.BlobRef]) -> None:
    """Ask for the repair of every blob that was committed with less than all in place."""
    for blob in blobs:
        if blob.degraded:
            missing = [index for index, disk_id in enumerate(blob.disk_ids) if not disk_id]
            await _put(transaction, blob, missing, "degraded_write")


async def drop_repair(transaction: Transaction, blob_id: bytes) -> None:
    """Forget the job of a blob that is whole again, or gone."""
    key = keys.repair(blob_id)
    if await transaction.get(key) is not None:
        transaction.delete(key)
        transaction.add(DEGRADED, -1)


async def degraded_count(transaction: Transaction) -> int:
    """How many blobs have a job."""
    return decode_counter(await transaction.get_unchecked(DEGRADED))


async def report_bad(
    transaction: Transaction, request: meta_pb2.ReportBad
) -> meta_pb2.ReportBadReply:
    """Note bad or missing fragments of a blob that is still named."""
    blob_id = request.blob.blob_id
    if await transaction.get(keys.blob_owner(blob_id)) is not None:
        await _put(transaction, request.blob, request.indexes, request.reason)
    return meta_pb2.ReportBadReply()


async def list_repairs(
    transaction: Transaction, request: meta_pb2.ListRepairs
) -> meta_pb2.ListRepairsReply:
    """Some jobs, and how many there are."""
    rows = await transaction.scan(BEGIN, END, request.limit)
    return meta_pb2.ListRepairsReply(
        jobs=[records_pb2.RepairJob.FromString(value) for _, value in rows],
        pending=await degraded_count(transaction),
    )


async def _put(
    transaction: Transaction, blob: records_pb2.BlobRef, missing: Iterable[int], reason: str
) -> None:
    """Write a blob's job, or add to it what it did not yet tell of."""
    key = keys.repair(blob.blob_id)
    stored = await transaction.get(key)
    if stored is None:
        job = records_pb2.RepairJob(
            blob=blob, missing=missing, reason=reason, created_ns=transaction.now_ns
        )
        transaction.add(DEGRADED, 1)
    else:
        job = records_pb2.RepairJob.FromString(stored)
        union = sorted({*job.missing, *missing})
        if union == list(job.missing):
            return
        job.missing[:] = union
    transaction.put(key, job.SerializeToString())
