"""Upkeep: old transaction ids go as fast as they came, young ones stay; so do uploads' rows."""

from common import limits
from metaservice import keys
from metaservice.kv.interface import Mutation
from metaservice.operations.upkeep import ROWS_PER_STEP, TransactionTrimmer, UploadTrimmer
from proto import meta_pb2, records_pb2
from tests.support.meta import MetaBench

Upload = records_pb2.Upload


def ids(bench: MetaBench) -> int:
    return len(bench.store.scan(b"t", b"u", 100_000))


async def trim(bench: MetaBench, trimmer: TransactionTrimmer | UploadTrimmer) -> None:
    await bench.server.transactor.write(trimmer.step, meta_pb2.FinishGarbageReply)


async def put_ids(bench: MetaBench, count: int) -> None:
    puts = {keys.transaction(bench.writer().transaction_id): b"reply" for _ in range(count)}
    await bench.store.commit(Mutation(puts=puts))


async def test_old_transaction_ids_are_dropped_in_steps(bench: MetaBench) -> None:
    await put_ids(bench, 2 * ROWS_PER_STEP + 5)
    bench.clock.advance(limits.TRANSACTION_ID_KEEP_S / 2)
    await put_ids(bench, 10)
    bench.clock.advance(limits.TRANSACTION_ID_KEEP_S / 2 + 1)
    trimmer = TransactionTrimmer()
    steps = 0
    while trimmer.is_behind or steps == 0:
        await trim(bench, trimmer)
        steps += 1
    assert steps == 3
    assert ids(bench) == 10
    await trim(bench, trimmer)
    assert ids(bench) == 10
    bench.clock.advance(limits.TRANSACTION_ID_KEEP_S)
    await trim(bench, trimmer)
    assert ids(bench) == 0


async def test_rows_of_completed_uploads_are_dropped_and_no_others(bench: MetaBench) -> None:
    bench.clock.advance(limits.COMPLETED_UPLOAD_KEEP_S)
    now, kept_ns = bench.clock.now_ns(), int(limits.COMPLETED_UPLOAD_KEEP_S * 1e9)
    states = {
        b"open": Upload(state=Upload.OPEN, ended_ns=0),
        b"fresh": Upload(state=Upload.DONE, ended_ns=now - kept_ns + 1),
        b"old": Upload(state=Upload.DONE, ended_ns=now - kept_ns - 1),
    }
    puts = {
        keys.upload(1, name, bytes([number]) * 16): upload.SerializeToString()
        for name, upload in states.items()
        for number in range(60)
    }
    await bench.store.commit(Mutation(puts=puts))
    trimmer = UploadTrimmer()
    for _ in range(3):
        await trim(bench, trimmer)
    left = [keys.split_key_row(key)[0] for key, _ in bench.store.scan(b"u", b"v", 1000)]
    assert left == [b"fresh"] * 60 + [b"open"] * 60
