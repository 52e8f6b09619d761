"""The sentence about what may be lost is true: checked against every loss of every placement."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import faults
from common.placement.choose import choose_disks
from common.placement.survival import survives
from proto import records_pb2
from tests.unit.common.placement.topologies import blob_id_of, profile_of, topology_of

BLOBS = [blob_id_of(number) for number in range(60)]


@pytest.mark.parametrize(
    ("disks_per_zone", "k", "m", "down", "sentence"),
    [
        ([1] * 6, 4, 2, [], "any 2 zones"),
        ([4] * 6, 4, 2, [], "any 2 zones"),
        ([2] * 3, 4, 2, [], "any 1 zone or any 2 disks"),
        ([6], 4, 2, [], "any 2 disks"),
        ([1] * 3, 4, 2, [], "any 1 zone"),
        ([3], 4, 2, [], "any 1 disk"),
        ([1] * 4, 4, 2, [], "any 1 zone"),
        ([6, 1], 4, 2, [], "any 2 disks"),
        ([1] * 3, 1, 2, [], "any 2 zones"),
        ([1] * 3, 2, 1, [], "any 1 zone"),
        ([1], 1, 0, [], "nothing: there is one copy"),
        ([1], 4, 2, [], "nothing: there are too few disks"),
        ([], 4, 2, [], "nothing: there are too few disks"),
        ([1] * 6, 4, 2, ["n1"], "any 1 zone"),
        ([1] * 6, 4, 2, ["n1", "n6"], "nothing more: too many disks are away"),
        ([1] * 6, 4, 2, ["n1", "n2", "n3"], "nothing: some data cannot be read now"),
        ([2] * 6, 4, 2, ["n1"], "any 1 zone"),
        ([6], 4, 2, ["n1"], "any 1 disk"),
    ],
)
def test_sentences(
    disks_per_zone: list[int], k: int, m: int, down: list[str], sentence: str
) -> None:
    assert survives(topology_of(disks_per_zone), profile_of(k, m), down) == sentence


def test_failed_disks_count_as_lost_and_full_ones_do_not() -> None:
    failed = topology_of([1] * 6, {1: records_pb2.Disk.FAILED})
    full = topology_of([1] * 6, {1: records_pb2.Disk.READ_ONLY})
    assert survives(failed, profile_of(4, 2)) == "any 1 zone"
    assert survives(full, profile_of(4, 2)) == "any 2 zones"


def promised(sentence: str, what: str) -> int:
    found = re.search(rf"any (\d+) {what}", sentence)
    return int(found.group(1)) if found else 0


@settings(deadline=None, max_examples=60)
@given(
    disks_per_zone=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    k=st.integers(1, 4),
    m=st.integers(1, 4),
    data=st.data(),
)
def test_a_promise_holds_for_every_loss(
    disks_per_zone: list[int], k: int, m: int, data: st.DataObject
) -> None:
    topology, profile = topology_of(disks_per_zone), profile_of(k, m)
    down = data.draw(st.sets(st.sampled_from([f"n{i}" for i in topology.disks]), max_size=2))
    try:
        placements = [choose_disks(topology, profile, blob_id).disks for blob_id in BLOBS]
    except faults.Unavailable:
        assert survives(topology, profile, down).startswith("nothing")
        return
    sentence = survives(topology, profile, down)
    for what in ("zone", "disk"):
        used = {disk for disks in placements for disk in disks}
        names = {disk.zone if what == "zone" else disk.disk_id for disk in used}
        losses = itertools.combinations(names, promised(sentence, what))
        for lost, disks in itertools.product(losses, placements):
            left = [
                disk
                for disk in disks
                if disk.node_name not in down and disk.zone not in lost and disk.disk_id not in lost
            ]
            assert len(left) >= k or "cannot be read" in sentence, (sentence, lost)
