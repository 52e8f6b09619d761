"""The extents of one disk: space handed out contiguously, extents found, scanned and removed."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common import faults
from storagenode.store.files import PAGE, ExtentFile, Files
from storagenode.store.record import (
    DEAD_MAGIC,
    HEADER_READ_BYTES,
    Record,
    decode_header,
    decode_trailer,
)

log = logging.getLogger(__name__)

SCAN_BYTES = 1024 * 1024


@dataclass(slots=True)
class Extent:
    """One extent file. Space up to `used_bytes` has been handed out."""

    number: int
    path: Path
    file: ExtentFile
    used_bytes: int = 0
    live_bytes: int = 0
    open_writes: int = 0  # fragments being written; it cannot be closed or compacted before
    readers: int = 0  # reads under way; its file stays open until they end
    is_closed: bool = False


class Extents:
    """Extents in a folder, one of them open for new fragments."""

    def __init__(
        self, files: Files, folder: Path, extent_bytes: int, *, opens: bool = True
    ) -> None:
        """opens   those that are there. raises OSError, with none left open"""
        self._files = files
        self._folder = folder
        self.extent_bytes = extent_bytes
        self.by_number: dict[int, Extent] = {}
        self.active: Extent | None = None
        self.numbers_used = 0  # by extents that are not there any more, and may be named still
        if opens:
            self._open()

    def _open(self) -> None:
        self._files.make_folder(self._folder)
        try:
            for path in self._files.list(self._folder, "*.extent"):
                number = int(path.stem)
                self.by_number[number] = Extent(number, path, self._files.open(path))
        except BaseException:
            self.close()
            raise

    @property
    def free_bytes(self) -> int:
        """Handed out to nobody, in extents that exist."""
        active = self.active
        return active.file.size_bytes - active.used_bytes if active is not None else 0

    @property
    def total_bytes(self) -> int:
        """Size of all extents."""
        return sum(extent.file.size_bytes for extent in self.by_number.values())

    def fits(self, size: int) -> bool:
        """Whether the active extent has room."""
        active = self.active
        return active is not None and active.used_bytes + size <= active.file.size_bytes

    def reserve(self, size: int) -> tuple[Extent, int]:
        """Hand out contiguous space in the active extent, which has room."""
        active = self.active
        assert active is not None, "no active extent"
        assert self.fits(size), "asked before roll"
        offset = active.used_bytes
        active.used_bytes += size
        active.live_bytes += size
        active.open_writes += 1
        return active, offset

    def make_blocking(self, size: int) -> Extent:
        """Preallocate an extent of a size; `roll` makes it the active one. raises OSError"""
        number = max(self.by_number, default=0)
        number = max(number, self.numbers_used) + 1
        path = self._folder / f"{number:08d}.extent"
        file = self._files.create(path, size)
        return Extent(number, path, file)

    def roll(self, extent: Extent) -> None:
        """Take new fragments into this extent from now on."""
        self.by_number[extent.number] = extent
        self.active = extent

    def mark_dead_blocking(self, records: Iterable[Record], page: memoryview) -> None:
        """Overwrite headers, so that no scan finds the fragments again. raises OSError"""
        for record in records:
            extent = self.by_number.get(record.extent)
            if extent is not None:
                extent.file.read(record.offset, page[:PAGE])
                page[: len(DEAD_MAGIC)] = DEAD_MAGIC
                extent.file.write([page[:PAGE]], record.offset)

    def forget(self, extent: Extent) -> None:
        """Hand an extent out no more; it is to be removed, by who forgot it and nobody else."""
        del self.by_number[extent.number]

    def remove_blocking(self, extent: Extent) -> None:
        """Delete an extent that holds nothing and is not handed out."""
        extent.file.close()
        self._files.unlink(extent.path)

    def close(self) -> None:
        """Close all files."""
        for extent in self.by_number.values():
            try:
                extent.file.close()
            except OSError as error:  # what was acknowledged was synced
                log.warning("an extent did not close well: %s", error)


def scan_blocking(extent: Extent) -> Iterator[tuple[Record, bytes | None]]:
    """Find the fragments of an extent from its bytes alone, with their checksums.

    A checksum table of None: the fragment was begun and not finished. Deleted ones are left out.
    Also finds how much of the extent was handed out.
    """
    end = 0
    for offset, record in _walk(extent):
        if record is None:
            end = offset + PAGE
        else:
            yield record, read_table(extent.file, record)
            end = offset + record.record_bytes
    extent.used_bytes = max(extent.used_bytes, end)


def find_blocking(extent: Extent) -> Iterator[tuple[Record, bytes | None]]:
    """The same, of an extent in use, of which it is known how much was handed out."""
    for _, record in _walk(extent):
        if record is not None:
            yield record, read_table(extent.file, record)


def _walk(extent: Extent) -> Iterator[tuple[int, Record | None]]:
    """Headers in order, with their places; None: of a deleted fragment."""
    file, offset = extent.file, 0
    window = memoryview(bytearray(SCAN_BYTES + HEADER_READ_BYTES))
    while offset < file.size_bytes:
        size = min(len(window), file.size_bytes - offset)
        file.read(offset, window[:size])
        at = 0
        while at + PAGE <= size and at < SCAN_BYTES:
            page = window[at : min(at + HEADER_READ_BYTES, size)]
            record = decode_header(page, extent.number, offset + at)
            if record is not None:
                yield offset + at, record
                at += record.record_bytes
                continue
            if bytes(page[: len(DEAD_MAGIC)]) == DEAD_MAGIC:
                yield offset + at, None
            at += PAGE
        offset += max(at, PAGE)


def read_table(file: ExtentFile, record: Record) -> bytes | None:
    """A fragment's block checksums from its trailer; None if it was never finished."""
    begin = record.offset + record.trailer_offset
    size = min(record.offset + record.record_bytes, file.size_bytes) - begin
    if size <= 0:
        return None
    trailer = memoryview(bytearray(size))
    file.read(begin, trailer)
    return decode_trailer(record, trailer)


def as_fault(error: OSError, what: str, on_full: Callable[[], None]) -> faults.Fault:
    """What a failed file call means to the caller."""
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        on_full()
        return faults.Full(what)
    return faults.Unavailable(f"{what}: {error.strerror}")
