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
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client import Histogram

from common import exit_codes, fault_points, faults
from common.concurrency import wait_out
from common.rocks import RocksDatabase, Snapshot
from common.worker_thread import WorkerThread
from metaservice.kv.interface import (
    CommitOutcome,
    GroupLog,
    Mutation,
    Row,
    decode_counter,
    encode_counter,
)

log = logging.getLogger(__name__)

GROUP_COMMITS = Histogram(
    "ostraka_meta_group_commits",
    "Commits that reached the disk together",
    buckets=(1, 4, 16, 64, 256),
)
GROUP_SECONDS = Histogram(
    "ostraka_meta_group_seconds",
    "Time to write and sync a group of commits",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1),
)

GATHER_COMMITS_MIN, GATHER_COMMITS_MAX = 8, 32
GATHER_SHARE = 0.5  # of the time that the group before took
GATHER_S_MAX = 0.002

_NO_ROWS: dict[bytes, bytes | None] = {}


class _Group:
    """Commits that reach the disk together, and who waits for them."""

    __slots__ = ("commits", "rows", "waiters")

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes | None] = {}
        self.commits = 0
        self.waiters: list[asyncio.Future[CommitOutcome]] = []

    def finish(self, outcome: CommitOutcome) -> None:
        """Wake everybody; whoever was cancelled meanwhile is left out."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(outcome)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


class RocksStore:
    """Rows in RocksDB. Open it in a running loop."""

    def __init__(
        self,
        folder: Path,
        on_poisoned: Callable[[int], None] = lambda exit_code: None,
        open_database: Callable[[Path], RocksDatabase] = RocksDatabase,
    ) -> None:
        """on_poisoned is called once when the process must end. raises Corrupt, Unavailable"""
        self._database = open_database(folder)
        self._on_poisoned = on_poisoned
        self._thread = WorkerThread("rocks-commit")
        self._loop = asyncio.get_running_loop()
        self._collecting: _Group | None = None
        self._writing: _Group | None = None
        self._overlay: dict[bytes, bytes | None] = {}
        self._pump: asyncio.Task[None] | None = None
        self._gathered: asyncio.Future[None] | None = None  # while a group waits for commits
        self._is_dead = False  # poisoned or closed
        self._is_closing = False
        self._log: GroupLog | None = None
        self._opened: asyncio.Event | None = None  # set when what is read may be answered
        self.sequence = 0
        self.pending_reads = 0

    @property
    def is_usable(self) -> bool:
        return not self._is_dead

    # --- the log beside the engine: see docs/metadata-journal.md --------------------------------

    def hold(self) -> None:
        """Let nothing be answered and no group begin until `open`: what is here may be too old."""
        self._opened = asyncio.Event()

    def open(self) -> None:
        """End `hold`."""
        if self._opened is not None:
            self._opened.set()
            self._opened = None

    def attach(self, group_log: GroupLog | None) -> None:
        """Send groups to a log too, from the next one on; None: no more."""
        self._log = group_log

    async def write_aside(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Write rows that no commit has read (None: delete); durable when this returns.

        raises   Unavailable
        """
        try:
            await self._thread.call(self._write_aside_blocking, rows)
        except faults.Fault as fault:
            self.fail(faults.in_words(fault))
            raise

    async def snapshot(self) -> Snapshot:
        """All rows of one moment, between two groups."""
        return await self._thread.call(self._database.snapshot)

    def fail(self, reason: str, exit_code: int = exit_codes.FAILED) -> None:
        """Acknowledge nothing any more: somebody found out that this engine must not go on."""
        self._poison(self._writing, f"the metadata engine gives up: {reason}", exit_code)

    def _write_aside_blocking(self, rows: Mapping[bytes, bytes | None]) -> None:
        puts = {key: value for key, value in rows.items() if value is not None}
        self._database.write(puts, [key for key, value in rows.items() if value is None])
        self._database.sync_blocking()

    # --- reading and committing -----------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        if self._opened is not None:
            self.pending_reads += 1
        if self._overlay and key in self._overlay:
            self.pending_reads += 1
            return self._overlay[key]
        return self._database.get(key)

    def scan(self, begin: bytes, end: bytes, limit: int, reverse: bool = False) -> list[Row]:
        changed = {key: row for key, row in self._overlay.items() if begin <= key < end}
        if self._opened is not None:
            self.pending_reads += 1
        if not changed:
            return self._database.scan(begin, end, limit, reverse)
        self.pending_reads += 1
        # As many more as may be deleted in the overlay: `limit` rows are left before the last read,
        # so nothing that was not read belongs between them.
        stored = dict(self._database.scan(begin, end, limit + len(changed), reverse))
        merged = [(key, row) for key, row in (stored | changed).items() if row is not None]
        merged.sort(reverse=reverse)
        return merged[:limit]

    async def settle(self) -> None:
        if self._opened is not None:
            await self._opened.wait()
        group = self._collecting or self._writing
        outcome = CommitOutcome.UNKNOWN if self._is_dead else CommitOutcome.APPLIED
        if group is not None and not self._is_dead:
            outcome = await self._wait(group)
        if outcome is not CommitOutcome.APPLIED:
            raise faults.Unavailable("the metadata engine failed")

    async def commit(self, mutation: Mutation) -> CommitOutcome:
        if self._is_dead:
            return CommitOutcome.UNKNOWN
        if mutation.seen != self.sequence:
            get = self.get
            for key, expected in mutation.conditions.items():
                if get(key) != expected:
                    return CommitOutcome.REJECTED
        return await self._wait(self._accept(mutation))

    def leave(self) -> None:
        """The end is near: what fails from now on is no reason to give up."""
        self._is_closing = True

    async def close(self) -> None:
        self.leave()
        if self._opened is not None:
            self._poison(None)  # what is accepted was never written
        if self._pump is not None:
            await asyncio.wait([self._pump])
        self._is_dead = True
        self._thread.shutdown()
        self._database.close()

    def _wait(self, group: _Group) -> "asyncio.Future[CommitOutcome]":
        # One future each: a caller that is cancelled must not cancel the others.
        waiter: asyncio.Future[CommitOutcome] = self._loop.create_future()
        group.waiters.append(waiter)
        return waiter

    def _accept(self, mutation: Mutation) -> _Group:
        self.sequence += 1
        group = self._collecting
        if group is None:
            group = self._collecting = _Group()
        group.commits += 1
        if self._gathered is not None and group.commits >= GATHER_COMMITS_MAX:
            _wake(self._gathered)
        changes: dict[bytes, bytes | None] = dict(mutation.puts)
        for key, change in mutation.adds.items():
            known = changes[key] if key in changes else self.get(key)
            changes[key] = encode_counter(decode_counter(known) + change)
        group.rows.update(changes)
        self._overlay.update(changes)
        if self._pump is None or self._pump.done():
            self._pump = self._loop.create_task(self._write_groups())
        return group

    async def _write_groups(self) -> None:
        last: _Group | None = None
        taken_s = 0.0
        while self._collecting is not None:
            if self._opened is not None:
                await self._opened.wait()
            await self._gather(last, taken_s)
            if self._is_dead or self._collecting is None:
                return
            group, self._collecting = self._collecting, None
            self._writing = last = group
            begun_s = self._loop.time()
            is_written = False
            try:
                await self._write_everywhere(group)
                is_written = not self._is_dead
            except faults.Fault as fault:
                log.critical("a group of %d commits failed: %s", group.commits, fault)
            finally:  # whatever went wrong, nobody may wait for ever or be told it is on disk
                if not is_written:
                    self._poison(group)
            if not is_written:
                return
            self._writing = None
            newer = self._collecting.rows if self._collecting is not None else _NO_ROWS
            for key in group.rows:
                if key not in newer:
                    del self._overlay[key]
            group.finish(CommitOutcome.APPLIED)
            taken_s = self._loop.time() - begun_s

    async def _gather(self, last: _Group | None, taken_s: float) -> None:
        """Let commits come together: a group costs much that each of its commits does not.

        Only where many came with the last one, which took `taken_s`, and for a part of that time.
        """
        group = self._collecting
        is_worth_it = last is not None and last.commits >= GATHER_COMMITS_MIN
        if group is None or not is_worth_it or group.commits >= GATHER_COMMITS_MAX:
            return
        self._gathered = gathered = self._loop.create_future()
        wait = self._loop.call_later(min(taken_s * GATHER_SHARE, GATHER_S_MAX), _wake, gathered)
        try:
            await gathered
        finally:
            wait.cancel()
            self._gathered = None

    async def _write_everywhere(self, group: _Group) -> None:
        """Here and to the log at once; both have it when this returns."""
        group_log = self._log
        if group_log is None:
            await self._thread.call(self._write_blocking, group)
            return
        noted = group_log.begin(group.rows)
        local = self._thread.call(self._write_blocking, group, noted)
        try:
            await group_log.send()
        finally:
            await wait_out([local])
        local.result()

    def _write_blocking(self, group: _Group, *noted: Row) -> None:
        begun_s = time.perf_counter()
        rows = group.rows
        puts = {key: value for key, value in rows.items() if value is not None}
        puts.update(noted)
        fault_points.reach("commit.before_write")
        self._database.write(puts, [key for key, value in rows.items() if value is None])
        fault_points.reach("commit.before_sync")
        self._database.sync_blocking()
        fault_points.reach("commit.after_sync")
        GROUP_COMMITS.observe(group.commits)
        GROUP_SECONDS.observe(time.perf_counter() - begun_s)

    def _poison(
        self,
        group: _Group | None,
        words: str = "the metadata engine failed; it must be started again",
        exit_code: int = exit_codes.FAILED,
    ) -> None:
        is_first, self._is_dead = not self._is_dead, True
        failed = [each for each in (group, self._collecting) if each is not None]
        self._collecting = None
        self.open()
        for lost in failed:
            lost.finish(CommitOutcome.UNKNOWN)
        if is_first and not self._is_closing:
            log.critical(words)
            self._on_poisoned(exit_code)
