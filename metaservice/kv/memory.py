"""The engine for tests, and the model of the others: a dictionary and a sorted list of keys."""

from bisect import bisect_left, insort

from metaservice.kv.interface import (
    CommitOutcome,
    Mutation,
    Row,
    decode_counter,
    encode_counter,
)


class MemoryStore:
    """Rows in memory; every commit is as durable as the process."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self.sequence = 0
        self.pending_reads = 0
        self.is_usable = True

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def scan(self, begin: bytes, end: bytes, limit: int, reverse: bool = False) -> list[Row]:
        first, last = bisect_left(self._keys, begin), bisect_left(self._keys, end)
        if reverse:
            keys = self._keys[max(first, last - limit) : last][::-1]
        else:
            keys = self._keys[first : min(last, first + limit)]
        return [(key, self._rows[key]) for key in keys]

    async def settle(self) -> None:
        return

    async def commit(self, mutation: Mutation) -> CommitOutcome:
        if mutation.seen != self.sequence and any(
            self._rows.get(key) != value for key, value in mutation.conditions.items()
        ):
            return CommitOutcome.REJECTED
        self.sequence += 1
        for key, value in mutation.puts.items():
            self._write(key, value)
        for key, change in mutation.adds.items():
            self._write(key, encode_counter(decode_counter(self._rows.get(key)) + change))
        return CommitOutcome.APPLIED

    async def close(self) -> None:
        return

    def _write(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            if self._rows.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
        else:
            if key not in self._rows:
                insort(self._keys, key)
            self._rows[key] = value
