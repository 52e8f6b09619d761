"""Conditions of writes, decided inside the commit: of many that would create, one does."""

import asyncio
from typing import Any

import pytest

from common import faults
from metaservice.table import Method
from proto import meta_pb2, records_pb2
from tests.support.meta import MetaBench

ENABLED = records_pb2.Bucket.ENABLED


async def put(
    bench: MetaBench, bucket: records_pb2.Bucket, etag: str, **conditions: Any
) -> meta_pb2.CommitReply:
    request = meta_pb2.CommitVersion(
        writer=bench.writer(),
        bucket=bucket.name,
        known_epoch=bucket.epoch,
        key=b"key",
        version=records_pb2.Version(etag=etag, is_inline=True),
        conditions=meta_pb2.Conditions(**conditions),
    )
    reply: meta_pb2.CommitReply = await bench.call(Method.COMMIT_VERSION, request)
    return reply


async def current(bench: MetaBench, bucket: records_pb2.Bucket) -> str:
    request = meta_pb2.GetVersion(bucket=bucket.name, known_epoch=bucket.epoch, key=b"key")
    reply, _ = await bench.call(Method.GET_VERSION, request)
    return records_pb2.Version.FromString(reply.version).etag


async def test_of_many_creations_one_succeeds(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    results = await asyncio.gather(
        *[put(bench, bucket, str(number), if_none_match=["*"]) for number in range(8)],
        return_exceptions=True,
    )
    won = [number for number, one in enumerate(results) if not isinstance(one, Exception)]
    assert len(won) == 1
    assert sum(isinstance(one, faults.PreconditionFailed) for one in results) == 7
    assert await current(bench, bucket) == str(won[0])


async def test_of_many_replacements_of_one_state_one_succeeds(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket", versioning=ENABLED)
    await put(bench, bucket, "old")
    results = await asyncio.gather(
        *[put(bench, bucket, str(number), if_match=["old"]) for number in range(8)],
        return_exceptions=True,
    )
    assert sum(isinstance(one, faults.PreconditionFailed) for one in results) == 7


async def test_create_only_is_refused_where_something_is_visible(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket", versioning=ENABLED)
    await put(bench, bucket, "1", if_none_match=["*"])
    with pytest.raises(faults.PreconditionFailed):
        await put(bench, bucket, "2", if_none_match=["*"])
    await bench.delete(bucket, b"key")
    await put(bench, bucket, "3", if_none_match=["*"])  # a delete marker counts as absent
    assert await current(bench, bucket) == "3"


async def test_match_needs_the_current_state(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    with pytest.raises(faults.NotFound):
        await put(bench, bucket, "1", if_match=["*"])
    await put(bench, bucket, "1")
    with pytest.raises(faults.PreconditionFailed):
        await put(bench, bucket, "2", if_match=["0"])
    await put(bench, bucket, "2", if_match=["0", "1"])
    await put(bench, bucket, "3", if_match=["*"])
    assert await current(bench, bucket) == "3"


async def test_conditional_delete(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    await put(bench, bucket, "1")
    request = meta_pb2.DeleteVersion(
        writer=bench.writer(), bucket="bucket", known_epoch=bucket.epoch, key=b"key",
        conditions=meta_pb2.Conditions(if_match=["0"]),
    )  # fmt: skip
    with pytest.raises(faults.PreconditionFailed):
        await bench.call(Method.DELETE_VERSION, request)
    assert await current(bench, bucket) == "1"


@pytest.mark.parametrize(
    "condition", [{"has_if_match_size": True}, {"if_match_last_modified_ns": 1}]
)
async def test_unknown_conditions_are_refused(bench: MetaBench, condition: Any) -> None:
    bucket = await bench.create_bucket("bucket")
    with pytest.raises(faults.Unsupported):
        await put(bench, bucket, "1", **condition)


async def test_write_with_an_old_picture_of_the_bucket_is_refused(bench: MetaBench) -> None:
    old = await bench.create_bucket("bucket")
    update = meta_pb2.UpdateBucket(
        writer=bench.writer(), name="bucket", configuration="tagging", value=b"x"
    )
    new = (await bench.call(Method.UPDATE_BUCKET, update)).bucket
    with pytest.raises(faults.Conflict) as caught:
        await put(bench, old, "1")
    assert caught.value.fields["kind"] == "bucket_epoch"
    await put(bench, new, "1")
    request = meta_pb2.GetVersion(bucket="bucket", known_epoch=old.epoch, key=b"key")
    reply, _ = await bench.call(Method.GET_VERSION, request)
    assert reply.bucket.epoch == new.epoch, "a read answers, and brings the news"
