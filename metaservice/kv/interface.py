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
    adds        counters to change: rows of a signed 64-bit big-endian number, absent is 0
    seen        the store's `sequence` at the first read: nothing to check if it is the same now
    """

    conditions: Mapping[bytes, bytes | None] = field(default_factory=dict)
    puts: Mapping[bytes, bytes | None] = field(default_factory=dict)
    adds: Mapping[bytes, int] = field(default_factory=dict)
    seen: int = -1


class Store(Protocol):
    """An engine in this process. Reads are synchronous: microseconds from memory or cache.

    Reads see every commit that was accepted, also before it is durable: whoever answers from a
    read must wait for `settle` first if `is_settled` says so. Then an answer is never older than
    another that was given before, and never newer than what survives a power loss.
    """

    @property
    def sequence(self) -> int:
        """Grows with every accepted commit."""
        ...

    @property
    def is_settled(self) -> bool:
        """Whether all accepted commits are durable."""
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
