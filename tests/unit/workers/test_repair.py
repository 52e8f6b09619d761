"""The repair worker: whatever happens in its middle, a blob ends whole, and nothing is left over.

Method: a metadata service in memory, disks that are dictionaries of fragments with nodes' rules
(tombstones, fences), a clock that the test moves. Two workers may run; one may be killed.
"""

import asyncio
from typing import Any

import pytest

from common import faults
from common.checksum import crc32c_blocks
from common.clock import ManualClock
from common.erasure.layout import BLOCK_BYTES, FULL_CELL_BYTES, LAYOUT_VERSION
from metaservice import keys
from metaservice.kv.memory import MemoryStore
from metaservice.operations import repair_board
from metaservice.table import Method
from proto import meta_pb2, records_pb2, storage_pb2
from tests.support.meta import MetaBench
from tests.unit.workers.repair_world import (
    PLAIN_BYTES,
    TRUTH,
    Disk,
    World,
    coded,
)
from workers import rebuild
from workers.repair import CLAIM_S, RETRY_S


@pytest.fixture
async def world() -> World:
    bench = MetaBench(MemoryStore(), ManualClock())
    await bench.start()

    async def body(transaction: Any) -> meta_pb2.FinishGarbageReply:
        for number in range(1, 7):
            disk = Disk(disk_id=number, zone=f"z{number}", node_name=f"n{number}")
            transaction.put(keys.disk(number), disk.SerializeToString())
        return meta_pb2.FinishGarbageReply()

    await bench.server.transactor.write(body, meta_pb2.FinishGarbageReply)
    return World(bench, await bench.create_bucket("bucket"))


async def test_missing_fragments_are_rebuilt_from_k_others(world: World) -> None:
    await world.store(1, 5)
    await world.store(2, 0, 3)
    await world.worker().run_once()
    await world.assert_whole(1)
    await world.assert_whole(2)
    assert await world.pending() == 0
    stripes = 2
    reads = sum(node.cells_read for node in world.nodes.nodes.values())
    assert reads == 2 * 4 * stripes, "k fragments of each blob, each once"


async def test_a_source_that_another_stripe_finds_bad_is_not_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.store(1, 5)
    choose, refused = rebuild._choose, list[int]()

    def choose_and_lose_one(blob: Any, sources: rebuild.Sources, *others: Any) -> list[int]:
        chosen = choose(blob, sources, *others)
        if chosen and not refused:  # while the pace is waited for
            refused.append(chosen[0])
            sources.refuse(chosen[0], "bad_block")
        return chosen

    monkeypatch.setattr(rebuild, "_choose", choose_and_lose_one)
    await world.worker().run_once()
    assert refused
    await world.assert_whole(1)


async def test_lost_zone_is_left_and_taken_back_when_it_returns(world: World) -> None:
    blob = await world.store(1)
    world.nodes.gone.add(3)
    scan = meta_pb2.ScanPlacements(lost_disk_ids=[3], limit=100)
    for _ in range(3):
        await world.bench.call(Method.SCAN_PLACEMENTS, scan)
    await world.worker().run_once()
    elsewhere = (await world.named(1)).disk_ids[2]
    assert elsewhere != 3 and await world.pending() == 0
    world.nodes.gone.clear()
    before = world.nodes.nodes[3].written[blob.blob_id, 2]
    for _ in range(3):
        await world.bench.call(Method.SCAN_PLACEMENTS, meta_pb2.ScanPlacements(limit=100))
    await world.worker().run_once()
    await world.assert_whole(1)
    home = await world.named(1)
    if home.disk_ids[2] == 3:
        assert world.nodes.nodes[3].written[blob.blob_id, 2] == before, "not written again"
    await world.settle()
    assert world.copies(blob.blob_id) == 6


async def test_bad_block_is_rewritten_in_place(world: World) -> None:
    blob = await world.store(1)
    world.nodes.nodes[2].fragments[blob.blob_id, 1][70_000] ^= 1
    report = meta_pb2.ReportBad(blob=blob, indexes=[1, 4], reason="bad_block")
    await world.bench.call(Method.REPORT_BAD, report)
    await world.worker().run_once()
    await world.assert_whole(1)
    assert list((await world.named(1)).disk_ids) == [1, 2, 3, 4, 5, 6]
    assert await world.pending() == 0


@pytest.mark.parametrize("fault", ["bad_header", "bad_trailer"])
async def test_fragment_with_right_blocks_and_a_damaged_frame_is_written_anew(
    world: World, fault: str
) -> None:
    blob = await world.store(1)
    node, name = world.nodes.nodes[2], (blob.blob_id, 1)
    node.clock, node.faults_beside[name] = 5, fault
    await world.report(blob, 1)
    await world.worker().run_once()
    await world.assert_whole(1)
    assert node.written[name] == 6, "written anew"
    assert not node.faults_beside
    assert await world.pending() == 0


async def repair_until_whole(world: World) -> None:
    for _ in range(12):
        await world.worker().run_once()
        world.bench.clock.advance(RETRY_S + 1)
    await world.settle()
    for _ in range(3):
        await world.worker().run_once()
        world.bench.clock.advance(RETRY_S + 1)
    await world.settle()


@pytest.mark.parametrize("known", [(0, 1, 2), (1,)])
async def test_blob_with_too_few_whole_fragments_is_put_together_block_by_block(
    world: World, known: tuple[int, ...]
) -> None:
    """Each fragment has a bad block somewhere else, only some are known: any read is still right,
    and deleting one of them whole would lose data."""
    blob = await world.store(1)
    for index in range(6):
        world.flip(blob, index, index * 70_000)
    await world.report(blob, *known)
    await repair_until_whole(world)
    await world.assert_whole(1)
    assert (await world.pending(), world.copies(blob.blob_id)) == (0, 6)


async def test_lost_fragments_beside_damaged_ones(world: World) -> None:
    blob = await world.store(1, 4, 5)
    world.flip(blob, 0, 10)
    world.flip(blob, 3, len(TRUTH[blob.blob_id, 3]) - 1)
    await world.report(blob, 0, 3)
    await world.worker().run_once()
    assert world.copies(blob.blob_id) == 4, "a block is gone: nothing that is left is deleted"


async def test_a_block_that_too_few_fragments_have_right_waits_and_keeps_everything(
    world: World,
) -> None:
    blob = await world.store(1)
    for index in (0, 1, 2):
        world.flip(blob, index, 100)
    await world.report(blob, 0, 1, 2)
    await repair_until_whole(world)
    assert world.copies(blob.blob_id) == 6
    status = await world.bench.call(
        Method.QUEUE_REPAIRS, meta_pb2.QueueRepairs(limit=5, waiting=True)
    )
    assert [list(entry.job.missing) for entry in status.entries] == [[0, 1, 2]]


@pytest.mark.parametrize("how", ["delete", "overwrite"])
async def test_blob_deleted_while_it_is_repaired(world: World, how: str) -> None:
    blob = await world.store(1, 5)
    tasks: list[asyncio.Task[Any]] = []

    def delete_now() -> None:
        if not tasks:
            work = (
                world.bench.delete(world.bucket, b"key1")
                if how == "delete"
                else world.bench.commit(world.bucket, b"key1", b"new")
            )
            tasks.append(asyncio.ensure_future(work))

    world.nodes.nodes[6].before_put = delete_now
    await world.worker().run_once()
    await tasks[0]
    await world.settle()
    assert (blob.blob_id, 5) not in world.nodes.nodes[6].fragments
    assert await world.pending() == 0


@pytest.mark.parametrize("arrives", ["before", "after", "never"])
async def test_late_fragment_of_a_blob_deleted_before_its_repair(
    world: World, arrives: str
) -> None:
    blob = await world.store(1, 5, may_arrive=True)
    node = world.nodes.nodes[6]
    if arrives == "before":
        world.put(blob, 5, 6)
    await world.bench.delete(world.bucket, b"key1")
    await world.settle()
    assert (blob.blob_id, 5) not in node.fragments
    if arrives == "after":
        late = storage_pb2.PutCell(blob_id=blob.blob_id, index=5, last=True)
        late.block_checksums = crc32c_blocks(memoryview(b"late"), BLOCK_BYTES)
        with pytest.raises(faults.Fenced):
            node._put(late, b"late")


async def test_how_long_much_data_took_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.worker()
    world.nodes.lost_after_ms = 31_000
    await worker.watch()
    await world.store(1, 5)
    await worker.watch()
    await worker.run_once()
    assert world.bench.store.get(keys.repair_measure()) is None, "too little says nothing"
    monkeypatch.setattr(repair_board, "MEASURED_BYTES_MIN", PLAIN_BYTES)
    await worker.watch()
    await world.store(2, 5)
    await world.store(3, 0, 1)
    await worker.watch()
    world.bench.clock.advance(10)
    await worker.run_once()
    row = world.bench.store.get(keys.repair_measure()) or b""
    measure = records_pb2.RepairMeasure.FromString(row)
    assert (measure.plain_bytes, measure.taken_ms) == (2 * PLAIN_BYTES, 10_000)
    assert measure.lost_after_ms == 31_000


async def test_late_fragment_is_taken_back_and_not_written_again(world: World) -> None:
    blob = await world.store(1, 5, may_arrive=True)
    world.put(blob, 5, 6)
    await world.worker().run_once()
    await world.assert_whole(1)
    await world.settle()
    await world.assert_whole(1)
    assert world.nodes.nodes[6].written[blob.blob_id, 5] == 1
    assert not (await world.named(1)).late_disk_ids


async def store_beside_home(world: World) -> None:
    """A blob with two fragments on disk 1, because disk 6 did not answer."""
    blob = world.bench.blob(
        1, disk_ids=[1, 2, 3, 4, 5, 1], degraded=True, cell_bytes=FULL_CELL_BYTES,
        layout=LAYOUT_VERSION,
    )  # fmt: skip
    blob.plain_bytes = PLAIN_BYTES
    for index, data in enumerate(coded(blob)):
        TRUTH[blob.blob_id, index] = data
        world.put(blob, index, blob.disk_ids[index])
    await world.bench.commit(world.bucket, b"key1", blobs=[blob])


async def test_job_put_to_wait_in_a_moment_that_is_over_is_looked_at_again(world: World) -> None:
    """A disk is away only while the job is planned; before and after, the picture is the same."""
    worker = world.worker()
    await worker.run_once()
    await store_beside_home(world)
    away = world.nodes.nodes[6]
    away.is_away = True

    def back() -> None:
        away.is_away = False

    world.nodes.after_view = back
    for _ in range(2):
        await worker.run_once()
    await world.assert_whole(1)
    assert await world.pending() == 0


async def test_waiting_job_that_could_not_be_claimed_is_tried_again(world: World) -> None:
    worker = world.worker()
    await store_beside_home(world)
    world.nodes.nodes[6].is_away = True
    await worker.run_once()
    queue = meta_pb2.QueueRepairs(limit=5, waiting=True)
    (entry,) = (await world.bench.call(Method.QUEUE_REPAIRS, queue)).entries
    claim = meta_pb2.ClaimRepairs(holder="another", seconds=5)
    claim.claims.add(blob_id=entry.job.blob.blob_id)
    await world.bench.call(Method.CLAIM_REPAIRS, claim)
    world.nodes.nodes[6].is_away = False
    await worker.run_once()
    assert await world.pending() == 1
    world.bench.clock.advance(RETRY_S + 1)
    await worker.run_once()
    await world.assert_whole(1)
    assert await world.pending() == 0


async def test_worker_killed_in_the_middle(world: World) -> None:
    blob = await world.store(1, 5)
    stuck = asyncio.Event()
    world.nodes.nodes[6].before_put = stuck.set
    first = asyncio.ensure_future(world.worker("w1").run_once())
    await stuck.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    world.nodes.nodes[6].before_put = None
    second = world.worker("w2")
    await second.run_once()
    assert (await world.named(1)).disk_ids[5] == 0, "the claim still stands"
    world.bench.clock.advance(CLAIM_S + RETRY_S + 1)
    await second.run_once()
    await world.assert_whole(1)
    await world.settle()
    assert world.copies(blob.blob_id) == 6


async def test_two_workers_share_the_queue(world: World) -> None:
    for number in range(8):
        await world.store(number, number % 6)
    workers = [world.worker("w1"), world.worker("w2")]
    await asyncio.gather(*[worker.run_once() for worker in workers])
    world.bench.clock.advance(RETRY_S + 1)
    await asyncio.gather(*[worker.run_once() for worker in workers])
    for number in range(8):
        await world.assert_whole(number)
    await world.settle()
    assert sum(len(node.fragments) for node in world.nodes.nodes.values()) == 8 * 6


async def test_returned_disk_loses_what_was_deleted_meanwhile(world: World) -> None:
    kept = await world.store(1)
    gone = records_pb2.BlobRef(blob_id=(5).to_bytes(8, "big") + bytes(8))
    TRUTH[gone.blob_id, 3] = b"stale"
    world.put(gone, 3, 4)
    world.put(kept, 5, 4)  # a fragment that lies elsewhere by now
    world.nodes.was_lost.add(4)
    await world.keeper().walk()
    held = world.nodes.nodes[4].fragments
    assert set(held) == {(kept.blob_id, 3), (kept.blob_id, 5)}
    assert world.nodes.nodes[4].tombstones[gone.blob_id, 3] == (False, 0)
    await world.settle()
    assert set(held) == {(kept.blob_id, 3)}
