"""Which row names a blob: the owner row leads to a version or part, and that row decides.

A blob whose owner row is there but whose version or part does not name it any more is garbage.
"""

from dataclasses import dataclass

from metaservice import keys
from metaservice.transaction import Transaction
from proto import records_pb2

VERSIONS_PER_SCAN = 100


@dataclass(slots=True)
class Naming:
    """The row that names a blob; `blob` is a part of `record` and may be changed in place."""

    key: bytes
    record: records_pb2.Version | records_pb2.Part
    blob: records_pb2.BlobRef

    def store(self, transaction: Transaction) -> None:
        """Write the row back."""
        transaction.put(self.key, self.record.SerializeToString())


async def find_naming(transaction: Transaction, blob_id: bytes) -> Naming | None:
    """The row that names a blob; it must not change until the commit. None: nothing names it"""
    stored = await transaction.get(keys.blob_owner(blob_id))
    if stored is None:
        return None
    owner = records_pb2.BlobOwner.FromString(stored)
    if owner.upload_id:
        key = keys.part(owner.upload_id, owner.part_number)
        return _named_in(key, await transaction.get(key), blob_id)
    if owner.row:
        key = keys.version(owner.bucket_id, owner.key, owner.row)
        return _named_in(key, await transaction.get(key), blob_id)
    return await _search(transaction, owner, blob_id)


async def _search(
    transaction: Transaction, owner: records_pb2.BlobOwner, blob_id: bytes
) -> Naming | None:
    """Look through all versions of a key: owner rows of early stores do not say which it is."""
    prefix = keys.versions(owner.bucket_id, owner.key)
    begin = prefix
    while rows := await transaction.scan(begin, keys.after(prefix), VERSIONS_PER_SCAN):
        for key, value in rows:
            if blob_id in value:
                found = _named_in(key, await transaction.get(key), blob_id)
                if found is not None:
                    return found
        begin = rows[-1][0] + b"\x00"
    return None


def _named_in(key: bytes, stored: bytes | None, blob_id: bytes) -> Naming | None:
    if stored is None:
        return None
    record: records_pb2.Version | records_pb2.Part
    if key[:1] == b"p":
        record = records_pb2.Part.FromString(stored)
    else:
        record = records_pb2.Version.FromString(stored)
    for blob in record.blobs:
        if blob.blob_id == blob_id:
            return Naming(key, record, blob)
    return None
