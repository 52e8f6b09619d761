"""What one metadata operation costs: a real service process behind frames, one process of callers.

Prints per kind of operation: rate, latency, and CPU time of the service per operation (all its
threads), which is what bounds the rate when gateways have cores of their own.

    python -m benchmarks.micro.metadata --operations 20000 --concurrency 64 --engine rocksdb
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

from common.clock import SystemClock
from common.frames import FrameClient, FrameServer
from metaservice.client import MetaClient, WriterSession
from metaservice.kv.interface import Store
from metaservice.kv.memory import MemoryStore
from metaservice.kv.rocks import RocksStore
from metaservice.server import MetaServer
from proto import meta_pb2, records_pb2

INLINE_BYTES = 4112  # a sealed object of 4 KiB
FRAGMENTS = 6
PAGE_KEYS = 1000
PAGES = 20
Operation = Callable[[int], Awaitable[object]]


def serve(engine: str, folder: Path, pipe: Connection) -> None:
    """Run a service until the pipe says stop."""
    uvloop.run(_serve(engine, folder, pipe))


async def _serve(engine: str, folder: Path, pipe: Connection) -> None:
    store: Store = RocksStore(folder) if engine == "rocksdb" else MemoryStore()
    frames = FrameServer(MetaServer(store, SystemClock()).handlers())
    pipe.send(await frames.start("127.0.0.1", 0))
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    await frames.stop()
    await store.close()


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    """The operations, on one bucket."""

    def __init__(self, meta: MetaClient, session: WriterSession, pid: int) -> None:
        self._meta = meta
        self._session = session
        self._pid = pid
        self._epoch = 0
        self._data = os.urandom(INLINE_BYTES)

    async def prepare(self) -> None:
        """Make the bucket."""
        request = meta_pb2.CreateBucket(
            writer=self._session.writer(),
            bucket=records_pb2.Bucket(name="bench", owner_account="1" * 12),
        )
        self._epoch = (await self._meta.create_bucket(request)).bucket.epoch

    async def measure(self, name: str, count: int, concurrency: int, operation: Operation) -> None:
        """Run an operation `count` times and print a line."""
        latencies: list[float] = []
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                begun_s = time.perf_counter()
                await operation(number)
                latencies.append(time.perf_counter() - begun_s)

        cpu_before_s, begun_s = cpu_s(self._pid), time.perf_counter()
        await asyncio.gather(*[work() for _ in range(concurrency)])
        wall_s, used_s = time.perf_counter() - begun_s, cpu_s(self._pid) - cpu_before_s
        latencies.sort()
        print(
            f"{name:<22} {count / wall_s:>9,.0f}/s   {used_s / count * 1e6:>8.1f} us CPU   "
            f"p50 {latencies[count // 2] * 1e3:>7.2f} ms   "
            f"p99 {latencies[count * 99 // 100] * 1e3:>7.2f} ms"
        )

    def _version(self, **fields: object) -> records_pb2.Version:
        return records_pb2.Version(
            size_bytes=4096,
            etag="d41d8cd98f00b204e9800998ecf8427e",
            content_type="binary/octet-stream",
            owner_id="c" * 64,
            checksums=[records_pb2.Checksum(algorithm="CRC64NVME", value=b"12345678")],
            encryption=records_pb2.Encryption(method="AES256", wrapped_key=b"w" * 64),
            **fields,  # type: ignore[arg-type]
        )

    def _commit(self, number: int, version: records_pb2.Version) -> meta_pb2.CommitVersion:
        return meta_pb2.CommitVersion(
            writer=self._session.writer(),
            bucket="bench",
            known_epoch=self._epoch,
            key=f"folder-{number % 100}/object-{number}".encode(),
            version=version,
        )

    async def put_inline(self, number: int) -> None:
        request = self._commit(number, self._version(is_inline=True))
        await self._meta.commit_version(request, self._data)

    async def put_coded(self, number: int) -> None:
        session_id = self._session.begin_upload()
        blob = records_pb2.BlobRef(
            blob_id=self._session.new_blob_id(session_id),
            plain_bytes=1 << 20,
            k=4,
            m=2,
            cell_bytes=1 << 20,
            disk_ids=range(1, FRAGMENTS + 1),
        )
        await self._meta.commit_version(self._commit(number, self._version(blobs=[blob])), b"")
        self._session.end_upload(session_id)

    async def get(self, number: int) -> None:
        key = f"folder-{number % 100}/object-{number}".encode()
        request = meta_pb2.GetVersion(bucket="bench", known_epoch=self._epoch, key=key)
        await self._meta.get_version(request)

    async def delete(self, number: int) -> None:
        key = f"folder-{number % 100}/object-{number}".encode()
        request = meta_pb2.DeleteVersion(
            writer=self._session.writer(), bucket="bench", known_epoch=self._epoch, key=key
        )
        await self._meta.delete_version(request)

    async def list_page(self, number: int) -> None:
        request = meta_pb2.ListKeys(bucket="bench", known_epoch=self._epoch, limit=PAGE_KEYS)
        await self._meta.list_keys(request)

    async def list_folders(self, number: int) -> None:
        request = meta_pb2.ListKeys(
            bucket="bench", known_epoch=self._epoch, limit=PAGE_KEYS, delimiter=b"/"
        )
        await self._meta.list_keys(request)

    async def mixed(self, number: int) -> None:
        """Seven reads to three writes."""
        await (self.put_inline(number) if number % 10 < 3 else self.get(number))


async def run(options: argparse.Namespace, port: int, pid: int) -> None:
    """Measure every kind of operation."""
    frames = FrameClient("127.0.0.1", port)
    await frames.start()
    await frames.wait_up(5)
    meta = MetaClient(frames)
    session = WriterSession(meta, SystemClock(), "benchmark")
    await session.start()
    bench = Bench(meta, session, pid)
    await bench.prepare()
    count, concurrency = options.operations, options.concurrency
    await bench.measure("put inline 4 KiB", count, concurrency, bench.put_inline)
    await bench.measure("put inline, overwrite", count, concurrency, bench.put_inline)
    await bench.measure("get inline 4 KiB", count, concurrency, bench.get)
    await bench.measure("7 gets to 3 puts", count, concurrency, bench.mixed)
    await bench.measure("list page of 1,000", PAGES, 1, bench.list_page)
    await bench.measure("list 100 folders", PAGES, 1, bench.list_folders)
    await bench.measure("put coded, overwrite", count, concurrency, bench.put_coded)
    await bench.measure("delete", count, concurrency, bench.delete)
    await bench.measure("put inline, 1 caller", min(count, 500), 1, bench.put_inline)
    await session.stop()
    await frames.stop()


def main() -> None:
    """Parse arguments, start the service, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--engine", choices=("rocksdb", "memory"), default="rocksdb")
    parser.add_argument("--folder", type=Path, help="where to put the store; its disk is measured")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        service = context.Process(
            target=serve, args=(options.engine, Path(folder) / "meta", theirs)
        )
        service.start()
        assert service.pid is not None
        uvloop.run(run(options, ours.recv(), service.pid))
        ours.send("stop")
        service.join()


if __name__ == "__main__":
    main()
