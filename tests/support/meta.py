"""A metadata service without a network: calls go straight to the server's table of handlers."""

import secrets
from inspect import isawaitable
from typing import Any

from google.protobuf.message import Message

from common.clock import ManualClock
from common.frames import Call
from common.keyring import KeyRing
from metaservice.kv.interface import Mutation, Store
from metaservice.operations.nodes import CLUSTER_ID, EPOCH
from metaservice.server import MetaServer
from metaservice.table import REPLIES, Method
from proto import meta_pb2, records_pb2

OWNER = "111122223333"


class MetaBench:
    """A service on a store and a clock that the test moves; knows how to make usual things."""

    def __init__(self, store: Store, clock: ManualClock, ring: KeyRing | None = None) -> None:
        self.store = store
        self.clock = clock
        self.server = MetaServer(store, clock, ring=ring)
        self._handlers = self.server.handlers()
        self.session_id = 0

    async def start(self) -> None:
        """Give the cluster its identity, and the caller a session."""
        puts = {CLUSTER_ID: b"cluster", EPOCH: (1).to_bytes(8, "big")}
        await self.store.commit(Mutation(puts=puts))
        self.session_id = await self.open_session()

    def restart(self) -> "MetaBench":
        """A new process on the same rows: everything in memory is forgotten."""
        bench = MetaBench(self.store, self.clock)
        bench.session_id = self.session_id
        return bench

    async def call(self, method: Method, request: Message, data: bytes = b"") -> Any:
        """The reply of a method; with its data, for the one method that answers some."""
        made = self._handlers[method](Call(method, request.SerializeToString(), data, 10.0))
        answer = await made if isawaitable(made) else made
        reply = REPLIES[method][1].FromString(answer.header)
        if method is Method.GET_VERSION:
            return reply, b"".join(bytes(piece) for piece in answer.pieces)
        return reply

    async def open_session(self, holder: str = "gateway") -> int:
        """A new writer session."""
        reply = await self.call(Method.OPEN_SESSION, meta_pb2.OpenSession(holder=holder))
        session_id: int = reply.session_id
        return session_id

    def writer(self, session_id: int | None = None) -> meta_pb2.Writer:
        """What a write carries, under a new transaction id."""
        return meta_pb2.Writer(
            session_id=self.session_id if session_id is None else session_id,
            transaction_id=self.clock.now_ns().to_bytes(8, "big") + secrets.token_bytes(8),
        )

    async def create_bucket(self, name: str, **fields: Any) -> records_pb2.Bucket:
        """A new bucket."""
        bucket = records_pb2.Bucket(name=name, owner_account=OWNER, **fields)
        request = meta_pb2.CreateBucket(writer=self.writer(), bucket=bucket)
        made: records_pb2.Bucket = (await self.call(Method.CREATE_BUCKET, request)).bucket
        return made

    async def commit(
        self, bucket: records_pb2.Bucket, key: bytes, data: bytes = b"", **version: Any
    ) -> meta_pb2.CommitReply:
        """A new version: of blobs if some are given, else inline."""
        version.setdefault("is_inline", "blobs" not in version)
        version.setdefault("size_bytes", len(data))
        request = meta_pb2.CommitVersion(
            writer=self.writer(),
            bucket=bucket.name,
            known_epoch=bucket.epoch,
            key=key,
            version=records_pb2.Version(**version),
        )
        reply: meta_pb2.CommitReply = await self.call(Method.COMMIT_VERSION, request, data)
        return reply

    async def delete(self, bucket: records_pb2.Bucket, key: bytes) -> meta_pb2.CommitReply:
        """A plain delete."""
        request = meta_pb2.DeleteVersion(
            writer=self.writer(), bucket=bucket.name, known_epoch=bucket.epoch, key=key
        )
        reply: meta_pb2.CommitReply = await self.call(Method.DELETE_VERSION, request)
        return reply

    def blob(self, number: int, **fields: Any) -> records_pb2.BlobRef:
        """A blob of the session."""
        blob_id = self.session_id.to_bytes(8, "big") + number.to_bytes(8, "big")
        fields.setdefault("disk_ids", range(1, 7))
        return records_pb2.BlobRef(blob_id=blob_id, plain_bytes=1 << 20, k=4, m=2, **fields)
