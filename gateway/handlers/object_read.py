"""GetObject, HeadObject, GetObjectAttributes, GetObjectAcl."""

from typing import Any, Protocol

from common import faults
from gateway.handlers.checksums import checksum_members, part_members
from gateway.handlers.context import (
    Context,
    check_part_number,
    page_size,
    shown_version_id,
    time_of,
    version_name,
)
from gateway.objects.parts import part_span, uploaded_number
from gateway.s3 import errors
from gateway.s3.conditions import ReadConditions, is_unchanged
from gateway.s3.metadata import write_metadata
from gateway.s3.model.object import (
    Checksum,
    GetObjectAttributesOutput,
    GetObjectAttributesParts,
    GetObjectAttributesRequest,
    GetObjectOutput,
    GetObjectRequest,
    HeadObjectOutput,
    HeadObjectRequest,
    ObjectPart,
)
from gateway.s3.range import ByteRange, parse_range
from proto import meta_pb2, records_pb2

SSE_S3 = "AES256"
OVERRIDES = (
    "cache_control",
    "content_disposition",
    "content_encoding",
    "content_language",
    "content_type",
    "expires",
)


class VersionCalls(Protocol):
    """The calls of the metadata client that reads make."""

    async def get_version(
        self, request: meta_pb2.GetVersion
    ) -> tuple[meta_pb2.GetVersionReply, bytes]: ...

    async def get_parts(self, request: meta_pb2.GetParts) -> meta_pb2.GetPartsReply: ...


class ObjectReader(Protocol):
    """Reading stored bytes: gateway.objects.reader."""

    async def open(self, version: records_pb2.Version, data: bytes, begin: int, end: int) -> Any:
        """Bytes, or a stream of memoryviews, of the plaintext [begin, end).

        raises   Unavailable while too few fragments can be read: nothing is answered yet
        """
        ...


class ObjectReadHandlers:
    """Reading versions."""

    def __init__(self, meta: VersionCalls, reader: ObjectReader) -> None:
        self._meta = meta
        self._reader = reader

    async def get_object(self, context: Context, request: GetObjectRequest) -> GetObjectOutput:
        version, data = await find_version(self._meta, context, request, without_data=False)
        span = _span(context, version, request)
        members = _description(context, version, request, span)
        members |= await self._part_checksum(version, request)
        begin, end = (0, version.size_bytes) if span is None else (span.begin, span.end)
        members["body"] = await self._reader.open(version, data, begin, end)
        if version.tags:
            members["tag_count"] = len(version.tags)
        return GetObjectOutput(**members)

    async def head_object(self, context: Context, request: HeadObjectRequest) -> HeadObjectOutput:
        version, _ = await find_version(self._meta, context, request, without_data=True)
        members = _description(context, version, request, _span(context, version, request))
        members |= await self._part_checksum(version, request)
        if version.tags:
            members["tag_count"] = len(version.tags)
        return HeadObjectOutput(**members)

    async def get_object_attributes(
        self, context: Context, request: GetObjectAttributesRequest
    ) -> GetObjectAttributesOutput:
        version, _ = await find_version(self._meta, context, request, without_data=True)
        wanted = set(request.object_attributes)
        output = GetObjectAttributesOutput(
            last_modified=time_of(version.last_modified_ns),
            version_id=_shown(context, version),
        )
        if "ETag" in wanted:
            output.etag = version.etag
        if "StorageClass" in wanted:
            output.storage_class = version.storage_class or "STANDARD"
        if "ObjectSize" in wanted:
            output.object_size = version.size_bytes
        if "Checksum" in wanted and version.checksums:
            output.checksum = Checksum(**checksum_members(version.checksums))
        if "ObjectParts" in wanted and version.HasField("parts"):
            output.object_parts = await self._parts(version, request)
        return output

    async def _part_checksum(self, version: records_pb2.Version, request: Any) -> dict[str, Any]:
        """The checksum of the one part that is asked for."""
        number = request.part_number
        if number is None or request.checksum_mode != "ENABLED" or not version.checksums:
            return {}
        if not version.HasField("parts"):
            return checksum_members(version.checksums)
        numbers = [uploaded_number(version.parts, number)]
        reply = await self._meta.get_parts(
            meta_pb2.GetParts(upload_id=version.parts.upload_id, numbers=numbers)
        )
        kind = checksum_members(version.checksums)["checksum_type"]
        return part_members(reply.parts[0].checksums) | {"checksum_type": kind}

    async def _parts(
        self, version: records_pb2.Version, request: GetObjectAttributesRequest
    ) -> GetObjectAttributesParts:
        limit = page_size(request.max_parts, "max-parts")
        after = request.part_number_marker or 0
        # Readers number the parts of an object 1, 2, 3 ... as uploaded numbers may have gaps.
        uploaded = [
            number
            for run in version.parts.runs
            for number in range(run.first_number, run.first_number + run.count)
        ]
        page = uploaded[after : after + limit]
        shown = GetObjectAttributesParts(
            total_parts_count=len(uploaded),
            part_number_marker=after,
            max_parts=limit,
            is_truncated=after + limit < len(uploaded),
            next_part_number_marker=after + len(page),
        )
        if page:
            reply = await self._meta.get_parts(
                meta_pb2.GetParts(upload_id=version.parts.upload_id, numbers=page)
            )
            shown.parts = [
                ObjectPart(
                    part_number=after + index + 1,
                    size=part.size_bytes,
                    **part_members(part.checksums),
                )
                for index, part in enumerate(reply.parts)
            ]
        return shown


async def find_version(
    meta: VersionCalls, context: Context, request: Any, *, without_data: bool
) -> tuple[records_pb2.Version, bytes]:
    """Read the version that a request names, and its inline data.

    raises   NoSuchKey, NoSuchVersion, NoSuchBucket, MethodNotAllowed
    """
    scope = context.bucket
    try:
        reply, data = await scope.read_with_data(
            lambda epoch: meta.get_version(
                meta_pb2.GetVersion(
                    bucket=request.bucket,
                    known_epoch=epoch,
                    key=request.key.encode(),
                    version=version_name(request.version_id),
                    without_data=without_data,
                )
            )
        )
    except faults.NotFound as missing:
        raise _missing(missing, request.key, request.version_id) from missing
    shows_version = scope.record.versioning != records_pb2.Bucket.NEVER
    version = present_version(reply, request.key, request.version_id, shows_version=shows_version)
    return version, data


def present_version(
    reply: meta_pb2.GetVersionReply,
    key: str,
    version_id: str | None,
    *,
    shows_version: bool,
    is_source: bool = False,
) -> records_pb2.Version:
    """The version that a read found; a delete marker is no object.

    raises   NoSuchKey (the current version is a marker), MethodNotAllowed (a marker by its id)
    """
    version = records_pb2.Version.FromString(reply.version)
    if not version.is_delete_marker:
        return version
    headers = {"x-amz-delete-marker": "true"}
    if shows_version:
        headers["x-amz-version-id"] = shown_version_id(version.version_id)
    if version_id is None:
        raise errors.NoSuchKey(Key=key, headers=headers)
    if is_source:
        raise errors.InvalidRequest(
            "The source of a copy request may not specifically refer to a delete marker by "
            "version id."
        )
    raise errors.MethodNotAllowed(
        Method="GET", ResourceType="DeleteMarker", headers=headers | {"allow": "DELETE"}
    )


def _missing(missing: faults.NotFound, key: str, version_id: str | None) -> errors.S3Error:
    if missing.kind == "key":
        return errors.NoSuchKey(Key=key)
    if missing.kind == "version":
        return errors.NoSuchVersion(Key=key, VersionId=version_id)
    return errors.NoSuchBucket(BucketName=missing.name)


def _shown(context: Context, version: records_pb2.Version) -> str | None:
    if context.bucket.record.versioning == records_pb2.Bucket.NEVER:
        return None
    return shown_version_id(version.version_id)


def _span(context: Context, version: records_pb2.Version, request: Any) -> ByteRange | None:
    """What bytes are asked for, conditions checked first; None for all of them.

    raises   PreconditionFailed, NotModified, InvalidRange, InvalidPartNumber, InvalidArgument
    """
    conditions = ReadConditions(
        request.if_match,
        request.if_none_match,
        request.if_modified_since,
        request.if_unmodified_since,
    )
    conditions.check(version.etag, time_of(version.last_modified_ns))
    if request.part_number is not None:
        if request.range is not None:
            raise errors.InvalidRequest("Cannot specify both Range header and partNumber query.")
        check_part_number(request.part_number)
        begin, end = part_span(version, request.part_number)
        return ByteRange(begin, end, version.size_bytes)
    if context.if_range is not None and request.range is not None:
        modified = time_of(version.last_modified_ns)
        if not is_unchanged(context.if_range, version.etag, modified):
            return None
    return parse_range(request.range, version.size_bytes)


def _description(
    context: Context, version: records_pb2.Version, request: Any, span: ByteRange | None
) -> dict[str, Any]:
    """Members that GET and HEAD answer alike."""
    members: dict[str, Any] = {
        "accept_ranges": "bytes",
        "last_modified": time_of(version.last_modified_ns),
        "content_length": version.size_bytes if span is None else span.length,
        "etag": f'"{version.etag}"',
        "content_type": version.content_type,
        "server_side_encryption": SSE_S3,
    }
    shown = _shown(context, version)
    if shown is not None:
        members["version_id"] = shown
    for pair in version.system:
        members[pair.name] = pair.value
    if version.user:
        members["metadata"] = {pair.name: write_metadata(pair.value) for pair in version.user}
    if span is not None:
        if span.length:  # a Content-Range cannot say that a part is empty
            members["content_range"] = span.content_range
    elif request.checksum_mode == "ENABLED":
        members |= checksum_members(version.checksums)
    if request.part_number is not None and version.HasField("parts"):
        members["parts_count"] = version.parts.count
    for name in OVERRIDES:
        override = getattr(request, f"response_{name}")
        if override is not None:
            members[name] = override
    return members
