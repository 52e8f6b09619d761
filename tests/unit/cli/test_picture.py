"""What status says of a cluster: the state, what may still be lost, and each trouble in words."""

from collections.abc import Collection, Sequence

import pytest

from cli.picture import Picture, blank_picture, describe_cluster, say_unavailable
from proto import admin_pb2, records_pb2
from tests.unit.common.placement.topologies import GIB, topology_of

Disk = records_pb2.Disk
KEYS = {
    "endpoint", "state", "survives", "metadata_survives", "metadata_journal", "capacity_bytes",
    "used_bytes", "degraded_blobs", "garbage_pending", "repair", "problems", "processes",
}  # fmt: skip


def picture_of(
    disks_per_zone: Sequence[int] = (1,) * 6,
    away: Collection[str] = (),
    states: dict[int, Disk.State.ValueType] | None = None,
    geometry: tuple[int, int] = (4, 2),
    degraded_blobs: int = 0,
    journal_problems: Sequence[str] = (),
) -> Picture:
    topology = topology_of(disks_per_zone, states).record
    topology.profiles.add(name="STANDARD", k=geometry[0], m=geometry[1])
    reply = admin_pb2.ClusterStatusReply(
        topology=topology,
        nodes=[
            admin_pb2.NodeState(name=disk.node_name, is_alive=disk.node_name not in away)
            for disk in topology.disks
        ],
        degraded_blobs=degraded_blobs,
        garbage_pending=3,
        metadata_survives="nothing: one disk",
        journal=admin_pb2.JournalStatus(
            state="short",
            copies=1,
            copies_wanted=2,
            nodes=["n3"],
            checkpoint_ns=7 * 10**9,
            problems=journal_problems,
        ),
    )
    picture = blank_picture("http://here", "stopped", [])
    describe_cluster(picture, reply)
    return picture


def test_healthy_cluster() -> None:
    picture = picture_of()
    assert set(picture) == KEYS
    assert (picture["state"], picture["problems"]) == ("healthy", [])
    assert picture["survives"] == "any 2 zones"
    assert picture["metadata_survives"] == "nothing: one disk"
    assert picture["capacity_bytes"] == 6 * GIB
    assert picture["garbage_pending"] == 3


def test_a_short_journal_is_a_problem() -> None:
    picture = picture_of(journal_problems=["metadata: 1 copy of 2"])
    assert (picture["state"], picture["problems"]) == ("degraded", ["metadata: 1 copy of 2"])
    assert picture["metadata_journal"] == {
        "state": "short", "copies": 1, "copies_wanted": 2, "nodes": ["n3"], "checkpoint_time": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("away", "state", "survives"),
    [
        (["n1"], "degraded", "any 1 zone"),
        (["n1", "n2"], "degraded", "nothing more: too many disks are away"),
        (["n1", "n2", "n3"], "unavailable", "nothing: some data cannot be read now"),
    ],
)
def test_lost_zones(away: list[str], state: str, survives: str) -> None:
    picture = picture_of(away=away)
    assert (picture["state"], picture["survives"]) == (state, survives)
    assert picture["problems"] == [f"z{int(name[1]) - 1}: {name} does not answer" for name in away]
    assert picture["capacity_bytes"] == (6 - len(away)) * GIB


def test_three_disks_of_one_zone_are_one_zone() -> None:
    picture = picture_of(disks_per_zone=(3,) * 6, away=["n1", "n2", "n3"])
    assert picture["state"] == "degraded"
    assert picture["survives"] == "any 1 zone"


@pytest.mark.parametrize(
    ("state", "words", "is_readable"),
    [
        (Disk.FAILED, "failed", False),
        (Disk.READ_ONLY, "read_only", True),
        (Disk.DRAINING, "draining", True),
    ],
)
def test_state_of_a_disk_is_told(
    state: Disk.State.ValueType, words: str, is_readable: bool
) -> None:
    picture = picture_of(states={2: state})
    assert picture["problems"] == [f"z1: n2 disk 2 is {words}"]
    assert picture["state"] == "degraded"
    assert picture["survives"] == ("any 2 zones" if is_readable else "any 1 zone")


def test_removed_disk_is_forgotten() -> None:
    picture = picture_of(disks_per_zone=(2,) + (1,) * 5, states={1: Disk.REMOVED})
    assert picture["state"] == "healthy"


def test_degraded_blobs_are_told() -> None:
    picture = picture_of(degraded_blobs=7)
    assert (picture["state"], picture["degraded_blobs"]) == ("degraded", 7)
    assert picture["problems"] == ["7 blobs miss a fragment or lie off their zone"]


def test_only_copy_away_is_unavailable() -> None:
    assert picture_of(disks_per_zone=(1,), geometry=(1, 0))["state"] == "healthy"
    assert picture_of(disks_per_zone=(1,), geometry=(1, 0), away=["n1"])["state"] == "unavailable"


def test_cluster_without_disks_is_unavailable() -> None:
    assert picture_of(disks_per_zone=())["state"] == "unavailable"


def test_silent_metadata_service_is_told() -> None:
    picture = blank_picture("http://here", "stopped", [])
    say_unavailable(picture)
    assert picture["state"] == "unavailable" and len(picture["problems"]) == 1
