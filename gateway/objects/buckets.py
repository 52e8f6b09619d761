"""Bucket records as a gateway knows them: cached, and never trusted longer than one call.

Every metadata call names the epoch of the record it was authorized with. A read answers with the
newer record, a write with an old epoch is refused and changes nothing; either way the caller is
authorized again with the new record. So a changed setting is in force everywhere as soon as the
call that changed it has returned, and the healthy path still costs one metadata call.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeVar

from common import faults
from proto import meta_pb2, records_pb2

CACHED_BUCKETS_MAX = 10_000
EPOCH_TRIES_MAX = 5


class BucketReader(Protocol):
    """The one call of the metadata client that this module makes."""

    async def get_bucket(self, request: meta_pb2.GetBucket) -> meta_pb2.BucketReply: ...


class ReplyWithBucket(Protocol):
    """Replies of reads: they carry the bucket only if it is newer than the caller's."""

    @property
    def bucket(self) -> records_pb2.Bucket: ...

    def HasField(self, field_name: Literal["bucket", b"bucket"], /) -> bool: ...  # noqa: N802


ReplyT = TypeVar("ReplyT")
ReadReplyT = TypeVar("ReadReplyT", bound=ReplyWithBucket)
Check = Callable[[records_pb2.Bucket], None]


class BucketCache:
    """Least recently used bucket records by name."""

    def __init__(self, meta: BucketReader) -> None:
        self._meta = meta
        self._records: OrderedDict[str, records_pb2.Bucket] = OrderedDict()

    async def get(self, name: str) -> records_pb2.Bucket:
        """Find a bucket, possibly an old record of it.

        raises   NotFound("bucket")
        """
        record = self._records.get(name)
        if record is not None:
            self._records.move_to_end(name)
            return record
        return await self.refresh(name)

    async def refresh(self, name: str) -> records_pb2.Bucket:
        """Read the current record from the metadata service."""
        self._records.pop(name, None)
        reply = await self._meta.get_bucket(meta_pb2.GetBucket(name=name))
        self.put(reply.bucket)
        return reply.bucket

    def put(self, record: records_pb2.Bucket) -> None:
        """Remember a record that a call answered."""
        self._records[record.name] = record
        self._records.move_to_end(record.name)
        if len(self._records) > CACHED_BUCKETS_MAX:
            self._records.popitem(last=False)

    def forget(self, name: str) -> None:
        """Drop a record: the bucket was deleted or changed by us."""
        self._records.pop(name, None)


class BucketScope:
    """One request's view of its bucket: the record, and the check that must hold for it."""

    def __init__(self, cache: BucketCache, record: records_pb2.Bucket, check: Check) -> None:
        self.record = record
        self._cache = cache
        self._check = check

    async def refresh(self) -> records_pb2.Bucket:
        """Read the record as of now, and check it: for whoever answers a setting."""
        self._renew(await self._cache.refresh(self.record.name))
        return self.record

    async def read(self, call: Callable[[int], Awaitable[ReadReplyT]]) -> ReadReplyT:
        """Make a read with the known epoch; a newer record in the answer is checked first."""
        reply = await self._forgetting(call)
        if reply.HasField("bucket"):
            self._renew(reply.bucket)
        return reply

    async def read_with_data(
        self, call: Callable[[int], Awaitable[tuple[ReadReplyT, ReplyT]]]
    ) -> tuple[ReadReplyT, ReplyT]:
        """The same for calls that answer bytes beside their reply."""
        reply, data = await self._forgetting(call)
        if reply.HasField("bucket"):
            self._renew(reply.bucket)
        return reply, data

    async def write(self, call: Callable[[int], Awaitable[ReplyT]]) -> ReplyT:
        """Make a write; with an old epoch read the bucket, check again, repeat.

        raises   Conflict when the bucket keeps changing under the request
        """
        for _ in range(EPOCH_TRIES_MAX):
            try:
                return await self._forgetting(call)
            except faults.Conflict as conflict:
                if conflict.kind != "bucket_epoch":
                    raise
                self._renew(await self._cache.refresh(self.record.name))
        raise faults.Conflict("bucket_epoch", self.record.name)

    def _renew(self, record: records_pb2.Bucket) -> None:
        self._cache.put(record)
        self.record = record
        self._check(record)

    async def _forgetting(self, call: Callable[[int], Awaitable[ReplyT]]) -> ReplyT:
        try:
            return await call(self.record.epoch)
        except faults.NotFound as missing:
            if missing.kind == "bucket":
                self._cache.forget(self.record.name)
            raise
