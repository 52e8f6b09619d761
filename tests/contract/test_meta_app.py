"""The whole metadata service as its process builds it: identity, control plane, readiness, restart.

Method: start the app on free loopback ports and ask it over both planes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest

from cli.ports import free_port, port_trouble
from common import exit_codes, faults, rpc
from common.frames import FrameClient
from common.keyring import KeyRing
from common.process import Stopper
from metaservice import keys
from metaservice.app import FORMAT, MetaServiceApp
from metaservice.client import MetaClient
from metaservice.config import MetaServiceConfig, ProfileConfig
from metaservice.kv.interface import Mutation
from metaservice.kv.rocks import RocksStore
from metaservice.operations.credentials import SECRET_CONTEXT
from proto import admin_pb2, admin_pb2_grpc, meta_pb2, records_pb2

Disk = records_pb2.Disk


@pytest.fixture
def config(tmp_path: Path) -> MetaServiceConfig:
    KeyRing.make().save(tmp_path / "keyring.json")
    (tmp_path / "secret").write_bytes(b"of the cluster")
    return MetaServiceConfig(
        directory=tmp_path / "meta",
        keyring_file=tmp_path / "keyring.json",
        cluster_id="cluster-1",
        port=(port := free_port()),
        control_port=(control_port := free_port(taken=[port])),
        admin_port=free_port(taken=[port, control_port]),
        region="eu-test-1",
        secret_file=tmp_path / "secret",
        profiles=(ProfileConfig("STANDARD", 2, 1),),
    )


@asynccontextmanager
async def running(config: MetaServiceConfig) -> AsyncIterator[MetaServiceApp]:
    # In one process: the gRPC library closes the port of the app before a moment after it stopped.
    async with asyncio.timeout(10):
        while port_trouble(config.control_port):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    app = MetaServiceApp(config, Stopper())
    try:
        await app.start()
        yield app
    finally:
        await app.stop()


@asynccontextmanager
async def control(config: MetaServiceConfig) -> AsyncIterator[admin_pb2_grpc.MetaControlStub]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{config.control_port}") as channel:
        yield admin_pb2_grpc.MetaControlStub(channel)


@asynccontextmanager
async def hot(config: MetaServiceConfig, secret: bytes) -> AsyncIterator[MetaClient]:
    frames = FrameClient("127.0.0.1", config.port, secret=secret)
    await frames.start()
    await frames.wait_up(5)
    yield MetaClient(frames, deadline_s=2)
    await frames.stop()


async def beat(meta: MetaClient) -> meta_pb2.HeartbeatReply:
    node = records_pb2.Node(name="node-1", zone="zone-1", address="host:1", incarnation=1)
    disk = Disk(disk_uuid=b"u" * 16, capacity_bytes=100, free_bytes=60)
    return await meta.heartbeat(meta_pb2.Heartbeat(node=node, disks=[disk]))


async def get(config: MetaServiceConfig, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{config.admin_port}{path}") as reply,
    ):
        return reply.status, await reply.text()


async def test_new_cluster_gets_its_identity(config: MetaServiceConfig) -> None:
    async with running(config), hot(config, b"of the cluster") as meta:
        reply = await beat(meta)
        assert reply.cluster_id == "cluster-1"
        topology = (await meta.get_topology(meta_pb2.GetTopology())).topology
        assert topology.region == "eu-test-1"
        assert [(p.name, p.k, p.m) for p in topology.profiles] == [("STANDARD", 2, 1)]


async def test_status_tells_of_nodes_and_disks(config: MetaServiceConfig) -> None:
    async with running(config), hot(config, b"of the cluster") as meta, control(config) as stub:
        disk_id = (await beat(meta)).disks[0].disk_id
        status = await stub.ClusterStatus(admin_pb2.ClusterStatusRequest())
        assert [(node.name, node.is_alive) for node in status.nodes] == [("node-1", True)]
        assert status.topology.disks[0].free_bytes == 60
        assert (status.degraded_blobs, status.garbage_pending) == (0, 0)
        assert status.metadata_engine == "rocksdb"
        assert "one disk" in status.metadata_survives
        request = admin_pb2.SetDiskStateRequest(disk_id=disk_id, state=Disk.DRAINING)
        await stub.SetDiskState(request)
        status = await stub.ClusterStatus(admin_pb2.ClusterStatusRequest())
        assert status.topology.disks[0].state == Disk.DRAINING


async def test_accounts_and_keys_are_made_over_the_control_plane(
    config: MetaServiceConfig,
) -> None:
    async with running(config), hot(config, b"of the cluster") as meta, control(config) as stub:
        account = (await stub.CreateAccount(admin_pb2.CreateAccountRequest())).account
        made = await stub.CreateKey(admin_pb2.CreateKeyRequest(account_id=account.account_id))
        reply = await meta.get_access_key(meta_pb2.GetAccessKey(access_key=made.access_key))
        ring = KeyRing.load(config.keyring_file)
        secret = ring.unwrap(reply.key.sealed_secret, SECRET_CONTEXT)
        assert secret.decode() == made.secret_key
        assert len((await stub.ListAccounts(admin_pb2.ListAccountsRequest())).accounts) == 1
        assert len((await stub.ListKeys(admin_pb2.ListKeysRequest())).keys) == 1
        disable = admin_pb2.SetKeyEnabledRequest(access_key=made.access_key, enabled=False)
        assert not (await stub.SetKeyEnabled(disable)).enabled
        await stub.DeleteKey(admin_pb2.DeleteKeyRequest(access_key=made.access_key))
        await stub.DeleteAccount(admin_pb2.DeleteAccountRequest(account_id=account.account_id))
        with pytest.raises(faults.NotFound) as caught:
            await rpc.call(
                stub.DeleteAccount(admin_pb2.DeleteAccountRequest(account_id=account.account_id))
            )
        assert caught.value.fields["kind"] == "account"


async def test_caller_without_the_secret_gets_nothing(config: MetaServiceConfig) -> None:
    async with running(config):
        frames = FrameClient("127.0.0.1", config.port, secret=b"guessed")
        await frames.start()
        with pytest.raises(faults.Unavailable, match="secret"):
            await frames.wait_up(0.3)
        with pytest.raises(faults.Unavailable):
            await MetaClient(frames, deadline_s=2).get_topology(meta_pb2.GetTopology())
        await frames.stop()


async def test_everything_is_there_after_a_restart(config: MetaServiceConfig) -> None:
    async with running(config), control(config) as stub:
        account = (await stub.CreateAccount(admin_pb2.CreateAccountRequest())).account
    async with running(config), control(config) as stub:
        accounts = (await stub.ListAccounts(admin_pb2.ListAccountsRequest())).accounts
        assert list(accounts) == [account]


async def test_folder_of_another_cluster_is_refused(config: MetaServiceConfig) -> None:
    async with running(config):
        pass
    with pytest.raises(faults.Invalid, match="another cluster"):
        async with running(replace(config, cluster_id="cluster-2")):
            raise AssertionError("it started")


async def test_unnamed_cluster_makes_up_its_id_once(config: MetaServiceConfig) -> None:
    unnamed = replace(config, cluster_id="")
    ids = []
    for _ in range(2):
        async with running(unnamed), hot(config, b"of the cluster") as meta:
            ids.append((await beat(meta)).cluster_id)
    assert len(ids[0]) == 32 and ids[0] == ids[1]
    with pytest.raises(faults.Invalid, match="another cluster"):
        async with running(config):
            raise AssertionError("it started")


async def test_folder_of_a_newer_format_is_refused(config: MetaServiceConfig) -> None:
    async with running(config):
        pass
    store = RocksStore(config.directory)
    await store.commit(Mutation(puts={FORMAT: keys.uint64(99)}))
    await store.close()
    with pytest.raises(faults.Invalid, match="newer"):
        async with running(config):
            raise AssertionError("it started")


async def test_folder_is_used_by_one_process_only(config: MetaServiceConfig) -> None:
    async with running(config):
        with pytest.raises(faults.Unavailable, match="(?i)lock"):
            MetaServiceApp(config, Stopper())


async def test_ready_until_the_engine_fails(config: MetaServiceConfig) -> None:
    stopper = Stopper()
    app = MetaServiceApp(config, stopper)
    await app.start()
    assert (await get(config, "/ready"))[0] == 200
    status, metrics = await get(config, "/metrics")
    assert status == 200
    assert "ostraka_meta_group_commits" in metrics
    assert "ostraka_meta_calls" in metrics

    def fail() -> None:
        raise faults.Unavailable("injected: the disk does not sync")

    store: Any = app._store
    store._database.sync_blocking = fail
    async with control(config) as stub:
        with pytest.raises(faults.Unavailable):
            await rpc.call(stub.CreateAccount(admin_pb2.CreateAccountRequest()))
    assert (await get(config, "/ready"))[0] == 503
    await stopper.wait()
    assert stopper.exit_code == exit_codes.FAILED
    await app.stop()
