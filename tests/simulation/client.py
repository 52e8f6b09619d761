"""Clients: they make the plan's requests through gateways, and write down what they saw.

A request that fails or is too late may have happened, or may happen still; one that was refused
by its condition, or answered, did what it said.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote

from common import faults
from gateway.s3 import errors
from gateway.s3.model.multipart import (
    AbortMultipartUploadRequest,
    CompletedMultipartUpload,
    CompletedPart,
    CompleteMultipartUploadRequest,
    CreateMultipartUploadRequest,
    UploadPartRequest,
)
from gateway.s3.model.object import (
    CopyObjectRequest,
    Delete,
    DeleteObjectRequest,
    DeleteObjectsRequest,
    GetObjectRequest,
    ObjectIdentifier,
    PutObjectRequest,
)
from tests.simulation.asking import AMBIGUOUS, Body, NotAsked, ask, serve
from tests.simulation.cluster import GatewayMember
from tests.simulation.history import History, Place
from tests.simulation.lister import Lister
from tests.simulation.loop import SimulatedLoop
from tests.simulation.plan import KEYS, PLAIN, VERSIONED, Action, Request
from tests.support.linearizability import UNKNOWN_END_S, Kind, Marker, Operation, Value

PART_BYTES = 20 * 1024
COMPLETIONS_MAX = 3  # of one upload, as an SDK repeats it


class Client:
    """One client: a request at a time."""

    def __init__(
        self, loop: SimulatedLoop, gateways: dict[str, GatewayMember], history: History
    ) -> None:
        self._loop, self._gateways, self._history = loop, gateways, history
        self._lister = Lister(loop, history)

    async def perform(self, request: Request) -> None:
        """Make a request and record it; an answer that no client should get is a violation."""
        place = (request.bucket, request.key)
        self._loop.log("begin", request.number, request.action.name, *place)
        name = f"#{request.number} client {request.client} {request.action.name} {request.gateway}"
        try:
            await self._record(request, place, name)
        except NotAsked:
            self._loop.log("not asked", request.number)
        except (faults.Fault, errors.S3Error) as error:
            self._history.violate("error", f"{name}: {error!r}", place)
        self._loop.log("end", request.number)

    async def _record(self, request: Request, place: Place, name: str) -> None:
        begin_s = self._loop.now_s
        if request.action in (Action.LIST, Action.LIST_ROLLED, Action.LIST_VERSIONS):
            await self._lister.walk(request, lambda *call: self._ask(request, *call))
            return
        if request.action is Action.DELETE_MANY:
            await self._delete_many(request, begin_s, name)
            return
        operation = await self._make(request, place, begin_s, name)
        if operation is not None:
            self._history.add(place, operation)
            self._loop.log("answer", request.number, operation)
            if operation.is_known:
                fate = "refused" if operation.is_refused else "answered"
                self._loop.seen[f"{request.action.name} {fate}"] += 1

    async def _make(
        self, request: Request, place: Place, begin_s: float, name: str
    ) -> Operation | None:
        action = request.action
        if action in (Action.PUT, Action.CREATE, Action.REPLACE):
            return await self._put(request, place, begin_s, name)
        if action is Action.COPY:
            return await self._copy(request, place, begin_s, name)
        if action in (
            Action.UPLOAD, Action.CREATE_BY_UPLOAD, Action.ABANDON_UPLOAD, Action.ABORT_UPLOAD,
        ):  # fmt: skip
            return await self._upload(request, place, begin_s, name)
        if action in (Action.GET, Action.GET_RANGE, Action.GET_VERSION):
            return await self._get(request, place, begin_s, name)
        assert action in (Action.DELETE, Action.ERASE)
        return await self._delete(request, place, begin_s, name)

    async def _ask(
        self, request: Request, operation: str, shape: Any, body: Body | None = None
    ) -> tuple[Any, bytes]:
        gateway = self._gateways[request.gateway]
        answer: tuple[Any, bytes] = await ask(
            self._loop, gateway, lambda: serve(gateway, operation, request.bucket, shape, body)
        )
        return answer

    # --- writes ---------------------------------------------------------------------------------

    async def _put(
        self, request: Request, place: Place, begin_s: float, name: str
    ) -> Operation | None:
        history, value = self._history, request.number
        expected, etag = None, None
        if request.action is Action.REPLACE:
            expected = history.last_seen.get(place)
            etag = None if expected is None else history.etag_of(expected)
            if etag is None or len(history.writers(place, etag)) != 1:
                return None  # nothing to replace, or an ETag that does not tell what
        content = history.content_of(value, place, request.size_bytes)
        shape = PutObjectRequest(
            bucket=request.bucket,
            key=request.key,
            metadata={"value": str(value)},
            if_none_match="*" if request.action is Action.CREATE else None,
            if_match=f'"{etag}"' if etag is not None else None,
        )
        kinds = {Action.PUT: Kind.PUT, Action.CREATE: Kind.CREATE, Action.REPLACE: Kind.REPLACE}
        body = Body(content, 0.3 * request.chance if request.chance < 0.2 else 0.0)
        operation = Operation(
            kinds[request.action], begin_s, value=value, expected=expected, label=name
        )
        return await self._write(
            place, operation, lambda: self._ask(request, "PutObject", shape, body)
        )

    async def _copy(
        self, request: Request, place: Place, begin_s: float, name: str
    ) -> Operation | None:
        """Copy another key: a read of it, and a write of whatever was read."""
        history, value = self._history, request.number
        others = [
            (bucket, key) for bucket in (PLAIN, VERSIONED) for key in KEYS if (bucket, key) != place
        ]
        source = others[int(request.chance * len(others))]
        history.note_copy(value, source, place)
        shape = CopyObjectRequest(
            bucket=request.bucket,
            key=request.key,
            copy_source=f"{source[0]}/{quote(source[1])}",
            metadata={"value": str(value)},
            metadata_directive="REPLACE",
        )
        seen: list[int] = []

        async def copy() -> tuple[Any, bytes]:
            try:
                result, data = await self._ask(request, "CopyObject", shape)
            except faults.NotFound as missing:
                raise errors.NoSuchKey(Key=source[1]) from missing
            etag = result.copy_object_result.etag.strip('"')
            holders = history.holders(source, etag)
            seen.extend(holders)
            if not seen:
                history.violate("unknown value", f"ETag {etag} was copied from {source}", place)
            else:
                history.contents.setdefault(value, holders[seen[0]])
            return result, data

        try:
            operation = await self._write(
                place, Operation(Kind.PUT, begin_s, value=value, label=name), copy
            )
        except errors.NoSuchKey:
            history.add(source, Operation(Kind.READ, begin_s, self._loop.now_s, label=name))
            return None
        if len(seen) == 1:
            read = Operation(Kind.READ, begin_s, self._loop.now_s, seen[0], label=name)
            history.add(source, read)
        return operation

    async def _upload(
        self, request: Request, place: Place, begin_s: float, name: str
    ) -> Operation | None:
        history, value, bucket, key = self._history, request.number, request.bucket, request.key
        content = history.content_of(value, place, request.size_bytes)
        sizes = _part_sizes(len(content))
        history.note_parts(value, sizes)
        shape = CreateMultipartUploadRequest(bucket=bucket, key=key, metadata={"value": str(value)})
        kind = Kind.CREATE if request.action is Action.CREATE_BY_UPLOAD else Kind.PUT
        operation = Operation(kind, begin_s, value=value, label=name)
        try:
            created, _ = await self._ask(request, "CreateMultipartUpload", shape)
            parts, at = [], 0
            for number, size in enumerate(sizes, 1):
                part = UploadPartRequest(
                    bucket=bucket, key=key, upload_id=created.upload_id, part_number=number
                )
                body = Body(content[at : at + size], 0.0)
                at += size
                done, _ = await self._ask(request, "UploadPart", part, body)
                parts.append(CompletedPart(part_number=number, etag=done.etag))
        except AMBIGUOUS:
            return None  # never completed, so nothing was written
        complete = CompleteMultipartUploadRequest(
            bucket=bucket,
            key=key,
            upload_id=created.upload_id,
            multipart_upload=CompletedMultipartUpload(parts=parts),
            if_none_match="*" if kind is Kind.CREATE else None,
        )
        if request.action is Action.ABANDON_UPLOAD:
            return None
        if request.action is Action.ABORT_UPLOAD:
            await self._abort(request, place, complete)
            return None
        return await self._complete(request, place, operation, complete)

    async def _complete(
        self,
        request: Request,
        place: Place,
        operation: Operation,
        complete: CompleteMultipartUploadRequest,
    ) -> Operation:
        """Complete an upload, again and again while the outcome is not known."""
        ended = operation
        for attempt in range(COMPLETIONS_MAX):
            ask = partial(self._ask, request, "CompleteMultipartUpload", complete)
            try:
                ended = await self._write(place, operation, ask)
            except NotAsked:
                ended = operation
            except (errors.NoSuchUpload, faults.NotFound) as error:
                self._history.violate("upload lost", f"completing it again: {error!r}", place)
                return operation
            if ended.is_known:
                if attempt:
                    self._loop.seen["completed again"] += 1
                # A refusal after an attempt whose end is unknown: that one may still come.
                return operation if ended.is_refused and attempt else ended
            await asyncio.sleep(request.chance * 4)
            others = [name for name in self._gateways if name != request.gateway]
            request = replace(request, gateway=others[0])
        return ended

    async def _abort(
        self, request: Request, place: Place, complete: CompleteMultipartUploadRequest
    ) -> None:
        """Abort an upload; once that was answered it cannot be completed."""
        abort = AbortMultipartUploadRequest(
            bucket=request.bucket, key=request.key, upload_id=complete.upload_id
        )
        try:
            await self._ask(request, "AbortMultipartUpload", abort)
            self._loop.seen["ABORT_UPLOAD answered"] += 1
            await self._ask(request, "CompleteMultipartUpload", complete)
        except AMBIGUOUS:
            return
        except (errors.NoSuchUpload, faults.NotFound):
            return
        self._history.violate("aborted upload", "was completed", place)

    async def _delete_many(self, request: Request, begin_s: float, name: str) -> None:
        """Delete two keys in one request: two writes, each with an end of its own."""
        history = self._history
        other = KEYS[
            (KEYS.index(request.key) + 1 + int(request.chance * (len(KEYS) - 1))) % len(KEYS)
        ]
        keys = [request.key, other]
        markers = {
            key: Marker((request.number, key)) if request.bucket == VERSIONED else None
            for key in keys
        }
        shape = DeleteObjectsRequest(
            bucket=request.bucket,
            delete=Delete(objects=[ObjectIdentifier(key=key) for key in keys]),
        )
        deleted: dict[str, Any] = {}
        try:
            result, _ = await self._ask(request, "DeleteObjects", shape)
            deleted = {each.key: each for each in result.deleted or ()}
            self._loop.seen["DELETE_MANY answered"] += 1
        except AMBIGUOUS:
            pass
        for key in keys:
            place, end_s = (request.bucket, key), UNKNOWN_END_S
            if key in deleted:
                end_s = self._loop.now_s
                version_id = deleted[key].delete_marker_version_id
                if version_id is not None:
                    history.versions.setdefault(place, {})[version_id] = markers[key]
            history.add(place, Operation(Kind.DELETE, begin_s, end_s, markers[key], label=name))

    async def _delete(
        self, request: Request, place: Place, begin_s: float, name: str
    ) -> Operation | None:
        version_id, value, expected = None, None, None
        if request.action is Action.ERASE:
            version_id, expected = self._some_version(request, place)
            if version_id is None:
                return None
        elif request.bucket == VERSIONED:
            value = Marker(request.number)
        kind = Kind.ERASE if version_id else Kind.DELETE
        shape = DeleteObjectRequest(bucket=request.bucket, key=request.key, version_id=version_id)
        operation = Operation(kind, begin_s, value=value, expected=expected, label=name)
        return await self._write(
            place, operation, lambda: self._ask(request, "DeleteObject", shape)
        )

    async def _write(
        self, place: Place, operation: Operation, call: Callable[[], Awaitable[tuple[Any, bytes]]]
    ) -> Operation:
        """Make a write; what it returns says how it ended. raises NotAsked: it was none"""
        is_refused, end_s = False, UNKNOWN_END_S
        try:
            result, _ = await call()
        except NotAsked:
            raise
        except AMBIGUOUS:
            pass
        except (faults.PreconditionFailed, errors.PreconditionFailed):
            is_refused, end_s = True, self._loop.now_s
        except faults.NotFound as missing:
            if missing.kind != "key":
                raise
            is_refused, end_s = True, self._loop.now_s
        else:
            end_s = self._loop.now_s
            version_id = getattr(result, "version_id", None)
            if version_id is not None and operation.kind is not Kind.ERASE:
                self._history.versions.setdefault(place, {})[version_id] = operation.value
        if is_refused and operation.kind not in (Kind.CREATE, Kind.REPLACE):
            self._history.violate("refused", f"without a condition: {operation}", place)
        return replace(operation, end_s=end_s, is_refused=is_refused)

    # --- reads ----------------------------------------------------------------------------------

    async def _get(
        self, request: Request, place: Place, begin_s: float, name: str
    ) -> Operation | None:
        version_id, expected, begin, wanted = None, None, 0, None
        if request.action is Action.GET_VERSION:
            version_id, expected = self._some_version(request, place)
            if version_id is None or isinstance(expected, Marker):
                return None
        if request.action is Action.GET_RANGE:
            begin = int(request.chance * 100_000)
            wanted = f"bytes={begin}-{begin + request.size_bytes}"
        shape = GetObjectRequest(
            bucket=request.bucket, key=request.key, version_id=version_id, range=wanted
        )
        value: Value = None
        kind = Kind.READ_VERSION if version_id is not None else Kind.READ
        try:
            result, data = await self._ask(request, "GetObject", shape)
        except AMBIGUOUS:
            return None
        except (errors.NoSuchKey, errors.NoSuchVersion):
            pass
        except errors.InvalidRange:
            return None  # shorter than the range's begin: says nothing of its content
        else:
            value = int(result.metadata["value"])
            if result.content_length != len(data):
                self._history.violate(
                    "short read", f"{len(data)} of {result.content_length} bytes", place
                )
            self._history.check_content(place, value, begin if wanted else 0, data)
            if result.version_id is not None:
                self._history.versions.setdefault(place, {})[result.version_id] = value
        return Operation(kind, begin_s, self._loop.now_s, value, expected, label=name)

    def _some_version(self, request: Request, place: Place) -> tuple[str | None, Value]:
        """A version of a key that somebody has seen."""
        known = list(self._history.versions.get(place, {}).items())
        if not known:
            return None, None
        return known[int(request.chance * len(known))]


def _part_sizes(size_bytes: int) -> list[int]:
    """Parts of the smallest size, and a last one with the rest."""
    count = max(1, min(4, size_bytes // PART_BYTES))
    return [PART_BYTES] * (count - 1) + [size_bytes - PART_BYTES * (count - 1)]
