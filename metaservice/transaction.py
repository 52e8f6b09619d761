"""One operation as an atomic change: reads become conditions, writes wait for the commit.

A body may run several times: when another commit changed a row it had read, and never twice with
effect. A write names a transaction id; its first reply is stored in the same commit, so a caller
who lost the answer may ask again.
"""

from collections.abc import Awaitable, Callable
from secrets import token_bytes
from typing import TypeVar

from google.protobuf.message import Message

from common import faults, limits
from common.clock import Clock
from metaservice import keys
from metaservice.kv.interface import CommitOutcome, Mutation, Row, Store
from proto import meta_pb2, records_pb2

ReplyT = TypeVar("ReplyT", bound=Message)
ResultT = TypeVar("ResultT")

ATTEMPTS_MAX = 64
CLOCK_FLOOR = keys.single("clock_floor")
CLOCK_AHEAD_NS = 60 * 10**9  # how far the persisted floor is kept ahead of the clock


class HybridClock:
    """Orders versions: never below the wall clock, strictly growing, also over restarts.

    A floor ahead of every order is on disk before the order is used; a new process begins there.
    """

    def __init__(self, clock: Clock, store: Store) -> None:
        self._clock = clock
        stored = store.get(CLOCK_FLOOR)
        self._last = int.from_bytes(stored, "big") if stored is not None else 0
        self._floor = self._last

    def now_ns(self) -> int:
        """The time, never going back."""
        return max(self._clock.now_ns(), self._last)

    def next_order(self) -> int:
        """The next order."""
        self._last = max(self._clock.now_ns(), self._last + 1)
        return self._last

    def raise_floor(self, puts: dict[bytes, bytes | None]) -> None:
        """Let a commit carry a new floor if the orders have come near the old one."""
        if self._last + CLOCK_AHEAD_NS // 2 > self._floor:
            self._floor = self._last + CLOCK_AHEAD_NS
            puts[CLOCK_FLOOR] = keys.uint64(self._floor)


class Transaction:
    """One attempt of one operation."""

    __slots__ = ("_clock", "_store", "adds", "conditions", "puts", "seen")

    def __init__(self, store: Store, clock: HybridClock) -> None:
        self._store = store
        self._clock = clock
        self.seen = store.sequence
        self.conditions: dict[bytes, bytes | None] = {}
        self.puts: dict[bytes, bytes | None] = {}
        self.adds: dict[bytes, int] = {}

    @property
    def now_ns(self) -> int:
        """The service's time: at least the wall clock, never going back."""
        return self._clock.now_ns()

    def next_order(self) -> int:
        """A new order, greater than all before."""
        return self._clock.next_order()

    async def get(self, key: bytes) -> bytes | None:
        """Read a row; it must not change until the commit."""
        if key in self.puts:
            return self.puts[key]
        value = self._store.get(key)
        self.conditions[key] = value
        return value

    async def get_unchecked(self, key: bytes) -> bytes | None:
        """Read a row that may change before the commit."""
        if key in self.puts:
            return self.puts[key]
        return self._store.get(key)

    async def scan(
        self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False, checked: bool = False
    ) -> list[Row]:
        """Read rows of [begin, end), without this transaction's own writes.

        checked  the rows read must not change until the commit (new rows between them may appear)
        """
        rows = self._store.scan(begin, end, limit, reverse)
        if checked:
            self.conditions.update(rows)
        return rows

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row with the commit."""
        self.puts[key] = value

    def delete(self, key: bytes) -> None:
        """Delete a row with the commit."""
        self.puts[key] = None

    def add(self, key: bytes, change: int) -> None:
        """Change a counter with the commit; counters never conflict."""
        self.adds[key] = self.adds.get(key, 0) + change

    def require(self, key: bytes, value: bytes | None) -> None:
        """Make a row's value a condition of the commit."""
        self.conditions[key] = value

    def random_bytes(self, size: int) -> bytes:
        """Random bytes for ids."""
        return token_bytes(size)


class Transactor:
    """Runs operations on a store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = HybridClock(clock, store)

    async def read(self, body: Callable[[Transaction], Awaitable[ResultT]]) -> ResultT:
        """Run a body that writes nothing; answers only what is durable."""
        result = await body(Transaction(self.store, self.clock))
        await self._settle()
        return result

    async def write(
        self,
        body: Callable[[Transaction], Awaitable[ReplyT]],
        reply_type: type[ReplyT],
        writer: meta_pb2.Writer | None = None,
    ) -> ReplyT:
        """Run a body and commit what it wrote; durable when this returns.

        writer   checked in the same commit: the session must be open, the transaction id new (else
                 its first reply is the answer)
        raises   Fenced, Conflict (other commits kept winning), Unavailable (outcome unknown, and
                 the transaction id, if any, was not found afterwards)
        """
        transaction_key = b""
        if writer is not None and writer.transaction_id:
            transaction_key = keys.transaction(writer.transaction_id)
            first = self.store.get(transaction_key)
            if first is not None:
                await self._settle()
                return reply_type.FromString(first)
        for _ in range(ATTEMPTS_MAX):
            transaction = Transaction(self.store, self.clock)
            if writer is not None:
                await require_session(transaction, writer.session_id)
            reply = await body(transaction)
            puts = transaction.puts
            if not puts and not transaction.adds:
                await self._settle()
                return reply
            if transaction_key:
                puts[transaction_key] = reply.SerializeToString()
            self.clock.raise_floor(puts)
            if await self._commit(transaction):
                return reply
        raise faults.Conflict("transaction", "other changes kept winning")

    async def _commit(self, transaction: Transaction) -> bool:
        outcome = await self.store.commit(
            Mutation(transaction.conditions, transaction.puts, transaction.adds, transaction.seen)
        )
        if outcome is CommitOutcome.UNKNOWN:
            raise faults.Unavailable("the outcome of the commit is unknown")
        return outcome is CommitOutcome.APPLIED

    async def _settle(self) -> None:
        if not self.store.is_settled:
            await self.store.settle()


async def require_session(transaction: Transaction, session_id: int) -> None:
    """Make it a condition of the commit that a writer session is open. raises Fenced"""
    stored = await transaction.get(keys.session(session_id))
    if stored is None or records_pb2.Session.FromString(stored).state != records_pb2.Session.OPEN:
        raise faults.Fenced("session", str(session_id))


def check_size(transaction: Transaction) -> None:
    """Assert the limits that other engines need, for operations of bounded size."""
    assert len(transaction.puts) <= limits.TRANSACTION_OPERATIONS_MAX, "too many rows"
