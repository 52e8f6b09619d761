"""Where fragments go: spread first, then evenly by weight, the same on every gateway."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import faults
from common.placement.choose import choose_disks
from proto import records_pb2
from tests.unit.common.placement.topologies import GIB, blob_id_of, profile_of, topology_of

READ_ONLY = records_pb2.Disk.READ_ONLY
FAILED = records_pb2.Disk.FAILED
DRAINING = records_pb2.Disk.DRAINING
REMOVED = records_pb2.Disk.REMOVED
EC_4_2 = profile_of(4, 2)
BLOBS = [blob_id_of(number) for number in range(3000)]


def test_six_zones_get_one_fragment_each() -> None:
    for blob_id in BLOBS[:50]:
        placement = choose_disks(topology_of([3] * 6), EC_4_2, blob_id)
        assert len({disk.zone for disk in placement.disks}) == 6
        assert not placement.is_degraded


def test_choice_is_repeatable_and_differs_between_blobs() -> None:
    def choose(blob_id: bytes) -> tuple[int, ...]:
        disks = choose_disks(topology_of([2] * 6), EC_4_2, blob_id).disks
        return tuple(disk.disk_id for disk in disks)

    assert [choose(blob_id) for blob_id in BLOBS[:20]] == [
        choose(blob_id) for blob_id in BLOBS[:20]
    ]
    assert len({choose(blob_id) for blob_id in BLOBS[:20]}) > 15


def test_choice_never_changes_between_releases() -> None:
    """Repair and rebalancing compute homes again: another order would move the whole cluster."""
    disks = choose_disks(topology_of([2] * 6), EC_4_2, blob_id_of(1)).disks
    assert [disk.disk_id for disk in disks] == [4, 2, 12, 5, 10, 8]


@pytest.mark.parametrize("disks_per_zone", [[1] * 10, [10], [5, 5], [2] * 7])
def test_equal_disks_get_equal_shares(disks_per_zone: list[int]) -> None:
    topology = topology_of(disks_per_zone)
    counts = Counter(
        disk.disk_id for blob_id in BLOBS for disk in choose_disks(topology, EC_4_2, blob_id).disks
    )
    mean = len(BLOBS) * 6 / sum(disks_per_zone)
    assert max(counts.values()) < 1.08 * mean
    assert min(counts.values()) > 0.92 * mean


def test_every_disk_is_as_often_first_as_last() -> None:
    """Parity is not read from a healthy cluster, so data fragments must not gather on few disks."""
    topology = topology_of([1] * 6)
    chosen = [choose_disks(topology, EC_4_2, blob_id).disks for blob_id in BLOBS]
    for place in range(6):
        counts = Counter(disks[place].disk_id for disks in chosen)
        assert min(counts.values()) > 0.85 * len(BLOBS) / 6, place


def test_weights_are_shares() -> None:
    topology = topology_of([4], capacities={1: 3 * GIB})
    profile = profile_of(1, 0)
    counts = Counter(choose_disks(topology, profile, blob_id).disks[0].disk_id for blob_id in BLOBS)
    assert 0.45 < counts[1] / len(BLOBS) < 0.55


def test_a_lost_disk_moves_only_its_own_fragments() -> None:
    whole, less = topology_of([1] * 10), topology_of([1] * 10, {4: FAILED})
    for blob_id in BLOBS[:200]:
        before = {disk.disk_id for disk in choose_disks(whole, EC_4_2, blob_id).disks}
        after = {disk.disk_id for disk in choose_disks(less, EC_4_2, blob_id).disks}
        assert before - after == before & {4}


@pytest.mark.parametrize("down", [["n1"], ["n2", "n5"]])
def test_with_zones_down_the_rest_takes_all_fragments(down: list[str]) -> None:
    placement = choose_disks(topology_of([1] * 6), EC_4_2, BLOBS[0], down)
    assert placement.is_degraded
    assert not {disk.node_name for disk in placement.disks} & set(down)
    assert max(Counter(disk.zone for disk in placement.disks).values()) == 2


def test_degraded_tells_of_lost_disks_in_one_zone_too() -> None:
    topology = topology_of([6])
    assert not choose_disks(topology, EC_4_2, BLOBS[0]).is_degraded
    assert choose_disks(topology, EC_4_2, BLOBS[0], ["n3"]).is_degraded


def test_a_spare_disk_in_the_same_zone_is_no_degradation() -> None:
    assert not choose_disks(topology_of([2] * 6), EC_4_2, BLOBS[0], ["n1"]).is_degraded


def test_the_best_of_an_uneven_cluster_is_not_degraded() -> None:
    """Otherwise repair would try for ever to move such blobs to a home that does not exist."""
    placement = choose_disks(topology_of([4, 1, 1]), EC_4_2, BLOBS[0])
    assert not placement.is_degraded
    assert set(Counter(disk.zone for disk in placement.disks).values()) == {2}


def test_zones_with_one_disk_do_not_stop_a_zone_with_many() -> None:
    placement = choose_disks(topology_of([6, 1]), EC_4_2, BLOBS[0])
    assert max(Counter(disk.disk_id for disk in placement.disks).values()) == 1


@pytest.mark.parametrize("state", [READ_ONLY, DRAINING, FAILED, REMOVED])
def test_only_disks_that_are_up_are_chosen(state: records_pb2.Disk.State.ValueType) -> None:
    for blob_id in BLOBS[:20]:
        disks = choose_disks(topology_of([2] * 6, {1: state, 4: state}), EC_4_2, blob_id).disks
        assert not {disk.disk_id for disk in disks} & {1, 4}


@pytest.mark.parametrize(
    ("disks_per_zone", "states", "down", "fault"),
    [
        ([1] * 6, {}, [f"n{i}" for i in range(1, 7)], faults.Unavailable),
        ([1] * 6, {}, ["n1", "n2", "n3", "n4"], faults.Unavailable),
        ([1] * 6, dict.fromkeys(range(1, 7), READ_ONLY), [], faults.Full),
        ([1] * 6, dict.fromkeys(range(1, 5), READ_ONLY), [], faults.Full),
        ([1] * 6, dict.fromkeys(range(1, 7), FAILED), [], faults.Unavailable),
        ([1] * 6, {1: READ_ONLY}, ["n2", "n3", "n4", "n5"], faults.Unavailable),
        ([1], {}, [], faults.Unavailable),
        ([], {}, [], faults.Unavailable),
    ],
)
def test_too_few_disks_are_refused_with_the_reason(
    disks_per_zone: list[int],
    states: dict[int, records_pb2.Disk.State.ValueType],
    down: list[str],
    fault: type[faults.Fault],
) -> None:
    with pytest.raises(fault):
        choose_disks(topology_of(disks_per_zone, states), EC_4_2, BLOBS[0], down)


@pytest.mark.parametrize(("k", "m"), [(1, 0), (2, 0), (1, 2), (2, 1), (2, 4), (8, 3)])
def test_other_profiles_take_the_same_way(k: int, m: int) -> None:
    disks = choose_disks(topology_of([2] * 4), profile_of(k, m), BLOBS[0]).disks
    assert len(disks) == k + m
    if m:
        assert max(Counter(disk.disk_id for disk in disks).values()) <= m


def test_one_disk_takes_a_profile_without_promises() -> None:
    assert len(choose_disks(topology_of([1]), profile_of(1, 0), BLOBS[0]).disks) == 1


@given(
    disks_per_zone=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    k=st.integers(1, 8),
    m=st.integers(0, 4),
    number=st.integers(0, 1 << 40),
    data=st.data(),
)
def test_rules_hold_on_any_topology(
    disks_per_zone: list[int], k: int, m: int, number: int, data: st.DataObject
) -> None:
    topology = topology_of(disks_per_zone)
    names = [f"n{disk_id}" for disk_id in topology.disks]
    down = data.draw(st.sets(st.sampled_from(names)))
    alive = [disk for disk in topology.disks.values() if disk.node_name not in down]
    zone_count = len({disk.zone for disk in alive})
    try:
        placement = choose_disks(topology, profile_of(k, m), blob_id_of(number), down)
    except faults.Unavailable:
        assert len(alive) * (m or k) < k + m
        return
    assert len(placement.disks) == k + m
    assert not {disk.node_name for disk in placement.disks} & down
    if m:
        assert max(Counter(disk.disk_id for disk in placement.disks).values()) <= m
    if m * zone_count >= k + m:
        assert max(Counter(disk.zone for disk in placement.disks).values()) <= m
    if not down:
        assert not placement.is_degraded
