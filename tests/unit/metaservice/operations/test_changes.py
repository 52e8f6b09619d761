"""Change records: only where somebody reads, in commit order, kept until all have read them."""

from metaservice import keys
from metaservice.kv.interface import Mutation
from metaservice.table import Method
from proto import meta_pb2, records_pb2
from tests.support.meta import MetaBench


async def bucket_read_by(bench: MetaBench, name: str, *consumers: str) -> records_pb2.Bucket:
    bucket = await bench.create_bucket(name)
    bucket.consumers.extend(consumers)
    await bench.store.commit(Mutation(puts={keys.bucket(name): bucket.SerializeToString()}))
    return bucket


async def read(
    bench: MetaBench, consumer: str, after: int = 0, limit: int = 100
) -> list[records_pb2.ChangeRecord]:
    request = meta_pb2.ReadChanges(consumer=consumer, after_sequence=after, limit=limit)
    return list((await bench.call(Method.READ_CHANGES, request)).records)


async def trim(bench: MetaBench, consumer: str, through: int) -> None:
    request = meta_pb2.TrimChanges(consumer=consumer, through_sequence=through)
    await bench.call(Method.TRIM_CHANGES, request)


def kept(bench: MetaBench) -> int:
    return len(bench.store.scan(b"c", b"d", 10_000))


async def test_bucket_without_consumers_writes_none(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("silent")
    await bench.commit(bucket, b"key")
    await bench.delete(bucket, b"key")
    assert kept(bench) == 0


async def test_every_change_is_recorded_in_order(bench: MetaBench) -> None:
    bucket = await bucket_read_by(bench, "bucket", "events")
    await bench.commit(bucket, b"a", b"1")
    await bench.commit(bucket, b"b", b"2")
    await bench.delete(bucket, b"a")
    records = await read(bench, "events")
    assert [(record.key, record.kind) for record in records] == [
        (b"a", "put"), (b"b", "put"), (b"a", "delete"),
    ]  # fmt: skip
    sequences = [record.sequence for record in records]
    assert sequences == sorted(set(sequences))
    assert all(record.bucket_id == bucket.bucket_id for record in records)


async def test_reading_goes_on_after_a_sequence(bench: MetaBench) -> None:
    bucket = await bucket_read_by(bench, "bucket", "events")
    for number in range(10):
        await bench.commit(bucket, b"%d" % number)
    found: list[bytes] = []
    after = 0
    while page := await read(bench, "events", after, limit=3):
        assert len(page) <= 3
        found += [record.key for record in page]
        after = page[-1].sequence
    assert found == [b"%d" % number for number in range(10)]


async def test_consumer_sees_only_its_buckets(bench: MetaBench) -> None:
    first = await bucket_read_by(bench, "first", "events")
    second = await bucket_read_by(bench, "second", "replication")
    for number in range(20):
        await bench.commit(first if number % 10 else second, b"%d" % number)
    assert [record.key for record in await read(bench, "replication", limit=2)] == [b"0", b"10"]


async def test_record_is_kept_until_all_its_readers_are_past_it(bench: MetaBench) -> None:
    bucket = await bucket_read_by(bench, "bucket", "events", "replication")
    for number in range(4):
        await bench.commit(bucket, b"%d" % number)
    sequences = [record.sequence for record in await read(bench, "events")]
    await trim(bench, "events", sequences[3])
    assert kept(bench) == 4
    await trim(bench, "replication", sequences[1])
    assert kept(bench) == 2
    assert [record.key for record in await read(bench, "replication")] == [b"2", b"3"]
    await trim(bench, "replication", sequences[3])
    assert kept(bench) == 0


async def test_consumer_never_goes_back(bench: MetaBench) -> None:
    bucket = await bucket_read_by(bench, "bucket", "events", "replication")
    await bench.commit(bucket, b"0")
    (record,) = await read(bench, "events")
    await trim(bench, "events", record.sequence)
    await trim(bench, "events", 1)
    await trim(bench, "replication", record.sequence)
    assert kept(bench) == 0
