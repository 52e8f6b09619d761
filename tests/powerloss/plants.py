"""Mistakes in what makes writes durable, planted one at a time: the enumeration must see each.

Nothing of this is in the product.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from common import keyring
from common.rocks import RocksDatabase
from metaservice.journal.service import MetadataJournal
from storagenode.journal.segment import Segment
from storagenode.store import files
from storagenode.store.tombstones import TombstoneLog

PLANTS: dict[str, tuple[str, Callable[[], Any]]] = {}  # by name: the workload that sees it


def plant(workload: str) -> Callable[[Callable[[], Iterator[None]]], Callable[[], Iterator[None]]]:
    """Add a mistake to the list."""

    def add(made: Callable[[], Iterator[None]]) -> Callable[[], Iterator[None]]:
        PLANTS[made.__name__] = workload, contextmanager(made)
        return made

    return add


@plant("store")
def extents_are_not_synced() -> Iterator[None]:
    """A fragment counts as on disk when it was handed to the kernel."""
    with _nothing_synced():
        yield


@contextmanager
def _nothing_synced() -> Iterator[None]:
    file = files.SystemExtentFile
    with (
        patch.object(file, "sync", lambda self: None),
        patch.object(file, "write_durable", file.write),
    ):
        yield


@plant("store")
def folders_are_not_synced() -> Iterator[None]:
    """A new extent's data is synced, its folder's entry is not."""
    with patch.object(files, "sync_folder", lambda folder: None):
        yield


@plant("store")
def deletions_are_not_synced() -> Iterator[None]:
    """A deletion is told before its tombstone is on disk."""
    with patch.object(TombstoneLog, "sync_blocking", lambda self: None):
        yield


@plant("rebuild")
def deletions_are_in_the_index_alone() -> Iterator[None]:
    """An index that is lost loses them."""
    with patch.object(TombstoneLog, "replay_blocking", lambda self, index: None):
        yield


@plant("engine")
def commits_are_told_before_the_sync() -> Iterator[None]:
    """A group of commits is acknowledged when it was written."""
    with patch.object(RocksDatabase, "sync_blocking", lambda self: None):
        yield


@plant("small files")
def small_files_are_renamed_unsynced() -> Iterator[None]:
    """A file takes its name before its bytes are on disk."""

    def replace(path: Path, data: bytes) -> None:
        temporary = path.with_name(path.name + ".new")
        temporary.write_bytes(data)
        temporary.chmod(0o600)
        temporary.replace(path)
        keyring.sync_folder(path.parent)

    with patch.object(keyring, "write_private", replace):
        yield


@plant("metadata lost")
def journals_are_not_synced() -> Iterator[None]:
    """A node answers an append when it was written."""
    written = Segment.write

    def write(self: Segment, *arguments: Any) -> None:
        with _nothing_synced():
            written(self, *arguments)

    with patch.object(Segment, "write", write):
        yield


@plant("metadata lost")
def checkpoints_go_before_the_next_is_named() -> Iterator[None]:
    """The header names the old one still when its blobs are deleted."""
    stored = MetadataJournal._checkpoint

    async def checkpoint(self: MetadataJournal) -> None:
        for disk in self._nodes.topology.record.disks:
            await self._drop_unnamed(disk.disk_id, set())
        await stored(self)

    with patch.object(MetadataJournal, "_checkpoint", checkpoint):
        yield
