"""Calls to the control plane of a running cluster."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc.aio

from cli.folder import ClusterFolder
from common import faults, rpc
from proto import admin_pb2_grpc

ResultT = TypeVar("ResultT")
Work = Callable[[Any], Awaitable[ResultT]]


def control_address(folder: ClusterFolder) -> str:
    """Where the metadata service's control plane is. raises NotFound, Unavailable"""
    identity = folder.load()
    if not folder.is_locked():
        raise faults.Unavailable("the cluster does not run; start it with `ostraka up`")
    return f"127.0.0.1:{identity.ports['metaservice-control']}"


def with_control(address: str, work: Work[ResultT]) -> ResultT:
    """Run calls on a MetaControl stub."""

    async def connected() -> ResultT:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = admin_pb2_grpc.MetaControlStub(channel)  # type: ignore[no-untyped-call]
            return await work(stub)

    return asyncio.run(connected())


async def call(method: Any, request: Any) -> Any:
    """One call with a deadline; its status comes back as a fault."""
    return await rpc.call(method(request, timeout=rpc.DEADLINE_S))
