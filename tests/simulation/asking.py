"""Requests to a gateway's process, made as its HTTP server makes them behind authentication."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from common import faults
from gateway.handlers.context import Context
from gateway.objects.buckets import BucketScope
from tests.simulation.cluster import GatewayMember
from tests.simulation.loop import SimulatedLoop

PATIENCE_S = 40.0
AMBIGUOUS = (
    faults.Unavailable, faults.Busy, faults.Conflict, faults.Full, faults.Fenced,
    ConnectionError, TimeoutError,
)  # fmt: skip


class NotAsked(ConnectionRefusedError):
    """No gateway took the request: whatever it wanted has not happened, and never will."""


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


async def serve(
    gateway: GatewayMember, operation: str, bucket: str, shape: Any, body: Body | None = None
) -> tuple[Any, bytes]:
    """Answer a request, as the gateway's pipeline does behind authentication."""
    record = await gateway.buckets.get(bucket)
    scope = BucketScope(gateway.buckets, record, lambda _: None)

    async def open_source(bucket: str, _: str | None) -> BucketScope:
        return BucketScope(gateway.buckets, await gateway.buckets.get(bucket), lambda _: None)

    context = Context(Account(), "request", "us-east-1", "", open_source, scope, body)
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

    raises   what the handler raises; NotAsked if the gateway is down, ConnectionError if it dies;
             TimeoutError
    """
    process = gateway.process
    if process.is_dead or not hasattr(gateway, "handlers"):
        await asyncio.sleep(0.05)
        raise NotAsked(gateway.name)
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
        if not task.done() and process.frozen_until_s <= loop.now_s:
            task.cancel()  # the server notices that its client has hung up
