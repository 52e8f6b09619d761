"""Finding buckets and versions: what most operations begin with."""

from functools import lru_cache

from common import faults, limits
from metaservice import keys
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

Version = records_pb2.Version
Head = records_pb2.Head
NEVER = records_pb2.Bucket.NEVER


@lru_cache(maxsize=10_000)
def parse_bucket(row: bytes) -> records_pb2.Bucket:
    """A bucket record; shared, never to be changed."""
    return records_pb2.Bucket.FromString(row)


async def find_bucket(transaction: Transaction, name: str) -> records_pb2.Bucket:
    """Read a bucket; it must not change until the commit. raises NotFound("bucket")"""
    row = await transaction.get(keys.bucket(name))
    if row is None:
        raise faults.NotFound("bucket", name)
    return parse_bucket(row)


async def bucket_for_write(
    transaction: Transaction, name: str, known_epoch: int
) -> records_pb2.Bucket:
    """Read a bucket that the writer was authorized with.

    raises   NotFound("bucket"), Conflict("bucket_epoch") if the writer knows an old record
    """
    bucket = await find_bucket(transaction, name)
    if bucket.epoch != known_epoch:
        raise faults.Conflict("bucket_epoch", name)
    return bucket


async def find_head(transaction: Transaction, bucket_id: int, key: bytes) -> Head | None:
    """Read what a listing shows of a key; None if its newest version is no object."""
    row = await transaction.get(keys.head(bucket_id, key))
    return Head.FromString(row) if row is not None else None


async def find_marker(
    transaction: Transaction, bucket: records_pb2.Bucket, key: bytes, head: Head | None
) -> bytes | None:
    """Where the delete marker is that hides a key. None if the newest version is no marker.

    Of a key with versions either the head row exists or this one. So whoever has read both, or has
    found a head, has a condition that fails with every change of the newest version.
    """
    if head is not None or bucket.versioning == NEVER:
        return None
    return await transaction.get(keys.marker(bucket.bucket_id, key))


async def find_row(
    transaction: Transaction, bucket: records_pb2.Bucket, key: bytes, name: meta_pb2.VersionName
) -> bytes:
    """Where a named version is: by id, the null version, or the newest.

    raises   NotFound("key"), NotFound("version")
    """
    if name.version_id:
        return name.version_id
    head = await find_head(transaction, bucket.bucket_id, key)
    if name.is_null:
        if head is not None and not head.version_id:
            return head.row
        row = await transaction.get(keys.null_pointer(bucket.bucket_id, key))
        if row is None:
            raise faults.NotFound("version", "null")
        return row
    if head is not None:
        return head.row
    marker = await find_marker(transaction, bucket, key, head)
    if marker is not None:
        return marker
    raise faults.NotFound("key", key.decode(errors="replace"))


async def find_version(
    transaction: Transaction, bucket: records_pb2.Bucket, key: bytes, name: meta_pb2.VersionName
) -> tuple[bytes, bytes]:
    """Read a named version: its row's place, and its serialized record.

    raises   NotFound("key"), NotFound("version")
    """
    row = await find_row(transaction, bucket, key, name)
    stored = await transaction.get(keys.version(bucket.bucket_id, key, row))
    if stored is None:
        raise faults.NotFound("version", row.hex())
    return row, stored


async def load_runs(transaction: Transaction, version: Version) -> None:
    """Put the runs of a very irregular upload, stored apart, back into its version."""
    prefix = keys.part_runs(version.parts.upload_id, 0)[:-2]
    for _, value in await transaction.scan(prefix, keys.after(prefix), limits.PART_NUMBER_MAX):
        version.parts.runs.extend(records_pb2.PartsRef.FromString(value).runs)
    version.parts.runs_elsewhere = False
