"""Calls to the control plane of a running cluster."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import grpc.aio

from cli.bootstrap import AccountPlan
from cli.folder import ClusterFolder
from cli.ports import LOOPBACK
from common import faults, rpc
from proto import admin_pb2, admin_pb2_grpc, records_pb2

ResultT = TypeVar("ResultT")
POLL_S = 0.2
Work = Callable[[Any], Awaitable[ResultT]]
HOST_PORT = re.compile(r"([\w.-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})")


def host_and_port(value: str) -> str:
    """An option's value that must be an address. raises BadParameter"""
    found = HOST_PORT.fullmatch(value)
    if found is None or not 0 < int(found[2]) < 65536:
        raise click.BadParameter(f"{value!r} is not HOST:PORT")
    return value


def control_address(folder: ClusterFolder) -> str:
    """Where the metadata service's control plane is. raises NotFound, Unavailable"""
    identity = folder.load()
    port = identity.ports.get("metaservice-control")
    if folder.supervisor() is None or port is None:
        raise faults.Unavailable("the cluster does not run; start it with `ostraka up`")
    return f"{LOOPBACK}:{port}"


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


async def wait_until_up(stub: Any, wait_s: float) -> None:
    """Wait for a control plane that is about to start. raises Unavailable"""
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            await call(stub.ClusterStatus, admin_pb2.ClusterStatusRequest())
        except faults.Unavailable:
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(POLL_S)
        else:
            return


async def make_account(stub: Any, plan: AccountPlan) -> None:
    """Make an account and its keys; what is there already stays. raises AlreadyExists"""
    account = records_pb2.Account(
        account_id=plan.account_id,
        canonical_id=plan.canonical_id,
        name=plan.name,
        email=plan.email,
    )
    await call(stub.CreateAccount, admin_pb2.CreateAccountRequest(account=account))
    for key in plan.keys:
        request = admin_pb2.CreateKeyRequest(
            account_id=plan.account_id, access_key=key.access_key, secret_key=key.secret_key
        )
        await call(stub.CreateKey, request)
