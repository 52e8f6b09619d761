"""DeleteObject and DeleteObjects."""

from typing import Protocol

from common import faults, limits
from gateway.handlers.context import Context, shown_version_id, version_name
from gateway.objects.stored import Writers
from gateway.s3 import address, errors
from gateway.s3.conditions import parse_write_conditions
from gateway.s3.faults import from_fault
from gateway.s3.model.object import (
    DeletedObject,
    DeleteObjectOutput,
    DeleteObjectRequest,
    DeleteObjectsOutput,
    DeleteObjectsRequest,
    Error,
    ObjectIdentifier,
)
from proto import meta_pb2


class DeleteCalls(Protocol):
    """The calls of the metadata client that deletes make."""

    async def delete_version(self, request: meta_pb2.DeleteVersion) -> meta_pb2.CommitReply: ...

    async def delete_versions(
        self, request: meta_pb2.DeleteVersions
    ) -> meta_pb2.DeleteVersionsReply: ...


class DeleteHandlers:
    """Deleting versions, or hiding keys behind delete markers."""

    def __init__(self, meta: DeleteCalls, writers: Writers) -> None:
        self._meta = meta
        self._writers = writers

    async def delete_object(
        self, context: Context, request: DeleteObjectRequest
    ) -> DeleteObjectOutput:
        delete = self._delete(context, request.key, request.version_id)
        if request.if_match is not None:
            parsed = parse_write_conditions(request.if_match, None)
            delete.conditions.if_match.append(parsed.if_match or "*")

        async def commit(epoch: int) -> meta_pb2.CommitReply:
            delete.known_epoch = epoch
            delete.writer.CopyFrom(self._writers.writer())
            return await self._meta.delete_version(delete)

        reply = await context.bucket.write(commit)
        return DeleteObjectOutput(
            delete_marker=True if reply.is_delete_marker else None,
            version_id=shown_version_id(reply.version_id) if _shows(reply) else None,
        )

    async def delete_objects(
        self, context: Context, request: DeleteObjectsRequest
    ) -> DeleteObjectsOutput:
        named = request.delete.objects or []
        if not 1 <= len(named) <= limits.DELETE_KEYS_MAX:
            raise errors.MalformedXML()
        deleted: list[DeletedObject] = []
        failed: list[Error] = []
        deletes: list[tuple[ObjectIdentifier, meta_pb2.DeleteVersion]] = []
        for identifier in named:
            try:
                deletes.append((identifier, self._delete_one(context, identifier)))
            except errors.S3Error as error:
                failed.append(_failure(identifier, error))
        results = await self._commit_all(context, [delete for _, delete in deletes])
        for (identifier, _), result in zip(deletes, results, strict=True):
            if result.fault:
                failed.append(_failure(identifier, _error_of(result)))
            elif not request.delete.quiet:
                deleted.append(_success(identifier, result.reply))
        return DeleteObjectsOutput(deleted=deleted, errors=failed)

    def _delete_one(self, context: Context, identifier: ObjectIdentifier) -> meta_pb2.DeleteVersion:
        if not identifier.key:
            raise errors.UserKeyMustBeSpecified()
        address.check_key(identifier.key)
        delete = self._delete(context, identifier.key, identifier.version_id or None)
        if identifier.etag is not None:
            delete.conditions.if_match.append(identifier.etag.strip('"'))
        if identifier.last_modified_time is not None or identifier.size is not None:
            raise errors.NotImplemented("Deletes conditional on time or size.")
        return delete

    async def _commit_all(
        self, context: Context, deletes: list[meta_pb2.DeleteVersion]
    ) -> list[meta_pb2.DeleteResult]:
        """Send the deletes; those that met an old bucket epoch are sent again after a check."""
        if not deletes:
            return []
        results: dict[int, meta_pb2.DeleteResult] = {}

        async def commit(epoch: int) -> None:
            waiting = [index for index in range(len(deletes)) if index not in results]
            for index in waiting:
                deletes[index].known_epoch = epoch
                deletes[index].writer.CopyFrom(self._writers.writer())
            reply = await self._meta.delete_versions(
                meta_pb2.DeleteVersions(deletes=[deletes[index] for index in waiting])
            )
            answered = zip(waiting, reply.results, strict=True)
            results.update((index, one) for index, one in answered if not _is_stale(one))
            if len(results) < len(deletes):
                raise faults.Conflict("bucket_epoch")

        await context.bucket.write(commit)
        return [results[index] for index in range(len(deletes))]

    def _delete(self, context: Context, key: str, version_id: str | None) -> meta_pb2.DeleteVersion:
        return meta_pb2.DeleteVersion(
            bucket=context.bucket.record.name,
            key=key.encode(),
            version=version_name(version_id),
            has_version=version_id is not None,
            owner_id=context.bucket.record.owner_id,
        )


def _shows(reply: meta_pb2.CommitReply) -> bool:
    return reply.shows_version and (
        bool(reply.version_id) or reply.is_delete_marker or reply.existed
    )


def _is_stale(result: meta_pb2.DeleteResult) -> bool:
    return result.fault == "Conflict" and _fields(result).get("kind") == "bucket_epoch"


def _fields(result: meta_pb2.DeleteResult) -> dict[str, str]:
    return {field.name: field.value for field in result.fault_fields}


def _error_of(result: meta_pb2.DeleteResult) -> errors.S3Error:
    kind = getattr(faults, result.fault, faults.Internal)
    return from_fault(kind(**_fields(result)))


def _failure(identifier: ObjectIdentifier, error: errors.S3Error) -> Error:
    return Error(
        key=identifier.key,
        version_id=identifier.version_id,
        code=error.code,
        message=error.message,
    )


def _success(identifier: ObjectIdentifier, reply: meta_pb2.CommitReply) -> DeletedObject:
    deleted = DeletedObject(key=identifier.key, version_id=identifier.version_id)
    if reply.is_delete_marker:
        deleted.delete_marker = True
        deleted.delete_marker_version_id = shown_version_id(reply.version_id)
    return deleted
