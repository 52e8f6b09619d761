"""Blobs that want repair: written by the commit that left them so, or reported by a reader."""

from collections.abc import Iterable

from metaservice import keys
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

BEGIN, END = b"j", b"k"
COUNTED_MAX = 100_000


def add_repairs(transaction: Transaction, blobs: Iterable[records_pb2.BlobRef]) -> None:
    """Ask for the repair of every blob that was committed with less than all in place."""
    for blob in blobs:
        if blob.degraded:
            missing = [index for index, disk_id in enumerate(blob.disk_ids) if not disk_id]
            _put(transaction, blob, missing, "degraded_write")


async def report_bad(
    transaction: Transaction, request: meta_pb2.ReportBad
) -> meta_pb2.ReportBadReply:
    """Note bad or missing fragments of a blob that is still named."""
    blob_id = request.blob.blob_id
    if await transaction.get(keys.blob_owner(blob_id)) is not None:
        _put(transaction, request.blob, request.indexes, request.reason)
    return meta_pb2.ReportBadReply()


async def list_repairs(
    transaction: Transaction, request: meta_pb2.ListRepairs
) -> meta_pb2.ListRepairsReply:
    """Jobs, and how many there are (counted up to a bound)."""
    rows = await transaction.scan(BEGIN, END, COUNTED_MAX)
    return meta_pb2.ListRepairsReply(
        jobs=[records_pb2.RepairJob.FromString(value) for _, value in rows[: request.limit]],
        pending=len(rows),
    )


def _put(
    transaction: Transaction, blob: records_pb2.BlobRef, missing: Iterable[int], reason: str
) -> None:
    job = records_pb2.RepairJob(
        blob=blob, missing=missing, reason=reason, created_ns=transaction.now_ns
    )
    transaction.put(keys.repair(blob.blob_id), job.SerializeToString())
