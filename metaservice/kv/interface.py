"""The ordered key-value store under all metadata: what an engine must do.

Small enough for RocksDB, PostgreSQL, FoundationDB, TiKV or etcd: point reads, ordered scans, and a
commit that applies puts and deletes if its conditions hold. Within limits.TRANSACTION_* per commit
(a completed multipart upload may be larger, see operations/multipart.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

Row = tuple[bytes, bytes]


class CommitOutcome(Enum):
    """What became of a commit."""

    APPLIED = "applied"  # durable
    REJECTED = "rejected"  # a condition does not hold; nothing was changed
    UNKNOWN = "unknown"  # the engine failed underway; ask for the transaction id later


@dataclass(slots=True)
class Mutation:
    """One atomic change.

    conditions  rows that must hold exactly this value; None: must be absent
    puts        rows to write; a value of None deletes
    adds        counters to change, after the puts: rows of a signed 64-bit big-endian number,
                absent is 0; adds never conflict
    seen        the store's `sequence` before the first read: if it is still the same, conditions
                that were read since then need no check; -1: check
    """

    conditions: Mapping[bytes, bytes | None] = field(default_factory=dict)
    puts: Mapping[bytes, bytes | None] = field(default_factory=dict)
    adds: Mapping[bytes, int] = field(default_factory=dict)
    seen: int = -1


class GroupLog(Protocol):
    """Where an engine's groups of commits go besides its own disk, one at a time."""

    def begin(self, rows: Mapping[bytes, bytes | None]) -> Row:
        """Take the next group; the row that the engine writes together with it."""
        ...

    async def send(self) -> None:
        """Finish the group that was begun; as durable as the log makes it when this returns.

        raises   Fault: the group, and all later ones, must not be acknowledged
        """
        ...


class Store(Protocol):
    """An engine in this process. Reads are synchronous: microseconds from memory or cache.

    Reads see every commit that was accepted, also before it is durable. `pending_reads` tells
    whether one did: then whoever answers from it must wait for `settle` first. So an answer is
    never older than another that was given before, and never newer than what survives a power
    loss; and what is durable is answered at once, while other rows are being written.
    """

    @property
    def sequence(self) -> int:
        """Grows with every accepted commit."""
        ...

    @property
    def is_usable(self) -> bool:
        """Whether commits can succeed; once false it stays so, until the process starts again."""
        ...

    @property
    def pending_reads(self) -> int:
        """Grows with every read that saw an accepted commit before it was durable."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """Read one row."""
        ...

    def scan(self, begin: bytes, end: bytes, limit: int, reverse: bool = False) -> list[Row]:
        """Read at most `limit` rows of [begin, end)."""
        ...

    async def settle(self) -> None:
        """Wait until what was accepted up to now is durable. raises Unavailable"""
        ...

    async def commit(self, mutation: Mutation) -> CommitOutcome:
        """Apply atomically; durable when this answers APPLIED."""
        ...

    async def close(self) -> None:
        """Finish accepted commits and close."""
        ...


def encode_counter(value: int) -> bytes:
    """A counter as a row."""
    return value.to_bytes(8, "big", signed=True)


def decode_counter(row: bytes | None) -> int:
    """A row as a counter."""
    return int.from_bytes(row, "big", signed=True) if row is not None else 0
