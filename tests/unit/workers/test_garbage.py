"""The collector: deletes what is due on every disk, forgets it only then, and never gets stuck.

Method: a metadata service in memory, nodes that are sets of fragments.
"""

from collections.abc import Iterable

import pytest

from common import faults, limits
from common.clock import ManualClock
from metaservice import keys
from metaservice.kv.interface import Mutation
from metaservice.kv.memory import MemoryStore
from metaservice.operations.garbage import BLOBS_PER_ROW, add_garbage
from metaservice.table import Method
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2, storage_pb2
from tests.support.meta import MetaBench
from workers.garbage import GarbageCollector

DISKS = range(1, 7)
GRACE_S = limits.GARBAGE_GRACE_S + 1
Fragment = tuple[bytes, int]


class FakeNode:
    """One disk on one node."""

    def __init__(self, disk_id: int) -> None:
        self.disk = records_pb2.Disk(disk_id=disk_id)
        self.fragments: set[Fragment] = set()
        self.is_away = False
        self.deletes = 0

    async def delete_fragments(
        self, request: storage_pb2.DeleteFragments
    ) -> storage_pb2.DeleteFragmentsReply:
        if self.is_away:
            raise faults.Unavailable("away")
        self.deletes += 1
        gone = {(fragment.blob_id, fragment.index) for fragment in request.fragments}
        deleted = len(gone & self.fragments)
        self.fragments -= gone
        return storage_pb2.DeleteFragmentsReply(deleted=deleted)

    async def list_fragments(
        self, request: storage_pb2.ListFragments
    ) -> storage_pb2.ListFragmentsReply:
        if self.is_away:
            raise faults.Unavailable("away")
        found = sorted(
            fragment
            for fragment in self.fragments
            if fragment[0].startswith(request.blob_prefix)
            and fragment[0] + bytes([fragment[1]]) > request.after
        )
        page = found[: min(request.limit, 3)]
        return storage_pb2.ListFragmentsReply(
            fragments=[storage_pb2.FragmentInfo(blob_id=blob, index=index) for blob, index in page],
            more=len(found) > len(page),
        )


class FakeNodes:
    """A node per disk."""

    def __init__(self) -> None:
        self.nodes = {disk_id: FakeNode(disk_id) for disk_id in DISKS}

    async def refresh(self) -> None:
        return

    def client_of(self, disk_id: int) -> FakeNode | None:
        node = self.nodes.get(disk_id)
        return node if node is not None and not node.is_away else None

    def disks(self) -> list[records_pb2.Disk]:
        return [node.disk for node in self.nodes.values()]

    def store(self, blobs: Iterable[records_pb2.BlobRef]) -> None:
        for blob in blobs:
            for index, disk_id in enumerate(blob.disk_ids):
                self.nodes[disk_id].fragments.add((blob.blob_id, index))

    def blob_ids(self) -> set[bytes]:
        return {blob_id for node in self.nodes.values() for blob_id, _ in node.fragments}


class Cluster:
    """A service, nodes and a collector."""

    def __init__(self, bench: MetaBench) -> None:
        self.bench = bench
        self.nodes = FakeNodes()
        self.collector = GarbageCollector(bench, self.nodes, "workers-1")  # type: ignore[arg-type]

    async def add(self, blobs: list[records_pb2.BlobRef]) -> None:
        async def body(transaction: Transaction) -> meta_pb2.FinishGarbageReply:
            add_garbage(transaction, blobs)
            return meta_pb2.FinishGarbageReply()

        self.nodes.store(blobs)
        await self.bench.server.transactor.write(body, meta_pb2.FinishGarbageReply)

    async def pending(self) -> int:
        reply = await self.bench.call(Method.LIST_GARBAGE, meta_pb2.ListGarbage())
        pending: int = reply.pending
        return pending


@pytest.fixture
async def cluster() -> Cluster:
    bench = MetaBench(MemoryStore(), ManualClock())
    await bench.start()
    return Cluster(bench)


async def test_nothing_is_deleted_before_it_is_due(cluster: Cluster) -> None:
    await cluster.add([cluster.bench.blob(1)])
    await cluster.collector.run_once()
    assert len(cluster.nodes.blob_ids()) == 1


async def test_due_blobs_leave_every_disk_and_are_forgotten(cluster: Cluster) -> None:
    bench = cluster.bench
    bucket = await bench.create_bucket("bucket")
    kept, dropped = bench.blob(1), bench.blob(2)
    cluster.nodes.store([kept, dropped])
    await bench.commit(bucket, b"kept", blobs=[kept])
    await bench.commit(bucket, b"dropped", blobs=[dropped])
    await bench.delete(bucket, b"dropped")
    bench.clock.advance(GRACE_S)
    assert await cluster.collector.run_once() == 1
    assert cluster.nodes.blob_ids() == {kept.blob_id}
    assert await cluster.pending() == 0
    assert [key for key, _ in bench.store.scan(b"o", b"p", 9)] == [b"o" + kept.blob_id]


async def test_disks_are_asked_once_for_many_rows(cluster: Cluster) -> None:
    for number in range(50):
        await cluster.add([cluster.bench.blob(number)])
    cluster.bench.clock.advance(GRACE_S)
    await cluster.collector.run_once()
    assert cluster.nodes.blob_ids() == set()
    assert [node.deletes for node in cluster.nodes.nodes.values()] == [1] * len(DISKS)


async def test_rows_of_many_blobs_are_finished_in_bounded_calls(cluster: Cluster) -> None:
    await cluster.add([cluster.bench.blob(number) for number in range(60 * BLOBS_PER_ROW)])
    cluster.bench.clock.advance(GRACE_S)
    assert await cluster.collector.run_once() == 60
    assert (cluster.nodes.blob_ids(), await cluster.pending()) == (set(), 0)


async def test_disk_away_does_not_hold_up_the_others(cluster: Cluster) -> None:
    """Three hundred rows wait for a dead disk; what comes later is collected all the same."""
    away = cluster.nodes.nodes[6]
    away.is_away = True
    for number in range(300):
        await cluster.add([cluster.bench.blob(number)])
    cluster.bench.clock.advance(1)
    fresh = cluster.bench.blob(1000, disk_ids=[1, 2, 3, 4, 5])
    await cluster.add([fresh])
    cluster.bench.clock.advance(GRACE_S)
    await cluster.collector.run_once()
    assert fresh.blob_id not in cluster.nodes.blob_ids()
    assert [len(node.fragments) for node in cluster.nodes.nodes.values()] == [0] * 5 + [300]
    assert await cluster.pending() == 300
    listed = await cluster.bench.call(Method.LIST_GARBAGE, meta_pb2.ListGarbage(limit=100))
    assert not listed.entries, "they are not met again before the disk is"
    away.is_away = False
    asked = cluster.nodes.nodes[1].deletes
    await cluster.collector.run_once()
    assert (cluster.nodes.blob_ids(), await cluster.pending()) == (set(), 0)
    assert cluster.nodes.nodes[1].deletes == asked, "only the disks that are left are asked"


async def test_what_was_kept_for_a_disk_goes_with_its_removal(cluster: Cluster) -> None:
    gone = cluster.nodes.nodes[6]
    gone.is_away = True
    await cluster.add([cluster.bench.blob(number) for number in range(300)])
    cluster.bench.clock.advance(GRACE_S)
    await cluster.collector.run_once()
    assert await cluster.pending() == 6
    gone.disk.state = records_pb2.Disk.FAILED
    gone.is_away = False
    await cluster.collector.run_once()
    assert await cluster.pending() == 6, "a failed disk is not asked"
    gone.disk.state = records_pb2.Disk.REMOVED
    await cluster.collector.run_once()
    assert await cluster.pending() == 0


async def test_disk_that_goes_again_keeps_what_is_left(cluster: Cluster) -> None:
    away = [cluster.nodes.nodes[number] for number in (5, 6)]
    for node in away:
        node.is_away = True
    await cluster.add([cluster.bench.blob(number) for number in range(3 * BLOBS_PER_ROW)])
    cluster.bench.clock.advance(GRACE_S)
    await cluster.collector.run_once()
    assert await cluster.pending() == 6, "a row of each disk for each row of garbage"

    async def fail(request: storage_pb2.DeleteFragments) -> storage_pb2.DeleteFragmentsReply:
        raise faults.Unavailable("away again")

    for node in away:
        node.is_away = False
    away[0].delete_fragments = fail  # type: ignore[method-assign]
    await cluster.collector.run_once()
    assert (len(away[0].fragments), len(away[1].fragments)) == (3 * BLOBS_PER_ROW, 0)
    assert await cluster.pending() == 3


async def test_sessions_do_not_wait_for_a_disk(cluster: Cluster) -> None:
    """More ended sessions than a round takes, and a disk that does not come back."""
    bench = cluster.bench
    sessions = [await bench.open_session() for _ in range(45)]
    for session_id in sessions:
        bench.session_id = session_id
        cluster.nodes.store([bench.blob(1)])
    bench.clock.advance(limits.SESSION_LEASE_S + 1)
    cluster.nodes.nodes[2].is_away = True
    await cluster.collector.run_once()
    bench.clock.advance(GRACE_S)
    for _ in range(3):
        await cluster.collector.run_once()
    assert [len(node.fragments) for node in cluster.nodes.nodes.values()] == [0, 45, 0, 0, 0, 0]
    assert not bench.store.scan(b"s", b"t", 99)
    cluster.nodes.nodes[2].is_away = False
    await cluster.collector.run_once()
    assert (cluster.nodes.blob_ids(), await cluster.pending()) == (set(), 0)


async def test_aborted_upload_goes_in_one_round(cluster: Cluster) -> None:
    upload_id = b"u" * 16
    blobs = [cluster.bench.blob(number) for number in range(1, 301)]
    cluster.nodes.store(blobs)
    puts: dict[bytes, bytes | None] = {
        keys.part(upload_id, number): records_pb2.Part(
            number=number, blobs=[blob]
        ).SerializeToString()
        for number, blob in enumerate(blobs, 1)
    }
    await cluster.bench.store.commit(Mutation(puts=puts))

    async def body(transaction: Transaction) -> meta_pb2.FinishGarbageReply:
        add_garbage(transaction, upload_id=upload_id)
        return meta_pb2.FinishGarbageReply()

    await cluster.bench.server.transactor.write(body, meta_pb2.FinishGarbageReply)
    cluster.bench.clock.advance(GRACE_S)
    await cluster.collector.run_once()
    assert (cluster.nodes.blob_ids(), await cluster.pending()) == (set(), 0)
    assert not cluster.bench.store.scan(b"p", b"q", 9)


async def test_removed_disk_is_not_waited_for(cluster: Cluster) -> None:
    gone = cluster.nodes.nodes[6]
    gone.is_away, gone.disk.state = True, records_pb2.Disk.REMOVED
    await cluster.add([cluster.bench.blob(1)])
    cluster.bench.clock.advance(GRACE_S)
    assert await cluster.collector.run_once() == 1
    assert await cluster.pending() == 0


async def test_orphans_of_an_ended_session_go_and_named_blobs_stay(cluster: Cluster) -> None:
    bench = cluster.bench
    bucket = await bench.create_bucket("bucket")
    named, orphans = bench.blob(1), [bench.blob(number) for number in range(2, 12)]
    cluster.nodes.store([named, *orphans])
    await bench.commit(bucket, b"key", blobs=[named])
    await cluster.collector.run_once()
    assert len(cluster.nodes.blob_ids()) == 11, "the session lives: uploads may be in flight"
    bench.clock.advance(limits.SESSION_LEASE_S + 1)
    await cluster.collector.run_once()
    bench.clock.advance(GRACE_S)
    cluster.nodes.nodes[3].is_away = True
    await cluster.collector.run_once()
    assert [len(node.fragments) for node in cluster.nodes.nodes.values()] == [1, 1, 11, 1, 1, 1]
    cluster.nodes.nodes[3].is_away = False
    await cluster.collector.run_once()
    assert cluster.nodes.blob_ids() == {named.blob_id}
    assert not bench.store.scan(b"s", b"t", 9)


async def test_only_one_collector_works(cluster: Cluster) -> None:
    await cluster.add([cluster.bench.blob(1)])
    cluster.bench.clock.advance(GRACE_S)
    request = meta_pb2.AcquireLease(name="garbage", holder="other", seconds=60)
    await cluster.bench.call(Method.ACQUIRE_LEASE, request)
    assert await cluster.collector.run_once() == 0
    assert len(cluster.nodes.blob_ids()) == 1
