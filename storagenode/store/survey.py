"""A disk's folder read without its node: fragments from the extents alone, nothing changed."""

import fcntl
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common import faults
from storagenode.store.extents import Extents, find_blocking
from storagenode.store.files import SystemFiles
from storagenode.store.identity import NAME, load_identity
from storagenode.store.record import HEADER_READ_BYTES, Record

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A whole fragment: where it is, its block checksums, what its header says of its object."""

    record: Record
    table: bytes
    identity: bytes


class Survey:
    """One disk."""

    def __init__(self, folder: Path) -> None:
        """raises NotFound("disk") if there is none; Invalid if a node has it open"""
        check_unused(folder)
        files = SystemFiles()
        self.folder = folder
        self.identity = load_identity(files, folder)
        self._extents = Extents(files, folder / "extents", 0)
        self.unreadable: list[str] = []  # extents that could not be read to their end

    def fragments(self) -> Iterator[Surveyed]:
        """Every fragment that was finished and not deleted."""
        page = memoryview(bytearray(HEADER_READ_BYTES))
        for extent in self._extents.by_number.values():
            try:
                for record, table in find_blocking(extent):
                    if table is not None:
                        size = min(record.header_bytes, len(page))
                        extent.file.read(record.offset, page[:size])
                        yield Surveyed(record, table, record.identity_of(page))
            except (OSError, faults.Corrupt) as error:
                log.error("an extent cannot be read: %s", error)
                self.unreadable.append(str(extent.path))

    def read(self, record: Record, offset: int, into: memoryview) -> None:
        """Read bytes of a fragment that lie within one cell. raises OSError, Corrupt"""
        file = self._extents.by_number[record.extent].file
        file.read(record.place(offset, len(into)), into)

    def close(self) -> None:
        """Close all files."""
        self._extents.close()


def check_unused(folder: Path) -> None:
    """Refuse a folder that is no disk, or that a node has open. raises NotFound, Invalid"""
    if not (folder / NAME).exists():
        raise faults.NotFound("disk in", str(folder))
    lock = folder / "index" / "LOCK"
    if not lock.exists():
        return
    with lock.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise faults.Invalid("disk", str(folder), "a storage node has it open") from error
