"""PutObject and CopyObject."""

from typing import Any, Protocol

from common import fault_points, faults, limits
from gateway.handlers.checksums import checksum_members
from gateway.handlers.context import Context, Payload, shown_version_id, time_of
from gateway.handlers.draft import (
    CHECKSUM_ALGORITHMS,
    DEFAULT_CHECKSUM,
    checksum_record,
    draft_version,
    header_of,
    set_metadata,
    tag_pairs,
)
from gateway.handlers.source import CopySource, Sources
from gateway.objects.stored import ByteSource, Identity, Stored, Writers
from gateway.s3 import errors
from gateway.s3.conditions import parse_write_conditions
from gateway.s3.model.object import (
    CopyObjectOutput,
    CopyObjectRequest,
    CopyObjectResult,
    PutObjectOutput,
    PutObjectRequest,
)
from proto import meta_pb2, records_pb2

SSE_S3 = "AES256"


class ObjectWriter(Protocol):
    """Storing bytes: gateway.objects.writer."""

    async def write(
        self, source: ByteSource, size: int | None, algorithms: frozenset[str], identity: Identity
    ) -> Stored: ...

    async def discard(self, stored: Stored) -> None: ...

    def release(self, stored: Stored) -> None: ...


class CommitCalls(Protocol):
    """The call of the metadata client that makes versions."""

    async def commit_version(
        self, request: meta_pb2.CommitVersion, data: bytes
    ) -> meta_pb2.CommitReply: ...


class ObjectWriteHandlers:
    """Making versions in one piece."""

    def __init__(
        self, meta: CommitCalls, writer: ObjectWriter, writers: Writers, sources: Sources
    ) -> None:
        self._meta = meta
        self.writer = writer
        self._writers = writers
        self._sources = sources

    async def put_object(self, context: Context, request: PutObjectRequest) -> PutObjectOutput:
        payload = context.payload
        assert payload is not None
        check_size(payload.size)
        version = draft_version(context, request)
        conditions = write_conditions(request.if_match, request.if_none_match)
        is_inline = payload.size is not None and payload.size <= limits.INLINE_BYTES_MAX
        about = b"" if is_inline else header_of(context, version)  # it is for fragments only
        identity = Identity(request.bucket, request.key.encode(), about=about)
        stored, checksum = await store_payload(
            self.writer, payload, identity, request.checksum_algorithm
        )
        version.checksums.append(checksum)
        reply = await self.commit(context, request.key, version, stored, conditions)
        return PutObjectOutput(
            etag=f'"{stored.etag}"',
            server_side_encryption=SSE_S3,
            version_id=shown_version_id(reply.version_id) if reply.version_id else None,
            **checksum_members([checksum]),
        )

    async def copy_object(self, context: Context, request: CopyObjectRequest) -> CopyObjectOutput:
        source = await self._sources.open(context, request)
        _check_copy_onto_itself(request, source)
        if source.version.size_bytes > limits.PUT_BYTES_MAX:
            raise errors.InvalidRequest(
                "The specified copy source is larger than the maximum allowable size for a copy "
                f"source: {limits.PUT_BYTES_MAX}"
            )
        version = _copied_version(context, request, source)
        conditions = write_conditions(request.if_match, request.if_none_match)
        algorithm = request.checksum_algorithm or _source_algorithm(source)
        identity = Identity(request.bucket, request.key.encode(), about=header_of(context, version))
        size = source.version.size_bytes
        async with source.bytes(0, size) as content:
            stored = await self.writer.write(content, size, frozenset({"MD5", algorithm}), identity)
        checksum = checksum_record(algorithm, stored.digests[algorithm])
        version.checksums.append(checksum)
        reply = await self.commit(context, request.key, version, stored, conditions)
        return CopyObjectOutput(
            copy_object_result=CopyObjectResult(
                etag=f'"{stored.etag}"',
                last_modified=time_of(reply.last_modified_ns),
                **checksum_members([checksum]),
            ),
            copy_source_version_id=source.shown_version_id,
            version_id=shown_version_id(reply.version_id) if reply.shows_version else None,
            server_side_encryption=SSE_S3,
        )

    async def commit(
        self,
        context: Context,
        key: str,
        version: records_pb2.Version,
        stored: Stored,
        conditions: meta_pb2.Conditions | None,
    ) -> meta_pb2.CommitReply:
        """Make what was stored the newest version of a key; gives it up if that fails."""
        stored.fill(version)
        request = meta_pb2.CommitVersion(
            bucket=context.bucket.record.name,
            key=key.encode(),
            version=version,
            conditions=conditions,
        )

        async def commit(epoch: int) -> meta_pb2.CommitReply:
            request.known_epoch = epoch
            request.writer.CopyFrom(self._writers.writer(stored.session_id))
            return await self._meta.commit_version(request, stored.inline)

        reply: meta_pb2.CommitReply = await commit_or_discard(context, commit, self.writer, stored)
        return reply


async def commit_or_discard(
    context: Context, commit: Any, writer: ObjectWriter, stored: Stored
) -> Any:
    """Commit what was stored; a commit that certainly did not happen gives the space back.

    After Unavailable the outcome is unknown: then only the collector, which asks first, deletes.
    """
    try:
        fault_points.reach("put.before_commit")
        reply = await context.bucket.write(commit)
        fault_points.reach("put.after_commit")
    except faults.Unavailable:
        writer.release(stored)
        raise
    except (faults.Fault, errors.S3Error):
        await writer.discard(stored)
        raise
    writer.release(stored)
    return reply


async def store_payload(
    writer: ObjectWriter, payload: Payload, identity: Identity, algorithm: str | None
) -> tuple[Stored, records_pb2.Checksum]:
    """Store a request body and check it against everything the client said about it.

    algorithm  the checksum to keep if the client sent no value; default CRC64NVME
    raises     S3Error if a digest or length is not what was declared; nothing is kept then
    """
    if algorithm is not None and algorithm not in CHECKSUM_ALGORITHMS:
        raise errors.NotImplemented(f"Checksum algorithm {algorithm}.")
    kept = payload.checksum_algorithm or algorithm or DEFAULT_CHECKSUM
    wanted = payload.algorithms | {kept, algorithm or kept, "MD5"}
    check_size(payload.size)
    stored = await writer.write(payload, payload.size, wanted, identity)
    try:
        payload.verify(stored.digests)
    except errors.S3Error:
        await writer.discard(stored)
        raise
    return stored, checksum_record(kept, stored.digests[kept])


def check_size(size: int | None) -> None:
    """Refuse bodies over the limit of one request, unread; those without a length are counted."""
    if size is not None and size > limits.PUT_BYTES_MAX:
        raise errors.EntityTooLarge(ProposedSize=size, MaxSizeAllowed=limits.PUT_BYTES_MAX)


def write_conditions(if_match: str | None, if_none_match: str | None) -> meta_pb2.Conditions | None:
    """The conditions of a write as the commit decides them; None if there are none."""
    if if_match is None and if_none_match is None:
        return None
    parsed = parse_write_conditions(if_match, if_none_match)
    return meta_pb2.Conditions(
        if_match=[parsed.if_match] if parsed.if_match is not None else (),
        if_none_match=["*"] if parsed.is_new else (),
    )


def _check_copy_onto_itself(request: CopyObjectRequest, source: CopySource) -> None:
    onto_itself = (
        source.bucket == request.bucket
        and source.key == request.key
        and source.is_current
        and request.metadata_directive != "REPLACE"
        and request.storage_class is None
        and request.server_side_encryption is None
        and request.website_redirect_location is None
        and request.checksum_algorithm is None
    )
    if onto_itself:
        raise errors.InvalidRequest(
            "This copy request is illegal because it is trying to copy an object to itself "
            "without changing the object's metadata, storage class, website redirect location "
            "or encryption attributes."
        )


def _copied_version(
    context: Context, request: CopyObjectRequest, source: CopySource
) -> records_pb2.Version:
    version = draft_version(context, request)
    if request.metadata_directive != "REPLACE":
        version.content_type = source.version.content_type
        del version.system[:], version.user[:]
        version.system.extend(source.version.system)
        version.user.extend(source.version.user)
    else:
        set_metadata(version, request)
    del version.tags[:]
    if request.tagging_directive == "REPLACE":
        version.tags.extend(tag_pairs(request.tagging))
    else:
        version.tags.extend(source.version.tags)
    return version


def _source_algorithm(source: CopySource) -> str:
    checksums = source.version.checksums
    if checksums and not checksums[0].composite:
        return checksums[0].algorithm
    return DEFAULT_CHECKSUM
