"""Tags of a version: replaced in its record, visible with the commit."""

from common import faults
from metaservice import keys
from metaservice.operations import changes
from metaservice.operations.lookup import NEVER, Version, bucket_for_write, find_version
from metaservice.transaction import Transaction
from proto import meta_pb2


async def set_tags(transaction: Transaction, request: meta_pb2.SetTags) -> meta_pb2.CommitReply:
    """Replace the tag set of a version.

    raises   NotFound; NotFound("key") where the current version is a delete marker;
             Invalid(reason="MethodNotAllowed") for a delete marker by its id
    """
    bucket = await bucket_for_write(transaction, request.bucket, request.known_epoch)
    row, stored = await find_version(transaction, bucket, request.key, request.version)
    version = Version.FromString(stored)
    if version.is_delete_marker:
        if request.version.version_id or request.version.is_null:
            raise faults.Invalid("version", row.hex(), "MethodNotAllowed")
        raise faults.NotFound("key", request.key.decode(errors="replace"))
    del version.tags[:]
    version.tags.extend(request.tags)
    transaction.put(keys.version(bucket.bucket_id, request.key, row), version.SerializeToString())
    changes.add_change(transaction, bucket, "tags", request.key, version)
    return meta_pb2.CommitReply(
        version_id=version.version_id, shows_version=bucket.versioning != NEVER
    )
