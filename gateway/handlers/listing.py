"""ListObjects, ListObjectsV2, ListObjectVersions: pages of metadata as S3 shows them."""

from collections.abc import Iterable, Sequence
from typing import Protocol
from urllib.parse import quote

from gateway.handlers.context import (
    Context,
    owner_of,
    page_size,
    shown_version_id,
    time_of,
    version_name,
)
from gateway.s3 import errors, tokens
from gateway.s3.model.listing import (
    CommonPrefix,
    DeleteMarkerEntry,
    ListObjectsOutput,
    ListObjectsRequest,
    ListObjectsV2Output,
    ListObjectsV2Request,
    ListObjectVersionsOutput,
    ListObjectVersionsRequest,
    Object,
    ObjectVersion,
)
from proto import meta_pb2, records_pb2

STANDARD = "STANDARD"


class ListingCalls(Protocol):
    """The calls of the metadata client that listings make."""

    async def list_keys(self, request: meta_pb2.ListKeys) -> meta_pb2.ListKeysReply: ...
    async def list_versions(self, request: meta_pb2.ListVersions) -> meta_pb2.ListVersionsReply: ...


class ListingHandlers:
    """Listings of one bucket."""

    def __init__(self, meta: ListingCalls) -> None:
        self._meta = meta

    async def list_objects(
        self, context: Context, request: ListObjectsRequest
    ) -> ListObjectsOutput:
        limit = page_size(request.max_keys, "max-keys")
        page = await self._page(
            context, request.prefix, request.delimiter, request.marker or "", limit
        )
        text = encoder(request.encoding_type)
        # S3 names NextMarker only beside a delimiter: otherwise the last key serves.
        next_marker = page.next_after.decode() if page.truncated and request.delimiter else None
        return ListObjectsOutput(
            is_truncated=page.truncated,
            marker=text(request.marker or ""),
            next_marker=text(next_marker) if next_marker is not None else None,
            contents=_objects(page.entries, text, owner_name=context.caller.display_name),
            name=request.bucket,
            prefix=text(request.prefix or ""),
            delimiter=text(request.delimiter) if request.delimiter else None,
            max_keys=limit,
            common_prefixes=_prefixes(page.common_prefixes, text),
            encoding_type=request.encoding_type,
        )

    async def list_objects_v2(
        self, context: Context, request: ListObjectsV2Request
    ) -> ListObjectsV2Output:
        limit = page_size(request.max_keys, "max-keys")
        start_after = request.start_after or ""
        if request.continuation_token:
            start_after = tokens.decode_token(request.continuation_token)
        page = await self._page(context, request.prefix, request.delimiter, start_after, limit)
        text = encoder(request.encoding_type)
        return ListObjectsV2Output(
            is_truncated=page.truncated,
            contents=_objects(
                page.entries,
                text,
                owner_name=context.caller.display_name if request.fetch_owner else None,
            ),
            name=request.bucket,
            prefix=text(request.prefix or ""),
            delimiter=text(request.delimiter) if request.delimiter else None,
            max_keys=limit,
            common_prefixes=_prefixes(page.common_prefixes, text),
            encoding_type=request.encoding_type,
            key_count=len(page.entries) + len(page.common_prefixes),
            continuation_token=request.continuation_token,
            next_continuation_token=tokens.encode_token(page.next_after.decode())
            if page.truncated
            else None,
            start_after=text(request.start_after) if request.start_after else None,
        )

    async def list_object_versions(
        self, context: Context, request: ListObjectVersionsRequest
    ) -> ListObjectVersionsOutput:
        limit = page_size(request.max_keys, "max-keys")
        if request.version_id_marker and not request.key_marker:
            raise errors.InvalidArgument(
                "A version-id marker cannot be specified without a key marker.",
                ArgumentName="version-id-marker",
                ArgumentValue=request.version_id_marker,
            )
        marker = request.version_id_marker or None
        page = await context.bucket.read(
            lambda epoch: self._meta.list_versions(
                meta_pb2.ListVersions(
                    bucket=request.bucket,
                    known_epoch=epoch,
                    prefix=(request.prefix or "").encode(),
                    delimiter=(request.delimiter or "").encode(),
                    key_marker=(request.key_marker or "").encode(),
                    version_marker=version_name(marker),
                    has_version_marker=marker is not None,
                    limit=limit,
                )
            )
        )
        return _versions_output(request, page, limit, context.caller.display_name)

    async def _page(
        self,
        context: Context,
        prefix: str | None,
        delimiter: str | None,
        start_after: str,
        limit: int,
    ) -> meta_pb2.ListKeysReply:
        return await context.bucket.read(
            lambda epoch: self._meta.list_keys(
                meta_pb2.ListKeys(
                    bucket=context.bucket.record.name,
                    known_epoch=epoch,
                    prefix=(prefix or "").encode(),
                    delimiter=(delimiter or "").encode(),
                    start_after=start_after.encode(),
                    limit=limit,
                )
            )
        )


class _Text(Protocol):
    def __call__(self, value: str) -> str: ...


def encoder(encoding_type: str | None) -> _Text:
    """How a listing writes keys: as they are, or percent-encoded."""
    if encoding_type == "url":
        return lambda value: quote(value, safe="/")
    return lambda value: value


def _prefixes(prefixes: Iterable[bytes], text: _Text) -> list[CommonPrefix]:
    return [CommonPrefix(prefix=text(prefix.decode())) for prefix in prefixes]


def _objects(
    entries: Iterable[meta_pb2.ListEntry], text: _Text, *, owner_name: str | None
) -> list[Object]:
    objects = []
    for entry in entries:
        head = entry.head
        shown = Object(
            key=text(entry.key.decode()),
            last_modified=time_of(head.last_modified_ns),
            etag=f'"{head.etag}"',
            size=head.size_bytes,
            storage_class=head.storage_class or STANDARD,
        )
        if head.checksum_algorithms:
            shown.checksum_algorithm = list(head.checksum_algorithms)
            shown.checksum_type = _checksum_type(composite=head.checksum_composite)
        if owner_name is not None:
            shown.owner = owner_of(head.owner_id, owner_name)
        objects.append(shown)
    return objects


def _versions_output(
    request: ListObjectVersionsRequest,
    page: meta_pb2.ListVersionsReply,
    limit: int,
    owner_name: str,
) -> ListObjectVersionsOutput:
    text = encoder(request.encoding_type)
    output = ListObjectVersionsOutput(
        is_truncated=page.truncated,
        key_marker=text(request.key_marker or ""),
        version_id_marker=request.version_id_marker or "",
        versions=[
            _version(entry, text, owner_name)
            for entry in page.entries
            if not entry.version.is_delete_marker
        ],
        delete_markers=[
            _delete_marker(entry, text, owner_name)
            for entry in page.entries
            if entry.version.is_delete_marker
        ],
        name=request.bucket,
        prefix=text(request.prefix or ""),
        delimiter=text(request.delimiter) if request.delimiter else None,
        max_keys=limit,
        common_prefixes=_prefixes(page.common_prefixes, text),
        encoding_type=request.encoding_type,
    )
    if page.truncated:
        output.next_key_marker = text(page.next_key.decode())
        if page.HasField("next_version"):
            output.next_version_id_marker = shown_version_id(page.next_version.version_id)
    return output


def _version(entry: meta_pb2.VersionEntry, text: _Text, owner_name: str) -> ObjectVersion:
    version = entry.version
    return ObjectVersion(
        etag=f'"{version.etag}"',
        checksum_algorithm=_algorithms(version.checksums) or None,
        checksum_type=_checksum_type(composite=version.checksums[0].composite)
        if version.checksums
        else None,
        size=version.size_bytes,
        storage_class=version.storage_class or STANDARD,
        key=text(entry.key.decode()),
        version_id=shown_version_id(version.version_id),
        is_latest=entry.is_latest,
        last_modified=time_of(version.last_modified_ns),
        owner=owner_of(version.owner_id, owner_name),
    )


def _delete_marker(entry: meta_pb2.VersionEntry, text: _Text, owner_name: str) -> DeleteMarkerEntry:
    return DeleteMarkerEntry(
        owner=owner_of(entry.version.owner_id, owner_name),
        key=text(entry.key.decode()),
        version_id=shown_version_id(entry.version.version_id),
        is_latest=entry.is_latest,
        last_modified=time_of(entry.version.last_modified_ns),
    )


def _algorithms(checksums: Sequence[records_pb2.Checksum]) -> list[str]:
    return [checksum.algorithm for checksum in checksums]


def _checksum_type(*, composite: bool) -> str:
    return "COMPOSITE" if composite else "FULL_OBJECT"
