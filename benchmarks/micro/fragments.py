"""What one call to a storage node costs: a real store on a real folder, behind frames.

Prints per kind of call: rate, median latency, and CPU time per call of the node (all its threads)
and of the caller. The fragments are those of objects of 64 KiB and of 4 MiB and more, in 4 + 2.

    python -m benchmarks.micro.fragments --calls 20000 --concurrency 16 --folder /some/disk
"""

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from benchmarks.micro.metadata import cpu_s
from common.buffers import BufferPool
from common.checksum import crc32c_blocks
from common.clock import SystemClock
from common.erasure.layout import BLOCK_BYTES, FULL_CELL_BYTES
from common.frames import FrameServer
from common.limits import GIB, KIB, MIB
from proto import storage_pb2
from storagenode.client import NodeClient
from storagenode.server import NodeServer, PoolSlots
from storagenode.store.disk import Disk
from storagenode.store.files import SystemFiles
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.settings import DiskSettings

SMALL_BYTES = 16 * KIB + 16  # a data fragment of a sealed object of 64 KiB
IDENTITY_BYTES = 300
DISK_ID = 1
DEADLINE_S = 30.0
CALLS_PER_LARGE = 20  # calls with small fragments to one with a large one
Operation = Callable[[int], Awaitable[object]]


def serve(folder: Path, pipe: Connection) -> None:
    """Run a node's store until the pipe says stop."""
    uvloop.run(_serve(folder, pipe))


async def _serve(folder: Path, pipe: Connection) -> None:
    pool, clock = BufferPool(256 * MIB), SystemClock()
    disk = Disk(DiskSettings(folder, GIB, 1.0, 0, rebuilds_later=True), SystemFiles(), clock, pool)
    disk.adopt("benchmark", DISK_ID)
    store = FragmentStore([disk], clock, pool)
    server = NodeServer(store, "node", "zone", 1)
    frames = FrameServer(server.handlers(), slots=PoolSlots(pool))
    pipe.send(await frames.start("127.0.0.1", 0))
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    await frames.stop()
    await store.close()


class Bench:
    """The calls, on one node."""

    def __init__(self, node: NodeClient, pid: int) -> None:
        self._node, self._pid = node, pid
        self._cells = {
            size: memoryview(os.urandom(size)) for size in (SMALL_BYTES, FULL_CELL_BYTES)
        }
        self._tables = {
            size: crc32c_blocks(cell, BLOCK_BYTES) for size, cell in self._cells.items()
        }
        self._identity = bytes(IDENTITY_BYTES)
        self._into = [memoryview(bytearray(FULL_CELL_BYTES))]

    async def measure(self, name: str, count: int, concurrency: int, operation: Operation) -> None:
        """Call `count` times and print a line."""
        latencies: list[float] = []
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                begun_s = time.perf_counter()
                await operation(number)
                latencies.append(time.perf_counter() - begun_s)

        used_s, own_s, begun_s = cpu_s(self._pid), time.process_time(), time.perf_counter()
        await asyncio.gather(*[work() for _ in range(concurrency)])
        wall_s = time.perf_counter() - begun_s
        used_s, own_s = cpu_s(self._pid) - used_s, time.process_time() - own_s
        latencies.sort()
        print(
            f"{name:<16} {count / wall_s:>8,.0f}/s   CPU: node {used_s / count * 1e6:>7.1f} us"
            f"   caller {own_s / count * 1e6:>7.1f} us  p50 {latencies[count // 2] * 1e3:>6.2f} ms",
            flush=True,
        )

    def _put(self, number: int, size: int) -> Awaitable[object]:
        request = storage_pb2.PutCell(
            blob_id=_blob_id(number, size),
            index=1,
            disk_id=DISK_ID,
            last=True,
            fragment_bytes=size,
            cell_bytes=size,
            block_bytes=BLOCK_BYTES,
            block_checksums=self._tables[size],
            identity=self._identity,
        )
        return self._node.put_cell(request, self._cells[size], DEADLINE_S)

    def put_small(self, number: int) -> Awaitable[object]:
        return self._put(number, SMALL_BYTES)

    def put_large(self, number: int) -> Awaitable[object]:
        return self._put(number, FULL_CELL_BYTES)

    async def _read(self, number: int, size: int) -> None:
        into = self._into.pop() if self._into else memoryview(bytearray(FULL_CELL_BYTES))
        request = storage_pb2.ReadFragment(
            blob_id=_blob_id(number, size),
            index=1,
            disk_id=DISK_ID,
            ranges=[storage_pb2.Range(offset=0, length=size)],
        )
        await self._node.read_fragment(request, into, DEADLINE_S)
        self._into.append(into)

    async def read_small(self, number: int) -> None:
        await self._read(number, SMALL_BYTES)

    async def read_large(self, number: int) -> None:
        await self._read(number, FULL_CELL_BYTES)

    async def delete_small(self, number: int) -> None:
        fragment = storage_pb2.FragmentId(
            blob_id=_blob_id(number, SMALL_BYTES), index=1, disk_id=DISK_ID
        )
        await self._node.delete_fragments(storage_pb2.DeleteFragments(fragments=[fragment]))


def _blob_id(number: int, size: int) -> bytes:
    return size.to_bytes(8, "big") + number.to_bytes(8, "big")


async def run(port: int, pid: int, calls: int, concurrency: int) -> None:
    """Measure everything."""
    node = NodeClient("node", "127.0.0.1", port)
    await node.start()
    await node.wait_up(5.0)
    bench, large = Bench(node, pid), max(1, calls // CALLS_PER_LARGE)
    await bench.measure("put 16 KiB", calls, concurrency, bench.put_small)
    await bench.measure("read 16 KiB", calls, concurrency, bench.read_small)
    await bench.measure("put 1 MiB", large, concurrency, bench.put_large)
    await bench.measure("read 1 MiB", large, concurrency, bench.read_large)
    await bench.measure("delete", calls // 2, concurrency, bench.delete_small)
    await node.stop()


def main() -> None:
    """Start a node, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="with small fragments")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=None, help="where the disk is made")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(Path(folder) / "disk", theirs))
        process.start()
        try:
            uvloop.run(run(ours.recv(), process.pid or 0, arguments.calls, arguments.concurrency))
            ours.send("stop")
        finally:
            process.join(timeout=10)
            process.terminate()


if __name__ == "__main__":
    main()
