"""Calling a storage node: the only module of it that other services import."""

import asyncio
from enum import IntEnum

from google.protobuf.message import Message

from common import limits
from common.frames import FrameClient, Reply
from proto import scrub_pb2, storage_pb2

VERIFY_DEADLINE_S = 60.0  # of a few dozen fragments read whole


class Method(IntEnum):
    """Ids on the wire; never change or reuse one."""

    PUT_CELL = 1
    READ_FRAGMENT = 2
    DELETE_FRAGMENTS = 3
    LIST_FRAGMENTS = 4
    STAT_FRAGMENTS = 5
    NODE_STATUS = 6
    VERIFY_FRAGMENTS = 30
    JOURNAL_FENCE = 40
    JOURNAL_OPEN = 41
    JOURNAL_APPEND = 42
    JOURNAL_WRITE_HEADER = 43
    JOURNAL_READ = 44
    JOURNAL_TRIM = 45


class NodeClient:
    """One node. Cells and reads have a connection each, so that neither waits for the other."""

    def __init__(self, name: str, host: str, port: int, secret: bytes = b"") -> None:
        self.name = name
        self.address = f"{host}:{port}"
        self._writes = FrameClient(host, port, secret)
        self._reads = FrameClient(host, port, secret)

    async def start(self) -> None:
        """Begin connecting."""
        await self._writes.start()
        await self._reads.start()

    async def stop(self) -> None:
        """Close."""
        await self._writes.stop()
        await self._reads.stop()

    @property
    def is_up(self) -> bool:
        """Whether the node is connected."""
        return self._writes.is_up and self._reads.is_up

    async def wait_up(self, timeout_s: float) -> None:
        """Wait for the connections. raises Unavailable"""
        await self._writes.wait_up(timeout_s)
        await self._reads.wait_up(timeout_s)

    def put_cell(
        self,
        request: storage_pb2.PutCell,
        cell: memoryview,
        deadline_s: float,
        may_wait: bool = False,
    ) -> "asyncio.Future[Reply]":
        """Send a cell now; it must not change before the future is done. The request may.

        Cells of a fragment are sent in order. See FragmentStore.put_cell.

        may_wait   it may leave a little later, with other cells
        """
        header = request.SerializeToString()
        return self._writes.call(
            Method.PUT_CELL, header, cell, deadline_s=deadline_s, may_wait=may_wait
        )

    def read_fragment(
        self, request: storage_pb2.ReadFragment, into: memoryview, deadline_s: float
    ) -> "asyncio.Future[Reply]":
        """Read ranges one behind another into `into`; not written any more once this is done.

        The reply's header is a ReadFragmentReply.
        """
        return self._reads.call(
            Method.READ_FRAGMENT, request.SerializeToString(), deadline_s=deadline_s, into=into
        )

    def journal_call(
        self, method: Method, request: Message, payload: bytes = b"", *, deadline_s: float
    ) -> "asyncio.Future[Reply]":
        """A call to the node's journal, sent now; see storagenode/journal/journal.py."""
        header = request.SerializeToString()
        reply = self._reads.call(method, header, payload, deadline_s=deadline_s)
        self._reads.flush()  # commits wait for it, and this turn of the loop may last
        return reply

    async def delete_fragments(
        self, request: storage_pb2.DeleteFragments
    ) -> storage_pb2.DeleteFragmentsReply:
        """Delete; durable when this returns."""
        reply = await self._writes.call(
            Method.DELETE_FRAGMENTS,
            request.SerializeToString(),
            deadline_s=limits.CALL_DEADLINE_S,
        )
        return storage_pb2.DeleteFragmentsReply.FromString(reply.header)

    async def list_fragments(
        self, request: storage_pb2.ListFragments
    ) -> storage_pb2.ListFragmentsReply:
        """A page of a disk's fragments."""
        reply = await self._reads.call(
            Method.LIST_FRAGMENTS, request.SerializeToString(), deadline_s=limits.CALL_DEADLINE_S
        )
        return storage_pb2.ListFragmentsReply.FromString(reply.header)

    async def stat_fragments(
        self, request: storage_pb2.StatFragments
    ) -> storage_pb2.StatFragmentsReply:
        """Those of the named fragments that are there."""
        reply = await self._reads.call(
            Method.STAT_FRAGMENTS, request.SerializeToString(), deadline_s=limits.CALL_DEADLINE_S
        )
        return storage_pb2.StatFragmentsReply.FromString(reply.header)

    async def verify_fragments(
        self, request: scrub_pb2.VerifyFragments
    ) -> scrub_pb2.VerifyFragmentsReply:
        """What the node finds reading fragments of its own whole; in the order asked for."""
        reply = await self._reads.call(
            Method.VERIFY_FRAGMENTS, request.SerializeToString(), deadline_s=VERIFY_DEADLINE_S
        )
        return scrub_pb2.VerifyFragmentsReply.FromString(reply.header)

    async def status(
        self, deadline_s: float = limits.CALL_DEADLINE_S
    ) -> storage_pb2.NodeStatusReply:
        """The node and its disks."""
        reply = await self._reads.call(
            Method.NODE_STATUS,
            storage_pb2.NodeStatus().SerializeToString(),
            deadline_s=deadline_s,
        )
        return storage_pb2.NodeStatusReply.FromString(reply.header)
