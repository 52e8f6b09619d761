"""Workers drive the pass over wrapped keys: one at a time, slowly, and only if it is due."""

from typing import Any

from common.clock import ManualClock
from common.keyring import DATA_KEY_CONTEXT, KeyRing
from metaservice.kv.memory import MemoryStore
from metaservice.table import Method
from proto import meta_pb2, records_pb2
from tests.support.meta import MetaBench
from workers.master_keys import LEASE, ROWS_PER_PAGE, KeyPassWorker

COUNT = 3 * ROWS_PER_PAGE


class Clock(ManualClock):
    """Sleeping passes the time at once, and is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)


class Cluster:
    """A metadata service with objects, and what was called."""

    def __init__(self) -> None:
        self.ring, self.clock = KeyRing.make(), Clock()
        self.bench = MetaBench(MemoryStore(), self.clock, self.ring)
        self.calls: list[Method] = []

    async def call(self, method: Method, request: Any) -> Any:
        self.calls.append(method)
        return await self.bench.call(method, request)

    async def start(self) -> "Cluster":
        await self.bench.start()
        bucket = await self.bench.create_bucket("keys")
        for number in range(COUNT):
            wrapped = self.ring.wrap(b"s" * 32, DATA_KEY_CONTEXT)
            sealed = records_pb2.Encryption(method="AES256", wrapped_key=wrapped)
            await self.bench.commit(bucket, b"%d" % number, encryption=sealed)
        return self

    def worker(self, rows_per_s: int) -> KeyPassWorker:
        return KeyPassWorker(self, self.clock, "workers", rows_per_s)  # type: ignore[arg-type]

    async def progress(self) -> records_pb2.KeyPass:
        reply = await self.bench.call(Method.REWRAP_KEYS, meta_pb2.RewrapKeys())
        progress: records_pb2.KeyPass = reply.progress
        return progress


async def test_a_pass_is_made_once_and_at_its_pace() -> None:
    cluster = await Cluster().start()
    worker = cluster.worker(rows_per_s=100)
    cluster.ring.rotate()
    await worker.run_once()
    progress = await cluster.progress()
    assert (progress.done, progress.rewrapped) == (True, COUNT)
    assert sum(cluster.clock.slept) >= COUNT / 100
    assert cluster.calls.count(Method.ACQUIRE_LEASE) >= 2  # renewed over so long a time
    cluster.calls.clear()
    await worker.run_once()
    assert cluster.calls == [Method.REWRAP_KEYS]


async def test_another_workers_lease_is_respected() -> None:
    cluster = await Cluster().start()
    lease = meta_pb2.AcquireLease(name=LEASE, holder="others", seconds=60)
    await cluster.bench.call(Method.ACQUIRE_LEASE, lease)
    await cluster.worker(rows_per_s=10**6).run_once()
    assert (await cluster.progress()).rows == 0
