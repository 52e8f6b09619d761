"""Moving fragments: one conditional commit, under a claim, and nothing left behind anywhere."""

from typing import Any

import pytest

from common import limits
from metaservice import keys
from metaservice.operations.repairs import LATE_NS
from metaservice.table import Method
from proto import meta_pb2, records_pb2
from tests.support.meta import MetaBench

Disk = records_pb2.Disk
Stray = records_pb2.Stray
Outcome = meta_pb2.CommitPlacementReply
GRACE_S = limits.GARBAGE_GRACE_S


async def degraded(bench: MetaBench, key: bytes = b"key", number: int = 1) -> records_pb2.BlobRef:
    """A blob whose fragment 1 is missing, committed as a version."""
    bucket = await bench.call(Method.GET_BUCKET, meta_pb2.GetBucket(name="bucket"))
    blob = bench.blob(number, disk_ids=[1, 0, 3, 4, 5, 6], degraded=True)
    await bench.commit(bucket.bucket, key, blobs=[blob])
    return blob


async def queue(bench: MetaBench, **fields: Any) -> list[meta_pb2.RepairEntry]:
    reply = await bench.call(Method.QUEUE_REPAIRS, meta_pb2.QueueRepairs(limit=100, **fields))
    return list(reply.entries)


async def claim(
    bench: MetaBench,
    blob: records_pb2.BlobRef,
    targets: dict[int, int],
    holder: str = "w1",
) -> int:
    request = meta_pb2.ClaimRepairs(holder=holder, seconds=60)
    one = request.claims.add(blob_id=blob.blob_id)
    for index, disk_id in targets.items():
        one.targets.add(index=index, disk_id=disk_id)
    reply = await bench.call(Method.CLAIM_REPAIRS, request)
    token: int = reply.tokens[0]
    return token


async def move(
    bench: MetaBench, blob: records_pb2.BlobRef, token: int, moves: dict[int, int], **fields: Any
) -> int:
    fields.setdefault("whole", True)
    fields.setdefault("seen", [1])
    request = meta_pb2.CommitPlacement(blob_id=blob.blob_id, token=token, **fields)
    for index, disk_id in moves.items():
        request.moves.add(index=index, disk_id=disk_id)
    outcome: int = (await bench.call(Method.COMMIT_PLACEMENT, request)).outcome
    return outcome


async def named(bench: MetaBench, key: bytes = b"key") -> records_pb2.BlobRef:
    request = meta_pb2.GetVersion(bucket="bucket", key=key)
    reply, _ = await bench.call(Method.GET_VERSION, request)
    return records_pb2.Version.FromString(reply.version).blobs[0]


def strays(bench: MetaBench, blob: records_pb2.BlobRef) -> list[tuple[int, int, int]]:
    stored = bench.store.get(keys.strays(blob.blob_id))
    rows = records_pb2.Strays.FromString(stored or b"").strays
    return [(row.index, row.disk_id, row.state) for row in rows]


@pytest.fixture
async def bucket(bench: MetaBench) -> records_pb2.Bucket:
    for disk_id in range(1, 8):
        disk = Disk(disk_id=disk_id, zone=f"z{disk_id}", node_name=f"n{disk_id}")
        await put_row(bench, keys.disk(disk_id), disk)
    return await bench.create_bucket("bucket")


async def put_row(bench: MetaBench, key: bytes, record: Any) -> None:
    async def body(transaction: Any) -> meta_pb2.FinishGarbageReply:
        transaction.put(key, record.SerializeToString())
        return meta_pb2.FinishGarbageReply()

    await bench.server.transactor.write(body, meta_pb2.FinishGarbageReply)


async def test_moved_fragment_is_named_and_its_job_gone(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    blob = await degraded(bench)
    token = await claim(bench, blob, {1: 2})
    assert strays(bench, blob) == [(1, 2, Stray.WRITING)]
    assert await move(bench, blob, token, {1: 2}) == Outcome.MOVED
    now = await named(bench)
    assert list(now.disk_ids) == [1, 2, 3, 4, 5, 6]
    assert (now.placement_generation, now.degraded) == (1, False)
    assert await queue(bench) == [] and strays(bench, blob) == []


async def test_what_was_moved_away_is_deleted_after_the_grace(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    blob = await degraded(bench)
    token = await claim(bench, blob, {3: 7})
    await move(bench, blob, token, {3: 7}, whole=False, missing=[1])
    assert strays(bench, blob) == [(3, 4, Stray.SURPLUS)]
    due = (await bench.call(Method.LIST_STRAYS, meta_pb2.ListStrays())).due
    assert not due
    bench.clock.advance(GRACE_S + 1)
    due = (await bench.call(Method.LIST_STRAYS, meta_pb2.ListStrays())).due
    tokens = (await bench.call(Method.TAKE_STRAYS, meta_pb2.TakeStrays(strays=due))).tokens
    assert tokens[0] > token and strays(bench, blob) == [(3, 4, Stray.DELETING)]
    assert await claim(bench, blob, {3: 4}) == 0, "a place that is being deleted is nobody's"
    due[0].stray.token = tokens[0]
    await bench.call(Method.FINISH_STRAYS, meta_pb2.FinishStrays(strays=due))
    assert strays(bench, blob) == []


async def test_surplus_taken_back_is_not_deleted(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    blob = await degraded(bench)
    token = await claim(bench, blob, {3: 7})
    await move(bench, blob, token, {3: 7}, whole=False, missing=[1])
    bench.clock.advance(GRACE_S + 1)
    due = (await bench.call(Method.LIST_STRAYS, meta_pb2.ListStrays())).due
    token = await claim(bench, blob, {3: 4})
    taken = await bench.call(Method.TAKE_STRAYS, meta_pb2.TakeStrays(strays=due))
    assert list(taken.tokens) == [0]
    await move(bench, blob, token, {3: 4}, generation=1, whole=False, missing=[1])
    assert (await named(bench)).disk_ids[3] == 4
    assert strays(bench, blob) == [(3, 7, Stray.SURPLUS)]


@pytest.mark.parametrize("how", ["deleted", "overwritten"])
async def test_blob_that_went_meanwhile_leaves_nothing_named(
    bench: MetaBench, bucket: records_pb2.Bucket, how: str
) -> None:
    blob = await degraded(bench)
    token = await claim(bench, blob, {1: 2})
    if how == "deleted":
        await bench.delete(bucket, b"key")
    else:
        await bench.commit(bucket, b"key", b"other")
    assert await move(bench, blob, token, {1: 2}) == Outcome.GONE
    assert strays(bench, blob) == [(1, 2, Stray.SURPLUS)]
    due = (await bench.call(Method.LIST_STRAYS, meta_pb2.ListStrays())).due
    assert len(due) == 1, "nobody reads it: due at once"
    assert await queue(bench) == []


async def test_other_generation_changes_nothing(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    blob = await degraded(bench)
    token = await claim(bench, blob, {1: 2})
    assert await move(bench, blob, token, {1: 2}, generation=5) == Outcome.CHANGED
    assert list((await named(bench)).disk_ids) == list(blob.disk_ids)
    assert len(await queue(bench)) == 1


async def test_claims_exclude_one_another_until_they_end(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    blob = await degraded(bench)
    first = await claim(bench, blob, {1: 2}, "w1")
    assert await claim(bench, blob, {1: 7}, "w2") == 0
    bench.clock.advance(61)
    second = await claim(bench, blob, {1: 7}, "w2")
    assert second > first > 0
    assert await move(bench, blob, first, {1: 2}) == Outcome.FENCED
    assert set(strays(bench, blob)) == {(1, 2, Stray.SURPLUS), (1, 7, Stray.WRITING)}
    assert await move(bench, blob, second, {1: 7}) == Outcome.MOVED
    assert (await named(bench)).disk_ids[1] == 7


async def test_what_a_dead_worker_wrote_is_found_without_its_job(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    blob = await degraded(bench)
    await claim(bench, blob, {1: 2})
    await bench.call(Method.FINISH_GARBAGE, meta_pb2.FinishGarbage(blob_ids=[blob.blob_id]))
    assert not (await bench.call(Method.LIST_STRAYS, meta_pb2.ListStrays())).due
    bench.clock.advance(60 + LATE_NS / 1e9 + 1)
    assert len((await bench.call(Method.LIST_STRAYS, meta_pb2.ListStrays())).due) == 1


async def test_report_during_a_repair_is_not_lost(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    blob = await degraded(bench)
    token = await claim(bench, blob, {1: 2})
    report = meta_pb2.ReportBad(blob=blob, indexes=[4], reason="bad_block")
    await bench.call(Method.REPORT_BAD, report)
    await move(bench, blob, token, {1: 2})
    (entry,) = await queue(bench)
    assert list(entry.job.missing) == [4]


async def test_fewest_further_losses_first(bench: MetaBench, bucket: records_pb2.Bucket) -> None:
    await degraded(bench, b"one", 1)
    worse = bench.blob(2, disk_ids=[1, 0, 3, 0, 5, 6], degraded=True)
    await bench.commit(bucket, b"two", blobs=[worse])
    unreadable = bench.blob(3, disk_ids=[1, 0, 0, 0, 5, 6], degraded=True)
    await bench.commit(bucket, b"three", blobs=[unreadable])
    assert [entry.job.margin for entry in await queue(bench)] == [0, 1, 255]


async def test_waiting_jobs_are_apart(bench: MetaBench, bucket: records_pb2.Bucket) -> None:
    blob = await degraded(bench)
    token = await claim(bench, blob, {})
    await move(bench, blob, token, {}, whole=False, waiting=True, missing=[1])
    assert await queue(bench) == []
    assert len(await queue(bench, waiting=True)) == 1


async def test_parts_are_moved_too(bench: MetaBench, bucket: records_pb2.Bucket) -> None:
    upload = records_pb2.Upload(key=b"key")
    made = await bench.call(
        Method.CREATE_UPLOAD,
        meta_pb2.CreateUpload(
            writer=bench.writer(), bucket="bucket", known_epoch=bucket.epoch, upload=upload
        ),
    )
    blob = bench.blob(1, disk_ids=[1, 0, 3, 4, 5, 6], degraded=True)
    part = records_pb2.Part(number=1, etag="e", size_bytes=1, blobs=[blob])
    await bench.call(
        Method.COMMIT_PART,
        meta_pb2.CommitPart(
            writer=bench.writer(), bucket="bucket", known_epoch=bucket.epoch, key=b"key",
            upload_id=made.upload.upload_id, part=part,
        ),
    )  # fmt: skip
    token = await claim(bench, blob, {1: 2})
    assert await move(bench, blob, token, {1: 2}) == Outcome.MOVED
    asked = meta_pb2.GetParts(upload_id=made.upload.upload_id, numbers=[1])
    (stored,) = (await bench.call(Method.GET_PARTS, asked)).parts
    assert stored.blobs[0].disk_ids[1] == 2


async def scan(bench: MetaBench, *lost: int, **fields: Any) -> records_pb2.RepairPass:
    while True:
        request = meta_pb2.ScanPlacements(lost_disk_ids=lost, limit=2, **fields)
        progress = (await bench.call(Method.SCAN_PLACEMENTS, request)).progress
        fields.pop("again", None)
        if progress.done:
            found: records_pb2.RepairPass = progress
            return found


async def test_pass_finds_what_a_lost_disk_held(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    for number in range(7):
        disks = [1, 2, 3, 4, 5, 6 if number % 2 else 7]
        await bench.commit(bucket, b"key%d" % number, blobs=[bench.blob(number, disk_ids=disks)])
        await bench.commit(bucket, b"inline%d" % number, b"data")
    assert (await scan(bench)).found == 0
    progress = await scan(bench, 7)
    assert (progress.found, dict(progress.named)) == (4, {7: 4})
    assert all(list(entry.job.missing) == [5] for entry in await queue(bench))
    assert (await scan(bench, 7)).rows == progress.rows, "nothing new: no new pass"


async def test_workers_learn_that_a_lost_disk_must_be_walked_and_that_it_was(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    known = 0

    async def news() -> bool | None:
        """Whether disk 6 must be walked, as far as the topology has changed."""
        nonlocal known
        reply = await bench.call(Method.GET_TOPOLOGY, meta_pb2.GetTopology(known_epoch=known))
        if not reply.HasField("topology"):
            return None
        known = reply.topology.epoch
        return next(disk.was_lost for disk in reply.topology.disks if disk.disk_id == 6)

    assert await news() is False
    await scan(bench, 6)
    assert await news() is True
    for told in (False, None):
        await bench.call(Method.MARK_DISK_WALKED, meta_pb2.MarkDiskWalked(disk_id=6))
        assert await news() is told


async def test_pass_goes_on_after_a_restart_and_round_after_a_change(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    for number in range(6):
        await bench.commit(bucket, b"key%d" % number, blobs=[bench.blob(number)])
    request = meta_pb2.ScanPlacements(lost_disk_ids=[6], limit=2)
    for _ in range(3):
        await bench.call(Method.SCAN_PLACEMENTS, request)
    bench = bench.restart()
    progress = await scan(bench, 5, 6)
    assert progress.done and dict(progress.named) == {5: 6, 6: 6}
    assert all(list(entry.job.missing)[-1] == 5 for entry in await queue(bench))
    assert all(4 in entry.job.missing for entry in await queue(bench))


async def test_replaced_disk_is_forgotten_once_nothing_names_it(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    gone = Disk(disk_id=6, zone="z6", node_name="n6", state=Disk.FAILED, gone=True)
    await put_row(bench, keys.disk(6), gone)
    blob = bench.blob(1)
    await bench.commit(bucket, b"key", blobs=[blob])
    await scan(bench, 6)
    assert Disk.FromString(bench.store.get(keys.disk(6)) or b"").state == Disk.FAILED
    token = await claim(bench, blob, {5: 7})
    await move(bench, blob, token, {5: 7}, seen=[5])
    await scan(bench, 6, again=True)
    forgotten = Disk.FromString(bench.store.get(keys.disk(6)) or b"")
    assert (forgotten.state, forgotten.forgotten) == (Disk.REMOVED, True)


async def test_disk_replaced_after_all_it_held_was_rebuilt_is_forgotten(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    """Its node was away while that was done, and comes back without it: the set that is out is
    the same as before, and no pass is due."""
    await bench.commit(bucket, b"key", blobs=[bench.blob(1, disk_ids=[1, 2, 3, 4, 5, 7])])
    assert not (await scan(bench, 6)).named
    for state, is_forgotten in ((Disk.UP, False), (Disk.FAILED, True)):
        away = Disk(disk_id=6, zone="z6", node_name="n6", state=state, gone=is_forgotten)
        await put_row(bench, keys.disk(6), away)
        await scan(bench, 6)
        found = Disk.FromString(bench.store.get(keys.disk(6)) or b"")
        assert found.forgotten == is_forgotten


async def judge(bench: MetaBench, disk_id: int, *fragments: tuple[bytes, int]) -> list[int]:
    request = meta_pb2.JudgeFragments(disk_id=disk_id)
    for blob_id, index in fragments:
        request.fragments.add(blob_id=blob_id, index=index)
    return list((await bench.call(Method.JUDGE_FRAGMENTS, request)).verdicts)


async def test_checkpoints_of_the_metadata_stay_on_a_returned_disk(bench: MetaBench) -> None:
    name = keys.CHECKPOINT_SESSION + (1).to_bytes(8, "big")
    assert await judge(bench, 3, (name, 0), (name, 5)) == [meta_pb2.KEEP] * 2


async def test_fragments_of_a_returned_disk_are_judged(
    bench: MetaBench, bucket: records_pb2.Bucket
) -> None:
    blob = bench.blob(1)
    await bench.commit(bucket, b"key", blobs=[blob])
    in_flight, long_gone = bench.blob(9).blob_id, (7).to_bytes(8, "big") + bytes(8)
    verdicts = await judge(
        bench, 3, (blob.blob_id, 2), (blob.blob_id, 4), (in_flight, 2), (long_gone, 2)
    )
    assert verdicts == [meta_pb2.KEEP, meta_pb2.STRAY, meta_pb2.KEEP, meta_pb2.ORPHAN]
    assert strays(bench, blob) == [(4, 3, Stray.SURPLUS)]
    assert await judge(bench, 3, (blob.blob_id, 4)) == [meta_pb2.KEEP], "it has its entry"
