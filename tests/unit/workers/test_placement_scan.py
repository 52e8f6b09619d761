"""When the pass over placements looks: at once when disks change, seldom while they do not."""

from typing import Any

from common.clock import ManualClock
from metaservice.table import Method
from proto import meta_pb2, records_pb2
from workers.placement_scan import IDLE_S, PlacementScan


class FakeNodes:
    def __init__(self) -> None:
        self.gone: frozenset[int] = frozenset()
        self.topology = records_pb2.Topology(epoch=1)

    def disks(self) -> list[records_pb2.Disk]:
        return [records_pb2.Disk(disk_id=1)]

    def lost(self) -> frozenset[int]:
        return self.gone


class FakeMeta:
    def __init__(self) -> None:
        self.looks: list[list[int]] = []
        self.is_held = True

    async def call(self, method: Method, request: Any) -> Any:
        if method is Method.ACQUIRE_LEASE:
            return meta_pb2.LeaseReply(is_held=self.is_held)
        self.looks.append(list(request.lost_disk_ids))
        return meta_pb2.ScanPlacementsReply(progress=records_pb2.RepairPass(done=True))


async def test_it_looks_at_once_when_something_changed_and_seldom_otherwise() -> None:
    nodes, meta, clock = FakeNodes(), FakeMeta(), ManualClock()
    fakes: Any = (meta, nodes)
    scan = PlacementScan(*fakes, clock, "w")
    for _ in range(5):
        await scan.run_once()
    assert meta.looks == [[]]
    nodes.gone = frozenset({3})
    for _ in range(5):
        await scan.run_once()
    assert meta.looks == [[], [3]]
    nodes.topology.epoch = 2
    await scan.run_once()
    assert meta.looks == [[], [3], [3]]
    clock.advance(IDLE_S)
    await scan.run_once()
    assert len(meta.looks) == 4


async def test_who_does_not_hold_the_lease_asks_again_soon() -> None:
    nodes, meta, clock = FakeNodes(), FakeMeta(), ManualClock()
    fakes: Any = (meta, nodes)
    scan = PlacementScan(*fakes, clock, "w")
    meta.is_held = False
    await scan.run_once()
    assert not meta.looks
    meta.is_held = True
    clock.advance(IDLE_S)
    await scan.run_once()
    assert meta.looks == [[]]
