"""Repair jobs: in the commit that leaves a blob degraded, one per blob, counted exactly."""

from metaservice.table import Method
from proto import meta_pb2, records_pb2
from tests.support.meta import MetaBench


async def jobs(bench: MetaBench, limit: int = 100) -> meta_pb2.ListRepairsReply:
    reply: meta_pb2.ListRepairsReply = await bench.call(
        Method.LIST_REPAIRS, meta_pb2.ListRepairs(limit=limit)
    )
    return reply


async def report(bench: MetaBench, blob: records_pb2.BlobRef, *indexes: int) -> None:
    request = meta_pb2.ReportBad(blob=blob, indexes=indexes, reason="bad_block")
    await bench.call(Method.REPORT_BAD, request)


async def test_degraded_write_asks_for_repair(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    bad = bench.blob(1, disk_ids=[1, 0, 3, 4, 5, 6], degraded=True)
    await bench.commit(bucket, b"key", blobs=[bad, bench.blob(2)])
    reply = await jobs(bench)
    (job,) = reply.jobs
    assert (job.blob, list(job.missing), job.reason) == (bad, [1], "degraded_write")
    assert reply.pending == 1


async def test_reported_fragments_are_collected_in_one_job(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    blob = bench.blob(1)
    await bench.commit(bucket, b"key", blobs=[blob])
    for indexes in ([3], [1, 3], [3]):
        await report(bench, blob, *indexes)
    reply = await jobs(bench)
    assert [list(job.missing) for job in reply.jobs] == [[1, 3]]
    assert reply.pending == 1


async def test_same_report_again_writes_nothing(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    await bench.commit(bucket, b"key", blobs=[bench.blob(1)])
    await report(bench, bench.blob(1), 2)
    sequence = bench.store.sequence
    await report(bench, bench.blob(1), 2)
    assert bench.store.sequence == sequence


async def test_blob_that_nothing_names_gets_no_job(bench: MetaBench) -> None:
    await report(bench, bench.blob(1), 2)
    assert (await jobs(bench)).pending == 0


async def test_job_ends_with_its_blob(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    await bench.commit(bucket, b"key", blobs=[bench.blob(1, degraded=True)])
    request = meta_pb2.FinishGarbage(blob_ids=[bench.blob(1).blob_id, bench.blob(2).blob_id])
    for _ in range(2):
        await bench.call(Method.FINISH_GARBAGE, request)
        assert (await jobs(bench)).pending == 0


async def test_count_is_told_beyond_the_limit(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    for number in range(5):
        blob = bench.blob(number, degraded=True)
        await bench.commit(bucket, b"key%d" % number, blobs=[blob])
    few = await jobs(bench, limit=2)
    assert (len(few.jobs), few.pending) == (2, 5)
    none = await jobs(bench, limit=0)
    assert (len(none.jobs), none.pending) == (0, 5)
