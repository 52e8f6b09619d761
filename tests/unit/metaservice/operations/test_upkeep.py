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
    begun_ns = bench.clock.now_ns()
    bench.clock.advance(2 * limits.COMPLETED_UPLOAD_KEEP_S)
    kept_ns = int(limits.COMPLETED_UPLOAD_KEEP_S * 1e9)
    puts: dict[bytes, bytes | None] = {}
    for number in range(2 * ROWS_PER_STEP):
        age_ns = kept_ns + (1 if number % 2 else -1)
        upload = Upload(state=Upload.DONE, ended_ns=bench.clock.now_ns() - age_ns)
        upload_id = keys.uint64(begun_ns + number) + bytes(8)
        puts[keys.finished_upload(upload_id, 1)] = upload.SerializeToString()
    open_key = keys.upload(1, b"open", bytes(16))
    puts[open_key] = Upload(state=Upload.OPEN).SerializeToString()
    await bench.store.commit(Mutation(puts=puts))
    trimmer = UploadTrimmer()
    while True:
        await trim(bench, trimmer)
        if not trimmer.is_behind:
            break
    assert len(finished(bench)) == ROWS_PER_STEP
    bench.clock.advance(1)
    for _ in range(3):
        await trim(bench, trimmer)
    assert not finished(bench)
    assert bench.store.get(open_key) is not None


def finished(bench: MetaBench) -> list[tuple[bytes, bytes]]:
    return bench.store.scan(b"f", b"g", 1000)
