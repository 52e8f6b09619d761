"""Nodes and disks: ids are allotted once, the epoch tells of every change placement must know."""

from typing import Any

import pytest

from common import faults
from metaservice.operations.nodes import HEARTBEAT_MISSED_S
from metaservice.table import Method
from proto import admin_pb2, meta_pb2, records_pb2
from tests.support.meta import MetaBench

Disk = records_pb2.Disk


def disk(number: int = 1, **fields: Any) -> records_pb2.Disk:
    fields.setdefault("capacity_bytes", 1000)
    return Disk(disk_uuid=bytes([number]) * 16, **fields)


async def beat(
    bench: MetaBench, *disks: records_pb2.Disk, name: str = "node-1", **fields: Any
) -> meta_pb2.HeartbeatReply:
    cluster_id = fields.pop("cluster_id", "cluster")
    fields.setdefault("address", "host:1")
    fields.setdefault("incarnation", 1)
    node = records_pb2.Node(name=name, zone=f"zone-of-{name}", **fields)
    request = meta_pb2.Heartbeat(node=node, disks=disks, cluster_id=cluster_id)
    reply: meta_pb2.HeartbeatReply = await bench.call(Method.HEARTBEAT, request)
    return reply


async def topology(bench: MetaBench, known_epoch: int = 0) -> meta_pb2.GetTopologyReply:
    request = meta_pb2.GetTopology(known_epoch=known_epoch)
    reply: meta_pb2.GetTopologyReply = await bench.call(Method.GET_TOPOLOGY, request)
    return reply


async def set_state(bench: MetaBench, disk_id: int, state: "Disk.State.ValueType") -> None:
    request = admin_pb2.SetDiskStateRequest(disk_id=disk_id, state=state, force=True)
    await bench.server.transactor.write(
        lambda transaction: bench.server.nodes.set_disk_state(transaction, request),
        admin_pb2.SetDiskStateReply,
    )


async def states(bench: MetaBench) -> dict[int, int]:
    return {disk.disk_id: disk.state for disk in (await topology(bench)).topology.disks}


async def test_new_disks_get_ids_that_stay(bench: MetaBench) -> None:
    first = await beat(bench, disk(1), disk(2))
    second = await beat(bench, disk(3), name="node-2")
    again = await beat(bench, disk(2), disk(1))
    assert [entry.disk_id for entry in first.disks] == [1, 2]
    assert [entry.disk_id for entry in second.disks] == [3]
    assert [entry.disk_id for entry in again.disks] == [2, 1]


async def test_disk_is_known_by_its_identity_not_by_the_id_it_claims(bench: MetaBench) -> None:
    await beat(bench, disk(1))
    swapped = await beat(bench, disk(2, disk_id=1))
    assert swapped.disks[0].disk_id == 2


async def test_first_start_learns_the_cluster(bench: MetaBench) -> None:
    assert (await beat(bench, disk(), cluster_id="")).cluster_id == "cluster"


async def test_node_of_another_cluster_is_refused(bench: MetaBench) -> None:
    with pytest.raises(faults.Invalid):
        await beat(bench, disk(), cluster_id="other")
    assert not (await topology(bench)).topology.nodes


async def test_disk_without_identity_is_refused(bench: MetaBench) -> None:
    with pytest.raises(faults.Invalid):
        await beat(bench, Disk(capacity_bytes=1))


async def test_unchanged_heartbeat_writes_nothing_and_keeps_the_epoch(bench: MetaBench) -> None:
    epoch = (await beat(bench, disk(free_bytes=900))).topology_epoch
    sequence = bench.store.sequence
    again = await beat(bench, disk(free_bytes=100, used_bytes=800, fragment_count=7))
    assert again.topology_epoch == epoch
    assert bench.store.sequence == sequence
    stored = (await topology(bench)).topology.disks[0]
    assert (stored.free_bytes, stored.used_bytes, stored.fragment_count) == (100, 800, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"address": "host:2"},
        {"control_address": "host:3"},
        {"incarnation": 2},
    ],
)
async def test_change_of_a_node_raises_the_epoch(bench: MetaBench, change: Any) -> None:
    epoch = (await beat(bench, disk())).topology_epoch
    assert (await beat(bench, disk(), **change)).topology_epoch == epoch + 1


@pytest.mark.parametrize("change", [{"state": Disk.READ_ONLY}, {"capacity_bytes": 2000}])
async def test_change_of_a_disk_raises_the_epoch(bench: MetaBench, change: Any) -> None:
    epoch = (await beat(bench, disk())).topology_epoch
    assert (await beat(bench, disk(**change))).topology_epoch == epoch + 1


async def test_capacity_may_waver_without_an_epoch(bench: MetaBench) -> None:
    epoch = (await beat(bench, disk(capacity_bytes=1000))).topology_epoch
    assert (await beat(bench, disk(capacity_bytes=1050))).topology_epoch == epoch


async def test_topology_is_sent_only_when_it_is_news(bench: MetaBench) -> None:
    epoch = (await beat(bench, disk())).topology_epoch
    assert not (await topology(bench, epoch)).HasField("topology")
    assert (await topology(bench, epoch - 1)).topology.epoch == epoch
    assert (await topology(bench, epoch + 1)).topology.epoch == epoch, "of another cluster's past"


async def test_silent_node_is_dead_and_comes_back(bench: MetaBench) -> None:
    epoch = (await beat(bench, disk())).topology_epoch
    assert (await topology(bench, epoch)).health[0].is_alive
    bench.clock.advance(HEARTBEAT_MISSED_S + 0.1)
    assert not (await topology(bench, epoch)).health[0].is_alive
    await beat(bench, disk())
    assert (await topology(bench, epoch)).health[0].is_alive


async def test_after_a_restart_nodes_have_time_to_be_heard(bench: MetaBench) -> None:
    await beat(bench, disk())
    bench.clock.advance(3600)
    revived = bench.restart()
    assert (await topology(revived)).health[0].is_alive
    revived.clock.advance(HEARTBEAT_MISSED_S + 0.1)
    assert not (await topology(revived)).health[0].is_alive


async def test_disk_moves_to_another_node(bench: MetaBench) -> None:
    await beat(bench, disk(1), disk(2))
    moved = await beat(bench, disk(2), name="node-2")
    assert moved.disks[0].disk_id == 2
    await beat(bench, disk(1))
    by_id = {entry.disk_id: entry for entry in (await topology(bench)).topology.disks}
    assert (by_id[2].node_name, by_id[2].zone, by_id[2].state) == (
        "node-2", "zone-of-node-2", Disk.UP,
    )  # fmt: skip


async def test_disk_that_a_node_lost_has_failed_until_it_is_back(bench: MetaBench) -> None:
    epoch = (await beat(bench, disk(1), disk(2))).topology_epoch
    lost = await beat(bench, disk(1))
    assert lost.topology_epoch == epoch + 1
    assert await states(bench) == {1: Disk.UP, 2: Disk.FAILED}
    await beat(bench, disk(1), disk(2))
    assert await states(bench) == {1: Disk.UP, 2: Disk.UP}


@pytest.mark.parametrize("state", [Disk.DRAINING, Disk.REMOVED])
async def test_operators_word_stands_over_the_nodes(bench: MetaBench, state: Any) -> None:
    epoch = (await beat(bench, disk())).topology_epoch
    await set_state(bench, 1, state)
    assert (await beat(bench, disk())).topology_epoch == epoch + 1
    assert await states(bench) == {1: state}
    await beat(bench)
    assert await states(bench) == {1: state}, "also while the disk is away"
    await beat(bench, disk())
    await set_state(bench, 1, Disk.UP)
    await beat(bench, disk())
    assert await states(bench) == {1: Disk.UP}


async def test_same_state_again_keeps_the_epoch(bench: MetaBench) -> None:
    await beat(bench, disk())
    await set_state(bench, 1, Disk.DRAINING)
    epoch = (await topology(bench)).topology.epoch
    await set_state(bench, 1, Disk.DRAINING)
    assert (await topology(bench)).topology.epoch == epoch


async def test_states_of_the_nodes_own_cannot_be_set(bench: MetaBench) -> None:
    await beat(bench, disk())
    with pytest.raises(faults.Invalid):
        await set_state(bench, 1, Disk.READ_ONLY)
    with pytest.raises(faults.NotFound):
        await set_state(bench, 9, Disk.DRAINING)


async def test_late_process_of_a_living_node_is_fenced(bench: MetaBench) -> None:
    await beat(bench, disk(), incarnation=5)
    with pytest.raises(faults.Fenced):
        await beat(bench, disk(), incarnation=4, address="old:1")
    assert (await topology(bench)).topology.nodes[0].address == "host:1"
    bench.clock.advance(HEARTBEAT_MISSED_S + 0.1)
    await beat(bench, disk(), incarnation=4, address="old:1")  # its clock was set back
    assert (await topology(bench)).topology.nodes[0].address == "old:1"


async def test_node_that_comes_and_goes_is_trusted_later_each_time(bench: MetaBench) -> None:
    async def is_steady() -> bool:
        (node,) = (await topology(bench)).health
        return node.is_steady

    await beat(bench, disk())
    assert await is_steady()
    for wait_s in (0, 5, 10, 20):
        bench.clock.advance(HEARTBEAT_MISSED_S + 1)
        assert not await is_steady()
        await beat(bench, disk())
        for _ in range(wait_s):
            assert not await is_steady(), f"after {wait_s} s at the earliest"
            bench.clock.advance(1)
            await beat(bench, disk())
        assert await is_steady()
