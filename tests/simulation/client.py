"""Clients: they make the plan's requests through gateways, and write down what they saw.

A request that fails or is too late may have happened, or may happen still; one that was refused
by its condition, or answered, did what it said.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from common import faults
from gateway.handlers.context import Context
from gateway.objects.buckets import BucketScope
from gateway.s3 import errors
from gateway.s3.model.listing import ListObjectsV2Request
from gateway.s3.model.multipart import (
    CompletedMultipartUpload,
    CompletedPart,
    CompleteMultipartUploadRequest,
    CreateMultipartUploadRequest,
    UploadPartRequest,
)
from gateway.s3.model.object import DeleteObjectRequest, GetObjectRequest, PutObjectRequest
from tests.simulation.cluster import GatewayMember
from tests.simulation.history import History, Place
from tests.simulation.loop import SimulatedLoop
from tests.simulation.plan import VERSIONED, Action, Request
from tests.support.linearizability import UNKNOWN_END_S, Kind, Marker, Operation, Value

PATIENCE_S = 40.0
LIST_KEYS = 2
PART_BYTES = 20 * 1024
AMBIGUOUS = (
    faults.Unavailable, faults.Busy, faults.Conflict, faults.Full, faults.Fenced,
    ConnectionError, TimeoutError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks."""

    account_id: str = "111122223333"
    canonical_id: str = "ab" * 32
    display_name: str = "simulated"
    user_arn: str = "arn:aws:iam::111122223333:root"


class Body:
    """A request body that comes in pieces."""

    algorithms: frozenset[str] = frozenset()
    checksum_algorithm: str | None = None

    def __init__(self, data: bytes, pause_s: float) -> None:
        self.size = len(data)
        self._rest = memoryview(data)
        self._pause_s = pause_s

    async def read_into(self, view: memoryview) -> int:
        if self._pause_s and self._rest:
            await asyncio.sleep(self._pause_s)
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def verify(self, digests: dict[str, bytes]) -> None:
        return


def refuse(*_: Any) -> Any:
    """No request here copies."""
    raise NotImplementedError


async def serve(
    gateway: GatewayMember, operation: str, bucket: str, shape: Any, body: Body | None = None
) -> tuple[Any, bytes]:
    """Answer a request, as the gateway's pipeline does behind authentication."""
    record = await gateway.buckets.get(bucket)
    scope = BucketScope(gateway.buckets, record, lambda _: None)
    context = Context(Account(), "request", "us-east-1", "", refuse, scope, body)
    result = await gateway.handlers[operation](context, shape)
    content = getattr(result, "body", None) or b""
    if isinstance(content, bytes):
        return result, content
    data = bytearray()
    try:
        async for piece in content:
            data += piece
    finally:
        await content.aclose()
    return result, bytes(data)


async def ask(  # noqa: C901 - three ways to end, and whoever waits may have left
    loop: SimulatedLoop, gateway: GatewayMember, make: Callable[[], Awaitable[Any]]
) -> Any:
    """Have a request answered by a gateway's process.

    raises   what the handler raises; ConnectionError if the gateway is down or dies; TimeoutError
    """
    process = gateway.process
    if process.is_dead or not hasattr(gateway, "handlers"):
        await asyncio.sleep(0.05)
        raise ConnectionRefusedError(gateway.name)
    answered: asyncio.Future[Any] = loop.create_future()

    async def work() -> Any:
        return await make()

    def finish(task: "asyncio.Task[Any]") -> None:
        if answered.done():
            if not task.cancelled():
                task.exception()  # seen: the client has left
        elif task.cancelled():
            answered.set_exception(ConnectionResetError("cancelled"))
        elif (error := task.exception()) is not None:
            answered.set_exception(error)
        else:
            answered.set_result(task.result())

    def lost() -> None:
        if not answered.done():
            answered.set_exception(ConnectionResetError(gateway.name))

    process.on_crash.append(lost)
    task = loop.start_process(process, work)
    task.add_done_callback(finish, context=contextvars.Context())
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await answered
    finally:
        process.on_crash.remove(lost)
        if not task.done():
            task.cancel()  # the server notices that its client has hung up


class Client:
    """One client: a request at a time."""

    def __init__(
        self, loop: SimulatedLoop, gateways: dict[str, GatewayMember], history: History
    ) -> None:
        self._loop, self._gateways, self._history = loop, gateways, history

    async def perform(self, request: Request) -> None:
        """Make a request and record it."""
        place = (request.bucket, request.key)
        self._loop.log("begin", request.number, request.action.name, *place)
        begin_s = self._loop.now_s
        name = f"#{request.number} client {request.client} {request.action.name} {request.gateway}"
        operation = await self._make(request, place, begin_s, name)
        if operation is not None:
            self._history.add(place, operation)
        self._loop.log("end", request.number, operation)

    async def _make(
        self, request: Request, place: Place, begin_s: float, name: str
    ) -> Operation | None:
        action = request.action
        if action in (Action.PUT, Action.CREATE, Action.REPLACE):
            return await self._put(request, place, begin_s, name)
        if action in (Action.UPLOAD, Action.CREATE_BY_UPLOAD, Action.ABANDON_UPLOAD):
            return await self._upload(request, place, begin_s, name)
        if action in (Action.GET, Action.GET_RANGE, Action.GET_VERSION):
            return await self._get(request, place, begin_s, name)
        if action in (Action.DELETE, Action.ERASE):
            return await self._delete(request, place, begin_s, name)
        await self._list(request)
        return None

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
        content = history.content_of(value, request.size_bytes)
        history.note_etag(value)
        expected = history.last_seen.get(place) if request.action is Action.REPLACE else None
        if request.action is Action.REPLACE and expected is None:
            return None
        shape = PutObjectRequest(
            bucket=request.bucket,
            key=request.key,
            metadata={"value": str(value)},
            if_none_match="*" if request.action is Action.CREATE else None,
            if_match=f'"{history.etag_of(expected)}"' if expected is not None else None,
        )
        kinds = {Action.PUT: Kind.PUT, Action.CREATE: Kind.CREATE, Action.REPLACE: Kind.REPLACE}
        body = Body(content, 0.3 * request.chance if request.chance < 0.2 else 0.0)
        operation = Operation(
            kinds[request.action], begin_s, value=value, expected=expected, label=name
        )
        return await self._write(
            place, operation, lambda: self._ask(request, "PutObject", shape, body)
        )

    async def _upload(
        self, request: Request, place: Place, begin_s: float, name: str
    ) -> Operation | None:
        history, value, bucket, key = self._history, request.number, request.bucket, request.key
        content = history.content_of(value, request.size_bytes)
        sizes = _part_sizes(len(content))
        history.note_etag(value, sizes)
        shape = CreateMultipartUploadRequest(
            bucket=bucket, key=key, metadata={"value": str(value)}
        )
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
        if request.action is Action.ABANDON_UPLOAD:
            return None
        complete = CompleteMultipartUploadRequest(
            bucket=bucket,
            key=key,
            upload_id=created.upload_id,
            multipart_upload=CompletedMultipartUpload(parts=parts),
            if_none_match="*" if kind is Kind.CREATE else None,
        )
        return await self._write(
            place, operation, lambda: self._ask(request, "CompleteMultipartUpload", complete)
        )

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
        """Make a write; what it returns says how it ended."""
        is_refused, end_s = False, UNKNOWN_END_S
        try:
            result, _ = await call()
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
        return Operation(
            operation.kind, operation.begin_s, end_s, operation.value, operation.expected,
            is_refused, operation.label,
        )  # fmt: skip

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

    async def _list(self, request: Request) -> None:
        """Walk all pages; each is a read of the keys in its range."""
        after, token = "", None
        while True:
            begin_s = self._loop.now_s
            shape = ListObjectsV2Request(
                bucket=request.bucket, max_keys=LIST_KEYS, continuation_token=token
            )
            try:
                page, _ = await self._ask(request, "ListObjectsV2", shape)
            except AMBIGUOUS:
                return
            shown = {entry.key: entry.etag.strip('"') for entry in page.contents or ()}
            last = max(shown) if page.is_truncated else None
            self._history.add_page(
                request.bucket, shown, after, last, (begin_s, self._loop.now_s)
            )
            if not page.is_truncated:
                return
            after, token = last or "", page.next_continuation_token


def _part_sizes(size_bytes: int) -> list[int]:
    """Parts of the smallest size, and a last one with the rest."""
    count = max(1, min(4, size_bytes // PART_BYTES))
    return [PART_BYTES] * (count - 1) + [size_bytes - PART_BYTES * (count - 1)]
