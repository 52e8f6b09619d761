"""Opening a disk's folder: extents, index and log of deletions; the index is brought up to date.

A disk is opened when its process starts, and again when it has failed. Both go the same way: what
was not synced before is doubted as after a power loss, and what has no row in the index gets one
only if it is whole on the medium.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import Counter

from common import faults
from common.clock import Clock
from storagenode.store.extents import Extents
from storagenode.store.files import Files
from storagenode.store.index import ClosedIndex, Index, open_index
from storagenode.store.record import Record
from storagenode.store.recover import count_live, recover_blocking
from storagenode.store.settings import DiskSettings
from storagenode.store.tombstones import TombstoneLog

log = logging.getLogger(__name__)

INDEX_DAMAGED = Counter("ostraka_index_damaged", "Indexes of disks that could not be read")
EXTENTS, INDEX, TOMBSTONES = "extents", "index", "tombstones"  # folders
MarkDead = Callable[[Extents, Iterable[Record]], None]


@dataclass(slots=True)
class Opened:
    """What of a disk is open.

    failure   why nothing can be written to it; empty: all is well
    """

    extents: Extents
    index: Index
    tombstones: TombstoneLog
    failure: str = ""
    is_rebuilding: bool = False  # the index is to be rebuilt from the extents
    fragment_count: int = 0

    def close(self, *, is_synced: bool = True) -> None:
        """Close the files."""
        self.index.close(is_synced=is_synced)
        self.tombstones.close()
        self.extents.close()


def nothing_open(settings: DiskSettings, files: Files, why: str) -> Opened:
    """A disk of which nothing is open."""
    extents = Extents(files, settings.folder / EXTENTS, settings.extent_bytes, opens=False)
    tombstones = TombstoneLog(files, settings.folder / TOMBSTONES, opens=False)
    return Opened(extents, ClosedIndex(), tombstones, why)


def open_blocking(
    settings: DiskSettings, files: Files, clock: Clock, mark_dead: MarkDead, *, has_log: bool
) -> Opened:
    """Open a disk as far as it can be opened: one that cannot be read now stays closed.

    has_log  False: of a format in which only the index knew deletions
    raises   Corrupt (the index, where nothing rebuilds it later)
    """
    try:
        extents = Extents(files, settings.folder / EXTENTS, settings.extent_bytes)
    except OSError as error:
        return nothing_open(settings, files, str(error))
    try:
        tombstones = TombstoneLog(files, settings.folder / TOMBSTONES)
        index, is_rebuilding = _open_index(settings, files, clock)
        opened = Opened(extents, index, tombstones, is_rebuilding=is_rebuilding)
    except (OSError, faults.Unavailable) as error:
        extents.close()
        return nothing_open(settings, files, _words(error))
    except BaseException:
        extents.close()
        raise
    try:
        if not opened.is_rebuilding:
            _recover(opened, mark_dead, has_log=has_log)
    except faults.Corrupt as corrupt:  # it could be opened, and not be read to its end
        if not settings.rebuilds_later:
            opened.close(is_synced=False)
            raise
        INDEX_DAMAGED.inc()
        log.critical("the index is damaged and will be rebuilt: %s", str(corrupt))
        opened.is_rebuilding = True
    return opened


def _open_index(settings: DiskSettings, files: Files, clock: Clock) -> tuple[Index, bool]:
    folder = settings.folder / INDEX
    try:
        return open_index(files, folder), False
    except faults.Corrupt as corrupt:
        INDEX_DAMAGED.inc()
        log.error("the index is lost and will be rebuilt from the extents: %s", corrupt)
        files.set_aside(folder, f"index.broken-{clock.now_ns()}")
        return Index(folder), settings.rebuilds_later


def _recover(opened: Opened, mark_dead: MarkDead, *, has_log: bool) -> None:
    extents, index = opened.extents, opened.index
    try:
        if not has_log:
            opened.tombstones.adopt_blocking(index)
        opened.tombstones.replay_blocking(index)
        recover_blocking(extents, index, lambda records: mark_dead(extents, records))
    except (OSError, faults.Unavailable) as error:
        opened.failure = _words(error)
    # Of a failed disk too: what it has can be deleted, which is counted down.
    opened.fragment_count = count_live(extents, index)


def _words(error: Exception) -> str:
    return faults.in_words(error) if isinstance(error, faults.Fault) else str(error)
