"""Tags of versions."""

from collections.abc import Iterable
from typing import Any, Protocol

from common import limits
from gateway.handlers.context import Context, shown_version_id, version_name
from gateway.handlers.object_read import VersionCalls, present_version
from gateway.objects.stored import Writers
from gateway.s3 import tagging
from gateway.s3.model.bucket import Tag
from gateway.s3.model.object import (
    DeleteObjectTaggingOutput,
    DeleteObjectTaggingRequest,
    GetObjectTaggingOutput,
    GetObjectTaggingRequest,
    PutObjectTaggingOutput,
    PutObjectTaggingRequest,
)
from proto import meta_pb2, records_pb2


class TagCalls(VersionCalls, Protocol):
    """The calls of the metadata client that tagging makes."""

    async def set_tags(self, request: meta_pb2.SetTags) -> meta_pb2.CommitReply: ...


class ObjectTaggingHandlers:
    """Reading and replacing the tag set of one version."""

    def __init__(self, meta: TagCalls, writers: Writers) -> None:
        self._meta = meta
        self._writers = writers

    async def get_object_tagging(
        self, context: Context, request: GetObjectTaggingRequest
    ) -> GetObjectTaggingOutput:
        reply, _ = await context.bucket.read_with_data(
            lambda epoch: self._meta.get_version(
                meta_pb2.GetVersion(
                    bucket=request.bucket,
                    known_epoch=epoch,
                    key=request.key.encode(),
                    version=version_name(request.version_id),
                    without_data=True,
                )
            )
        )
        shows_version = context.bucket.record.versioning != records_pb2.Bucket.NEVER
        version = present_version(
            reply, request.key, request.version_id, shows_version=shows_version
        )
        return GetObjectTaggingOutput(
            version_id=shown_version_id(version.version_id) if shows_version else None,
            tag_set=[Tag(key=tag.name, value=tag.value) for tag in _sorted(version.tags)],
        )

    async def put_object_tagging(
        self, context: Context, request: PutObjectTaggingRequest
    ) -> PutObjectTaggingOutput:
        tags = tagging.tags_of(request.tagging.tag_set or [], limits.OBJECT_TAGS_MAX)
        reply = await self._set(context, request, tags)
        return PutObjectTaggingOutput(version_id=_shown(reply))

    async def delete_object_tagging(
        self, context: Context, request: DeleteObjectTaggingRequest
    ) -> DeleteObjectTaggingOutput:
        reply = await self._set(context, request, {})
        return DeleteObjectTaggingOutput(version_id=_shown(reply))

    async def _set(
        self, context: Context, request: Any, tags: dict[str, str]
    ) -> meta_pb2.CommitReply:
        message = meta_pb2.SetTags(
            bucket=request.bucket,
            key=request.key.encode(),
            version=version_name(request.version_id),
            tags=[records_pb2.Pair(name=key, value=value) for key, value in tags.items()],
        )

        async def commit(epoch: int) -> meta_pb2.CommitReply:
            message.known_epoch = epoch
            message.writer.CopyFrom(self._writers.writer())
            return await self._meta.set_tags(message)

        return await context.bucket.write(commit)


def _sorted(tags: Iterable[records_pb2.Pair]) -> list[records_pb2.Pair]:
    """A tag set has no order of its own; one that is always the same is easier to read."""
    return sorted(tags, key=lambda tag: tag.name)


def _shown(reply: meta_pb2.CommitReply) -> str | None:
    return shown_version_id(reply.version_id) if reply.shows_version else None
