"""Usage counters: exactly what the bucket holds, whatever happened to it."""

from random import Random

import pytest

from metaservice.table import Method
from proto import meta_pb2, records_pb2
from tests.support.meta import OWNER, MetaBench


async def usage(bench: MetaBench, name: str = "bucket") -> tuple[int, int, int]:
    reply = await bench.call(Method.USAGE, meta_pb2.Usage(bucket=name))
    return reply.objects, reply.bytes, reply.uploads


async def test_new_bucket_is_empty(bench: MetaBench) -> None:
    await bench.create_bucket("bucket")
    assert await usage(bench) == (0, 0, 0)


async def test_objects_and_bytes_come_and_go(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    await bench.commit(bucket, b"a", b"x" * 10)
    await bench.commit(bucket, b"b", b"x" * 5)
    await bench.commit(bucket, b"a", b"x" * 3)
    assert await usage(bench) == (2, 8, 0)
    await bench.delete(bucket, b"a")
    await bench.delete(bucket, b"a")
    assert await usage(bench) == (1, 5, 0)


async def test_repeated_write_counts_once(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    request = meta_pb2.CommitVersion(
        writer=bench.writer(),
        bucket="bucket",
        known_epoch=bucket.epoch,
        key=b"a",
        version=records_pb2.Version(size_bytes=7, is_inline=True),
    )
    for _ in range(3):
        await bench.call(Method.COMMIT_VERSION, request, b"x" * 7)
    assert await usage(bench) == (1, 7, 0)


async def test_bucket_made_again_begins_at_nothing(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    await bench.commit(bucket, b"a", b"x" * 10)
    await bench.delete(bucket, b"a")
    request = meta_pb2.DeleteBucket(writer=bench.writer(), name="bucket", owner_account=OWNER)
    await bench.call(Method.DELETE_BUCKET, request)
    await bench.create_bucket("bucket")
    assert await usage(bench) == (0, 0, 0)
    assert not [row for row in bench.store.scan(b"U", b"V", 10) if row[1] != bytes(8)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "versioning", [0, records_pb2.Bucket.ENABLED, records_pb2.Bucket.SUSPENDED]
)
async def test_counters_match_the_rows(bench: MetaBench, versioning: int, seed: int) -> None:
    """After any mix of puts and deletes the counters are the sums over the version rows."""
    random = Random(seed)
    bucket = await bench.create_bucket("bucket", versioning=versioning)
    for _ in range(60):
        key = random.choice([b"a", b"b", b"c"])
        if random.random() < 0.6:
            await bench.commit(bucket, key, b"x" * random.randint(0, 50))
        elif random.random() < 0.5:
            await bench.delete(bucket, key)
        else:
            rows = bench.store.scan(b"v", b"w", 1000)
            if rows:
                version = records_pb2.Version.FromString(random.choice(rows)[1])
                name = meta_pb2.VersionName(version_id=version.version_id, is_null=version.is_null)
                request = meta_pb2.DeleteVersion(
                    writer=bench.writer(),
                    bucket="bucket",
                    known_epoch=bucket.epoch,
                    key=key,
                    version=name,
                    has_version=True,
                )
                await bench.call(Method.DELETE_VERSION, request)
    versions = [
        records_pb2.Version.FromString(value) for _, value in bench.store.scan(b"v", b"w", 1000)
    ]
    visible = [version for version in versions if not version.is_delete_marker]
    assert await usage(bench) == (
        len(visible),
        sum(version.size_bytes for version in visible),
        0,
    )
