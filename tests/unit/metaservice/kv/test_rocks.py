"""What only an engine with a disk has to do: nothing is told before it is on disk, nothing that
was told is lost, damage is noticed, a failed sync ends the engine.

Method: a database whose sync can be held or broken; copies of the files as a crash leaves them.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common import exit_codes, faults
from metaservice.kv import rocks
from metaservice.kv.interface import CommitOutcome, Mutation
from metaservice.kv.rocks import RocksStore
from tests.support.stores import HeldDatabase

APPLIED, UNKNOWN = CommitOutcome.APPLIED, CommitOutcome.UNKNOWN
LAST = b"\xff"


class Bench:
    """A store on a database that can be held."""

    def __init__(self, folder: Path) -> None:
        self.exit_codes: list[int] = []
        self.databases: list[HeldDatabase] = []
        self.store = RocksStore(folder, self.exit_codes.append, self._open)

    @property
    def database(self) -> HeldDatabase:
        return self.databases[0]

    def _open(self, folder: Path) -> HeldDatabase:
        self.databases.append(HeldDatabase(folder))
        return self.databases[-1]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "rows")
    yield made
    made.database.let_through.set()
    await made.store.close()


def begin(store: RocksStore, **rows: bytes | None) -> asyncio.Task[CommitOutcome]:
    changes = {name.encode(): value for name, value in rows.items()}
    return asyncio.ensure_future(_commit(store, Mutation(puts=changes)))


async def _commit(store: RocksStore, mutation: Mutation) -> CommitOutcome:
    return await store.commit(mutation)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_commit_waits_for_the_disk(bench: Bench) -> None:
    bench.database.let_through.clear()
    commit = begin(bench.store, a=b"1")
    await asyncio.wait([commit], timeout=0.05)
    assert not commit.done()
    bench.database.let_through.set()
    assert await commit is APPLIED


async def test_read_of_a_pending_row_is_counted_and_settles_later(bench: Bench) -> None:
    await begin(bench.store, a=b"1", z=b"1")
    bench.database.let_through.clear()
    commit = begin(bench.store, a=b"2")
    await turns()
    before = bench.store.pending_reads
    assert bench.store.get(b"z") == b"1"
    assert bench.store.scan(b"b", LAST, 9) == [(b"z", b"1")]
    assert bench.store.pending_reads == before, "what is durable is answered at once"
    assert bench.store.get(b"a") == b"2"
    assert bench.store.pending_reads == before + 1
    assert bench.store.scan(b"a", b"b", 9) == [(b"a", b"2")]
    assert bench.store.pending_reads == before + 2
    settled = asyncio.ensure_future(bench.store.settle())
    await turns()
    assert not settled.done()
    bench.database.let_through.set()
    await settled
    assert commit.done()
    before = bench.store.pending_reads
    assert bench.store.get(b"a") == b"2"
    assert bench.store.pending_reads == before


async def test_pending_deletion_is_seen_in_scans(bench: Bench) -> None:
    await begin(bench.store, a=b"1", b=b"2", c=b"3", d=b"4")
    bench.database.let_through.clear()
    commit = begin(bench.store, a=None, b=None)
    await turns()
    assert bench.store.scan(b"a", LAST, 1) == [(b"c", b"3")]
    assert bench.store.scan(b"a", LAST, 2, reverse=True) == [(b"d", b"4"), (b"c", b"3")]
    bench.database.let_through.set()
    assert await commit is APPLIED


@pytest.fixture
def long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocks, "GATHER_SHARE", 1e9)
    monkeypatch.setattr(rocks, "GATHER_S_MAX", 3600.0)


async def test_after_a_large_group_the_next_one_waits_for_many(
    bench: Bench, long_waits: None
) -> None:
    bench.database.let_through.clear()
    large = [begin(bench.store, **{f"a{n}": b"1"}) for n in range(rocks.GATHER_COMMITS_MIN)]
    await turns()
    waiting = [begin(bench.store, b=b"1")]
    await turns()
    bench.database.let_through.set()
    assert await asyncio.gather(*large) == [APPLIED] * len(large)
    await turns()
    assert not waiting[0].done()
    waiting += [begin(bench.store, **{f"c{n}": b"1"}) for n in range(rocks.GATHER_COMMITS_MAX - 1)]
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == [APPLIED] * rocks.GATHER_COMMITS_MAX


async def test_after_a_small_group_nobody_waits(bench: Bench, long_waits: None) -> None:
    bench.database.let_through.clear()
    small = [begin(bench.store, **{f"a{n}": b"1"}) for n in range(rocks.GATHER_COMMITS_MIN - 1)]
    await turns()
    next_one = begin(bench.store, b=b"1")
    await turns()
    bench.database.let_through.set()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*small, next_one) == [APPLIED] * rocks.GATHER_COMMITS_MIN


async def test_commits_that_wait_share_one_sync(bench: Bench) -> None:
    bench.database.let_through.clear()
    commits = [begin(bench.store, **{f"k{number}": b"v"}) for number in range(50)]
    await turns()
    bench.database.let_through.set()
    assert await asyncio.gather(*commits) == [APPLIED] * 50
    assert bench.database.syncs <= 2, "the first ones, then all the others together"


async def test_condition_is_checked_against_pending_rows(bench: Bench) -> None:
    bench.database.let_through.clear()
    first = begin(bench.store, a=b"1")
    await turns()
    late = await bench.store.commit(Mutation({b"a": None}, {b"a": b"2"}))
    assert late is CommitOutcome.REJECTED, "told without waiting: nothing was changed"
    bench.database.let_through.set()
    assert await first is APPLIED


async def test_failed_sync_ends_the_engine(bench: Bench) -> None:
    await begin(bench.store, a=b"1")
    bench.database.let_through.clear()
    bench.database.is_broken = True
    failed, waiting = begin(bench.store, a=b"2"), asyncio.ensure_future(bench.store.settle())
    await turns()
    queued = begin(bench.store, b=b"2")
    await turns()
    bench.database.let_through.set()
    assert await failed is UNKNOWN
    assert await queued is UNKNOWN
    with pytest.raises(faults.Unavailable):
        await waiting
    assert bench.exit_codes == [exit_codes.FAILED]
    assert not bench.store.is_usable
    bench.database.is_broken = False
    assert await begin(bench.store, c=b"3") is UNKNOWN, "a sync is never tried again"
    with pytest.raises(faults.Unavailable):
        await bench.store.settle()
    assert bench.exit_codes == [exit_codes.FAILED]


async def test_answered_rows_survive_a_crash(bench: Bench, tmp_path: Path) -> None:
    for number in range(20):
        await begin(bench.store, **{f"k{number:02}": b"v" * 100})
    shutil.copytree(tmp_path / "rows", tmp_path / "crashed")
    revived = RocksStore(tmp_path / "crashed")
    assert len(revived.scan(b"", LAST, 100)) == 20
    await revived.close()


async def test_rows_survive_closing(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "rows")
    await begin(store, a=b"1")
    last = begin(store, b=b"2")
    await turns()
    await store.close()
    assert await last is APPLIED, "closing finishes what was accepted"
    again = RocksStore(tmp_path / "rows")
    assert again.scan(b"", LAST, 9) == [(b"a", b"1"), (b"b", b"2")]
    await again.close()


async def _crashed_log(bench: Bench, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the files as a crash leaves them, and its log."""
    for number in range(20):
        await begin(bench.store, **{f"k{number:02}": b"v" * 1000})
    copy = tmp_path / "crashed"
    shutil.copytree(tmp_path / "rows", copy)
    log = max(copy.glob("*.log"), key=lambda path: path.stat().st_size)
    assert log.stat().st_size > 20_000
    return copy, log


async def test_torn_end_of_the_log_loses_only_the_end(bench: Bench, tmp_path: Path) -> None:
    copy, log = await _crashed_log(bench, tmp_path)
    log.write_bytes(log.read_bytes()[:-500])
    revived = RocksStore(copy)
    assert [key for key, _ in revived.scan(b"", LAST, 100)] == [
        f"k{number:02}".encode() for number in range(19)
    ]
    await revived.close()


async def test_flipped_bit_in_the_log_is_no_silent_loss(bench: Bench, tmp_path: Path) -> None:
    copy, log = await _crashed_log(bench, tmp_path)
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    with pytest.raises(faults.Corrupt):
        RocksStore(copy)


async def test_bad_block_is_an_error_not_a_short_scan(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    store = RocksStore(folder)
    rows: dict[bytes, bytes | None] = {
        f"k{number:04}".encode(): bytes([number % 251]) * 500 for number in range(2000)
    }
    await store.commit(Mutation(puts=rows))
    await store.close()
    await RocksStore(folder).close()  # recovery moves the log's rows into a table
    table = max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 3] ^= 0xFF
    table.write_bytes(data)
    damaged = RocksStore(folder)
    with pytest.raises(faults.Corrupt):
        damaged.scan(b"", LAST, 10_000)
    lost = 0
    for key in rows:
        try:
            assert damaged.get(key) == rows[key]
        except faults.Corrupt:
            lost += 1
    assert 0 < lost < len(rows)
    await damaged.close()
