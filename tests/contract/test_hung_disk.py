"""One disk of a node hangs: only its own writes and deletions wait, and none of them is lost.

Method: two disks behind the real handlers; the thread of one stands in a write, a sync or in its
index until it is let go. With the event loop in such a call every test here would time out.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common import faults
from common.buffers import BufferPool
from common.checksum import crc32c_blocks
from common.clock import ManualClock
from common.frames import FrameServer
from common.limits import MIB
from proto import storage_pb2
from storagenode.client import NodeClient
from storagenode.server import NodeServer, PoolSlots
from storagenode.store.disk import Disk
from storagenode.store.files import SystemFiles
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.settings import DiskSettings

WAIT_S = 10.0
HUNG, WELL = 1, 2
SMALL, LARGE = b"s" * 16_400, b"l" * 200_000


class Gate:
    """Lets calls of a thread wait, once closed, until it is opened."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self._is_open = threading.Event()
        self._is_open.set()
        self.reached = threading.Event()

    def __call__(self, *values: Any) -> Any:
        if not self._is_open.is_set():
            self.reached.set()
            assert self._is_open.wait(WAIT_S), "nobody opened the gate"
        return self._call(*values)

    def close(self) -> None:
        self._is_open.clear()

    def open(self) -> None:
        self._is_open.set()


class Node:
    """Two disks behind frames."""

    def __init__(self, folder: Path) -> None:
        pool, clock = BufferPool(64 * MIB), ManualClock()
        self.disks = []
        for number in (HUNG, WELL):
            settings = DiskSettings(folder / str(number), 8 * MIB, 1.0, 0)
            self.disks.append(Disk(settings, SystemFiles(), clock, pool))
            self.disks[-1].adopt("cluster", number)
        self.pool, self.store = pool, FragmentStore(self.disks, clock, pool)
        handlers = NodeServer(self.store, "node", "zone", 1).handlers()
        self.frames = FrameServer(handlers, slots=PoolSlots(pool))
        self.client = NodeClient("node", "127.0.0.1", 0)

    def put(self, blob: int, disk_id: int, data: bytes = SMALL) -> "asyncio.Future[Any]":
        request = storage_pb2.PutCell(
            blob_id=blob.to_bytes(16, "big"), index=1, disk_id=disk_id, last=True,
            fragment_bytes=len(data), cell_bytes=len(data), block_bytes=65_536,
            block_checksums=crc32c_blocks(memoryview(data), 65_536),
        )  # fmt: skip
        return self.client.put_cell(request, memoryview(data), WAIT_S)

    async def get(self, blob: int, disk_id: int, size: int = len(SMALL)) -> bytes:
        request = storage_pb2.ReadFragment(
            blob_id=blob.to_bytes(16, "big"),
            index=1,
            disk_id=disk_id,
            ranges=[storage_pb2.Range(offset=0, length=size)],
        )
        into = memoryview(bytearray(size))
        await self.client.read_fragment(request, into, WAIT_S)
        return bytes(into)

    def delete(self, blob: int, disk_id: int) -> Awaitable[storage_pb2.DeleteFragmentsReply]:
        fragment = storage_pb2.FragmentId(
            blob_id=blob.to_bytes(16, "big"), index=1, disk_id=disk_id
        )
        return self.client.delete_fragments(storage_pb2.DeleteFragments(fragments=[fragment]))


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Node]:
    node = Node(folder)
    port = await node.frames.start("127.0.0.1", 0)
    node.client = NodeClient("node", "127.0.0.1", port)
    await node.client.start()
    await node.client.wait_up(WAIT_S)
    try:
        async with asyncio.timeout(3 * WAIT_S):
            yield node
    finally:
        await node.client.stop()
        await node.frames.stop()
        await node.store.close()


def gate_of(node: Node, what: str, size: int = len(SMALL)) -> Gate:
    """A gate in what the first disk's thread does to a fragment of that size."""
    disk = node.disks[0]
    if what == "index":
        gate = Gate(disk.index.put_all)
        disk.index.put_all = gate  # type: ignore[method-assign]
        return gate
    file = disk.extents.by_number[1].file
    name = what if size == len(LARGE) else "write_durable"  # small ones: write and sync in one
    gate = Gate(getattr(file, name))
    setattr(file, name, gate)
    return gate


@pytest.mark.parametrize("size", [len(SMALL), len(LARGE)])
@pytest.mark.parametrize("what", ["write", "sync", "index"])
async def test_only_its_own_writes_wait(tmp_path: Path, what: str, size: int) -> None:
    data = (SMALL + LARGE)[:size]
    async with serving(tmp_path) as node:
        await asyncio.gather(node.put(1, HUNG), node.put(2, WELL))
        gate = gate_of(node, what, size)
        gate.close()
        waiting = [node.put(number, HUNG, data) for number in (3, 4)]
        await asyncio.to_thread(gate.reached.wait, WAIT_S)
        await node.put(5, WELL, data)
        assert await node.get(5, WELL, size) == data
        assert await node.get(1, HUNG) == SMALL
        assert len((await node.client.status()).disks) == 2
        assert (await node.delete(2, WELL)).deleted == 1
        assert not any(call.done() for call in waiting)
        gate.open()
        await asyncio.gather(*waiting)
        for number in (3, 4):
            assert await node.get(number, HUNG, size) == data


@pytest.mark.parametrize("size", [len(SMALL), len(LARGE)])
async def test_what_is_deleted_while_it_is_written_stays_deleted(tmp_path: Path, size: int) -> None:
    data = (SMALL + LARGE)[:size]
    async with serving(tmp_path) as node:
        await node.put(1, HUNG)
        gate = gate_of(node, "sync", size)
        gate.close()
        written = node.put(3, HUNG, data)
        await asyncio.to_thread(gate.reached.wait, WAIT_S)
        deleted = asyncio.ensure_future(node.delete(3, HUNG))
        with pytest.raises(faults.Fenced):
            await written
        with pytest.raises(faults.Fenced):  # nor is it written again while it is being deleted
            await node.put(3, HUNG, data)
        gate.open()
        assert (await deleted).absent == 1
        with pytest.raises(faults.NotFound):
            await node.get(3, HUNG, size)
        disk, extent = node.disks[0], node.disks[0].extents.by_number[1]
        record = disk.index.get((1).to_bytes(16, "big"), 1)
        assert record is not None, "the other fragment stays"
        assert (extent.open_writes, extent.live_bytes) == (0, record[0].record_bytes)
        assert disk.fragment_count == 1
    again = Node(tmp_path)
    assert again.disks[0].fragment_count == 1, "a scan does not find it either"
    await again.store.close()


async def test_deletions_of_the_same_fragment_count_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        await asyncio.gather(*[node.put(number, HUNG) for number in range(4)])
        replies = await asyncio.gather(*[node.delete(1, HUNG) for _ in range(5)])
        assert sorted(reply.deleted for reply in replies) == [0, 0, 0, 0, 1]
        assert node.disks[0].fragment_count == 3
        assert node.pool.bytes_held == node.pool._idle_bytes, "no memory is kept"
