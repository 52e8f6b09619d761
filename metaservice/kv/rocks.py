"""The embedded engine: RocksDB in this process, one group commit after another.

A commit is checked at once against everything accepted so far (store and overlay) and joins the
next group. One thread writes a group and syncs the log; while it does, the next group collects.
The overlay holds rows that are accepted and not yet on disk, so that reads see one order of
commits; whoever answers from it waits for the disk first (`settle`).

A failed write or sync poisons the engine: nothing more is acknowledged, commits end as UNKNOWN,
and the process must be started again, which reads what is really there.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import faults
from common.rocks import RocksDatabase
from metaservice.kv.interface import (
    CommitOutcome,
    Mutation,
    Row,
    decode_counter,
    encode_counter,
)

log = logging.getLogger(__name__)

_NO_ROWS: dict[bytes, bytes | None] = {}


class _Group:
    """Commits that reach the disk together."""

    __slots__ = ("done", "rows")

    def __init__(self, done: "asyncio.Future[CommitOutcome]") -> None:
        self.rows: dict[bytes, bytes | None] = {}
        self.done = done


class RocksStore:
    """Rows in RocksDB. Open it in a running loop."""

    def __init__(self, folder: Path, on_poisoned: Callable[[], None] = lambda: None) -> None:
        """raises Corrupt"""
        self._database = RocksDatabase(folder)
        self._on_poisoned = on_poisoned
        self._thread = ThreadPoolExecutor(1, "rocks-commit")
        self._loop = asyncio.get_running_loop()
        self._collecting: _Group | None = None
        self._writing: _Group | None = None
        self._overlay: dict[bytes, bytes | None] = {}
        self._pump: asyncio.Task[None] | None = None
        self._is_poisoned = False
        self.sequence = 0

    @property
    def is_settled(self) -> bool:
        return not self._overlay

    def get(self, key: bytes) -> bytes | None:
        if self._overlay and key in self._overlay:
            return self._overlay[key]
        return self._database.get(key)

    def scan(self, begin: bytes, end: bytes, limit: int, reverse: bool = False) -> list[Row]:
        changed = {key: row for key, row in self._overlay.items() if begin <= key < end}
        if not changed:
            return self._database.scan(begin, end, limit, reverse)
        stored = dict(self._database.scan(begin, end, limit + len(changed), reverse))
        is_cut = len(stored) == limit + len(changed)
        horizon = (min(stored) if reverse else max(stored)) if is_cut else b""
        merged = stored | changed
        keys = sorted((key for key, row in merged.items() if row is not None), reverse=reverse)
        if is_cut:  # rows beyond what was read of the store are unknown
            keys = [key for key in keys if (key >= horizon if reverse else key <= horizon)]
        return [(key, row) for key in keys[:limit] if (row := merged[key]) is not None]

    async def settle(self) -> None:
        group = self._collecting or self._writing
        if group is not None and await asyncio.shield(group.done) is not CommitOutcome.APPLIED:
            raise faults.Unavailable("the metadata engine failed")

    async def commit(self, mutation: Mutation) -> CommitOutcome:
        if self._is_poisoned:
            return CommitOutcome.UNKNOWN
        if mutation.seen != self.sequence:
            get = self.get
            for key, expected in mutation.conditions.items():
                if get(key) != expected:
                    return CommitOutcome.REJECTED
        group = self._accept(mutation)
        return await asyncio.shield(group.done)

    async def close(self) -> None:
        if self._pump is not None:
            await asyncio.wait([self._pump])
        self._thread.shutdown()
        self._database.close()

    def _accept(self, mutation: Mutation) -> _Group:
        self.sequence += 1
        group = self._collecting
        if group is None:
            group = self._collecting = _Group(self._loop.create_future())
        changes: dict[bytes, bytes | None] = dict(mutation.puts)
        for key, change in mutation.adds.items():
            changes[key] = encode_counter(decode_counter(self.get(key)) + change)
        group.rows.update(changes)
        self._overlay.update(changes)
        if self._pump is None or self._pump.done():
            self._pump = self._loop.create_task(self._write_groups())
        return group

    async def _write_groups(self) -> None:
        while self._collecting is not None:
            group, self._collecting = self._collecting, None
            self._writing = group
            try:
                await self._loop.run_in_executor(self._thread, self._write_blocking, group.rows)
            except faults.Unavailable:
                self._poison(group)
                return
            self._writing = None
            newer = self._collecting.rows if self._collecting is not None else _NO_ROWS
            for key in group.rows:
                if key not in newer:
                    del self._overlay[key]
            group.done.set_result(CommitOutcome.APPLIED)

    def _write_blocking(self, rows: dict[bytes, bytes | None]) -> None:
        puts = {key: value for key, value in rows.items() if value is not None}
        self._database.write(puts, [key for key, value in rows.items() if value is None])
        self._database.sync_blocking()

    def _poison(self, group: _Group) -> None:
        log.critical("the metadata engine failed to write; it must be started again")
        self._is_poisoned = True
        for failed in (group, self._collecting):
            if failed is not None:
                failed.done.set_result(CommitOutcome.UNKNOWN)
        self._collecting = None
        self._on_poisoned()
