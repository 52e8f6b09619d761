"""Garbage: what stops being named is listed once, after the grace, and nothing else ever is."""

from typing import Any

import pytest

from common import faults, limits
from metaservice import keys
from metaservice.kv.interface import Mutation, decode_counter
from metaservice.operations.garbage import BLOBS_PER_ROW, EXPAND_PARTS_MAX, add_garbage
from metaservice.table import Method
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2
from tests.support.meta import MetaBench

GRACE_S = limits.GARBAGE_GRACE_S + 1
UPLOAD = b"u" * 16


async def listed(bench: MetaBench, limit: int = 100) -> meta_pb2.ListGarbageReply:
    reply: meta_pb2.ListGarbageReply = await bench.call(
        Method.LIST_GARBAGE, meta_pb2.ListGarbage(limit=limit)
    )
    return reply


async def finish(bench: MetaBench, entries: Any, blobs: Any = ()) -> None:
    request = meta_pb2.FinishGarbage(
        rows=[entry.row for entry in entries], blob_ids=[blob.blob_id for blob in blobs]
    )
    await bench.call(Method.FINISH_GARBAGE, request)


async def referenced(bench: MetaBench, *blobs: records_pb2.BlobRef) -> list[bool]:
    request = meta_pb2.CheckBlobs(blob_ids=[blob.blob_id for blob in blobs])
    return list((await bench.call(Method.CHECK_BLOBS, request)).referenced)


async def add(bench: MetaBench, **garbage: Any) -> None:
    async def body(transaction: Transaction) -> meta_pb2.FinishGarbageReply:
        add_garbage(transaction, **garbage)
        return meta_pb2.FinishGarbageReply()

    await bench.server.transactor.write(body, meta_pb2.FinishGarbageReply)


async def put_parts(bench: MetaBench, numbers: range) -> None:
    puts = {
        keys.part(UPLOAD, number): records_pb2.Part(
            number=number, blobs=[bench.blob(number)]
        ).SerializeToString()
        for number in numbers
    }
    await bench.store.commit(Mutation(puts=puts))


async def expand_all(bench: MetaBench, row: bytes) -> int:
    expanded = 0
    for _ in range(1000):
        request = meta_pb2.ExpandGarbage(row=row)
        reply = await bench.call(Method.EXPAND_GARBAGE, request)
        assert reply.expanded <= EXPAND_PARTS_MAX
        expanded += reply.expanded
        if reply.done:
            return expanded
    raise AssertionError("expanding does not end")


async def part_numbers(bench: MetaBench) -> list[int]:
    rows = bench.store.scan(keys.parts(UPLOAD), keys.after(keys.parts(UPLOAD)), 20_000)
    return [int.from_bytes(key[-2:], "big") for key, _ in rows]


async def test_committed_blob_is_referenced_and_no_garbage(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    await bench.commit(bucket, b"key", blobs=[bench.blob(1)])
    bench.clock.advance(GRACE_S)
    assert (await listed(bench)).pending == 0
    assert await referenced(bench, bench.blob(1), bench.blob(2)) == [True, False]


@pytest.mark.parametrize("how", ["overwritten", "deleted"])
async def test_blob_that_stops_being_named_is_due_after_the_grace(
    bench: MetaBench, how: str
) -> None:
    bucket = await bench.create_bucket("bucket")
    await bench.commit(bucket, b"key", blobs=[bench.blob(1)])
    if how == "overwritten":
        await bench.commit(bucket, b"key", blobs=[bench.blob(2)])
    else:
        await bench.delete(bucket, b"key")
    waiting = await listed(bench)
    assert (len(waiting.entries), waiting.pending) == (0, 1)
    bench.clock.advance(GRACE_S)
    due = await listed(bench)
    assert [entry.garbage.blobs[0].blob_id for entry in due.entries] == [bench.blob(1).blob_id]
    assert await referenced(bench, bench.blob(1)) == [True], "the collector has it, no orphan"
    await finish(bench, due.entries, [bench.blob(1)])
    assert await referenced(bench, bench.blob(1)) == [False]
    assert (await listed(bench)).pending == 0


async def test_inline_data_leaves_no_garbage(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    for _ in range(3):
        await bench.commit(bucket, b"key", b"sealed")
    assert (await listed(bench)).pending == 0


async def test_list_is_oldest_first_and_limited(bench: MetaBench) -> None:
    for number in range(10):
        await add(bench, blobs=[bench.blob(number)])
        bench.clock.advance(1)
    bench.clock.advance(GRACE_S)
    few = await listed(bench, limit=3)
    assert [entry.garbage.blobs[0] for entry in few.entries] == [bench.blob(n) for n in range(3)]
    assert few.pending == 10
    assert not (await listed(bench, limit=0)).entries


async def test_rows_are_found_again_until_they_are_finished(bench: MetaBench) -> None:
    for number in range(6):
        await add(bench, blobs=[bench.blob(number)])
        bench.clock.advance(60)
    bench.clock.advance(GRACE_S)
    first = await listed(bench)
    await finish(bench, first.entries[2:4])
    left = await listed(bench)
    assert list(left.entries) == [*first.entries[:2], *first.entries[4:]]
    await finish(bench, left.entries)
    assert not (await listed(bench)).entries
    await add(bench, blobs=[bench.blob(9)])
    bench.clock.advance(GRACE_S)
    assert len((await listed(bench)).entries) == 1
    assert len((await listed(bench.restart())).entries) == 1


async def test_finishing_twice_counts_once(bench: MetaBench) -> None:
    await add(bench, blobs=[bench.blob(1)])
    await add(bench, blobs=[bench.blob(2)])
    bench.clock.advance(GRACE_S)
    entries = (await listed(bench)).entries
    await finish(bench, entries[:1])
    await finish(bench, entries[:1])
    assert (await listed(bench)).pending == 1


async def test_only_garbage_rows_can_be_finished(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    request = meta_pb2.FinishGarbage(rows=[keys.bucket(bucket.name)])
    with pytest.raises(faults.Invalid):
        await bench.call(Method.FINISH_GARBAGE, request)
    assert bench.store.get(keys.bucket(bucket.name)) is not None


async def test_many_blobs_become_rows_of_bounded_size(bench: MetaBench) -> None:
    count = 2 * BLOBS_PER_ROW + 1
    await add(bench, blobs=[bench.blob(number) for number in range(count)])
    bench.clock.advance(GRACE_S)
    rows = (await listed(bench)).entries
    assert sorted(len(entry.garbage.blobs) for entry in rows) == [1, BLOBS_PER_ROW, BLOBS_PER_ROW]
    blob_ids = {blob.blob_id for entry in rows for blob in entry.garbage.blobs}
    assert blob_ids == {bench.blob(number).blob_id for number in range(count)}


async def test_upload_is_expanded_into_its_parts_blobs(bench: MetaBench) -> None:
    await put_parts(bench, range(1, 131))
    await bench.store.commit(Mutation(puts={keys.part_runs(UPLOAD, 0): b"runs"}))
    await add(bench, upload_id=UPLOAD)
    bench.clock.advance(GRACE_S)
    (entry,) = (await listed(bench)).entries
    assert await expand_all(bench, entry.row) == 130
    assert await part_numbers(bench) == []
    assert bench.store.get(keys.part_runs(UPLOAD, 0)) is None
    due = (await listed(bench, limit=1000)).entries
    blob_ids = {blob.blob_id for found in due for blob in found.garbage.blobs}
    assert blob_ids == {bench.blob(number).blob_id for number in range(1, 131)}
    assert (await listed(bench)).pending == len(due)
    assert await expand_all(bench, entry.row) == 0, "asked again: nothing is left"


async def test_row_written_for_this_instant_is_found_after_an_empty_list(bench: MetaBench) -> None:
    await put_parts(bench, range(1, 3))
    await add(bench, upload_id=UPLOAD)
    assert not (await listed(bench)).entries
    (row,) = [key for key, _ in bench.store.scan(b"g", b"h", 9)]
    await expand_all(bench, row)
    assert len((await listed(bench)).entries) == 1


async def test_kept_parts_are_not_expanded(bench: MetaBench) -> None:
    await put_parts(bench, range(1, 201))
    await bench.store.commit(Mutation(puts={keys.part_runs(UPLOAD, 0): b"runs"}))
    keep = [
        records_pb2.PartRun(first_number=1, count=60),
        records_pb2.PartRun(first_number=150, count=2),
    ]
    await add(bench, upload_id=UPLOAD, keep=keep)
    bench.clock.advance(GRACE_S)
    (entry,) = (await listed(bench)).entries
    assert await expand_all(bench, entry.row) == 138
    assert await part_numbers(bench) == [*range(1, 61), 150, 151]
    assert bench.store.get(keys.part_runs(UPLOAD, 0)) == b"runs", "the version still needs them"


async def test_counter_never_goes_below_what_is_there(bench: MetaBench) -> None:
    """After everything is finished the counter is exactly zero."""
    await put_parts(bench, range(1, 60))
    await add(bench, upload_id=UPLOAD, blobs=[bench.blob(900)])
    for _ in range(5):
        bench.clock.advance(GRACE_S)
        for entry in (await listed(bench)).entries:
            if entry.garbage.upload_id:
                await expand_all(bench, entry.row)
            else:
                await finish(bench, [entry], entry.garbage.blobs)
    assert decode_counter(bench.store.get(keys.single("garbage_rows"))) == 0
    assert not bench.store.scan(b"g", b"h", 10)
