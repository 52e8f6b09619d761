"""Versions: make, read, delete. What becomes of the null version and of the head row is in here.

Invariants, kept by every commit:
- the head row of a key exists if and only if its newest version is no delete marker,
  the marker row if and only if it is one;
- the null pointer exists if and only if there is a null version that the head row does not name;
- every blob that a version names has an owner row, every blob that one stops naming a garbage row.

When a version was superseded need not be kept: it is the order of the row before it.
"""

from collections.abc import Sequence

from metaservice import keys
from metaservice.operations import changes, conditions, garbage, repairs, usage
from metaservice.operations.lookup import (
    NEVER,
    Head,
    Version,
    bucket_for_write,
    find_bucket,
    find_head,
    find_marker,
    find_version,
    load_runs,
)
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

ENABLED = records_pb2.Bucket.ENABLED
ROW_RANDOM_BYTES = 8
BLOBS_OF_SMALL_COMMIT = 30  # each an owner row and, written degraded, rows of its repair


async def commit_version(
    transaction: Transaction, request: meta_pb2.CommitVersion, data: bytes
) -> meta_pb2.CommitReply:
    """Make a version the newest of its key.

    data     sealed bytes of an inline version
    raises   NotFound("bucket"), Conflict("bucket_epoch"), PreconditionFailed, NotFound("key")
    """
    bucket = await bucket_for_write(transaction, request.bucket, request.known_epoch)
    head = await find_head(transaction, bucket.bucket_id, request.key)
    if request.HasField("conditions"):
        conditions.check(request.conditions, head, request.key)
    return await put_newest(transaction, bucket, request.key, request.version, head, data)


async def take_blobs(
    transaction: Transaction, blobs: Sequence[records_pb2.BlobRef], owner: records_pb2.BlobOwner
) -> None:
    """Write the owner row of every new blob, and the repair job of every one that is not whole."""
    if len(blobs) > BLOBS_OF_SMALL_COMMIT:
        transaction.allow_large()  # 5 GiB in one request, while zones are down: 320 rows
    garbage.own_blobs(transaction, blobs, owner)
    await repairs.add_repairs(transaction, blobs)


async def put_newest(  # noqa: PLR0913 - one step of several operations, all of it needed
    transaction: Transaction,
    bucket: records_pb2.Bucket,
    key: bytes,
    version: Version,
    head: Head | None,
    data: bytes,
) -> meta_pb2.CommitReply:
    """Put a version above all others of its key; a null version replaces the null version.

    version   order, id and times are set here
    head      as read by this transaction
    """
    bucket_id = bucket.bucket_id
    marker = await find_marker(transaction, bucket, key, head)
    order = transaction.next_order()
    row = keys.version_row(order, transaction.random_bytes(ROW_RANDOM_BYTES))
    version.order = version.last_modified_ns = order
    version.is_null = bucket.versioning != ENABLED
    if not version.is_null:
        version.version_id = row
        if head is not None and not head.version_id:
            transaction.put(keys.null_pointer(bucket_id, key), head.row)
    else:
        await _drop_null(transaction, bucket, key, head)
    if version.blobs:
        owner = records_pb2.BlobOwner(bucket_id=bucket_id, key=key, row=row)
        await take_blobs(transaction, version.blobs, owner)
    transaction.put(keys.version(bucket_id, key, row), version.SerializeToString())
    if version.is_delete_marker:
        if head is not None:
            transaction.delete(keys.head(bucket_id, key))
        transaction.put(keys.marker(bucket_id, key), row)
        if version.is_null:
            transaction.put(keys.null_pointer(bucket_id, key), row)
        usage.count_marker(transaction, bucket_id, 1)
    else:
        if marker is not None:
            transaction.delete(keys.marker(bucket_id, key))
        transaction.put(keys.head(bucket_id, key), head_of(version, row).SerializeToString())
        if version.is_inline:
            transaction.put(keys.data(bucket_id, key, row), data)
        usage.count(transaction, bucket_id, 1, version.size_bytes)
    if bucket.consumers:
        kind = "delete_marker" if version.is_delete_marker else "put"
        changes.add_change(transaction, bucket, kind, key, version)
    return meta_pb2.CommitReply(
        version_id=version.version_id,
        order=order,
        shows_version=bucket.versioning != NEVER,
        is_delete_marker=version.is_delete_marker,
        etag=version.etag,
        last_modified_ns=order,
        existed=head is not None,
    )


async def get_version(
    transaction: Transaction, request: meta_pb2.GetVersion
) -> tuple[meta_pb2.GetVersionReply, bytes]:
    """Read a version, a delete marker too, and its inline data.

    raises   NotFound("bucket"), NotFound("key"), NotFound("version")
    """
    bucket = await find_bucket(transaction, request.bucket)
    name = request.version
    row, stored = await find_version(transaction, bucket, request.key, name)
    version = Version.FromString(stored)
    if version.parts.runs_elsewhere:
        await load_runs(transaction, version)
        stored = version.SerializeToString()
    reply = meta_pb2.GetVersionReply(
        version=stored, is_current=not name.version_id and not name.is_null
    )
    if bucket.epoch != request.known_epoch:
        reply.bucket.CopyFrom(bucket)
    data = None
    if version.is_inline and not request.without_data:
        data = await transaction.get_unchecked(keys.data(bucket.bucket_id, request.key, row))
    return reply, data or b""


async def delete_version(
    transaction: Transaction, request: meta_pb2.DeleteVersion
) -> meta_pb2.CommitReply:
    """Delete a named version for good, or hide (never-versioned: delete) the key.

    Deleting what is not there succeeds, as in S3.
    raises   NotFound("bucket"), Conflict("bucket_epoch"), PreconditionFailed, NotFound("key")
    """
    bucket = await bucket_for_write(transaction, request.bucket, request.known_epoch)
    head = await find_head(transaction, bucket.bucket_id, request.key)
    if request.HasField("conditions"):
        conditions.check(request.conditions, head, request.key)
    if request.has_version:
        return await _delete_named(transaction, bucket, request, head)
    if bucket.versioning == NEVER:
        if head is not None:
            await _remove(transaction, bucket, request.key, head.row)
            transaction.delete(keys.head(bucket.bucket_id, request.key))
        return meta_pb2.CommitReply(existed=head is not None)
    marker = Version(is_delete_marker=True, owner_id=request.owner_id)
    return await put_newest(transaction, bucket, request.key, marker, head, b"")


async def _delete_named(
    transaction: Transaction,
    bucket: records_pb2.Bucket,
    request: meta_pb2.DeleteVersion,
    head: Head | None,
) -> meta_pb2.CommitReply:
    bucket_id, key = bucket.bucket_id, request.key
    pointer = await transaction.get(keys.null_pointer(bucket_id, key))
    row = request.version.version_id
    if request.version.is_null:
        row = head.row if head is not None and not head.version_id else pointer or b""
    version = await _remove(transaction, bucket, key, row) if row else None
    if version is None or version.is_null != request.version.is_null:
        # A null version's row is no version id: only "null" names it.
        if version is not None:
            _keep(transaction)
        return meta_pb2.CommitReply(
            version_id=request.version.version_id, shows_version=bucket.versioning != NEVER
        )
    if pointer == row:
        transaction.delete(keys.null_pointer(bucket_id, key))
        pointer = None
    newest = head.row if head is not None else await find_marker(transaction, bucket, key, head)
    if newest == row:
        await _show_next(transaction, bucket_id, key, row, pointer)
    return meta_pb2.CommitReply(
        version_id=version.version_id,
        shows_version=bucket.versioning != NEVER,
        is_delete_marker=version.is_delete_marker,
        existed=True,
    )


def _keep(transaction: Transaction) -> None:
    """Forget what this transaction was about to write."""
    transaction.puts.clear()
    transaction.adds.clear()


async def _show_next(
    transaction: Transaction, bucket_id: int, key: bytes, gone: bytes, pointer: bytes | None
) -> None:
    """After the newest version has gone: let the head or marker row name the next older."""
    prefix = keys.versions(bucket_id, key)
    transaction.delete(keys.head(bucket_id, key))
    transaction.delete(keys.marker(bucket_id, key))
    rows = await transaction.scan(prefix, keys.after(prefix), 2, checked=True)
    for row_key, stored in rows:
        row = row_key[len(prefix) :]
        if row == gone:
            continue
        version = Version.FromString(stored)
        if version.is_delete_marker:
            transaction.put(keys.marker(bucket_id, key), row)
        else:
            transaction.put(keys.head(bucket_id, key), head_of(version, row).SerializeToString())
            if pointer == row:
                transaction.delete(keys.null_pointer(bucket_id, key))
        return


async def _drop_null(
    transaction: Transaction, bucket: records_pb2.Bucket, key: bytes, head: Head | None
) -> None:
    """Remove the null version, wherever it is in the order, before another takes its place."""
    if head is not None and not head.version_id:
        await _remove(transaction, bucket, key, head.row)
    elif bucket.versioning != NEVER:
        pointer = await transaction.get(keys.null_pointer(bucket.bucket_id, key))
        if pointer is not None:
            await _remove(transaction, bucket, key, pointer)
            transaction.delete(keys.null_pointer(bucket.bucket_id, key))


async def _remove(
    transaction: Transaction, bucket: records_pb2.Bucket, key: bytes, row: bytes
) -> Version | None:
    """Delete a version's rows, give its blobs to the collector; head, marker, pointer stay."""
    bucket_id = bucket.bucket_id
    row_key = keys.version(bucket_id, key, row)
    stored = await transaction.get(row_key)
    if stored is None:
        return None
    version = Version.FromString(stored)
    transaction.delete(row_key)
    if version.is_inline:
        transaction.delete(keys.data(bucket_id, key, row))
    garbage.release_version(transaction, version)
    if version.is_delete_marker:
        usage.count_marker(transaction, bucket_id, -1)
    else:
        usage.count(transaction, bucket_id, -1, -version.size_bytes)
    changes.add_change(transaction, bucket, "delete", key, version)
    return version


def head_of(version: Version, row: bytes) -> Head:
    """What a listing shows of a version."""
    checksums = version.checksums
    return Head(
        order=version.order,
        version_id=version.version_id,
        size_bytes=version.size_bytes,
        etag=version.etag,
        storage_class=version.storage_class,
        last_modified_ns=version.last_modified_ns,
        owner_id=version.owner_id,
        checksum_algorithms=[checksum.algorithm for checksum in checksums],
        checksum_composite=bool(checksums) and checksums[0].composite,
        row=row,
    )
