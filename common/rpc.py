"""The control plane: gRPC servers; faults cross as statuses and come back as faults."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from common import faults

DEADLINE_S = 10.0
STOP_GRACE_S = 3.0
FAULT_KEY = "ostraka-fault"

STATUSES: dict[type[faults.Fault], grpc.StatusCode] = {
    faults.NotFound: grpc.StatusCode.NOT_FOUND,
    faults.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    faults.PreconditionFailed: grpc.StatusCode.FAILED_PRECONDITION,
    faults.Conflict: grpc.StatusCode.ABORTED,
    faults.Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    faults.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    faults.Unavailable: grpc.StatusCode.UNAVAILABLE,
    faults.Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    faults.Full: grpc.StatusCode.RESOURCE_EXHAUSTED,
    faults.Corrupt: grpc.StatusCode.DATA_LOSS,
    faults.Fenced: grpc.StatusCode.ABORTED,
    faults.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    faults.Internal: grpc.StatusCode.INTERNAL,
}
NAMES = {kind.__name__: kind for kind in STATUSES}
ReplyT = TypeVar("ReplyT")


class RpcServer:
    """One gRPC server with health and reflection."""

    def __init__(self, services: dict[str, Callable[[grpc.aio.Server], None]]) -> None:
        """services   full service name -> what adds it to a server"""
        self._server = grpc.aio.server()
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for add in services.values():
            add(self._server)
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self, address: str) -> int:
        """Listen on host:port; returns the port. raises OSError if that cannot be had"""
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:  # all that the library says
            raise OSError(f"cannot listen on {address}: is it in use?") from error
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self) -> None:
        """Say that we leave, finish calls, close."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(STOP_GRACE_S)


async def answer(context: Any, work: Awaitable[ReplyT]) -> ReplyT:
    """Run a call's work; a fault becomes the call's status."""
    try:
        return await work
    except faults.Fault as fault:
        document = json.dumps({"fault": type(fault).__name__, "fields": fault.fields})
        status = STATUSES.get(type(fault), grpc.StatusCode.INTERNAL)
        context.set_trailing_metadata(((FAULT_KEY, document),))
        await context.abort(status, str(fault))
        raise


async def call(work: Awaitable[ReplyT]) -> ReplyT:
    """Await a stub's call; its status becomes the fault again."""
    try:
        return await work
    except grpc.aio.AioRpcError as error:
        raise fault_of(error) from error


def fault_of(error: grpc.aio.AioRpcError) -> faults.Fault:
    """The fault behind a status."""
    metadata: Any = error.trailing_metadata()
    for key, value in metadata or ():
        if key == FAULT_KEY:
            document = json.loads(value)
            return NAMES.get(document["fault"], faults.Internal)(**document["fields"])
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return faults.Unavailable(error.details() or "")
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return faults.Unsupported(error.details() or "")
    return faults.Internal(error.details() or "")
