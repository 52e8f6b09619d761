"""The endless comparison: reports, quarantine, its place over restarts, its lease; doubt stops all.

Method: the cluster of test_compare; the clock moved by the test.
"""

import pytest

from common import faults, limits
from common.clock import ManualClock
from common.erasure.layout import FULL_CELL_BYTES
from metaservice import keys
from metaservice.kv.interface import Mutation
from metaservice.kv.memory import MemoryStore
from metaservice.table import Method
from proto import meta_pb2, records_pb2, scrub_pb2, storage_pb2
from tests.support.meta import MetaBench
from tests.unit.workers.test_compare import Cluster, Disk, filled
from workers.garbage import GarbageCollector
from workers.scrub import RENEW_S, ComparisonScrub

STRANGER = b"\x01" * 16


class Deletable(Disk):
    """A disk that deletes as a node does."""

    async def delete_fragments(
        self, request: storage_pb2.DeleteFragments
    ) -> storage_pb2.DeleteFragmentsReply:
        deleted = 0
        for fragment in request.fragments:
            info = self.fragments.get((fragment.blob_id, fragment.index))
            if info is not None and info.written_ns < request.written_before_ns:
                del self.fragments[fragment.blob_id, fragment.index]
                deleted += 1
        return storage_pb2.DeleteFragmentsReply(deleted=deleted)


class Scrubbed(Cluster):
    def __init__(self, bench: MetaBench) -> None:
        super().__init__(bench)
        self.on = {disk_id: Deletable(disk_id, bench.clock) for disk_id in self.on}

    async def refresh(self) -> None:
        return

    def scrub(self, holder: str = "workers") -> ComparisonScrub:
        return ComparisonScrub(self.bench, self, holder, self.bench.clock, 60.0)  # type: ignore[arg-type]

    async def state(self) -> scrub_pb2.ScrubState:
        state: scrub_pb2.ScrubState = await self.bench.call(
            Method.LOAD_SCRUB, scrub_pb2.LoadScrub()
        )
        return state

    async def whole_pass(self, scrub: ComparisonScrub) -> scrub_pb2.ScrubState:
        """Steps until a pass ends."""
        finished = (await self.state()).finished_ns
        for _ in range(200):
            await scrub.step()
            self.bench.clock.advance(1.0)
            if (await self.state()).finished_ns != finished:
                return await self.state()
        raise AssertionError("the pass does not end")

    def stranger(self) -> None:
        blob = records_pb2.BlobRef(
            blob_id=STRANGER, plain_bytes=9, k=4, m=2, cell_bytes=FULL_CELL_BYTES, layout=1
        )
        self.on[3].put(blob, 2)


@pytest.fixture
async def cluster() -> Scrubbed:
    bench = MetaBench(MemoryStore(), ManualClock())
    await bench.start()
    return Scrubbed(bench)


async def test_a_whole_cluster_passes(cluster: Scrubbed) -> None:
    await filled(cluster)
    state = await cluster.whole_pass(cluster.scrub())
    assert (state.pass_number, dict(state.found_before)) == (1, {})


async def test_missing_fragments_become_repair_jobs(cluster: Scrubbed) -> None:
    blob = (await filled(cluster))[0]
    del cluster.on[2].fragments[blob.blob_id, 1]
    state = await cluster.whole_pass(cluster.scrub())
    assert dict(state.found_before) == {"damaged": 1}
    jobs = (await cluster.bench.call(Method.LIST_REPAIRS, meta_pb2.ListRepairs(limit=9))).jobs
    assert [(job.blob.blob_id, list(job.missing)) for job in jobs] == [(blob.blob_id, [1])]


async def test_unknown_fragments_go_after_their_quarantine_and_not_before(
    cluster: Scrubbed,
) -> None:
    await filled(cluster)
    cluster.stranger()
    scrub, bench = cluster.scrub(), cluster.bench
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    await cluster.whole_pass(scrub)
    bench.clock.advance(limits.QUARANTINE_S - 1000)
    await cluster.whole_pass(scrub)
    assert (STRANGER, 2) in cluster.on[3].fragments
    bench.clock.advance(2000)
    await cluster.whole_pass(scrub)
    assert (STRANGER, 2) not in cluster.on[3].fragments
    assert not bench.store.scan(b"F", b"G", 9)
    assert len(cluster.on[3].fragments) == 3, "what is named stays"


async def test_a_fragment_whose_blob_lies_elsewhere_becomes_a_stray(cluster: Scrubbed) -> None:
    """It came too late for its commit, and repair made it anew on another disk."""
    blob = (await filled(cluster))[0]
    other = next(disk_id for disk_id in cluster.on if disk_id not in blob.disk_ids[:1])
    cluster.on[other].put(blob, 0)
    bench = cluster.bench
    await cluster.whole_pass(cluster.scrub())
    assert not (await bench.call(Method.LIST_STRAYS, meta_pb2.ListStrays())).due, "too early"
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    due = (await bench.call(Method.LIST_STRAYS, meta_pb2.ListStrays())).due
    assert [(each.blob_id, each.stray.index, each.stray.disk_id) for each in due] == [
        (blob.blob_id, 0, other)
    ]


async def test_a_stray_with_an_entry_is_no_stranger(cluster: Scrubbed) -> None:
    """Its blob is deleted before the entry is due; the entry deletes it then."""
    cluster.stranger()
    bench = cluster.bench
    stray = records_pb2.Stray(
        index=2, disk_id=3, state=records_pb2.Stray.SURPLUS, due_ns=bench.clock.now_ns() + 10**15
    )
    rows = {keys.strays(STRANGER): records_pb2.Strays(strays=[stray]).SerializeToString()}
    await bench.store.commit(Mutation({}, rows, {}))
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    await cluster.whole_pass(cluster.scrub())
    assert not bench.store.scan(b"F", b"G", 9)
    assert (STRANGER, 2) in cluster.on[3].fragments


async def test_nothing_is_unknown_while_garbage_is_kept_for_its_disk(cluster: Scrubbed) -> None:
    cluster.stranger()
    bench = cluster.bench
    blob = records_pb2.BlobRef(blob_id=STRANGER, disk_ids=[0, 0, 3])
    kept = records_pb2.Garbage(disk_id=3, blobs=[blob]).SerializeToString()
    row = keys.kept_garbage(3, b"random01")
    await bench.store.commit(Mutation({}, {row: kept}, {}))
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    await cluster.whole_pass(cluster.scrub())
    assert not bench.store.scan(b"F", b"G", 9)
    await bench.store.commit(Mutation({}, {row: None}, {}))
    await cluster.whole_pass(cluster.scrub())
    assert len(bench.store.scan(b"F", b"G", 9)) == 1


async def test_a_finished_stray_leaves_the_quarantine(cluster: Scrubbed) -> None:
    cluster.stranger()
    bench = cluster.bench
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    await cluster.whole_pass(cluster.scrub())
    assert len(bench.store.scan(b"F", b"G", 9)) == 1
    stray = records_pb2.Stray(index=2, disk_id=3, state=records_pb2.Stray.DELETING, token=1)
    rows = {keys.strays(STRANGER): records_pb2.Strays(strays=[stray]).SerializeToString()}
    await bench.store.commit(Mutation({}, rows, {}))
    entry = meta_pb2.StrayEntry(blob_id=STRANGER, stray=stray)
    await bench.call(Method.FINISH_STRAYS, meta_pb2.FinishStrays(strays=[entry]))
    assert not bench.store.scan(b"F", b"G", 9)
    assert not bench.store.scan(b"J", b"K", 9)


@pytest.mark.parametrize("others", [0, 150])  # the disk has one page, or two
async def test_what_something_else_has_deleted_leaves_the_quarantine(
    cluster: Scrubbed, others: int
) -> None:
    cluster.stranger()
    scrub, bench = cluster.scrub(), cluster.bench
    for number in range(others):
        blob_id = STRANGER[:8] + number.to_bytes(8, "big")
        blob = records_pb2.BlobRef(
            blob_id=blob_id, plain_bytes=9, k=4, m=2, cell_bytes=FULL_CELL_BYTES, layout=1
        )
        cluster.on[3].put(blob, 2)
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    await cluster.whole_pass(scrub)
    assert len(bench.store.scan(b"F", b"G", 999)) == 1 + others
    del cluster.on[3].fragments[STRANGER, 2]
    await cluster.whole_pass(scrub)
    assert len(bench.store.scan(b"F", b"G", 999)) == others


async def test_what_was_written_since_stays(cluster: Scrubbed) -> None:
    cluster.stranger()
    scrub, bench = cluster.scrub(), cluster.bench
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    await cluster.whole_pass(scrub)
    bench.clock.advance(limits.QUARANTINE_S - limits.GARBAGE_GRACE_S)
    cluster.stranger()  # the same name again
    bench.clock.advance(limits.GARBAGE_GRACE_S + 2000)
    await cluster.whole_pass(scrub)
    assert (STRANGER, 2) in cluster.on[3].fragments


async def test_the_place_survives_and_goes_to_the_next_holder(cluster: Scrubbed) -> None:
    bench = cluster.bench
    bucket = await bench.create_bucket("bucket")
    for number in range(700):
        await bench.commit(bucket, f"{number}".encode(), b"x")
    first, second = cluster.scrub("one"), cluster.scrub("two")
    for _ in range(2):
        await first.step()
    bench.clock.advance(RENEW_S + 1)
    await first.step()
    assert (await cluster.state()).position
    await second.step()
    place = (await cluster.state()).position
    bench.clock.advance(200)
    await second.step()
    bench.clock.advance(RENEW_S + 1)
    with pytest.raises(faults.Fenced):
        await bench.call(
            Method.SAVE_SCRUB, scrub_pb2.SaveScrub(state=first._state, holder="one", token=1)
        )
    await second.step()
    assert (await cluster.state()).position > place
    assert (await cluster.state()).pass_number == 1


async def test_nothing_is_collected_from_metadata_that_cannot_be_read(cluster: Scrubbed) -> None:
    await filled(cluster)
    bench = cluster.bench
    collector = GarbageCollector(bench, cluster, "workers")  # type: ignore[arg-type]
    await collector.run_once()
    scan = bench.store.scan

    def damaged(begin: bytes, *others: object) -> object:
        if begin.startswith(b"v"):
            raise faults.Corrupt("database", "meta")
        return scan(begin, *others)  # type: ignore[arg-type]

    bench.store.scan = damaged  # type: ignore[method-assign, assignment]
    with pytest.raises(faults.Corrupt):
        await cluster.scrub().step()
    with pytest.raises(faults.Unavailable, match="doubtful"):
        await collector.run_once()
    with pytest.raises(faults.Unavailable, match="doubtful"):
        await bench.call(Method.CHECK_BLOBS, meta_pb2.CheckBlobs(blob_ids=[b"x" * 16]))
    await bench.store.commit(Mutation(puts={b"z": b""}))
