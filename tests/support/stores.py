"""Stores for tests: one whose commits end as told, a database whose disk can be held or broken."""

import threading
from enum import Enum, auto
from pathlib import Path

from common import faults
from common.rocks import RocksDatabase
from metaservice.kv.interface import CommitOutcome, Mutation
from metaservice.kv.memory import MemoryStore


class Fate(Enum):
    """What shall become of a commit."""

    REJECTED = auto()  # as if another commit had won
    UNKNOWN_APPLIED = auto()  # applied, but the answer is lost
    UNKNOWN_LOST = auto()  # not applied, and the answer is lost


class FatedStore(MemoryStore):
    """A memory store whose next commits end as listed in `fates`, the others as usual."""

    def __init__(self) -> None:
        super().__init__()
        self.fates: list[Fate] = []
        self.commits = 0

    async def commit(self, mutation: Mutation) -> CommitOutcome:
        self.commits += 1
        fate = self.fates.pop(0) if self.fates else None
        if fate is Fate.REJECTED:
            return CommitOutcome.REJECTED
        if fate is Fate.UNKNOWN_LOST:
            return CommitOutcome.UNKNOWN
        outcome = await super().commit(mutation)
        return CommitOutcome.UNKNOWN if fate is Fate.UNKNOWN_APPLIED else outcome


class HeldDatabase(RocksDatabase):
    """RocksDB whose sync waits until `let_through` is set, and fails if `is_broken`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.let_through = threading.Event()
        self.let_through.set()
        self.is_broken = False
        self.syncs = 0

    def sync_blocking(self) -> None:
        assert self.let_through.wait(timeout=30)
        if self.is_broken:
            raise faults.Unavailable("injected: the disk does not sync")
        self.syncs += 1
        super().sync_blocking()
