"""The contract of an ordered store, run on every engine.

Goal: a commit applies wholly and only if its conditions hold, scans are ordered and exact, counters
add up, of N racing commits one wins, and what was answered is there after closing and opening.
Method: plain cases, racing tasks, and random commits compared with a dictionary.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from metaservice.kv.interface import (
    CommitOutcome,
    Mutation,
    Store,
    decode_counter,
    encode_counter,
)
from metaservice.kv.memory import MemoryStore
from metaservice.kv.rocks import RocksStore

APPLIED, REJECTED = CommitOutcome.APPLIED, CommitOutcome.REJECTED
LAST = b"\xff" * 8


@pytest.fixture(params=["memory", "rocksdb"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    engine: Store = MemoryStore() if request.param == "memory" else RocksStore(tmp_path / "rows")
    yield engine
    await engine.close()


async def put(store: Store, **rows: bytes) -> None:
    changes = {name.encode(): value for name, value in rows.items()}
    assert await store.commit(Mutation(puts=changes)) is APPLIED


async def test_committed_row_is_read(store: Store) -> None:
    await put(store, a=b"1")
    assert store.get(b"a") == b"1"
    assert store.get(b"b") is None


async def test_empty_value_is_not_absence(store: Store) -> None:
    await put(store, a=b"")
    assert store.get(b"a") == b""
    assert await store.commit(Mutation({b"a": None}, {b"b": b"1"})) is REJECTED


async def test_deleted_row_is_gone(store: Store) -> None:
    await put(store, a=b"1", b=b"2")
    assert await store.commit(Mutation(puts={b"a": None, b"absent": None})) is APPLIED
    assert store.get(b"a") is None
    assert store.scan(b"", LAST, 10) == [(b"b", b"2")]


async def test_any_byte_is_a_key_and_a_value(store: Store) -> None:
    rows = {bytes([first, second]): bytes([second]) for first in (0, 255) for second in (0, 255)}
    assert await store.commit(Mutation(puts=rows)) is APPLIED
    assert store.scan(b"\x00", b"\xff\xff\xff", 10) == sorted(rows.items())


@pytest.mark.parametrize("expected", [None, b"0", b"1 "])
async def test_wrong_condition_changes_nothing(store: Store, expected: bytes | None) -> None:
    await put(store, a=b"1")
    mutation = Mutation({b"a": expected}, {b"a": b"2", b"b": b"2"}, {b"n": 1})
    assert await store.commit(mutation) is REJECTED
    assert (store.get(b"a"), store.get(b"b"), store.get(b"n")) == (b"1", None, None)


async def test_right_conditions_apply(store: Store) -> None:
    await put(store, a=b"1")
    mutation = Mutation({b"a": b"1", b"b": None}, {b"a": b"2", b"b": b"2"})
    assert await store.commit(mutation) is APPLIED
    assert (store.get(b"a"), store.get(b"b")) == (b"2", b"2")


async def test_seen_store_needs_no_check(store: Store) -> None:
    await put(store, a=b"1")
    mutation = Mutation({b"a": b"1"}, {b"b": b"2"}, seen=store.sequence)
    assert await store.commit(mutation) is APPLIED


async def test_changed_store_is_checked(store: Store) -> None:
    await put(store, a=b"1")
    seen = store.sequence
    await put(store, a=b"2")
    assert await store.commit(Mutation({b"a": b"1"}, {b"b": b"2"}, seen=seen)) is REJECTED


async def test_counters_add_up(store: Store) -> None:
    changes = [5, -7, 2**40, -1]
    outcomes = await asyncio.gather(
        *[store.commit(Mutation(adds={b"n": change})) for change in changes]
    )
    assert outcomes == [APPLIED] * len(changes)
    assert decode_counter(store.get(b"n")) == sum(changes)


async def test_adds_follow_puts_of_the_same_commit(store: Store) -> None:
    await store.commit(Mutation(adds={b"n": 10, b"m": 10}))
    await store.commit(
        Mutation(puts={b"n": encode_counter(1), b"m": None}, adds={b"n": 2, b"m": 3})
    )
    assert decode_counter(store.get(b"n")) == 3
    assert decode_counter(store.get(b"m")) == 3


async def test_scan_is_half_open_and_ordered(store: Store) -> None:
    await put(store, c=b"3", a=b"1", b=b"2", d=b"4")
    assert [key for key, _ in store.scan(b"a", b"d", 10)] == [b"a", b"b", b"c"]
    assert [key for key, _ in store.scan(b"a", b"d", 10, reverse=True)] == [b"c", b"b", b"a"]
    assert [key for key, _ in store.scan(b"aa", b"cc", 1)] == [b"b"]
    assert [key for key, _ in store.scan(b"aa", b"cc", 1, reverse=True)] == [b"c"]
    assert store.scan(b"b", b"b", 10) == []
    assert store.scan(b"a", b"d", 0) == []


async def test_of_racing_creations_one_wins(store: Store) -> None:
    outcomes = await asyncio.gather(
        *[store.commit(Mutation({b"k": None}, {b"k": str(number).encode()})) for number in range(8)]
    )
    assert sorted(outcome.name for outcome in outcomes) == ["APPLIED"] + ["REJECTED"] * 7
    assert store.get(b"k") == str(outcomes.index(APPLIED)).encode()


async def test_racing_read_modify_writes_lose_nothing(store: Store) -> None:
    async def increase() -> None:
        for _ in range(10):
            while True:
                known = store.get(b"k")
                value = str(int(known or b"0") + 1).encode()
                await asyncio.sleep(0)
                if await store.commit(Mutation({b"k": known}, {b"k": value})) is APPLIED:
                    break

    await asyncio.gather(*[increase() for _ in range(8)])
    assert store.get(b"k") == b"80"


async def test_cancelled_waiter_does_not_disturb_the_others(store: Store) -> None:
    first = asyncio.ensure_future(store.commit(Mutation(puts={b"a": b"1"})))
    second = asyncio.ensure_future(store.commit(Mutation(puts={b"b": b"2"})))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is APPLIED
    await asyncio.gather(first, return_exceptions=True)
    await store.settle()
    assert store.get(b"b") == b"2"


async def _random_commits(
    store: Store, random: Random, look: Callable[[dict[bytes, bytes]], Awaitable[None]]
) -> dict[bytes, bytes]:
    """Commit at random, several at a time, and keep a dictionary beside it."""
    model: dict[bytes, bytes] = {}
    names = [bytes([number]) + b"k" * (number % 3) for number in range(40)]
    pending: list[Awaitable[CommitOutcome]] = []
    for _ in range(300):
        puts = {
            random.choice(names): None if random.random() < 0.4 else random.randbytes(3)
            for _ in range(random.randint(1, 5))
        }
        key = random.choice(names)
        expected = model.get(key) if random.random() < 0.8 else b"wrong"
        # Started at once and in order, as tasks begin; whether it applies is decided then.
        commit = asyncio.ensure_future(store.commit(Mutation({key: expected}, puts)))
        if expected == model.get(key):
            for name, value in puts.items():
                if value is None:
                    model.pop(name, None)
                else:
                    model[name] = value
        await asyncio.sleep(0)
        pending.append(commit)
        if random.random() < 0.1:
            await look(model)
        if random.random() < 0.05:
            await asyncio.gather(*pending)
            pending.clear()
    await asyncio.gather(*pending)
    return model


@pytest.mark.parametrize("seed", range(5))
async def test_random_commits_and_scans_match_a_dictionary(store: Store, seed: int) -> None:
    random = Random(seed)

    async def look(model: dict[bytes, bytes]) -> None:
        begin, end = sorted([random.randbytes(1), random.randbytes(1)])
        limit, reverse = random.randint(0, 12), random.random() < 0.5
        rows = sorted(row for row in model.items() if begin <= row[0] < end)
        assert store.scan(begin, end, limit, reverse) == (rows[::-1] if reverse else rows)[:limit]

    model = await _random_commits(store, random, look)
    assert store.scan(b"", LAST, 1000) == sorted(model.items())
    assert all(store.get(key) == value for key, value in model.items())
