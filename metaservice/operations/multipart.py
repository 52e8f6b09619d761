"""Multipart uploads: open, collect parts, complete as one version without moving a byte.

Part rows stay where they are: the completed version names the upload and its parts by runs of
consecutive numbers of equal size, a few bytes even for 10,000 parts. So completing is one bounded
commit: the version, its head, the upload row, one garbage row for parts that were not listed.

CommitPart has the upload row as a condition and does not change it; it adds to the upload's counter
of part commits, which never conflicts: parts do not get in one another's way. Completing has that
counter as its one condition for all parts, and deletes the upload row. So a part that is committed
at the same time either comes first, and the completion runs again, or comes later, and is refused.
"""

import hashlib
from collections.abc import Sequence

from common import checksum, faults, limits
from metaservice import keys
from metaservice.operations import conditions, garbage, usage
from metaservice.operations.lookup import (
    NEVER,
    Version,
    bucket_for_write,
    find_bucket,
    find_head,
)
from metaservice.operations.objects import put_newest, take_blobs
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

Upload = records_pb2.Upload
Part = records_pb2.Part

UPLOAD_RANDOM_BYTES = 8
RUNS_BYTES_MAX = 32 * limits.KIB  # more irregular uploads keep their runs in rows of their own
RUNS_PER_ROW = 2000


async def create_upload(
    transaction: Transaction, request: meta_pb2.CreateUpload
) -> meta_pb2.UploadReply:
    """Open an upload. Its id sorts by when it was begun. raises NotFound, Conflict"""
    bucket = await bucket_for_write(transaction, request.bucket, request.known_epoch)
    upload = Upload()
    upload.CopyFrom(request.upload)
    upload.created_ns = transaction.next_order()
    random = transaction.random_bytes(UPLOAD_RANDOM_BYTES)
    upload.upload_id = keys.uint64(upload.created_ns) + random
    transaction.put(
        keys.upload(bucket.bucket_id, upload.key, upload.upload_id), upload.SerializeToString()
    )
    usage.count_upload(transaction, bucket.bucket_id, 1)
    return meta_pb2.UploadReply(upload=upload)


async def get_upload(transaction: Transaction, request: meta_pb2.GetUpload) -> meta_pb2.UploadReply:
    """Read an open upload. raises NotFound("upload")"""
    bucket = await find_bucket(transaction, request.bucket)
    upload = await _open_upload(transaction, bucket, request.key, request.upload_id)
    reply = meta_pb2.UploadReply(upload=upload)
    if bucket.epoch != request.known_epoch:
        reply.bucket.CopyFrom(bucket)
    return reply


async def commit_part(
    transaction: Transaction, request: meta_pb2.CommitPart
) -> meta_pb2.CommitReply:
    """Make a part, in place of an earlier one of its number.

    raises   NotFound("upload"), Conflict, Invalid for a number that no part can have
    """
    if not 1 <= request.part.number <= limits.PART_NUMBER_MAX:
        raise faults.Invalid("part_number", str(request.part.number), "InvalidArgument")
    bucket = await bucket_for_write(transaction, request.bucket, request.known_epoch)
    upload = await _open_upload(transaction, bucket, request.key, request.upload_id)
    part = Part()
    part.CopyFrom(request.part)
    part.last_modified_ns = transaction.next_order()
    row_key = keys.part(upload.upload_id, part.number)
    stored = await transaction.get(row_key)
    if stored is not None:
        garbage.add_garbage(transaction, Part.FromString(stored).blobs)
    transaction.put(row_key, part.SerializeToString())
    transaction.add(keys.part_commits(upload.upload_id), 1)
    owner = records_pb2.BlobOwner(
        bucket_id=bucket.bucket_id,
        key=request.key,
        upload_id=upload.upload_id,
        part_number=part.number,
    )
    await take_blobs(transaction, part.blobs, owner)
    return meta_pb2.CommitReply(etag=part.etag, last_modified_ns=part.last_modified_ns)


async def list_parts(
    transaction: Transaction, request: meta_pb2.ListParts
) -> meta_pb2.ListPartsReply:
    """One page of an open upload's parts, by number. raises NotFound("upload")"""
    bucket = await find_bucket(transaction, request.bucket)
    upload = await _open_upload(transaction, bucket, request.key, request.upload_id)
    reply = meta_pb2.ListPartsReply(upload=upload)
    if bucket.epoch != request.known_epoch:
        reply.bucket.CopyFrom(bucket)
    if request.limit == 0 or request.after_number >= limits.PART_NUMBER_MAX:
        return reply
    begin = keys.part(upload.upload_id, request.after_number + 1)
    limit = min(request.limit, limits.LIST_KEYS_MAX)
    rows = await transaction.scan(begin, keys.after(keys.parts(upload.upload_id)), limit + 1)
    for _, value in rows[:limit]:
        part = Part.FromString(value)
        for name in ("blobs", "encryption", "inline_data"):
            part.ClearField(name)
        reply.parts.append(part)
    reply.truncated = len(rows) > limit
    return reply


async def get_parts(transaction: Transaction, request: meta_pb2.GetParts) -> meta_pb2.GetPartsReply:
    """Whole part records, in the order asked for. raises NotFound("part")"""
    reply = meta_pb2.GetPartsReply()
    for number in request.numbers:
        stored = await transaction.get_unchecked(keys.part(request.upload_id, number))
        if stored is None:
            raise faults.NotFound("part", str(number))
        reply.parts.append(Part.FromString(stored))
    return reply


async def abort_upload(
    transaction: Transaction, request: meta_pb2.AbortUpload
) -> meta_pb2.CommitReply:
    """End an upload and give its parts to the collector. raises NotFound("upload")"""
    bucket = await bucket_for_write(transaction, request.bucket, request.known_epoch)
    upload = await _open_upload(transaction, bucket, request.key, request.upload_id)
    drop_open(transaction, bucket.bucket_id, upload)
    garbage.add_garbage(transaction, upload_id=upload.upload_id)
    usage.count_upload(transaction, bucket.bucket_id, -1)
    return meta_pb2.CommitReply(existed=True)


async def complete_upload(
    transaction: Transaction, request: meta_pb2.CompleteUpload
) -> meta_pb2.CompleteReply:
    """Make the listed parts the newest version of the key.

    Asked again with the same list it answers the same, for COMPLETED_UPLOAD_KEEP_S.
    raises   NotFound("upload"), PreconditionFailed, Conflict; Invalid with reason InvalidPart,
             InvalidPartOrder, EntityTooSmall, BadDigest, InvalidRequest
    """
    bucket = await bucket_for_write(transaction, request.bucket, request.known_epoch)
    digest = _list_digest(request.parts)
    finished_key = keys.finished_upload(request.upload_id, bucket.bucket_id)
    finished = await transaction.get(finished_key)
    if finished is not None:
        return _first_answer(Upload.FromString(finished), digest, request, bucket)
    upload = await _open_upload(transaction, bucket, request.key, request.upload_id)
    _check_checksum_type(request, upload)
    head = await find_head(transaction, bucket.bucket_id, request.key)
    if request.HasField("conditions"):
        conditions.check(request.conditions, head, request.key)
    parts = await _listed_parts(transaction, request)
    version = _version_of(upload, parts)
    _check_expectations(request, version)
    await _drop_unlisted(transaction, upload.upload_id, len(parts), version.parts.runs)
    _store_runs(transaction, version)
    commit = await put_newest(transaction, bucket, request.key, version, head, b"")
    drop_open(transaction, bucket.bucket_id, upload)
    upload.state = Upload.DONE
    upload.completed_list_digest = digest
    upload.completed.CopyFrom(version)
    upload.completed.ClearField("parts")
    upload.ended_ns = transaction.now_ns
    upload.ClearField("draft")
    transaction.put(finished_key, upload.SerializeToString())
    usage.count_upload(transaction, bucket.bucket_id, -1)
    return meta_pb2.CompleteReply(commit=commit, version=upload.completed)


def drop_open(transaction: Transaction, bucket_id: int, upload: Upload) -> None:
    """Delete the rows that make an upload open; from now on every part is refused."""
    transaction.delete(keys.upload(bucket_id, upload.key, upload.upload_id))
    transaction.delete(keys.part_commits(upload.upload_id))


async def _open_upload(
    transaction: Transaction, bucket: records_pb2.Bucket, key: bytes, upload_id: bytes
) -> Upload:
    stored = await transaction.get(keys.upload(bucket.bucket_id, key, upload_id))
    if stored is None:
        raise faults.NotFound("upload", upload_id.hex())
    return Upload.FromString(stored)


def _list_digest(parts: Sequence[meta_pb2.ListedPart]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.number}:{part.etag};".encode())
    return digest.digest()


def _first_answer(
    upload: Upload, digest: bytes, request: meta_pb2.CompleteUpload, bucket: records_pb2.Bucket
) -> meta_pb2.CompleteReply:
    if upload.key != request.key or digest != upload.completed_list_digest:
        raise faults.NotFound("upload", upload.upload_id.hex())
    version = upload.completed
    commit = meta_pb2.CommitReply(
        version_id=version.version_id,
        order=version.order,
        shows_version=bucket.versioning != NEVER,
        etag=version.etag,
        last_modified_ns=version.last_modified_ns,
    )
    return meta_pb2.CompleteReply(commit=commit, version=version)


async def _listed_parts(transaction: Transaction, request: meta_pb2.CompleteUpload) -> list[Part]:
    """Find the listed parts and check the list; no part may change until the commit."""
    if not request.parts:
        raise faults.Invalid("parts", "", "MalformedXML")
    await transaction.get(keys.part_commits(request.upload_id))  # one condition for all parts
    prefix = keys.parts(request.upload_id)
    rows = await transaction.scan(prefix, keys.after(prefix), limits.PART_NUMBER_MAX)
    stored = {int.from_bytes(key[-2:], "big"): value for key, value in rows}
    parts: list[Part] = []
    for listed in request.parts:
        if parts and listed.number <= parts[-1].number:
            raise faults.Invalid("parts", str(listed.number), "InvalidPartOrder")
        value = stored.get(listed.number)
        part = Part.FromString(value) if value is not None else None
        if part is None or part.etag != listed.etag or not _checksums_match(part, listed):
            raise faults.Invalid("parts", str(listed.number), "InvalidPart")
        parts.append(part)
    for part in parts[:-1]:
        if part.size_bytes < limits.PART_BYTES_MIN:
            raise faults.Invalid("parts", str(part.number), "EntityTooSmall")
    return parts


def _checksums_match(part: Part, listed: meta_pb2.ListedPart) -> bool:
    known = {stored.algorithm: stored.value for stored in part.checksums}
    return all(known.get(given.algorithm) == given.value for given in listed.checksums)


def _version_of(upload: Upload, parts: list[Part]) -> Version:
    version = Version()
    version.CopyFrom(upload.draft)
    version.size_bytes = sum(part.size_bytes for part in parts)
    if version.size_bytes > limits.OBJECT_BYTES_MAX:
        raise faults.Invalid("parts", str(version.size_bytes), "EntityTooLarge")
    digests = hashlib.md5(usedforsecurity=False)
    for part in parts:
        digests.update(bytes.fromhex(part.md5))
    version.etag = f"{digests.hexdigest()}-{len(parts)}"
    whole = _object_checksum(upload, parts)
    if whole is not None:
        version.checksums.append(whole)
    version.parts.upload_id = upload.upload_id
    version.parts.count = len(parts)
    for part in parts:
        runs = version.parts.runs
        last = runs[-1] if runs else None
        if (
            last is not None
            and last.first_number + last.count == part.number
            and last.part_bytes == part.size_bytes
        ):
            last.count += 1
        else:
            runs.add(first_number=part.number, count=1, part_bytes=part.size_bytes)
    return version


def _object_checksum(upload: Upload, parts: list[Part]) -> records_pb2.Checksum | None:
    """The checksum of the whole: CRCs combine; of others only a digest of digests is known."""
    algorithm = upload.checksum_algorithm
    values = [
        (stored.value, part.size_bytes)
        for part in parts
        for stored in part.checksums
        if stored.algorithm == algorithm
    ]
    if not algorithm or len(values) != len(parts):
        return None
    if upload.checksum_composite:
        value = checksum.digest(algorithm, b"".join(value for value, _ in values))
        return records_pb2.Checksum(
            algorithm=algorithm, value=value, composite=True, part_count=len(parts)
        )
    total = values[0][0]
    for value, size in values[1:]:
        total = checksum.combine(algorithm, total, value, size)
    return records_pb2.Checksum(algorithm=algorithm, value=total)


def _check_checksum_type(request: meta_pb2.CompleteUpload, upload: Upload) -> None:
    """A digest of digests is of what the client lists: it must list each part's."""
    kind = "COMPOSITE" if upload.checksum_composite else "FULL_OBJECT"
    if request.expected_type not in ("", kind):
        raise faults.Invalid("checksum_type", kind, "InvalidRequest")
    if not upload.checksum_composite:
        return
    algorithm = upload.checksum_algorithm
    for listed in request.parts:
        if algorithm not in {given.algorithm for given in listed.checksums}:
            raise faults.Invalid("part_checksum", f"{algorithm}:{listed.number}", "InvalidRequest")


def _check_expectations(request: meta_pb2.CompleteUpload, version: Version) -> None:
    if request.has_expected_size and request.expected_size_bytes != version.size_bytes:
        raise faults.Invalid("size", str(version.size_bytes), "InvalidRequest")
    if request.HasField("expected_checksum"):
        expected = request.expected_checksum
        known = {stored.algorithm: stored.value for stored in version.checksums}
        if known.get(expected.algorithm) != expected.value:
            raise faults.Invalid("checksum", expected.algorithm, "BadDigest")


async def _drop_unlisted(
    transaction: Transaction,
    upload_id: bytes,
    listed_count: int,
    runs: Sequence[records_pb2.PartRun],
) -> None:
    prefix = keys.parts(upload_id)
    rows = await transaction.scan(prefix, keys.after(prefix), listed_count + 1)
    if len(rows) > listed_count:
        garbage.add_garbage(transaction, upload_id=upload_id, keep=runs)


def _store_runs(transaction: Transaction, version: Version) -> None:
    """Move the runs of a very irregular upload out of the version's record."""
    parts = version.parts
    if parts.ByteSize() <= RUNS_BYTES_MAX:
        return
    runs = list(parts.runs)
    for chunk, begin in enumerate(range(0, len(runs), RUNS_PER_ROW)):
        row = records_pb2.PartsRef(runs=runs[begin : begin + RUNS_PER_ROW])
        transaction.put(keys.part_runs(parts.upload_id, chunk), row.SerializeToString())
    del parts.runs[:]
    parts.runs_elsewhere = True
