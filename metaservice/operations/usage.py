"""Counters of a bucket, changed by the same commit as what they count."""

from metaservice import keys
from metaservice.kv.interface import decode_counter
from metaservice.operations.lookup import find_bucket
from metaservice.transaction import Transaction
from proto import meta_pb2

OBJECTS, BYTES, UPLOADS, MARKERS = "objects", "bytes", "uploads", "markers"
COUNTERS = (OBJECTS, BYTES, UPLOADS, MARKERS)


def count(transaction: Transaction, bucket_id: int, objects: int, size_bytes: int) -> None:
    """Add versions (delete markers are none) and their bytes; negative to take away."""
    if objects:
        transaction.add(keys.usage(bucket_id, OBJECTS), objects)
    if size_bytes:
        transaction.add(keys.usage(bucket_id, BYTES), size_bytes)


def count_marker(transaction: Transaction, bucket_id: int, change: int) -> None:
    """Add a delete marker, or take one away."""
    transaction.add(keys.usage(bucket_id, MARKERS), change)


def count_upload(transaction: Transaction, bucket_id: int, change: int) -> None:
    """Add an open upload, or take one away."""
    transaction.add(keys.usage(bucket_id, UPLOADS), change)


async def usage(transaction: Transaction, request: meta_pb2.Usage) -> meta_pb2.UsageReply:
    """The counters of a bucket."""
    bucket = await find_bucket(transaction, request.bucket)
    values = [
        decode_counter(await transaction.get_unchecked(keys.usage(bucket.bucket_id, name)))
        for name in (OBJECTS, BYTES, UPLOADS)
    ]
    return meta_pb2.UsageReply(objects=values[0], bytes=values[1], uploads=values[2])
