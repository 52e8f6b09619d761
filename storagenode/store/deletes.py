"""Deletions of a disk in groups: one write to their log and one sync for all that come together.

They are done by the thread that writes, so that a fragment is never deleted and indexed at once.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from common import fault_points
from common.worker_thread import WorkerThread
from storagenode.store.groups import Groups
from storagenode.store.health import DiskHealth
from storagenode.store.index import Index, Tombstone
from storagenode.store.record import Record
from storagenode.store.tombstones import TombstoneLog

Name = tuple[bytes, int]


@dataclass(slots=True)
class Deletion:
    """One call's deletions: fragments as they were known, and ids without a fragment."""

    records: Sequence[Record]
    others: Sequence[Name]
    tombstone: Tombstone
    done: "asyncio.Future[list[Record]]"
    found: list[Record] = field(default_factory=list)

    @property
    def names(self) -> list[Name]:
        """All ids."""
        return [*[(record.blob_id, record.index) for record in self.records], *self.others]


class GroupDeleter:
    """Deletes fragments of one disk."""

    def __init__(
        self,
        thread: WorkerThread,
        health: DiskHealth,
        index: Callable[[], Index],
        tombstones: Callable[[], TombstoneLog],
        mark_dead_blocking: Callable[[Iterable[Record]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._index, self._tombstones = index, tombstones
        self._mark_dead_blocking = mark_dead_blocking
        self._groups = Groups[Deletion](thread, health, self._delete_blocking, self._settle)
        self._names: Counter[Name] = Counter()

    def is_deleting(self, name: Name) -> bool:
        """Whether a fragment is being deleted: nothing of that name may be written meanwhile."""
        return name in self._names

    async def delete(
        self, records: Sequence[Record], others: Sequence[Name], tombstone: Tombstone
    ) -> list[Record]:
        """Delete; durable when this returns. Returns those that were there, where they were.

        raises   Corrupt (the index), Unavailable
        """
        deletion = Deletion(records, others, tombstone, self._loop.create_future())
        self._names.update(deletion.names)
        self._groups.add(deletion)
        return await asyncio.shield(deletion.done)

    async def wait_idle(self) -> None:
        """Wait until all that was begun is done."""
        await self._groups.wait_idle()

    def _settle(self, group: list[Deletion], error: BaseException | None) -> None:
        for deletion in group:
            self._names.subtract(deletion.names)
            if error is None:
                deletion.done.set_result(deletion.found)
            else:
                deletion.done.set_exception(error)
                deletion.done.exception()  # its caller may be gone
        self._names = +self._names

    def _delete_blocking(self, group: list[Deletion]) -> None:
        index = self._index()
        taken: set[Name] = set()
        deletions: list[tuple[Sequence[Name], Tombstone]] = []
        for deletion in group:
            for record in deletion.records:
                name = (record.blob_id, record.index)
                row = index.get(*name)
                # Another call may have deleted it meanwhile, or compaction have moved it.
                is_there = row is not None and row[0].written_ns == record.written_ns
                if row is not None and is_there and name not in taken:
                    taken.add(name)
                    deletion.found.append(row[0])
            names = [(record.blob_id, record.index) for record in deletion.found]
            deletions.append(([*names, *deletion.others], deletion.tombstone))
        self._tombstones().delete_blocking(index, deletions)
        fault_points.reach("delete.after_tombstone")
        self._mark_dead_blocking([record for deletion in group for record in deletion.found])
