"""Transactions: retried whole, applied once per transaction id, fenced, ordered, honest in doubt.

Method: bodies over a memory store whose commits end as the test says, and over a held disk.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from common import faults, limits
from common.clock import ManualClock
from metaservice import keys
from metaservice.kv.interface import CommitOutcome, Mutation, decode_counter
from metaservice.kv.rocks import RocksStore
from metaservice.transaction import CLOCK_AHEAD_NS, HybridClock, Transaction, Transactor
from proto import meta_pb2, records_pb2
from tests.support.stores import Fate, FatedStore, HeldDatabase

SESSION = 7
Body = Callable[[Transaction], Awaitable[meta_pb2.CommitReply]]


@pytest.fixture
def store() -> FatedStore:
    return FatedStore()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def transactor(store: FatedStore, clock: ManualClock) -> Transactor:
    made = Transactor(store, clock)
    await set_session(made, records_pb2.Session.OPEN)
    store.commits = 0
    return made


async def set_session(transactor: Transactor, state: "records_pb2.Session.State.ValueType") -> None:
    session = records_pb2.Session(session_id=SESSION, state=state)
    puts = {keys.session(SESSION): session.SerializeToString()}
    assert await transactor.store.commit(Mutation(puts=puts)) is CommitOutcome.APPLIED


def writer(name: bytes = b"i" * 16) -> meta_pb2.Writer:
    return meta_pb2.Writer(session_id=SESSION, transaction_id=name)


def counting() -> tuple[Body, list[int]]:
    """A body that appends to a row; and how often it ran."""
    runs: list[int] = []

    async def body(transaction: Transaction) -> meta_pb2.CommitReply:
        runs.append(len(runs))
        known = await transaction.get(b"row") or b""
        transaction.put(b"row", known + b"x")
        return meta_pb2.CommitReply(order=transaction.next_order(), etag=str(len(runs)))

    return body, runs


async def test_rejected_commit_runs_the_body_again(
    store: FatedStore, transactor: Transactor
) -> None:
    store.fates = [Fate.REJECTED, Fate.REJECTED]
    body, runs = counting()
    await transactor.write(body, meta_pb2.CommitReply, writer())
    assert len(runs) == 3
    assert store.get(b"row") == b"x"


async def test_endless_conflict_ends_as_conflict(store: FatedStore, transactor: Transactor) -> None:
    store.fates = [Fate.REJECTED] * 1000
    body, _ = counting()
    with pytest.raises(faults.Conflict):
        await transactor.write(body, meta_pb2.CommitReply)
    assert store.get(b"row") is None


async def test_repeated_transaction_id_answers_the_first_reply(
    store: FatedStore, transactor: Transactor
) -> None:
    body, runs = counting()
    first = await transactor.write(body, meta_pb2.CommitReply, writer())
    again = await transactor.write(body, meta_pb2.CommitReply, writer())
    other = await transactor.write(body, meta_pb2.CommitReply, writer(b"j" * 16))
    assert first == again
    assert other != first
    assert len(runs) == 2
    assert store.get(b"row") == b"xx"


async def test_unknown_but_applied_commit_is_found_by_its_id(
    store: FatedStore, transactor: Transactor
) -> None:
    store.fates = [Fate.UNKNOWN_APPLIED]
    body, runs = counting()
    reply = await transactor.write(body, meta_pb2.CommitReply, writer())
    assert (reply.etag, len(runs), store.get(b"row")) == ("1", 1, b"x")


async def test_unknown_and_lost_commit_is_doubt_and_can_be_asked_again(
    store: FatedStore, transactor: Transactor
) -> None:
    store.fates = [Fate.UNKNOWN_LOST]
    body, _ = counting()
    with pytest.raises(faults.Unavailable):
        await transactor.write(body, meta_pb2.CommitReply, writer())
    await transactor.write(body, meta_pb2.CommitReply, writer())
    await transactor.write(body, meta_pb2.CommitReply, writer())
    assert store.get(b"row") == b"x"


async def test_unknown_commit_without_an_id_is_doubt(
    store: FatedStore, transactor: Transactor
) -> None:
    store.fates = [Fate.UNKNOWN_APPLIED]
    body, _ = counting()
    with pytest.raises(faults.Unavailable):
        await transactor.write(body, meta_pb2.CommitReply)


async def test_commit_that_arrives_late_blocks_its_repetition(
    store: FatedStore, transactor: Transactor
) -> None:
    """A commit of unknown outcome may land after its id was looked for: the second must lose."""
    late: list[Mutation] = []
    body, _ = counting()
    first_commit = store.commit

    async def delay(mutation: Mutation) -> CommitOutcome:
        if not late:
            late.append(mutation)
            return CommitOutcome.UNKNOWN
        if len(late) == 1:
            late.append(mutation)
            assert await first_commit(late[0]) is CommitOutcome.APPLIED
        return await first_commit(mutation)

    store.commit = delay  # type: ignore[method-assign]
    with pytest.raises(faults.Unavailable):
        await transactor.write(body, meta_pb2.CommitReply, writer())
    reply = await transactor.write(body, meta_pb2.CommitReply, writer())
    assert store.get(b"row") == b"x"
    assert reply.etag == "1", "the answer of what was committed, not of the repetition"


@pytest.mark.parametrize("state", [records_pb2.Session.FENCED, records_pb2.Session.CLOSED])
async def test_ended_session_commits_nothing(
    store: FatedStore, transactor: Transactor, state: "records_pb2.Session.State.ValueType"
) -> None:
    await set_session(transactor, state)
    body, _ = counting()
    with pytest.raises(faults.Fenced):
        await transactor.write(body, meta_pb2.CommitReply, writer())
    assert store.get(b"row") is None


async def test_unknown_session_commits_nothing(transactor: Transactor) -> None:
    body, _ = counting()
    with pytest.raises(faults.Fenced):
        await transactor.write(body, meta_pb2.CommitReply, meta_pb2.Writer(session_id=99))


async def test_session_fenced_while_the_body_runs_commits_nothing(
    store: FatedStore, transactor: Transactor
) -> None:
    async def body(transaction: Transaction) -> meta_pb2.CommitReply:
        await set_session(transactor, records_pb2.Session.FENCED)
        transaction.put(b"row", b"late")
        return meta_pb2.CommitReply()

    with pytest.raises(faults.Fenced):
        await transactor.write(body, meta_pb2.CommitReply, writer())
    assert store.get(b"row") is None


async def test_body_without_writes_commits_nothing(
    store: FatedStore, transactor: Transactor
) -> None:
    async def body(transaction: Transaction) -> meta_pb2.CommitReply:
        await transaction.get(b"row")
        return meta_pb2.CommitReply(existed=False)

    await transactor.write(body, meta_pb2.CommitReply, writer())
    assert store.commits == 0
    assert store.get(keys.transaction(b"i" * 16)) is None


async def test_transaction_sees_its_own_writes(store: FatedStore, clock: ManualClock) -> None:
    transaction = Transaction(store, HybridClock(clock, store))
    transaction.put(b"a", b"1")
    assert await transaction.get(b"a") == b"1"
    transaction.delete(b"a")
    assert await transaction.get(b"a") is None
    assert await transaction.get_unchecked(b"a") is None
    assert b"a" not in transaction.conditions


async def test_only_checked_reads_become_conditions(store: FatedStore, clock: ManualClock) -> None:
    await store.commit(Mutation(puts={b"a": b"1", b"b": b"2", b"c": b"3"}))
    transaction = Transaction(store, HybridClock(clock, store))
    await transaction.get(b"absent")
    await transaction.get_unchecked(b"a")
    await transaction.scan(b"a", b"b", 9)
    await transaction.scan(b"b", b"c", 9, checked=True)
    assert transaction.conditions == {b"absent": None, b"b": b"2"}


async def test_required_row_is_checked_though_nothing_changed_since(
    store: FatedStore, transactor: Transactor
) -> None:
    await store.commit(Mutation(puts={b"a": b"1"}))

    async def body(transaction: Transaction) -> meta_pb2.CommitReply:
        transaction.require(b"a", b"known from elsewhere")
        transaction.put(b"row", b"x")
        return meta_pb2.CommitReply()

    with pytest.raises(faults.Conflict):
        await transactor.write(body, meta_pb2.CommitReply)
    assert store.get(b"row") is None


@pytest.mark.parametrize("rows", [limits.TRANSACTION_OPERATIONS_MAX - 1, 1000])
async def test_large_commits_must_say_so(transactor: Transactor, rows: int) -> None:
    async def body(transaction: Transaction) -> meta_pb2.CommitReply:
        if rows > limits.TRANSACTION_OPERATIONS_MAX:
            transaction.allow_large()
        for number in range(rows):
            transaction.put(b"row" + keys.uint64(number), b"x")
        return meta_pb2.CommitReply()

    await transactor.write(body, meta_pb2.CommitReply)


async def test_unannounced_large_commit_is_a_programming_error(transactor: Transactor) -> None:
    async def body(transaction: Transaction) -> meta_pb2.CommitReply:
        for number in range(limits.TRANSACTION_OPERATIONS_MAX + 1):
            transaction.put(keys.uint64(number), b"x")
        return meta_pb2.CommitReply()

    with pytest.raises(AssertionError, match="too many rows"):
        await transactor.write(body, meta_pb2.CommitReply)


# --- the clock ----------------------------------------------------------------------------------


async def orders(transactor: Transactor, count: int) -> list[int]:
    body, _ = counting()
    return [(await transactor.write(body, meta_pb2.CommitReply)).order for _ in range(count)]


async def test_orders_grow_while_the_wall_clock_stands_or_goes_back(
    transactor: Transactor, clock: ManualClock
) -> None:
    seen = await orders(transactor, 3)
    clock.advance(-3600)
    seen += await orders(transactor, 3)
    clock.advance(7200)
    seen += await orders(transactor, 3)
    assert seen == sorted(set(seen))
    assert seen[-1] >= clock.now_ns()


async def test_time_never_goes_back(transactor: Transactor, clock: ManualClock) -> None:
    before = transactor.clock.now_ns()
    clock.advance(-3600)
    assert transactor.clock.now_ns() >= before


async def test_orders_grow_over_a_restart_with_the_wall_clock_set_back(
    store: FatedStore, transactor: Transactor, clock: ManualClock
) -> None:
    before = await orders(transactor, 5)
    clock.advance(-3600)
    after = await orders(Transactor(store, clock), 5)
    assert before + after == sorted({*before, *after})


async def test_rejected_commit_does_not_lose_the_floor(
    store: FatedStore, transactor: Transactor, clock: ManualClock
) -> None:
    for _ in range(20):
        clock.advance(CLOCK_AHEAD_NS / 1e9)
        store.fates = [Fate.REJECTED]
        (last,) = await orders(transactor, 1)
        assert HybridClock(clock, store).now_ns() > last


async def test_time_after_a_restart_is_at_most_the_floor_ahead(
    store: FatedStore, transactor: Transactor, clock: ManualClock
) -> None:
    await orders(transactor, 5)
    assert HybridClock(clock, store).now_ns() - clock.now_ns() <= CLOCK_AHEAD_NS + 1000


async def test_floor_is_written_rarely(
    store: FatedStore, transactor: Transactor, clock: ManualClock
) -> None:
    written = 0
    for _ in range(100):
        known = store.get(keys.single("clock_floor"))
        clock.advance(0.01)
        await orders(transactor, 1)
        written += store.get(keys.single("clock_floor")) != known
    assert written <= 3


# --- answers wait for the disk --------------------------------------------------------------------


async def _see(transaction: Transaction) -> bytes | None:
    return await transaction.get(b"row")


async def _refuse(transaction: Transaction) -> meta_pb2.CommitReply:
    if await transaction.get(b"row") is not None:
        raise faults.AlreadyExists("row", "row")
    raise faults.NotFound("row", "row")


async def test_answers_and_refusals_wait_for_what_they_saw(
    tmp_path: Path, clock: ManualClock
) -> None:
    """What another's commit made visible is told only when it is on disk, be it by a refusal."""
    databases: list[HeldDatabase] = []

    def open_database(folder: Path) -> HeldDatabase:
        databases.append(HeldDatabase(folder))
        return databases[0]

    store = RocksStore(tmp_path / "rows", open_database=open_database)
    transactor = Transactor(store, clock)
    with pytest.raises(faults.NotFound):
        await transactor.read(_refuse)
    databases[0].let_through.clear()
    body, _ = counting()
    commit = asyncio.ensure_future(transactor.write(body, meta_pb2.CommitReply))
    await asyncio.sleep(0)
    waiting = [
        asyncio.ensure_future(transactor.read(_see)),
        asyncio.ensure_future(transactor.read(_refuse)),
        asyncio.ensure_future(transactor.write(_refuse, meta_pb2.CommitReply)),
    ]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    databases[0].let_through.set()
    seen, first, second = await asyncio.gather(*waiting, return_exceptions=True)
    assert commit.done()
    assert seen == b"x"
    assert isinstance(first, faults.AlreadyExists)
    assert isinstance(second, faults.AlreadyExists)
    await store.close()


async def test_counters_of_racing_writes_add_up(store: FatedStore, transactor: Transactor) -> None:
    async def body(transaction: Transaction) -> meta_pb2.CommitReply:
        transaction.add(b"n", 1)
        transaction.add(b"n", 2)
        return meta_pb2.CommitReply()

    await asyncio.gather(
        *[transactor.write(body, meta_pb2.CommitReply, writer(bytes([n]) * 16)) for n in range(20)]
    )
    assert decode_counter(store.get(b"n")) == 60
