"""Buckets: create, read, delete, list, change a setting."""

from common import faults
from metaservice import keys
from metaservice.operations import usage
from metaservice.operations.lookup import find_bucket
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

LIST_BUCKETS_MAX = 10_000


async def create_bucket(
    transaction: Transaction, request: meta_pb2.CreateBucket
) -> meta_pb2.BucketReply:
    """Make a bucket. raises AlreadyExists("bucket", name, owner=account)"""
    name = request.bucket.name
    stored = await transaction.get(keys.bucket(name))
    if stored is not None:
        owner = records_pb2.Bucket.FromString(stored).owner_account
        raise faults.AlreadyExists("bucket", name, owner)
    bucket = records_pb2.Bucket()
    bucket.CopyFrom(request.bucket)
    # Epochs come from the clock: a bucket deleted and made again never repeats one.
    bucket.bucket_id = bucket.epoch = transaction.next_order()
    bucket.created_ns = transaction.now_ns
    _put(transaction, bucket)
    transaction.put(keys.account_bucket(bucket.owner_account, name), b"")
    return meta_pb2.BucketReply(bucket=bucket)


async def get_bucket(transaction: Transaction, request: meta_pb2.GetBucket) -> meta_pb2.BucketReply:
    """Read a bucket; an answer without it: the caller's epoch is current. raises NotFound"""
    bucket = await find_bucket(transaction, request.name)
    if bucket.epoch == request.known_epoch:
        return meta_pb2.BucketReply()
    return meta_pb2.BucketReply(bucket=bucket)


async def delete_bucket(
    transaction: Transaction, request: meta_pb2.DeleteBucket
) -> meta_pb2.BucketReply:
    """Delete an empty bucket; its open uploads end at once and are swept later.

    Nothing can slip in: every write of the bucket has the bucket's row as a condition, and changes
    a counter of the bucket, which are the conditions here.
    raises   NotFound("bucket"), Forbidden, Invalid(reason="BucketNotEmpty")
    """
    bucket = await find_bucket(transaction, request.name)
    if bucket.owner_account != request.owner_account:
        raise faults.Forbidden("delete", request.name)
    for counter in usage.COUNTERS:
        counter_key = keys.usage(bucket.bucket_id, counter)
        if await transaction.get(counter_key) is not None:
            transaction.delete(counter_key)
    prefix = keys.bucket_rows(b"v", bucket.bucket_id)
    if await transaction.scan(prefix, keys.after(prefix), 1):
        raise faults.Invalid("bucket", request.name, "BucketNotEmpty")
    prefix = keys.bucket_rows(b"u", bucket.bucket_id)
    if await transaction.scan(prefix, keys.after(prefix), 1):
        transaction.put(keys.deleted_bucket(bucket.bucket_id), b"")
    transaction.delete(keys.bucket(request.name))
    transaction.delete(keys.account_bucket(bucket.owner_account, request.name))
    return meta_pb2.BucketReply(bucket=bucket)


async def list_buckets(
    transaction: Transaction, request: meta_pb2.ListBuckets
) -> meta_pb2.ListBucketsReply:
    """An account's buckets by name."""
    first = keys.account_bucket(request.owner_account, "")
    prefix = keys.account_bucket(request.owner_account, request.prefix)
    begin = max(prefix, keys.account_bucket(request.owner_account, request.start_after) + b"\x00")
    if not request.start_after:
        begin = prefix
    limit = min(request.limit or LIST_BUCKETS_MAX, LIST_BUCKETS_MAX)
    rows = await transaction.scan(begin, keys.after(prefix), limit + 1)
    buckets = []
    for key, _ in rows[:limit]:
        stored = await transaction.get_unchecked(keys.bucket(key[len(first) :].decode()))
        if stored is not None:
            buckets.append(records_pb2.Bucket.FromString(stored))
    return meta_pb2.ListBucketsReply(buckets=buckets, truncated=len(rows) > limit)


async def update_bucket(
    transaction: Transaction, request: meta_pb2.UpdateBucket
) -> meta_pb2.BucketReply:
    """Change one setting; the new epoch makes every gateway look again.

    raises   NotFound("bucket"); Invalid for a versioning state that cannot follow
    """
    bucket = records_pb2.Bucket()
    bucket.CopyFrom(await find_bucket(transaction, request.name))
    if request.set_versioning:
        if request.versioning == records_pb2.Bucket.NEVER:
            raise faults.Invalid("versioning", "NEVER", "IllegalVersioningConfigurationException")
        bucket.versioning = request.versioning
    if request.configuration:
        if request.remove:
            bucket.configurations.pop(request.configuration, None)
        else:
            bucket.configurations[request.configuration] = request.value
    bucket.epoch = transaction.next_order()
    _put(transaction, bucket)
    return meta_pb2.BucketReply(bucket=bucket)


def _put(transaction: Transaction, bucket: records_pb2.Bucket) -> None:
    transaction.put(keys.bucket(bucket.name), bucket.SerializeToString(deterministic=True))
