"""Two operations at once, in the worst order: each reads before the other commits.

The engine in this process never lets that happen; others do. So conditions must be complete: every
pair of operations, from many states, must end as if one had come after the other.
"""

from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

import pytest

from common import faults
from common.clock import ManualClock
from metaservice.kv.interface import CommitOutcome, Mutation
from metaservice.kv.memory import MemoryStore
from metaservice.operations.upkeep import BucketSweeper
from metaservice.table import Method
from proto import meta_pb2, records_pb2
from tests.support.meta import OWNER, MetaBench
from tests.support.meta_rows import MetaRows

Bucket = records_pb2.Bucket
KEY = b"key"
ETAG = "0" * 32


class RacingStore(MemoryStore):
    """Lets a rival commit first, after the body of the next commit has read everything."""

    def __init__(self) -> None:
        super().__init__()
        self.rival: Callable[[], Awaitable[None]] | None = None
        self.rejected = 0

    async def commit(self, mutation: Mutation) -> CommitOutcome:
        rival, self.rival = self.rival, None
        if rival is not None:
            await rival()
        outcome = await super().commit(mutation)
        self.rejected += outcome is CommitOutcome.REJECTED
        return outcome


class Race:
    """One bucket, one key, one upload; operations by name, their refusals noted, not raised."""

    def __init__(self) -> None:
        self.store = RacingStore()
        self.bench = MetaBench(self.store, ManualClock())
        self.bucket = Bucket()
        self.upload_id = b""
        self.blobs = 0
        self.outcomes: dict[str, str] = {}

    async def start(self, versioning: str, state: str) -> None:
        """state   what is done to the key before, in words of `act`"""
        await self.bench.start()
        self.bucket = await self.bench.create_bucket("bucket")
        if versioning != "never":
            await self.act(versioning)
        upload = records_pb2.Upload(key=KEY)
        request = meta_pb2.CreateUpload(**self._where(), upload=upload)
        self.upload_id = (await self.bench.call(Method.CREATE_UPLOAD, request)).upload.upload_id
        await self.act("part")
        for name in state.split():
            await self.act(name)

    def _where(self) -> dict[str, Any]:
        return {
            "writer": self.bench.writer(),
            "bucket": self.bucket.name,
            "known_epoch": self.bucket.epoch,
        }

    async def act(self, name: str) -> None:
        """Do one thing; a refusal is an outcome too."""
        self.outcomes[name] = "done"
        try:
            await getattr(self, name)()
        except faults.Fault as fault:
            self.outcomes[name] = fault.fields.get("reason") or type(fault).__name__

    async def both(self, first: str, second: str) -> None:
        """The second commits after the first has read and before it commits."""

        async def rival() -> None:
            await self.act(second)

        self.outcomes = {}
        self.store.rival = rival
        await self.act(first)
        if self.store.rival is not None:  # the first was refused before it came to a commit
            self.store.rival = None
            await self.act(second)

    def _blob(self) -> records_pb2.BlobRef:
        self.blobs += 1
        return self.bench.blob(self.blobs, degraded=True)

    async def put(self) -> None:
        await self.bench.commit(self.bucket, KEY, blobs=[self._blob()], size_bytes=9, etag=ETAG)

    async def create(self) -> None:
        request = meta_pb2.CommitVersion(
            **self._where(),
            key=KEY,
            version=records_pb2.Version(blobs=[self._blob()], size_bytes=5),
            conditions=meta_pb2.Conditions(if_none_match=["*"]),
        )
        await self.bench.call(Method.COMMIT_VERSION, request)

    async def delete(self) -> None:
        await self.bench.delete(self.bucket, KEY)

    async def _delete_version(self, index: int) -> None:
        versions = MetaRows(self.store).versions[self.bucket.bucket_id, KEY]
        name = meta_pb2.VersionName(is_null=True)
        if index < len(versions):
            version = versions[index][1]
            name = meta_pb2.VersionName(version_id=version.version_id, is_null=version.is_null)
        request = meta_pb2.DeleteVersion(**self._where(), key=KEY, version=name, has_version=True)
        await self.bench.call(Method.DELETE_VERSION, request)

    async def delete_newest(self) -> None:
        await self._delete_version(0)

    async def delete_second(self) -> None:
        await self._delete_version(1)

    async def delete_null(self) -> None:
        await self._delete_version(1000)

    async def tag(self) -> None:
        tags = [records_pb2.Pair(name="a", value="b")]
        await self.bench.call(
            Method.SET_TAGS, meta_pb2.SetTags(**self._where(), key=KEY, tags=tags)
        )

    async def _part(self, number: int) -> None:
        part = records_pb2.Part(number=number, etag=ETAG, md5=ETAG, blobs=[self._blob()])
        request = meta_pb2.CommitPart(**self._where(), key=KEY, upload_id=self.upload_id, part=part)
        await self.bench.call(Method.COMMIT_PART, request)

    async def part(self) -> None:
        await self._part(1)

    async def other_part(self) -> None:
        await self._part(2)

    async def complete(self) -> None:
        request = meta_pb2.CompleteUpload(
            **self._where(),
            key=KEY,
            upload_id=self.upload_id,
            parts=[meta_pb2.ListedPart(number=1, etag=ETAG)],
        )
        await self.bench.call(Method.COMPLETE_UPLOAD, request)

    async def abort(self) -> None:
        request = meta_pb2.AbortUpload(**self._where(), key=KEY, upload_id=self.upload_id)
        await self.bench.call(Method.ABORT_UPLOAD, request)

    async def open_upload(self) -> None:
        request = meta_pb2.CreateUpload(**self._where(), upload=records_pb2.Upload(key=b"x"))
        await self.bench.call(Method.CREATE_UPLOAD, request)

    async def create_bucket(self) -> None:
        await self.bench.create_bucket("new")

    async def delete_bucket(self) -> None:
        request = meta_pb2.DeleteBucket(
            writer=self.bench.writer(), name="bucket", owner_account=OWNER
        )
        await self.bench.call(Method.DELETE_BUCKET, request)

    async def _set_versioning(self, versioning: "Bucket.Versioning.ValueType") -> None:
        request = meta_pb2.UpdateBucket(
            writer=self.bench.writer(), name="bucket", set_versioning=True, versioning=versioning
        )
        self.bucket = (await self.bench.call(Method.UPDATE_BUCKET, request)).bucket

    async def enable(self) -> None:
        await self._set_versioning(Bucket.ENABLED)

    async def suspend(self) -> None:
        await self._set_versioning(Bucket.SUSPENDED)


async def race(versioning: str, state: str, first: str, second: str) -> Race:
    made = Race()
    await made.start(versioning, state)
    await made.both(first, second)
    MetaRows(made.store).check()
    return made


WRITES = ["put", "create", "delete", "delete_newest", "delete_second", "delete_null", "tag"]
UPLOAD_WRITES = ["part", "other_part", "complete", "abort", "open_upload"]
STATES = [
    "",
    "put",
    "put delete",
    "put put",
    "put delete put",
    "put delete delete",
    "put enable put",
    "put enable put delete",
    "enable put suspend put",
    "enable put suspend put put delete",
    "enable put suspend delete",
    "enable put suspend put enable put",
]


@pytest.mark.parametrize("versioning", ["never", "enable", "suspend"])
async def test_any_two_writes_end_as_if_one_came_after_the_other(versioning: str) -> None:
    names = [*WRITES, *UPLOAD_WRITES, "delete_bucket", "enable", "suspend"]
    for state in STATES:
        for first, second in product(names, names):
            try:
                await race(versioning, state, first, second)
            except AssertionError as error:
                raise AssertionError(f"{versioning}: {state}: {first} while {second}") from error


@pytest.mark.parametrize("second", ["put", "open_upload", "delete"])
async def test_bucket_that_is_written_meanwhile_is_not_deleted(second: str) -> None:
    made = await race("enable", "abort", "delete_bucket", second)
    expected = "done" if second == "open_upload" else "BucketNotEmpty"
    assert made.outcomes == {second: "done", "delete_bucket": expected}


@pytest.mark.parametrize("first", ["put", "part", "complete", "open_upload", "enable"])
async def test_write_into_a_bucket_that_is_deleted_meanwhile_is_refused(first: str) -> None:
    made = await race("never", "", first, "delete_bucket")
    assert made.outcomes == {first: "NotFound", "delete_bucket": "done"}


async def test_of_two_creations_one_succeeds() -> None:
    made = Race()
    await made.start("never", "")
    results: list[str] = []
    made.store.rival = lambda: collect(results, made.create())
    await collect(results, made.create())
    assert sorted(results) == ["PreconditionFailed", "done"]
    MetaRows(made.store).check()


async def collect(results: list[str], action: Awaitable[None]) -> None:
    """Note how an action ends."""
    try:
        await action
    except faults.Fault as fault:
        results.append(type(fault).__name__)
    else:
        results.append("done")


async def test_of_two_buckets_of_one_name_one_is_made() -> None:
    made = Race()
    await made.start("never", "")
    results: list[str] = []
    made.store.rival = lambda: collect(results, made.create_bucket())
    await collect(results, made.create_bucket())
    assert sorted(results) == ["AlreadyExists", "done"]


async def test_parts_do_not_get_in_one_anothers_way() -> None:
    made = await race("never", "", "part", "other_part")
    assert made.outcomes == {"part": "done", "other_part": "done"}
    assert made.store.rejected == 0


async def test_writes_of_different_keys_do_not_get_in_one_anothers_way() -> None:
    made = Race()
    await made.start("enable", "")

    async def rival() -> None:
        await made.bench.commit(made.bucket, b"other", b"x")

    made.store.rival = rival
    await made.act("put")
    assert made.outcomes["put"] == "done"
    assert made.store.rejected == 0


@pytest.mark.parametrize("late", ["part", "other_part"])
async def test_part_committed_while_completing_makes_the_completion_run_again(late: str) -> None:
    made = await race("never", "", "complete", late)
    assert made.outcomes == {"complete": "done", late: "done"}
    assert made.store.rejected == 1
    made = await race("never", "", late, "complete")
    assert made.outcomes == {"complete": "done", late: "NotFound"}


async def test_uploads_of_a_deleted_bucket_are_swept() -> None:
    made = Race()
    await made.start("never", "")
    for _ in range(70):
        await made.act("open_upload")
    await made.act("delete_bucket")
    assert made.outcomes["delete_bucket"] == "done"
    sweeper, steps = BucketSweeper(), 0
    while sweeper.is_behind or steps == 0:
        await made.bench.server.transactor.write(sweeper.step, meta_pb2.FinishGarbageReply)
        MetaRows(made.store).check()
        steps += 1
    assert steps == 4, "a bounded number each, and one that finds nothing"
    rows = MetaRows(made.store)
    assert not rows.uploads
    assert len(rows.garbage) == 71
