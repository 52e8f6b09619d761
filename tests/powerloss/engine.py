"""The metadata engine under power loss: groups of commits, acknowledged after one sync each.

Method: a real RocksDB with a tiny memtable, so that tables, manifests and logs come and go within
few commits; commits of several rows, some of several log blocks, one by one and in groups.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from common.rocks import RocksDatabase
from metaservice.kv.interface import CommitOutcome, Mutation
from metaservice.kv.rocks import RocksStore
from tests.powerloss.recorder import mark

CACHE_BYTES, WRITE_BUFFER_BYTES = 1 << 20, 1 << 16
COUNT = b"count"
FIRST, LAST = b"", b"\xff"


def rows_of(number: int) -> dict[bytes, bytes | None]:
    """What a commit changes: rows of its own, one that all change, one of an older commit."""
    chance = Random(number)
    size = chance.choice((10, 100, 2000, 2000, 9000, 40_000))
    rows: dict[bytes, bytes | None] = {
        b"a%04d" % number: chance.randbytes(size),
        b"b%04d" % (number % 7): b"%d" % number,
        COUNT: b"%d" % number,
    }
    if number >= 5 and number % 3 == 0:
        rows[b"a%04d" % (number - 5)] = None
    return rows


def model(count: int) -> dict[bytes, bytes]:
    """All rows after so many commits."""
    rows: dict[bytes, bytes] = {}
    for number in range(1, count + 1):
        for key, value in rows_of(number).items():
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
    return rows


def open_store(folder: Path) -> RocksStore:
    """The engine, with little memory."""
    return RocksStore(
        folder,
        open_database=lambda path: RocksDatabase(path, CACHE_BYTES, WRITE_BUFFER_BYTES),
    )


class EngineWorkload:
    """Commits, two lives of the process."""

    name = "engine"
    is_ordered = True

    def prepare(self, folder: Path) -> None:
        """Nothing is there."""

    def run(self, folder: Path) -> None:
        asyncio.run(self._run(folder / "meta"))

    async def _run(self, folder: Path) -> None:
        store = open_store(folder)
        for number in range(1, 11):
            await commit(store, number)
        await asyncio.gather(*(commit(store, number) for number in range(11, 20)))
        await store.close()
        store = open_store(folder)
        await asyncio.gather(*(commit(store, number) for number in range(20, 24)))
        for number in range(24, 34):
            await commit(store, number)
        await store.close()

    def recover(self, folder: Path, marks: Sequence[str]) -> object:
        told = max((int(text) for text in marks), default=0)
        return asyncio.run(self._recover(folder / "meta", told))

    async def _recover(self, folder: Path, told: int) -> object:
        store = open_store(folder)
        try:
            rows = dict(store.scan(FIRST, LAST, 10_000))
            count = int(rows.get(COUNT, b"0"))
            assert count >= told, f"commit {told} was told, {count} is the last one here"
            assert rows == model(count), f"not the rows of {count} commits"
            return count
        finally:
            await store.close()


async def commit(store: RocksStore, number: int, tell: Callable[[str], None] = mark) -> None:
    """Commit; told when it is on disk."""
    outcome = await store.commit(Mutation(puts=rows_of(number)))
    assert outcome is CommitOutcome.APPLIED
    tell(f"{number}")
