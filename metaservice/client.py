"""Calling the metadata service: the only module of it that other services import."""

import asyncio
import random
import secrets
from typing import Any, TypeVar

from google.protobuf.message import Message

from common import faults, limits
from common.clock import Clock
from common.frames import FrameClient
from metaservice.table import REPLIES
from metaservice.table import Method as Method
from proto import meta_pb2

ReplyT = TypeVar("ReplyT", bound=Message)

RETRY_S_MIN = 0.02
RETRY_S_MAX = 0.5
CLOSE_TIMEOUT_S = 2.0  # closing a session is a courtesy: its lease would end by itself


class MetaClient:
    """One async method per message of proto/meta.proto.

    Reads, and writes that carry a transaction id, are repeated over lost connections until the
    deadline: the service answers a repeated transaction id with its first reply. Then Unavailable:
    the outcome of a write is unknown.
    """

    def __init__(self, frames: FrameClient, deadline_s: float = limits.COMMIT_DEADLINE_S) -> None:
        self._frames = frames
        self._deadline_s = deadline_s

    @property
    def is_up(self) -> bool:
        """Whether the service is connected."""
        return self._frames.is_up

    async def create_bucket(self, request: meta_pb2.CreateBucket) -> meta_pb2.BucketReply:
        return await self._call(Method.CREATE_BUCKET, request, meta_pb2.BucketReply)

    async def get_bucket(self, request: meta_pb2.GetBucket) -> meta_pb2.BucketReply:
        return await self._call(Method.GET_BUCKET, request, meta_pb2.BucketReply)

    async def delete_bucket(self, request: meta_pb2.DeleteBucket) -> meta_pb2.BucketReply:
        return await self._call(Method.DELETE_BUCKET, request, meta_pb2.BucketReply)

    async def list_buckets(self, request: meta_pb2.ListBuckets) -> meta_pb2.ListBucketsReply:
        return await self._call(Method.LIST_BUCKETS, request, meta_pb2.ListBucketsReply)

    async def update_bucket(self, request: meta_pb2.UpdateBucket) -> meta_pb2.BucketReply:
        return await self._call(Method.UPDATE_BUCKET, request, meta_pb2.BucketReply)

    async def commit_version(
        self, request: meta_pb2.CommitVersion, data: bytes
    ) -> meta_pb2.CommitReply:
        return await self._call(Method.COMMIT_VERSION, request, meta_pb2.CommitReply, data)

    async def get_version(
        self, request: meta_pb2.GetVersion
    ) -> tuple[meta_pb2.GetVersionReply, bytes]:
        header, payload = await self._exchange(Method.GET_VERSION, request, b"")
        return meta_pb2.GetVersionReply.FromString(header), payload

    async def delete_version(self, request: meta_pb2.DeleteVersion) -> meta_pb2.CommitReply:
        return await self._call(Method.DELETE_VERSION, request, meta_pb2.CommitReply)

    async def delete_versions(
        self, request: meta_pb2.DeleteVersions
    ) -> meta_pb2.DeleteVersionsReply:
        return await self._call(Method.DELETE_VERSIONS, request, meta_pb2.DeleteVersionsReply)

    async def set_tags(self, request: meta_pb2.SetTags) -> meta_pb2.CommitReply:
        return await self._call(Method.SET_TAGS, request, meta_pb2.CommitReply)

    async def list_keys(self, request: meta_pb2.ListKeys) -> meta_pb2.ListKeysReply:
        return await self._call(Method.LIST_KEYS, request, meta_pb2.ListKeysReply)

    async def list_versions(self, request: meta_pb2.ListVersions) -> meta_pb2.ListVersionsReply:
        return await self._call(Method.LIST_VERSIONS, request, meta_pb2.ListVersionsReply)

    async def create_upload(self, request: meta_pb2.CreateUpload) -> meta_pb2.UploadReply:
        return await self._call(Method.CREATE_UPLOAD, request, meta_pb2.UploadReply)

    async def get_upload(self, request: meta_pb2.GetUpload) -> meta_pb2.UploadReply:
        return await self._call(Method.GET_UPLOAD, request, meta_pb2.UploadReply)

    async def commit_part(self, request: meta_pb2.CommitPart) -> meta_pb2.CommitReply:
        return await self._call(Method.COMMIT_PART, request, meta_pb2.CommitReply)

    async def list_parts(self, request: meta_pb2.ListParts) -> meta_pb2.ListPartsReply:
        return await self._call(Method.LIST_PARTS, request, meta_pb2.ListPartsReply)

    async def get_parts(self, request: meta_pb2.GetParts) -> meta_pb2.GetPartsReply:
        return await self._call(Method.GET_PARTS, request, meta_pb2.GetPartsReply)

    async def list_uploads(self, request: meta_pb2.ListUploads) -> meta_pb2.ListUploadsReply:
        return await self._call(Method.LIST_UPLOADS, request, meta_pb2.ListUploadsReply)

    async def complete_upload(self, request: meta_pb2.CompleteUpload) -> meta_pb2.CompleteReply:
        return await self._call(Method.COMPLETE_UPLOAD, request, meta_pb2.CompleteReply)

    async def abort_upload(self, request: meta_pb2.AbortUpload) -> meta_pb2.CommitReply:
        return await self._call(Method.ABORT_UPLOAD, request, meta_pb2.CommitReply)

    async def heartbeat(self, request: meta_pb2.Heartbeat) -> meta_pb2.HeartbeatReply:
        return await self._call(Method.HEARTBEAT, request, meta_pb2.HeartbeatReply)

    async def get_topology(self, request: meta_pb2.GetTopology) -> meta_pb2.GetTopologyReply:
        return await self._call(Method.GET_TOPOLOGY, request, meta_pb2.GetTopologyReply)

    async def get_access_key(self, request: meta_pb2.GetAccessKey) -> meta_pb2.AccessKeyReply:
        return await self._call(Method.GET_ACCESS_KEY, request, meta_pb2.AccessKeyReply)

    async def call(self, method: Method, request: Message) -> Any:
        """Make a call of the workers' section; the reply is of the method's class."""
        return await self._call(method, request, REPLIES[method][1])

    async def _call(
        self, method: Method, request: Message, reply: type[ReplyT], data: bytes = b""
    ) -> ReplyT:
        header, _ = await self._exchange(method, request, data)
        return reply.FromString(header)

    async def _exchange(self, method: Method, request: Message, data: bytes) -> tuple[bytes, bytes]:
        message = request.SerializeToString()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadline_s
        pause_s = RETRY_S_MIN
        while True:
            left_s = max(end - loop.time(), RETRY_S_MIN)
            try:
                reply = await self._frames.call(
                    method, message, data, deadline_s=min(left_s, limits.CALL_DEADLINE_S)
                )
            except (faults.Unavailable, faults.Busy):
                if loop.time() + pause_s >= end:
                    raise
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                pause_s = min(pause_s * 2, RETRY_S_MAX)
            else:
                return reply.header, bytes(reply.payload)


class WriterSession:
    """This process's writer session: kept alive, replaced in time, never used once fenced.

    Blob ids are session (8 bytes) and counter (8). An old session is closed only after the longest
    upload begun in it could have ended.
    """

    def __init__(self, meta: MetaClient, clock: Clock, holder: str) -> None:
        self._meta = meta
        self._clock = clock
        self._holder = holder
        self._session_id = 0
        self._counter = 0
        self._begun_s = 0.0
        self._held: set[int] = set()
        self._in_use: dict[int, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the first session and keep it. raises Unavailable"""
        await self._open()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Close all sessions; nothing is in flight any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for session_id in sorted(self._held):
            await self._close(session_id)

    def transaction_id(self) -> bytes:
        """A new transaction id: its first 8 bytes are the time, so that old ones are found."""
        return self._clock.now_ns().to_bytes(8, "big") + secrets.token_bytes(8)

    def writer(self, session_id: int | None = None) -> meta_pb2.Writer:
        """What a commit carries; blobs must be committed under the session that made them."""
        return meta_pb2.Writer(
            session_id=self._session_id if session_id is None else session_id,
            transaction_id=self.transaction_id(),
        )

    def new_blob_id(self, session_id: int) -> bytes:
        """The next blob id of a session that an upload holds open."""
        self._counter += 1
        return session_id.to_bytes(8, "big") + self._counter.to_bytes(8, "big")

    def begin_upload(self) -> int:
        """Hold the current session open for an upload; pair with `end_upload`."""
        session_id = self._session_id
        self._in_use[session_id] = self._in_use.get(session_id, 0) + 1
        return session_id

    def end_upload(self, session_id: int) -> None:
        """The upload has been committed or given up."""
        left = self._in_use[session_id] - 1
        if left:
            self._in_use[session_id] = left
        else:
            del self._in_use[session_id]

    async def _open(self) -> None:
        request = meta_pb2.OpenSession(holder=self._holder)
        reply: meta_pb2.SessionReply = await self._meta.call(Method.OPEN_SESSION, request)
        self._session_id = reply.session_id
        self._begun_s = self._clock.monotonic_s()
        self._held.add(reply.session_id)

    async def _keep(self) -> None:
        while True:
            await self._clock.sleep(limits.SESSION_RENEW_S)
            try:
                await self._renew()
            except faults.Fault:
                continue  # the service is away; commits would fail too, and uploads say so

    async def _renew(self) -> None:
        for session_id in sorted(self._held):
            is_old = session_id != self._session_id
            if is_old and session_id not in self._in_use:
                await self._close(session_id)
                continue
            request = meta_pb2.RenewSession(session_id=session_id)
            try:
                await self._meta.call(Method.RENEW_SESSION, request)
            except faults.Fenced:
                self._held.discard(session_id)
                if not is_old:
                    await self._open()
        if self._clock.monotonic_s() - self._begun_s > limits.SESSION_AGE_S_MAX:
            await self._open()

    async def _close(self, session_id: int) -> None:
        request = meta_pb2.CloseSession(session_id=session_id)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._meta.call(Method.CLOSE_SESSION, request)
        except (faults.Unavailable, faults.Busy, TimeoutError):
            return  # tried again with the next renewal
        except faults.Fenced:
            pass  # it has ended already
        self._held.discard(session_id)
