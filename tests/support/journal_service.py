"""A metadata engine with its journal over nodes in memory, and a recovery from them."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from common.buffers import BufferPool
from common.clock import SystemClock
from common.erasure.code import load_codes
from common.keyring import KeyRing
from common.limits import MIB
from common.rocks import RocksDatabase
from metaservice.journal.blobs import BlobKeeper
from metaservice.journal.recovery import Recovery, Report
from metaservice.journal.service import JournalOptions, MetadataJournal
from metaservice.kv.interface import CommitOutcome, Mutation
from metaservice.kv.rocks import RocksStore
from metaservice.operations.nodes import CLUSTER_ID
from tests.support.journal import FakeNodes

APPLIED, UNKNOWN = CommitOutcome.APPLIED, CommitOutcome.UNKNOWN
RING = KeyRing({b"key1": bytes(32)}, b"key1")
CODES = load_codes()
Rows = dict[bytes, bytes]


class Service:
    """One life of an engine with its journal."""

    def __init__(
        self,
        folder: Path,
        nodes: FakeNodes,
        ring: KeyRing = RING,
        open_database: Callable[[Path], RocksDatabase] = RocksDatabase,
        **options: Any,
    ) -> None:
        settings = {
            "copies_min": 1, "patience_s": 0.3, "checkpoint_bytes": MIB, "keep_s": 0.0, **options,
        }  # fmt: skip
        self.failures: list[int] = []  # exit codes
        self.store = RocksStore(folder, self.failures.append, open_database)
        self.nodes = nodes
        self.journal = MetadataJournal(
            self.store,
            nodes,
            ring,
            SystemClock(),
            CODES,
            JournalOptions(**settings),  # type: ignore[arg-type]
        )
        self.acknowledged: Rows = {}

    async def start(self) -> "Service":
        """Begin the journal, and store the first checkpoint; or go on with it."""
        if self.store.get(CLUSTER_ID) is None:
            await self.store.commit(Mutation(puts={CLUSTER_ID: b"cluster"}))
        await self.journal.start()
        if self.journal._resuming is not None:
            await self.journal._resuming
            return self
        await self.until(lambda: self.journal._is_running)
        await self.journal.checkpoint_step()
        return self

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.journal.step()
                await asyncio.sleep(0.01)

    async def put(self, key: str, value: bytes) -> CommitOutcome:
        outcome = await self.store.commit(
            Mutation(puts={b"x" + key.encode(): value}, adds={b"counter": 1})
        )
        if outcome is APPLIED:
            self.acknowledged[b"x" + key.encode()] = value
        return outcome

    async def put_many(self, count: int, prefix: str = "") -> None:
        values = [Random(f"{prefix}{number}").randbytes(300) for number in range(count)]
        outcomes = await asyncio.gather(
            *[self.put(f"{prefix}{number}", value) for number, value in enumerate(values)]
        )
        assert outcomes == [APPLIED] * count

    async def stop(self) -> None:
        await self.journal.stop()
        await self.store.close()
        await self.journal.disconnect()


Begin = Callable[..., Awaitable[Service]]


async def recover(
    folder: Path,
    nodes: FakeNodes,
    names: list[str] | None = None,
    *,
    ring: KeyRing = RING,
    **how: Any,
) -> tuple[Rows, Report]:
    """Bring metadata back into a folder; its rows of the tests."""
    keeper = BlobKeeper(nodes, CODES, BufferPool(64 * MIB))
    recovery = Recovery(nodes, ring, keeper, SystemClock(), "cluster")
    await recovery.take_over(sorted(nodes.all) if names is None else names)
    database = RocksDatabase(folder)
    await recovery.restore(database, **how)
    recovery.finish(database)
    await recovery.announce()
    rows = dict(database.scan(b"x", b"y", 10**6))
    database.close()
    return rows, recovery.report
