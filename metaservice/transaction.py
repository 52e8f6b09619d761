"""One operation as an atomic change: reads become conditions, writes wait for the commit.

A body may run several times: when another commit changed a row it had read, and never twice with
effect. A write names a transaction id; its first reply is stored in the same commit, so a caller
who lost the answer may ask again.
"""

import logging
from collections.abc import Awaitable, Callable
from secrets import token_bytes
from typing import TypeVar

from google.protobuf.message import Message
from prometheus_client import Counter

from common import faults, limits
from common.clock import Clock
from metaservice import keys
from metaservice.kv.interface import CommitOutcome, Mutation, Row, Store
from proto import meta_pb2, records_pb2

log = logging.getLogger(__name__)
UNREADABLE = Counter("ostraka_meta_unreadable", "Operations that met rows that cannot be read")
ReplyT = TypeVar("ReplyT", bound=Message)
ResultT = TypeVar("ResultT")

ATTEMPTS_MAX = 64
CLOCK_FLOOR = keys.single("clock_floor")
# How far the persisted floor is kept ahead of the clock. After a crash time begins at the floor, so
# this much of it may lie in the future: long enough to be written rarely, too short to be noticed.
CLOCK_AHEAD_NS = 10**9
GARBAGE_GRACE_NS = int(limits.GARBAGE_GRACE_S * 1e9)
LARGE_OPERATIONS_MAX = 8192  # rows of the few commits that say they are large


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
        self._last = max(self._clock.now_ns(), self._last)
        return self._last

    def next_order(self) -> int:
        """The next order."""
        self._last = max(self._clock.now_ns(), self._last + 1)
        return self._last

    def floor_due(self) -> int | None:
        """The floor that a commit must carry, if the orders have come near the stored one."""
        if self._last + CLOCK_AHEAD_NS // 2 > self._floor:
            return self._last + CLOCK_AHEAD_NS
        return None

    def floor_stored(self, floor: int) -> None:
        """A commit that carried a floor is durable."""
        self._floor = max(self._floor, floor)


class Transaction:
    """One attempt of one operation."""

    __slots__ = (
        "_clock", "_store", "adds", "conditions", "garbage_grace_ns", "operations_max", "puts",
        "seen",
    )  # fmt: skip

    def __init__(
        self, store: Store, clock: HybridClock, garbage_grace_ns: int = GARBAGE_GRACE_NS
    ) -> None:
        self._store = store
        self._clock = clock
        self.garbage_grace_ns = garbage_grace_ns  # from a commit to the deletion of its garbage
        self.seen = store.sequence
        self.conditions: dict[bytes, bytes | None] = {}
        self.puts: dict[bytes, bytes | None] = {}
        self.adds: dict[bytes, int] = {}
        self.operations_max = limits.TRANSACTION_OPERATIONS_MAX

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
        """Make a row's value, known from elsewhere, a condition of the commit."""
        self.conditions[key] = value
        self.seen = -1  # it was not read under `seen`: it must be checked

    def allow_large(self) -> None:
        """Let this commit write more rows than other engines may take at once; say why there."""
        self.operations_max = LARGE_OPERATIONS_MAX

    def random_bytes(self, size: int) -> bytes:
        """Random bytes for ids."""
        return token_bytes(size)


class Transactor:
    """Runs operations on a store."""

    def __init__(
        self, store: Store, clock: Clock, garbage_grace_s: float = limits.GARBAGE_GRACE_S
    ) -> None:
        self.store = store
        self.clock = HybridClock(clock, store)
        self.is_doubtful = False  # rows could not be read: nobody may conclude from absence
        self._garbage_grace_ns = int(garbage_grace_s * 1e9)

    async def read(self, body: Callable[[Transaction], Awaitable[ResultT]]) -> ResultT:
        """Run a body that writes nothing; answers, refusals too, tell only what is durable."""
        pending_reads = self.store.pending_reads
        try:
            result = await body(self._transaction())
        except faults.Fault as fault:
            self._doubt(fault)
            await self._settle(pending_reads)
            raise
        await self._settle(pending_reads)
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
                 the transaction id, if any, was not found afterwards); what the body raises, once
                 what it had read is durable
        """
        pending_reads = self.store.pending_reads
        try:
            return await self._write(body, reply_type, writer)
        except faults.Fault as fault:
            self._doubt(fault)
            await self._settle(pending_reads)
            raise

    def _doubt(self, fault: faults.Fault) -> None:
        if isinstance(fault, faults.Corrupt):
            UNREADABLE.inc()
        if isinstance(fault, faults.Corrupt) and not self.is_doubtful:
            log.critical("metadata cannot be read; nothing is collected any more: %s", fault)
            self.is_doubtful = True

    async def _write(
        self,
        body: Callable[[Transaction], Awaitable[ReplyT]],
        reply_type: type[ReplyT],
        writer: meta_pb2.Writer | None,
    ) -> ReplyT:
        transaction_key = b""
        if writer is not None and writer.transaction_id:
            transaction_key = keys.transaction(writer.transaction_id)
        for _ in range(ATTEMPTS_MAX):
            pending_reads = self.store.pending_reads
            transaction = self._transaction()
            if transaction_key:
                first = await transaction.get(transaction_key)  # and absent until the commit
                if first is not None:
                    await self._settle(pending_reads)
                    return reply_type.FromString(first)
            if writer is not None:
                await require_session(transaction, writer.session_id)
            reply = await body(transaction)
            if not transaction.puts and not transaction.adds:
                await self._settle(pending_reads)
                return reply
            if transaction_key:
                transaction.puts[transaction_key] = reply.SerializeToString()
            outcome = await self._commit(transaction)
            if outcome is CommitOutcome.APPLIED:
                return reply
            if outcome is CommitOutcome.UNKNOWN:
                return await self._first_reply(transaction_key, reply_type)
        raise faults.Conflict("transaction", "other changes kept winning")

    def _transaction(self) -> Transaction:
        return Transaction(self.store, self.clock, self._garbage_grace_ns)

    async def _commit(self, transaction: Transaction) -> CommitOutcome:
        puts, adds = transaction.puts, transaction.adds
        assert len(puts) + len(adds) <= transaction.operations_max, "a commit of too many rows"
        floor = self.clock.floor_due()
        if floor is not None:
            puts[CLOCK_FLOOR] = keys.uint64(floor)
        outcome = await self.store.commit(
            Mutation(transaction.conditions, puts, adds, transaction.seen)
        )
        if floor is not None and outcome is CommitOutcome.APPLIED:
            self.clock.floor_stored(floor)
        return outcome

    async def _first_reply(self, transaction_key: bytes, reply_type: type[ReplyT]) -> ReplyT:
        """Decide an unknown outcome by the row that the commit would have written.

        Not found proves nothing: the commit may still arrive. Whoever asks again by the same
        transaction id is safe, because every commit of it has the row's absence as a condition.
        """
        pending_reads = self.store.pending_reads
        first = self.store.get(transaction_key) if transaction_key else None
        if first is None:
            raise faults.Unavailable("the outcome of the commit is unknown")
        await self._settle(pending_reads)
        return reply_type.FromString(first)

    async def _settle(self, pending_reads: int) -> None:
        """Wait for the disk if anything was read since that is not on it yet."""
        if self.store.pending_reads != pending_reads:
            await self.store.settle()


async def require_session(transaction: Transaction, session_id: int) -> None:
    """Make it a condition of the commit that a writer session is open. raises Fenced"""
    stored = await transaction.get(keys.session(session_id))
    if stored is None or records_pb2.Session.FromString(stored).state != records_pb2.Session.OPEN:
        raise faults.Fenced("session", str(session_id))
