"""Multipart uploads: create, parts, list, complete, abort."""

from dataclasses import replace
from typing import Any, Protocol

from common import fault_points, faults, limits
from gateway.handlers.checksums import COMPOSITE, FULL_OBJECT, checksum_members, part_members
from gateway.handlers.context import (
    Context,
    check_part_number,
    owner_of,
    page_size,
    shown_version_id,
    time_of,
)
from gateway.handlers.draft import (
    CHECKSUM_ALGORITHMS,
    DEFAULT_CHECKSUM,
    checksum_record,
    draft_version,
    header_of,
    object_url,
)
from gateway.handlers.listing import encoder
from gateway.handlers.multipart_list import listed_parts, object_checksum
from gateway.handlers.object_write import (
    ObjectWriter,
    commit_or_discard,
    store_payload,
    write_conditions,
)
from gateway.handlers.source import Sources
from gateway.objects.stored import Identity, Stored, Writers
from gateway.s3 import errors
from gateway.s3.model.listing import (
    CommonPrefix,
    Initiator,
    ListMultipartUploadsOutput,
    ListMultipartUploadsRequest,
    ListPartsOutput,
    ListPartsRequest,
    MultipartUpload,
    Part,
)
from gateway.s3.model.multipart import (
    AbortMultipartUploadOutput,
    AbortMultipartUploadRequest,
    CompleteMultipartUploadOutput,
    CompleteMultipartUploadRequest,
    CopyPartResult,
    CreateMultipartUploadOutput,
    CreateMultipartUploadRequest,
    UploadPartCopyOutput,
    UploadPartCopyRequest,
    UploadPartOutput,
    UploadPartRequest,
)
from gateway.s3.range import parse_copy_source_range
from proto import meta_pb2, records_pb2

SSE_S3 = "AES256"
# What S3 makes of an upload's checksum where the client does not say.
DEFAULT_COMPOSITE = frozenset({"CRC32", "CRC32C", "SHA1", "SHA256"})
ONLY_COMPOSITE = frozenset({"SHA1", "SHA256"})
ONLY_FULL_OBJECT = frozenset({"CRC64NVME"})


class MultipartCalls(Protocol):
    """The calls of the metadata client that multipart uploads make."""

    async def create_upload(self, request: meta_pb2.CreateUpload) -> meta_pb2.UploadReply: ...
    async def get_upload(self, request: meta_pb2.GetUpload) -> meta_pb2.UploadReply: ...
    async def commit_part(self, request: meta_pb2.CommitPart) -> meta_pb2.CommitReply: ...
    async def list_parts(self, request: meta_pb2.ListParts) -> meta_pb2.ListPartsReply: ...
    async def list_uploads(self, request: meta_pb2.ListUploads) -> meta_pb2.ListUploadsReply: ...
    async def complete_upload(self, request: meta_pb2.CompleteUpload) -> meta_pb2.CompleteReply: ...
    async def abort_upload(self, request: meta_pb2.AbortUpload) -> meta_pb2.CommitReply: ...


class MultipartHandlers:
    """The upload resource."""

    def __init__(
        self, meta: MultipartCalls, writer: ObjectWriter, writers: Writers, sources: Sources
    ) -> None:
        self._meta = meta
        self._writer = writer
        self._writers = writers
        self._sources = sources

    async def create_multipart_upload(
        self, context: Context, request: CreateMultipartUploadRequest
    ) -> CreateMultipartUploadOutput:
        algorithm, is_composite = _checksum_choice(request)
        upload = records_pb2.Upload(
            key=request.key.encode(),
            owner_id=context.bucket.record.owner_id,
            initiator=context.caller.canonical_id,
            draft=draft_version(context, request),
            checksum_algorithm=algorithm,
            checksum_composite=is_composite,
        )
        message = meta_pb2.CreateUpload(bucket=request.bucket, upload=upload)
        reply = await self._commit(context, message, self._meta.create_upload)
        output = CreateMultipartUploadOutput(
            bucket=request.bucket,
            key=request.key,
            upload_id=reply.upload.upload_id.hex(),
            server_side_encryption=SSE_S3,
        )
        if request.checksum_algorithm is not None:
            output.checksum_algorithm = algorithm
            output.checksum_type = COMPOSITE if is_composite else FULL_OBJECT
        return output

    async def upload_part(self, context: Context, request: UploadPartRequest) -> UploadPartOutput:
        payload = context.payload
        assert payload is not None
        identity = _identity(request)
        upload = await self._upload(context, request, identity.upload_id)
        identity = replace(identity, about=header_of(context, upload.draft))
        algorithm = upload.checksum_algorithm or request.checksum_algorithm
        _check_part_algorithm(upload.checksum_algorithm, payload.checksum_algorithm)
        stored, checksum = await store_payload(self._writer, payload, identity, algorithm)
        part = _part(request.part_number, stored, checksum)
        if algorithm and algorithm != checksum.algorithm:  # the whole object's is made of this one
            part.checksums.append(checksum_record(algorithm, stored.digests[algorithm]))
        await self._commit_part(context, request, part, stored)
        return UploadPartOutput(
            etag=f'"{stored.etag}"',
            server_side_encryption=SSE_S3,
            **part_members([checksum]),
        )

    async def upload_part_copy(
        self, context: Context, request: UploadPartCopyRequest
    ) -> UploadPartCopyOutput:
        identity = _identity(request)
        upload = await self._upload(context, request, identity.upload_id)
        identity = replace(identity, about=header_of(context, upload.draft))
        source = await self._sources.open(context, request)
        begin, end = 0, source.version.size_bytes
        if request.copy_source_range is not None:
            span = parse_copy_source_range(request.copy_source_range, end)
            begin, end = span.begin, span.end
        if end - begin > limits.PUT_BYTES_MAX:
            raise errors.EntityTooLarge(
                ProposedSize=end - begin, MaxSizeAllowed=limits.PUT_BYTES_MAX
            )
        algorithm = upload.checksum_algorithm
        async with source.bytes(begin, end) as content:
            stored = await self._writer.write(
                content, end - begin, frozenset({"MD5", algorithm}), identity
            )
        checksum = checksum_record(algorithm, stored.digests[algorithm])
        part = _part(request.part_number, stored, checksum)
        reply = await self._commit_part(context, request, part, stored)
        return UploadPartCopyOutput(
            copy_source_version_id=source.shown_version_id,
            copy_part_result=CopyPartResult(
                etag=f'"{stored.etag}"',
                last_modified=time_of(reply.last_modified_ns),
                **part_members([checksum]),
            ),
            server_side_encryption=SSE_S3,
        )

    async def complete_multipart_upload(
        self, context: Context, request: CompleteMultipartUploadRequest
    ) -> CompleteMultipartUploadOutput:
        message = meta_pb2.CompleteUpload(
            bucket=request.bucket,
            key=request.key.encode(),
            upload_id=upload_id_of(request.upload_id),
            parts=listed_parts(request),
            conditions=write_conditions(request.if_match, request.if_none_match),
            expected_checksum=object_checksum(request),
            has_expected_size=request.mpu_object_size is not None,
            expected_size_bytes=request.mpu_object_size or 0,
            expected_type=request.checksum_type or "",
        )
        try:
            reply = await self._commit(context, message, self._meta.complete_upload)
            fault_points.reach("complete.after_commit")
        except faults.Invalid as refused:
            raise _completion_error(refused, request.upload_id) from refused
        commit, version = reply.commit, reply.version
        return CompleteMultipartUploadOutput(
            location=object_url(context, request.bucket, request.key),
            bucket=request.bucket,
            key=request.key,
            etag=f'"{version.etag}"',
            server_side_encryption=SSE_S3,
            version_id=shown_version_id(commit.version_id) if commit.version_id else None,
            **checksum_members(version.checksums),
        )

    async def abort_multipart_upload(
        self, context: Context, request: AbortMultipartUploadRequest
    ) -> AbortMultipartUploadOutput:
        if request.if_match_initiated_time is not None:
            raise errors.NotImplemented("Aborting conditional on the initiated time.")
        message = meta_pb2.AbortUpload(
            bucket=request.bucket,
            key=request.key.encode(),
            upload_id=upload_id_of(request.upload_id),
        )
        await self._commit(context, message, self._meta.abort_upload)
        return AbortMultipartUploadOutput()

    async def list_parts(self, context: Context, request: ListPartsRequest) -> ListPartsOutput:
        limit = page_size(request.max_parts, "max-parts")
        after = request.part_number_marker or 0
        page = await context.bucket.read(
            lambda epoch: self._meta.list_parts(
                meta_pb2.ListParts(
                    bucket=request.bucket,
                    key=request.key.encode(),
                    upload_id=upload_id_of(request.upload_id),
                    after_number=after,
                    limit=limit,
                    known_epoch=epoch,
                )
            )
        )
        upload = page.upload
        return ListPartsOutput(
            bucket=request.bucket,
            key=request.key,
            upload_id=request.upload_id,
            part_number_marker=after,
            next_part_number_marker=page.parts[-1].number if page.parts else after,
            max_parts=limit,
            is_truncated=page.truncated,
            parts=[
                Part(
                    part_number=part.number,
                    last_modified=time_of(part.last_modified_ns),
                    etag=f'"{part.etag}"',
                    size=part.size_bytes,
                    **part_members(part.checksums),
                )
                for part in page.parts
            ],
            initiator=Initiator(id=upload.initiator, display_name=context.caller.display_name),
            owner=owner_of(upload.owner_id),
            storage_class="STANDARD",
            checksum_algorithm=upload.checksum_algorithm or None,
            checksum_type=COMPOSITE if upload.checksum_composite else FULL_OBJECT,
        )

    async def list_multipart_uploads(
        self, context: Context, request: ListMultipartUploadsRequest
    ) -> ListMultipartUploadsOutput:
        limit = page_size(request.max_uploads, "max-uploads")
        marker = request.upload_id_marker if request.key_marker else None
        page = await context.bucket.read(
            lambda epoch: self._meta.list_uploads(
                meta_pb2.ListUploads(
                    bucket=request.bucket,
                    known_epoch=epoch,
                    prefix=(request.prefix or "").encode(),
                    delimiter=(request.delimiter or "").encode(),
                    key_marker=(request.key_marker or "").encode(),
                    upload_id_marker=upload_id_of(marker) if marker else b"",
                    limit=limit,
                )
            )
        )
        text = encoder(request.encoding_type)
        output = ListMultipartUploadsOutput(
            bucket=request.bucket,
            key_marker=text(request.key_marker or ""),
            upload_id_marker=request.upload_id_marker or "",
            prefix=text(request.prefix or ""),
            delimiter=text(request.delimiter) if request.delimiter else None,
            max_uploads=limit,
            is_truncated=page.truncated,
            uploads=[_shown_upload(upload, text) for upload in page.uploads],
            common_prefixes=[
                CommonPrefix(prefix=text(prefix.decode())) for prefix in page.common_prefixes
            ],
            encoding_type=request.encoding_type,
        )
        if page.truncated:
            output.next_key_marker = text(page.next_key.decode())
            output.next_upload_id_marker = page.next_upload_id.hex()
        return output

    async def _upload(self, context: Context, request: Any, upload_id: bytes) -> records_pb2.Upload:
        reply = await context.bucket.read(
            lambda epoch: self._meta.get_upload(
                meta_pb2.GetUpload(
                    bucket=request.bucket,
                    known_epoch=epoch,
                    key=request.key.encode(),
                    upload_id=upload_id,
                )
            )
        )
        return reply.upload

    async def _commit_part(
        self, context: Context, request: Any, part: records_pb2.Part, stored: Stored
    ) -> meta_pb2.CommitReply:
        message = meta_pb2.CommitPart(
            bucket=request.bucket,
            key=request.key.encode(),
            upload_id=upload_id_of(request.upload_id),
            part=part,
        )

        async def commit(epoch: int) -> meta_pb2.CommitReply:
            message.known_epoch = epoch
            message.writer.CopyFrom(self._writers.writer(stored.session_id))
            return await self._meta.commit_part(message)

        reply: meta_pb2.CommitReply = await commit_or_discard(context, commit, self._writer, stored)
        return reply

    async def _commit(self, context: Context, message: Any, call: Any) -> Any:
        async def commit(epoch: int) -> Any:
            message.known_epoch = epoch
            message.writer.CopyFrom(self._writers.writer())
            return await call(message)

        return await context.bucket.write(commit)


def upload_id_of(shown: str) -> bytes:
    """A stored upload id. raises NoSuchUpload for what was never one"""
    try:
        upload_id = bytes.fromhex(shown)
    except ValueError:
        upload_id = b""
    if len(upload_id) != 16:
        raise errors.NoSuchUpload(UploadId=shown)
    return upload_id


def _identity(request: Any) -> Identity:
    check_part_number(request.part_number)
    return Identity(
        request.bucket,
        request.key.encode(),
        upload_id_of(request.upload_id),
        request.part_number,
    )


def _check_part_algorithm(of_upload: str, of_part: str | None) -> None:
    """An upload whose client chose an algorithm takes no parts with another.

    raises   InvalidRequest
    """
    if of_part is not None and of_upload not in ("", DEFAULT_CHECKSUM, of_part):
        raise errors.InvalidRequest(
            f"Checksum Type mismatch occurred, expected checksum Type: {of_upload.lower()}, "
            f"actual checksum Type: {of_part.lower()}"
        )


def _part(number: int, stored: Stored, checksum: records_pb2.Checksum) -> records_pb2.Part:
    return records_pb2.Part(
        number=number,
        etag=stored.etag,
        md5=stored.etag,
        size_bytes=stored.size_bytes,
        checksums=[checksum],
        encryption=stored.encryption,
        blobs=stored.blobs,
        inline_data=stored.inline,
    )


def _checksum_choice(request: CreateMultipartUploadRequest) -> tuple[str, bool]:
    """The upload's checksum algorithm, and whether the whole has a digest of digests."""
    algorithm = request.checksum_algorithm
    if algorithm is None:
        if request.checksum_type is not None:
            raise errors.InvalidRequest(
                "The x-amz-checksum-type header can only be used with the "
                "x-amz-checksum-algorithm header."
            )
        return DEFAULT_CHECKSUM, False
    if algorithm not in CHECKSUM_ALGORITHMS:
        raise errors.NotImplemented(f"Checksum algorithm {algorithm}.")
    kind = request.checksum_type
    if kind is None:
        return algorithm, algorithm in DEFAULT_COMPOSITE
    allowed = (
        (algorithm not in ONLY_FULL_OBJECT)
        if kind == COMPOSITE
        else (algorithm not in ONLY_COMPOSITE)
    )
    if not allowed:
        raise errors.InvalidRequest(
            f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm."
        )
    return algorithm, kind == COMPOSITE


def _completion_error(refused: faults.Invalid, upload_id: str) -> errors.S3Error:
    if refused.reason == "InvalidPart":
        return errors.InvalidPart(UploadId=upload_id, PartNumber=refused.value)
    if refused.reason == "EntityTooSmall":
        return errors.EntityTooSmall(MinSizeAllowed=limits.PART_BYTES_MIN, PartNumber=refused.value)
    if refused.field == "size":
        return errors.InvalidRequest(
            "The provided 'x-amz-mp-object-size' header does not match what was computed."
        )
    if refused.field == "checksum_type":
        return errors.InvalidRequest(
            f"The upload was created using the {refused.value} checksum mode. The complete request "
            "must use the same checksum mode."
        )
    if refused.field == "part_checksum":
        algorithm, _, number = refused.value.partition(":")
        return errors.InvalidRequest(
            f"The upload was created using a {algorithm.lower()} checksum. The complete request "
            f"must include the checksum for each part. It was missing for part {number} in the "
            "request."
        )
    kind = errors.CODES.get(refused.reason, errors.InvalidRequest)
    return kind()


def _shown_upload(upload: records_pb2.Upload, text: Any) -> MultipartUpload:
    return MultipartUpload(
        upload_id=upload.upload_id.hex(),
        key=text(upload.key.decode()),
        initiated=time_of(upload.created_ns),
        storage_class="STANDARD",
        owner=owner_of(upload.owner_id),
        initiator=Initiator(id=upload.initiator),
        checksum_algorithm=upload.checksum_algorithm or None,
        checksum_type=COMPOSITE if upload.checksum_composite else FULL_OBJECT,
    )
