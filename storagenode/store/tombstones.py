"""Deletions of a disk, logged beside its index: an index that is lost does not lose them.

A deletion is durable when it is in this log; the index's row follows without a sync. The log is a
folder of preallocated segments. The index notes up to which segment it is known to have all
deletions on disk (as it does of closed extents); the others are read when the disk is opened, and
all of them into an index that is built anew. A segment goes when its last deletion is so old that
tombstones are forgotten.

A segment's pages hold entries of a fixed size, each with its own checksum, and end with what they
are. The last page is written again as entries are added to it: a write that is torn leaves what
was there before. So a bad entry is one that was not acknowledged, or damage; the others count.
"""

import errno
import logging
import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from struct import Struct

from common import faults
from common.checksum import crc32c
from storagenode.store.files import PAGE, ExtentFile, Files
from storagenode.store.index import Index, Tombstone

log = logging.getLogger(__name__)

FORMAT = 1
MAGIC = b"OTMB"
PATTERN = "*.tombstones"
SEGMENT_BYTES = 256 * 1024
_ENTRY = Struct("<16sB?2xQQ")  # blob, index, may return, deleted ns, fence
_CHECKSUM = Struct("<I")
_PAGE_END = Struct("<4sHxxI")  # magic, format, segment; then a checksum
ENTRY_BYTES = _CHECKSUM.size + _ENTRY.size
PAGE_END_BYTES = _PAGE_END.size + _CHECKSUM.size
ENTRIES_PER_PAGE = (PAGE - PAGE_END_BYTES) // ENTRY_BYTES
BATCH_ENTRIES = 1000
WINDOW_PAGES = 16  # written at once

Name = tuple[bytes, int]
Entry = tuple[Name, Tombstone]


class TombstoneLog:
    """One disk's log. All calls that block belong in the thread that deletes."""

    def __init__(self, files: Files, folder: Path, *, opens: bool = True) -> None:
        """opens   False: of a disk that is not open; all calls raise Unavailable. raises OSError"""
        self._files, self._folder = files, folder
        self.on_failed: Callable[[str], None] = lambda why: None  # told by any thread
        self._failure = "" if opens else "it is not open"
        self._numbers: list[int] = []
        self._file: ExtentFile | None = None  # of the last segment, once it is written to
        self._page = 0  # of it, where the next entry goes
        self._filled: list[bytes] = []  # entries that this page has
        self._newest_ns = 0
        self._memory = memoryview(mmap.mmap(-1, WINDOW_PAGES * PAGE))  # aligned, as O_DIRECT wants
        # Whether the index may lack deletions of this log: then it is not said to have them.
        self._is_ahead = True
        if opens:
            files.make_folder(folder)
            self._numbers = [int(path.stem) for path in files.list(folder, PATTERN)]

    def delete_blocking(
        self, index: Index, deletions: Sequence[tuple[Sequence[Name], Tombstone]]
    ) -> None:
        """Delete fragments from the index; durable when this returns.

        raises   Corrupt (the index), Unavailable
        """
        entries = [(name, tombstone) for names, tombstone in deletions for name in names]
        is_logged = self._append(index, entries)
        try:
            for names, tombstone in deletions:
                index.delete(list(names), tombstone)
            if not is_logged:
                index.sync_blocking()
        except faults.Fault:
            self._is_ahead = True
            raise

    def adopt_blocking(self, index: Index) -> None:
        """Take over the deletions of an index that was used without a log.

        raises   Unavailable, Corrupt (the index)
        """
        batch: list[Entry] = []
        for entry in index.tombstones():
            batch.append(entry)
            if len(batch) == BATCH_ENTRIES:
                self._append(index, batch)
                batch = []
        self._append(index, batch)

    # --- writing ------------------------------------------------------------------------------

    def _append(self, index: Index, entries: Sequence[Entry]) -> bool:
        """Write and sync; False: there is no room, and the index alone must do."""
        if not entries:
            return True
        self._check()
        with self._poisoning():
            if not self._make_room(index, len(entries)):
                return False
            self._write(entries)
            self.sync_blocking()
        self._newest_ns = max(self._newest_ns, *(tombstone.deleted_ns for _, tombstone in entries))
        return True

    def _check(self) -> None:
        if self._failure:
            raise faults.Unavailable(f"the disk has failed: {self._failure}")

    @contextmanager
    def _poisoning(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failure = f"deletions: {error.strerror}"
            self.on_failed(self._failure)
            raise faults.Unavailable(f"the disk has failed: {self._failure}") from error

    def _make_room(self, index: Index, count: int) -> bool:
        """Begin another segment if the last one does not hold so many entries. raises OSError"""
        pages = -(-(len(self._filled) + count) // ENTRIES_PER_PAGE)
        if self._file is not None and (self._page + pages) * PAGE <= self._file.size_bytes:
            return True
        number = max([0, *self._numbers, *index.closed_tombstones()]) + 1
        size = max(SEGMENT_BYTES, -(-count // ENTRIES_PER_PAGE) * PAGE)
        try:
            file = self._files.create(self._path(number), size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            log.warning("no room for the log of deletions", extra={"folder": str(self._folder)})
            return False
        if self._file is not None:
            self._file.close()
            if not self._is_ahead:
                index.close_tombstones_blocking(self._numbers[-1], self._newest_ns)
        self._file, self._page, self._filled, self._newest_ns = file, 0, [], 0
        self._numbers.append(number)
        return True

    def _write(self, entries: Sequence[Entry]) -> None:
        """Add to the last page, which is written again, and to those after it. raises OSError"""
        assert self._file is not None
        rows = [*self._filled, *(_encode(*entry) for entry in entries)]
        while rows:
            pages = min(-(-len(rows) // ENTRIES_PER_PAGE), len(self._memory) // PAGE)
            for page in range(pages):
                first = page * ENTRIES_PER_PAGE
                content = _page_of(rows[first : first + ENTRIES_PER_PAGE], self._numbers[-1])
                self._memory[page * PAGE : (page + 1) * PAGE] = content
            self._file.write([self._memory[: pages * PAGE]], self._page * PAGE)
            full = min(pages, len(rows) // ENTRIES_PER_PAGE)
            self._page += full
            self._filled = rows[full * ENTRIES_PER_PAGE :]
            rows = self._filled if full == pages else []

    def sync_blocking(self) -> None:
        """Put what was written on disk. raises OSError"""
        assert self._file is not None
        self._file.sync()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.tombstones"

    # --- reading ------------------------------------------------------------------------------

    def replay_blocking(self, index: Index) -> None:
        """Bring an index up to date.

        raises   Unavailable (what was read does not sync), Corrupt (the index), Invalid (newer)
        """
        self._check()
        closed, newest = index.closed_tombstones(), dict[int, int]()
        revived, last = 0, max(self._numbers, default=0)
        for number in self._numbers:
            if number in closed and number != last:
                continue
            with self._poisoning():
                segment = _Segment(self._files.open(self._path(number)), number)
            try:
                for batch in segment.batches():
                    revived += index.bury(batch)
                if segment.pages:
                    with self._poisoning():
                        segment.file.sync()  # it is answered for from now on
                if number == last and self._file is None:
                    self._file, self._page = segment.file, segment.pages
                    self._newest_ns = segment.newest_ns
                elif number != last and not segment.is_unreadable:
                    newest[number] = segment.newest_ns
            finally:
                if self._file is not segment.file:
                    segment.file.close()
        for number, newest_ns in newest.items():
            index.close_tombstones_blocking(number, newest_ns)
        self._is_ahead = False
        if revived:
            log.warning("the index lacked deletions", extra={"fragments": revived})

    # --- forgetting ---------------------------------------------------------------------------

    def trim_blocking(self, index: Index, before_ns: int) -> None:
        """Drop segments that the index has, and whose deletions are all older than a time."""
        for number, newest_ns in index.closed_tombstones().items():
            if newest_ns < before_ns and number not in self._numbers[-1:]:
                self._files.unlink(self._path(number))
                self._numbers = [each for each in self._numbers if each != number]
                index.forget_tombstones(number)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class _Segment:
    """One segment as it is read."""

    def __init__(self, file: ExtentFile, number: int) -> None:
        self.file, self._number = file, number
        self.pages = 0  # up to the last that was written
        self.newest_ns = 0
        self.is_unreadable = False

    def batches(self) -> Iterator[list[Entry]]:
        """All entries that are whole, in order."""
        batch: list[Entry] = []
        damaged = 0
        data = memoryview(mmap.mmap(-1, PAGE))
        for page in range(self.file.size_bytes // PAGE):
            if not self._read(page, data) or not any(data):
                continue
            self.pages = page + 1
            _check_format(data, f"deletions, segment {self._number}")
            for slot in range(ENTRIES_PER_PAGE):
                begin = slot * ENTRY_BYTES
                entry = _decode(data[begin : begin + ENTRY_BYTES])
                if entry is not None:
                    self.newest_ns = max(self.newest_ns, entry[1].deleted_ns)
                    batch.append(entry)
                else:
                    damaged += any(data[begin : begin + ENTRY_BYTES])
            if len(batch) >= BATCH_ENTRIES:
                yield batch
                batch = []
        if batch:
            yield batch
        if damaged:
            log.warning(
                "entries of the log of deletions are torn or damaged",
                extra={"segment": self._number, "entries": damaged},
            )

    def _read(self, page: int, into: memoryview) -> bool:
        try:
            self.file.read_medium(page * PAGE, into)  # after a failed sync the cache may lie
        except (OSError, faults.Corrupt) as error:
            self.is_unreadable = True
            self.pages = page + 1
            log.error(
                "the log of deletions cannot be read: %s", error,
                extra={"segment": self._number, "page": page},
            )  # fmt: skip
            return False
        return True


def _check_format(page: memoryview, whose: str) -> None:
    end = page[PAGE - PAGE_END_BYTES :]
    magic, version, _ = _PAGE_END.unpack_from(end)
    (checksum,) = _CHECKSUM.unpack_from(end, _PAGE_END.size)
    is_whole = checksum == crc32c(end[: _PAGE_END.size]) and magic == MAGIC
    if is_whole and version > FORMAT:
        raise faults.Invalid("disk", whose, "of a newer Ostraka")


def _page_of(rows: Sequence[bytes], segment: int) -> bytes:
    data = b"".join(rows)
    end = _PAGE_END.pack(MAGIC, FORMAT, segment)
    end += _CHECKSUM.pack(crc32c(end))
    return data + bytes(PAGE - len(end) - len(data)) + end


def _encode(name: Name, tombstone: Tombstone) -> bytes:
    row = _ENTRY.pack(*name, tombstone.may_return, tombstone.deleted_ns, tombstone.fence)
    return _CHECKSUM.pack(crc32c(row)) + row


def _decode(data: memoryview) -> Entry | None:
    (checksum,) = _CHECKSUM.unpack_from(data)
    if checksum != crc32c(data[_CHECKSUM.size :]):
        return None
    blob_id, index, may_return, deleted_ns, fence = _ENTRY.unpack_from(data, _CHECKSUM.size)
    return (blob_id, index), Tombstone(deleted_ns, may_return, fence)
