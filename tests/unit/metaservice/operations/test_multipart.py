"""Multipart: parts in any order, completed as listed, once, whatever races; nothing leaks."""

import asyncio
import hashlib
from typing import Any

import pytest

from common import faults, limits
from metaservice import keys
from metaservice.kv.interface import Mutation
from metaservice.table import Method
from proto import meta_pb2, records_pb2
from tests.support.meta import MetaBench

SIZE = limits.PART_BYTES_MIN


class Upload:
    """One upload of one key."""

    def __init__(self, bench: MetaBench, bucket: records_pb2.Bucket, upload_id: bytes) -> None:
        self.bench = bench
        self.bucket = bucket
        self.upload_id = upload_id

    @classmethod
    async def begin(cls, bench: MetaBench, bucket: records_pb2.Bucket) -> "Upload":
        request = meta_pb2.CreateUpload(
            writer=bench.writer(),
            bucket=bucket.name,
            known_epoch=bucket.epoch,
            upload=records_pb2.Upload(
                key=b"key", draft=records_pb2.Version(content_type="text/plain")
            ),
        )
        reply = await bench.call(Method.CREATE_UPLOAD, request)
        return cls(bench, bucket, reply.upload.upload_id)

    @property
    def _where(self) -> dict[str, Any]:
        return {
            "writer": self.bench.writer(),
            "bucket": self.bucket.name,
            "known_epoch": self.bucket.epoch,
            "key": b"key",
            "upload_id": self.upload_id,
        }

    async def part(self, number: int, size: int = SIZE, text: str = "", blob: int = 0) -> None:
        md5 = etag_of(number, text)
        part = records_pb2.Part(
            number=number,
            etag=md5,
            md5=md5,
            size_bytes=size,
            blobs=[self.bench.blob(blob)] if blob else [],
        )
        await self.bench.call(Method.COMMIT_PART, meta_pb2.CommitPart(**self._where, part=part))

    async def complete(self, *numbers: int, text: str = "", **fields: Any) -> Any:
        parts = [
            meta_pb2.ListedPart(number=number, etag=etag_of(number, text)) for number in numbers
        ]
        request = meta_pb2.CompleteUpload(**self._where, parts=parts, **fields)
        return await self.bench.call(Method.COMPLETE_UPLOAD, request)

    async def abort(self) -> None:
        await self.bench.call(Method.ABORT_UPLOAD, meta_pb2.AbortUpload(**self._where))

    async def version(self) -> records_pb2.Version:
        request = meta_pb2.GetVersion(
            bucket=self.bucket.name, known_epoch=self.bucket.epoch, key=b"key"
        )
        reply, _ = await self.bench.call(Method.GET_VERSION, request)
        return records_pb2.Version.FromString(reply.version)

    async def usage(self) -> tuple[int, int, int]:
        reply = await self.bench.call(Method.USAGE, meta_pb2.Usage(bucket=self.bucket.name))
        return reply.objects, reply.bytes, reply.uploads

    async def garbage_blobs(self) -> set[bytes]:
        """Expand everything that is due, as the collector does; the blobs it would delete."""
        self.bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
        for _ in range(2):
            listed = await self.bench.call(Method.LIST_GARBAGE, meta_pb2.ListGarbage(limit=1000))
            for entry in listed.entries:
                done = not entry.garbage.upload_id
                while not done:
                    request = meta_pb2.ExpandGarbage(row=entry.row)
                    done = (await self.bench.call(Method.EXPAND_GARBAGE, request)).done
        return {blob.blob_id for entry in listed.entries for blob in entry.garbage.blobs}

    def blob_ids(self, *numbers: int) -> set[bytes]:
        return {self.bench.blob(number).blob_id for number in numbers}


def etag_of(number: int, text: str = "") -> str:
    return hashlib.md5(f"{number}{text}".encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
async def upload(bench: MetaBench) -> Upload:
    return await Upload.begin(bench, await bench.create_bucket("bucket"))


async def test_parts_in_any_order_become_one_version(upload: Upload) -> None:
    for number in (3, 1, 2):
        await upload.part(number, SIZE if number < 3 else 10)
    reply = await upload.complete(1, 2, 3)
    version = await upload.version()
    digests = b"".join(bytes.fromhex(etag_of(number)) for number in (1, 2, 3))
    etag = hashlib.md5(digests, usedforsecurity=False).hexdigest() + "-3"
    assert (version.etag, version.size_bytes, version.content_type) == (
        etag, 2 * SIZE + 10, "text/plain",
    )  # fmt: skip
    assert reply.commit.etag == reply.version.etag == etag
    runs = [(run.first_number, run.count, run.part_bytes) for run in version.parts.runs]
    assert runs == [(1, 2, SIZE), (3, 1, 10)]
    assert await upload.usage() == (1, 2 * SIZE + 10, 0)


async def test_completing_again_answers_the_same(upload: Upload) -> None:
    await upload.part(1)
    first = await upload.complete(1)
    assert (await upload.complete(1)).commit.order == first.commit.order
    with pytest.raises(faults.NotFound):
        await upload.complete(1, text="other")
    upload.bench.clock.advance(limits.DAY)
    assert (await upload.complete(1)).version == first.version
    assert await upload.usage() == (1, SIZE, 0)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [((1, 3), "InvalidPart"), ((2, 1), "InvalidPartOrder"), ((1, 1), "InvalidPartOrder"),
     ((1, 2), "EntityTooSmall"), ((), "MalformedXML")],
)  # fmt: skip
async def test_wrong_list_changes_nothing(
    upload: Upload, numbers: tuple[int, ...], reason: str
) -> None:
    await upload.part(1, size=10)
    await upload.part(2)
    with pytest.raises(faults.Invalid) as caught:
        await upload.complete(*numbers)
    assert caught.value.fields["reason"] == reason
    with pytest.raises(faults.NotFound):
        await upload.version()
    await upload.part(1, SIZE)
    await upload.complete(1, 2)


async def test_wrong_etag_is_refused(upload: Upload) -> None:
    await upload.part(1)
    with pytest.raises(faults.Invalid):
        await upload.complete(1, text="other")


async def test_part_sent_again_replaces_the_first_and_frees_it(upload: Upload) -> None:
    await upload.part(1, text="old", blob=1)
    await upload.part(1, text="new", blob=2)
    await upload.complete(1, text="new")
    assert await upload.garbage_blobs() == upload.blob_ids(1)


async def test_unlisted_parts_are_freed_and_listed_ones_kept(upload: Upload) -> None:
    for number in range(1, 7):
        await upload.part(number, blob=number)
    await upload.complete(1, 3, 4)
    assert await upload.garbage_blobs() == upload.blob_ids(2, 5, 6)
    request = meta_pb2.GetParts(upload_id=upload.upload_id, numbers=[1, 3, 4])
    reply = await upload.bench.call(Method.GET_PARTS, request)
    assert [part.number for part in reply.parts] == [1, 3, 4]


async def test_aborted_upload_is_gone_and_freed(upload: Upload) -> None:
    for number in range(1, 4):
        await upload.part(number, blob=number)
    await upload.abort()
    for late in (upload.part(4), upload.complete(1), upload.abort()):
        with pytest.raises(faults.NotFound):
            await late
    assert await upload.garbage_blobs() == upload.blob_ids(1, 2, 3)
    assert await upload.usage() == (0, 0, 0)
    assert not upload.bench.store.scan(b"p", b"q", 9)


async def test_deleted_object_frees_its_parts(upload: Upload) -> None:
    for number in range(1, 4):
        await upload.part(number, blob=number)
    await upload.complete(1, 2, 3)
    await upload.bench.delete(upload.bucket, b"key")
    assert await upload.garbage_blobs() == upload.blob_ids(1, 2, 3)
    assert not upload.bench.store.scan(b"p", b"q", 9)


async def test_part_after_completion_is_refused(upload: Upload) -> None:
    await upload.part(1)
    await upload.complete(1)
    with pytest.raises(faults.NotFound):
        await upload.part(1, text="late", blob=9)


async def test_racing_completions_make_one_version(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket", versioning=records_pb2.Bucket.ENABLED)
    upload = await Upload.begin(bench, bucket)
    await upload.part(1)
    replies = await asyncio.gather(*[upload.complete(1) for _ in range(5)])
    assert len({reply.commit.version_id for reply in replies}) == 1
    assert len(bench.store.scan(b"v", b"w", 9)) == 1


async def test_condition_of_a_completion_is_decided_in_the_commit(upload: Upload) -> None:
    await upload.part(1)
    await upload.bench.commit(upload.bucket, b"key", b"x", etag="e")
    with pytest.raises(faults.PreconditionFailed):
        await upload.complete(1, conditions=meta_pb2.Conditions(if_none_match=["*"]))
    await upload.complete(1, conditions=meta_pb2.Conditions(if_match=["e"]))


@pytest.mark.parametrize("step", [1, 2])
async def test_most_irregular_upload_of_most_parts_is_one_bounded_commit(
    upload: Upload, step: int
) -> None:
    """10,000 parts of 10,000 sizes: the worst there is. All of them go when the object goes.

    step   2: every other part is left out of the list
    """
    count = limits.PART_NUMBER_MAX
    puts: dict[bytes, bytes | None] = {}
    for number in range(1, count + 1):
        part = records_pb2.Part(
            number=number,
            etag=etag_of(number),
            md5=etag_of(number),
            size_bytes=SIZE + number,
            blobs=[upload.bench.blob(number)],
        )
        puts[keys.part(upload.upload_id, number)] = part.SerializeToString()
    await upload.bench.store.commit(Mutation(puts=puts))
    before = upload.bench.store.sequence
    await upload.complete(*range(1, count + 1, step))
    assert upload.bench.store.sequence == before + 1
    version = await upload.version()
    assert len(version.parts.runs) == count // step, "loaded from rows of their own"
    assert all(
        len(value) <= limits.KV_VALUE_BYTES_MAX
        for _, value in upload.bench.store.scan(b"", b"\xff", 100_000)
    )
    await upload.bench.delete(upload.bucket, b"key")
    assert len(await upload.garbage_blobs()) == count
    assert not upload.bench.store.scan(b"p", b"s", 9), "neither parts nor runs are left"
