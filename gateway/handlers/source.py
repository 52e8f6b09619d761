"""The source of CopyObject and UploadPartCopy: found, allowed, its conditions checked."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.handlers.context import Context, shown_version_id, time_of, version_name
from gateway.handlers.object_read import VersionCalls, present_version
from gateway.objects.stored import ByteSource
from gateway.s3.conditions import ReadConditions
from gateway.s3.copy_source import parse_copy_source
from proto import meta_pb2, records_pb2


class SourceRequest(Protocol):
    """The members that both copy requests share."""

    copy_source: str
    copy_source_if_match: str | None
    copy_source_if_modified_since: datetime | None
    copy_source_if_none_match: str | None
    copy_source_if_unmodified_since: datetime | None
    expected_source_bucket_owner: str | None


class SourceReader(Protocol):
    """Reading stored bytes for the writer: gateway.objects.reader."""

    def source(
        self, version: records_pb2.Version, data: bytes, begin: int, end: int
    ) -> AbstractAsyncContextManager[ByteSource]: ...


@dataclass(slots=True)
class CopySource:
    """A version that is to be copied."""

    bucket: str
    key: str
    version: records_pb2.Version
    is_current: bool
    shown_version_id: str | None
    bytes: Callable[[int, int], AbstractAsyncContextManager[ByteSource]]


class Sources:
    """Opens copy sources."""

    def __init__(self, meta: VersionCalls, reader: SourceReader) -> None:
        self._meta = meta
        self._reader = reader

    async def open(self, context: Context, request: SourceRequest) -> CopySource:
        """Find the source and check that it may be read as the request says.

        raises   S3Error: NoSuchKey, AccessDenied, PreconditionFailed, InvalidArgument ...
        """
        named = parse_copy_source(request.copy_source)
        scope = await context.open_source(named.bucket, request.expected_source_bucket_owner)
        reply, data = await scope.read_with_data(
            lambda epoch: self._meta.get_version(
                meta_pb2.GetVersion(
                    bucket=named.bucket,
                    known_epoch=epoch,
                    key=named.key.encode(),
                    version=version_name(named.version_id),
                )
            )
        )
        shows_version = scope.record.versioning != records_pb2.Bucket.NEVER
        version = present_version(
            reply, named.key, named.version_id, shows_version=shows_version, is_source=True
        )
        ReadConditions(
            if_match=request.copy_source_if_match,
            if_none_match=request.copy_source_if_none_match,
            if_modified_since=request.copy_source_if_modified_since,
            if_unmodified_since=request.copy_source_if_unmodified_since,
        ).check_copy_source(version.etag, time_of(version.last_modified_ns))
        return CopySource(
            bucket=named.bucket,
            key=named.key,
            version=version,
            is_current=reply.is_current and named.version_id is None,
            shown_version_id=shown_version_id(version.version_id) if shows_version else None,
            bytes=lambda begin, end: self._reader.source(version, data, begin, end),
        )
