"""Six storage nodes in memory, one disk and one zone each, and a gateway's data path over them."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from common import faults
from common.buffers import BufferPool
from common.checksum import crc32c_blocks
from common.clock import SystemClock
from common.erasure.code import load_codes
from common.frames import Reply
from common.keyring import KeyRing
from gateway.objects.blob_writer import Threads
from gateway.objects.nodes import Nodes
from gateway.objects.reader import ObjectReader, ObjectStream
from gateway.objects.stored import Identity, Stored
from gateway.objects.writer import Kernels, ObjectWriter
from proto import meta_pb2, records_pb2, storage_pb2
from storagenode.client import NodeClient

POOL_BYTES = 64 << 20
IDENTITY = Identity("bucket", b"key")


class FakeClient:
    """A node that keeps cells in memory and does what a test tells it to."""

    def __init__(self, name: str) -> None:
        self.name, self.address, self.is_up = name, f"{name}:1", True
        self.fragments: dict[tuple[bytes, int], bytearray] = {}
        self.block_bytes = 0
        self.bytes_read = 0
        self.fault: faults.Fault | None = None
        self.is_flipping = False  # what it sends arrives with a flipped bit
        self.is_stuck = False  # it takes requests and answers nothing
        self.stuck: list[asyncio.Future[Reply]] = []
        self.stuck_reads: list[tuple[storage_pb2.ReadFragment, memoryview]] = []
        self.reads = self.probes = 0
        self.was_asked = asyncio.Event()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def wait_up(self, timeout_s: float) -> None: ...

    def put_cell(
        self,
        request: storage_pb2.PutCell,
        cell: memoryview,
        deadline_s: float,
        may_wait: bool = False,
    ) -> "asyncio.Future[Reply]":
        assert crc32c_blocks(cell, request.block_bytes) == request.block_checksums
        answer = self._answer()
        if not answer.done():
            self.block_bytes = request.block_bytes
            fragment = self.fragments.setdefault((request.blob_id, request.index), bytearray())
            assert len(fragment) == request.cell_index * request.cell_bytes, "cells in order"
            fragment += cell
            if request.last:
                assert len(fragment) == request.fragment_bytes
            if not self.is_stuck:
                answer.set_result(Reply(b"", b""))
        return answer

    def read_fragment(
        self, request: storage_pb2.ReadFragment, into: memoryview, deadline_s: float
    ) -> "asyncio.Future[Reply]":
        answer = self._answer()
        self.reads += 1
        self.was_asked.set()
        if self.is_stuck:
            self.stuck_reads.append((request, into))
        if not answer.done() and not self.is_stuck:
            self._read(request, into, answer)
        return answer

    def thaw(self) -> None:
        """Answer what was asked while it was stuck, unless nobody waits for it any more."""
        self.is_stuck = False
        for (request, into), answer in zip(self.stuck_reads, self.stuck, strict=True):
            if not answer.done():
                self._read(request, into, answer)

    def _read(
        self,
        request: storage_pb2.ReadFragment,
        into: memoryview,
        answer: "asyncio.Future[Reply]",
    ) -> None:
        fragment = self.fragments.get((request.blob_id, request.index))
        if fragment is None:
            answer.set_exception(faults.NotFound("fragment"))
            return
        wanted = request.ranges[0]
        data = fragment[wanted.offset : wanted.offset + wanted.length]
        assert len(data) == wanted.length == len(into)
        self.bytes_read += len(data)
        into[:] = data
        sums = crc32c_blocks(memoryview(data), self.block_bytes)
        reply = storage_pb2.ReadFragmentReply(block_checksums=sums)
        if self.is_flipping:
            into[len(into) // 2] ^= 1
        answer.set_result(Reply(reply.SerializeToString(), b""))

    async def status(self, deadline_s: float) -> storage_pb2.NodeStatusReply:
        self.probes += 1
        if self.fault is not None or self.is_stuck:
            raise self.fault or faults.Unavailable("no answer in time")
        return storage_pb2.NodeStatusReply()

    async def delete_fragments(
        self, request: storage_pb2.DeleteFragments
    ) -> storage_pb2.DeleteFragmentsReply:
        for fragment in request.fragments:
            self.fragments.pop((fragment.blob_id, fragment.index), None)
        return storage_pb2.DeleteFragmentsReply()

    def _answer(self) -> "asyncio.Future[Reply]":
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self.fault is not None:
            answer.set_exception(self.fault)
        elif self.is_stuck:
            self.stuck.append(answer)
        return answer


class FakeMeta:
    """The one call of the metadata service that the data path makes."""

    def __init__(self, topology: records_pb2.Topology) -> None:
        self._topology = topology

    async def get_topology(self, request: meta_pb2.GetTopology) -> meta_pb2.GetTopologyReply:
        return meta_pb2.GetTopologyReply(topology=self._topology)

    async def get_parts(self, request: meta_pb2.GetParts) -> meta_pb2.GetPartsReply:
        raise AssertionError("no multipart objects here")


class FakeSessions:
    """Blob ids one after another."""

    def __init__(self) -> None:
        self._count = 0

    def new_blob_id(self, session_id: int) -> bytes:
        self._count += 1
        return session_id.to_bytes(8, "big") + self._count.to_bytes(8, "big")

    def begin_upload(self) -> int:
        return 1

    def end_upload(self, session_id: int) -> None: ...


class BytesSource:
    """A body that arrives in pieces of a size; `fails` breaks it off."""

    def __init__(self, data: bytes, piece_bytes: int = 100_000, fails: bool = False) -> None:
        self._rest = memoryview(data)
        self._piece_bytes = piece_bytes
        self._fails = fails

    async def read_into(self, view: memoryview) -> int:
        size = min(len(view), len(self._rest), self._piece_bytes)
        if not size and self._fails:
            raise faults.Invalid("body", "", "RequestTimeout")
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


@dataclass(slots=True)
class DataPath:
    """A gateway's writer and reader over fake nodes."""

    clients: dict[str, FakeClient]
    nodes: Nodes
    pool: BufferPool
    writer: ObjectWriter
    reader: ObjectReader

    async def put(self, data: bytes) -> records_pb2.Version:
        """Store an object; the version as it would be committed."""
        return version_of(
            await self.writer.write(BytesSource(data), len(data), frozenset({"MD5"}), IDENTITY)
        )

    async def get(self, stored: records_pb2.Version, begin: int, end: int) -> bytes:
        """Read a range of an object that is stored as blobs."""
        found = self.reader.read(stored, b"", begin, end)
        assert isinstance(found, ObjectStream)
        try:
            return b"".join([bytes(piece) async for piece in found])
        finally:
            await found.aclose()

    def names_of(self, version: records_pb2.Version) -> list[str]:
        """Nodes of the first blob's fragments, in fragment order."""
        return [f"n{disk_id}" for disk_id in version.blobs[0].disk_ids]


def version_of(stored: Stored) -> records_pb2.Version:
    version = records_pb2.Version()
    stored.fill(version)
    return version


@asynccontextmanager
async def data_path(k: int = 4, m: int = 2, zones: int = 6) -> AsyncIterator[DataPath]:
    """A data path over so many zones of one node and one disk each."""
    topology = records_pb2.Topology(epoch=1, cluster_id="cluster")
    topology.profiles.add(name="STANDARD", k=k, m=m, cell_bytes=1 << 20)
    clients: dict[str, FakeClient] = {}
    for number in range(1, zones + 1):
        name = f"n{number}"
        topology.nodes.add(name=name, zone=name, address=f"{name}:1", disk_ids=[number])
        topology.disks.add(
            disk_id=number, disk_uuid=name.encode(), node_name=name, zone=name, capacity_bytes=1
        )

    def make_client(name: str, host: str, port: int) -> NodeClient:
        clients[name] = FakeClient(name)
        return cast(NodeClient, clients[name])

    meta = FakeMeta(topology)
    nodes = Nodes(meta, make_client, SystemClock())
    with ThreadPoolExecutor(1) as hashing, ThreadPoolExecutor(1) as coding:
        threads = Threads(hashing, coding)
        pool = BufferPool(POOL_BYTES)
        kernels = Kernels(load_codes(), KeyRing.make(), pool, threads)
        writer = ObjectWriter(nodes, kernels, FakeSessions())
        path = DataPath(clients, nodes, pool, writer, ObjectReader(meta, nodes, kernels))
        await nodes.refresh()
        yield path
