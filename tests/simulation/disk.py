"""A simulated machine's storage: files and RocksDB, with what is written and not synced kept apart.

A crash keeps of the un-synced pages any subset, torn at sectors, and of RocksDB's log any prefix.
A disk can also flip bits, lie about syncs, fail calls, be full, and be replaced by an empty one;
and it can stop its machine at the n-th operation from now, between any two writes.
"""

import errno
import random
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from common import faults
from storagenode.store.files import PAGE
from tests.simulation.loop import PowerFailure, Process

SECTOR = 512
CAPACITY_BYTES = 1 << 32
ZEROS = bytes(PAGE)

Rows = dict[bytes, bytes]
Batch = tuple[Mapping[bytes, bytes], list[bytes]]


@dataclass(slots=True)
class Inode:
    """A file: pages on the medium, and newer ones in the cache."""

    size_bytes: int
    durable: dict[int, bytes] = field(default_factory=dict)
    cached: dict[int, bytes] = field(default_factory=dict)
    unwritten: dict[int, bytes] = field(default_factory=dict)  # a failed sync called them clean

    def page(self, number: int, *, is_medium: bool = False) -> bytes:
        """A page as a reader sees it, or as one past the cache does."""
        seen = self.cached.get(number)
        if seen is None and not is_medium:
            seen = self.unwritten.get(number)
        return seen or self.durable.get(number, ZEROS)


@dataclass(slots=True)
class Table:
    """A database: rows on the medium, and the log of what was written since the last sync."""

    rows: Rows = field(default_factory=dict)
    log: list[Batch] = field(default_factory=list)


class Medium:
    """What one machine's disk holds. It outlives the processes that use it."""

    def __init__(self, name: str, chance: random.Random, seen: "Counter[str]") -> None:
        self.name = name
        self.chance = chance
        self.seen = seen
        self.files: dict[Path, Inode] = {}
        self.entries: set[Path] = set()  # folder entries that are durable
        self.tables: dict[Path, Table] = {}
        self.small_files: dict[Path, bytes] = {}
        self.broken_tables: set[Path] = set()  # cannot be opened
        self.is_lying = False  # syncs do nothing
        self.is_full = False
        self.fails_writes = False
        self.fails_syncs = False
        self.fails_reads = False
        self.operations_until_crash: int | None = None
        self.crash: Callable[[], None] = lambda: None

    def step(self, process: Process) -> None:
        """Count an operation. raises PowerFailure if the machine is, or now goes, down"""
        if self.operations_until_crash is not None and not process.is_dead:
            self.operations_until_crash -= 1
            if self.operations_until_crash <= 0:
                self.operations_until_crash = None
                self.seen["crash between two writes"] += 1
                self.crash()
        if process.is_dead:
            raise PowerFailure(self.name)

    def lose_power(self) -> None:
        """Keep of what was not synced whatever a real device might have kept."""
        chance, seen = self.chance, self.seen
        lied = " after a lie" if self.is_lying else ""
        for path in [path for path in self.files if path not in self.entries]:
            if chance.random() < 0.5:
                seen["new file lost"] += 1
                del self.files[path]
            else:
                self.entries.add(path)
        for inode in self.files.values():
            for number, page in inode.cached.items():
                kept = chance.choice((0, 0, PAGE, PAGE, SECTOR * chance.randrange(PAGE // SECTOR)))
                fate = "lost" if kept == 0 else "kept" if kept == PAGE else "torn"
                seen[f"page {fate}{lied}"] += 1
                if kept:
                    old = inode.durable.get(number, ZEROS)
                    inode.durable[number] = page[:kept] + old[kept:]
            inode.cached.clear()
            inode.unwritten.clear()
        for table in self.tables.values():
            kept = chance.randint(0, len(table.log))
            if kept < len(table.log):
                seen[f"rows lost{lied}"] += 1
            for batch in table.log[:kept]:
                apply_batch(table.rows, batch)
            table.log.clear()
        self.is_lying = False

    def write_back(self) -> None:
        """What the kernel does within a minute, without being asked; a lie ends with it."""
        self.entries.update(self.files)
        for inode in self.files.values():
            inode.durable.update(inode.cached)
            inode.cached.clear()
            inode.unwritten.clear()
        for table in self.tables.values():
            for batch in table.log:
                apply_batch(table.rows, batch)
            table.log.clear()

    def wipe(self) -> None:
        """An empty disk in place of this one."""
        self.files.clear()
        self.entries.clear()
        self.tables.clear()
        self.small_files.clear()
        self.broken_tables.clear()
        self.is_lying = self.is_full = self.fails_reads = False
        self.fails_writes = self.fails_syncs = False

    def flip_bit(self) -> str | None:
        """Change one bit of a page that was written; says which, or None if there is none."""
        place = self._some_page()
        if place is None:
            return None
        (path, number), position = place, self.chance.randrange(PAGE)
        damaged = bytearray(self.files[path].durable[number])
        damaged[position] ^= 1 << self.chance.randrange(8)
        self.files[path].durable[number] = bytes(damaged)
        self.seen["bit flipped"] += 1
        return f"{path} page {number} byte {position}"

    def misdirect(self) -> str | None:
        """Let a page be found in the place of another, as after a misdirected write."""
        source, target = self._some_page(), self._some_page()
        if source is None or target is None or source == target:
            return None
        self.files[target[0]].durable[target[1]] = self.files[source[0]].durable[source[1]]
        self.seen["page misdirected"] += 1
        return f"{source} over {target}"

    def lose_file(self) -> str | None:
        """Let a file be gone, between two lives of its process."""
        if not self.files:
            return None
        path = self.chance.choice(sorted(self.files))
        del self.files[path]
        self.entries.discard(path)
        self.seen["file lost"] += 1
        return str(path)

    def break_tables(self) -> None:
        """Let no database open again: what a flipped bit in its files does."""
        self.seen["index broken"] += len(self.tables)
        self.broken_tables.update(self.tables)

    def _some_page(self) -> tuple[Path, int] | None:
        pages = [
            (path, number)
            for path, inode in sorted(self.files.items())
            for number in sorted(inode.durable)
        ]
        return self.chance.choice(pages) if pages else None


def apply_batch(rows: Rows, batch: Batch) -> None:
    """Make a batch's changes."""
    puts, deletes = batch
    rows.update(puts)
    for key in deletes:
        rows.pop(key, None)


class SimulatedExtentFile:
    """One open extent of a process."""

    is_direct = True

    def __init__(self, medium: Medium, process: Process, inode: Inode) -> None:
        self._medium, self._process, self._inode = medium, process, inode
        self.size_bytes = inode.size_bytes

    def write(self, pieces: Sequence[memoryview], offset: int) -> None:
        data = b"".join(pieces)
        assert offset % PAGE == len(data) % PAGE == 0, "whole pages"
        assert offset + len(data) <= self.size_bytes, "beyond the extent"
        for begin in range(0, len(data), PAGE):
            # Each page is a moment at which the machine may stop.
            self._medium.step(self._process)
            if self._medium.fails_writes:
                self._medium.seen["write refused"] += 1
                raise OSError(errno.EIO, "write failed")
            number = (offset + begin) // PAGE
            self._inode.cached[number] = data[begin : begin + PAGE]
            self._inode.unwritten.pop(number, None)

    def write_durable(self, pieces: Sequence[memoryview], offset: int) -> None:
        self.write(pieces, offset)
        size = sum(len(piece) for piece in pieces)
        self._sync(range(offset // PAGE, (offset + size) // PAGE))

    def read(self, offset: int, into: memoryview) -> None:
        self._read(offset, into, is_medium=False)

    def read_medium(self, offset: int, into: memoryview) -> None:
        self._read(offset, into, is_medium=True)

    def _read(self, offset: int, into: memoryview, *, is_medium: bool) -> None:
        self._medium.step(self._process)
        if self._medium.fails_reads:
            self._medium.seen["read refused"] += 1
            raise OSError(errno.EIO, "read failed")
        end = offset + len(into)
        if end > self.size_bytes:
            raise faults.Corrupt("extent", self._medium.name, "ends early")
        for number in range(offset // PAGE, -(-end // PAGE)):
            page, at = self._inode.page(number, is_medium=is_medium), number * PAGE
            first, last = max(offset, at), min(end, at + PAGE)
            into[first - offset : last - offset] = page[first - at : last - at]

    def read_now(self, offset: int, into: memoryview) -> bool:
        return False

    def sync(self) -> None:
        self._sync(list(self._inode.cached))

    def _sync(self, pages: Collection[int]) -> None:
        self._medium.step(self._process)
        if self._medium.fails_syncs:
            self._medium.seen["sync refused"] += 1
            self._forget()
            raise OSError(errno.EIO, "sync failed")
        cached, durable = self._inode.cached, self._inode.durable
        if self._medium.is_lying:
            self._medium.seen["sync that lied"] += any(number in cached for number in pages)
        else:
            durable.update({number: cached.pop(number) for number in pages if number in cached})

    def _forget(self) -> None:
        """What Linux does when a sync fails: all is clean now, whether it was written or not."""
        for number, page in self._inode.cached.items():
            if self._medium.chance.random() < 0.5:
                self._inode.durable[number] = page
            else:
                self._medium.seen["page not written and called clean"] += 1
                self._inode.unwritten[number] = page
        self._inode.cached.clear()

    def close(self) -> None:
        return


class SimulatedFiles:
    """A disk's folder as one process uses it: storagenode.store.files.Files."""

    def __init__(self, medium: Medium, process: Process) -> None:
        self._medium, self._process = medium, process

    def make_folder(self, path: Path) -> None:
        return

    def create(self, path: Path, size_bytes: int) -> SimulatedExtentFile:
        medium = self._medium
        medium.step(self._process)
        if medium.is_full:
            medium.seen["no space"] += 1
            raise OSError(errno.ENOSPC, "no space")
        if medium.fails_writes:
            raise OSError(errno.EIO, "create failed")
        assert path not in medium.files, "an extent is made once"
        inode = medium.files[path] = Inode(size_bytes)
        medium.step(self._process)
        self.sync_folder(path)
        return SimulatedExtentFile(medium, self._process, inode)

    def sync_folder(self, path: Path) -> None:
        """Make a new folder entry durable."""
        if not self._medium.is_lying:
            self._medium.entries.add(path)

    def open(self, path: Path) -> SimulatedExtentFile:
        return SimulatedExtentFile(self._medium, self._process, self._medium.files[path])

    def unlink(self, path: Path) -> None:
        self._medium.step(self._process)
        self._medium.files.pop(path, None)
        self._medium.entries.discard(path)

    def set_aside(self, folder: Path, name: str) -> None:
        medium, target = self._medium, folder.with_name(name)
        medium.step(self._process)
        if folder in medium.tables:
            medium.tables[target] = medium.tables.pop(folder)
        if folder in medium.broken_tables:
            medium.broken_tables.remove(folder)
            medium.broken_tables.add(target)

    def has_folder(self, folder: Path) -> bool:
        return folder in self._medium.tables

    def remove_folder(self, folder: Path) -> None:
        self._medium.step(self._process)
        self._medium.tables.pop(folder, None)
        self._medium.broken_tables.discard(folder)

    def list(self, folder: Path, pattern: str) -> list[Path]:
        return sorted(
            path
            for path in self._medium.files
            if path.parent == folder and fnmatch(path.name, pattern)
        )

    def read_file(self, path: Path) -> bytes | None:
        return self._medium.small_files.get(path)

    def replace_file(self, path: Path, data: bytes) -> None:
        self._medium.step(self._process)
        self._medium.small_files[path] = data

    def probe(self, folder: Path) -> None:
        self._medium.step(self._process)
        medium = self._medium
        if medium.fails_syncs or medium.fails_reads or medium.is_full:
            raise OSError(errno.EIO, "probe failed")

    def space(self, folder: Path) -> tuple[int, int]:
        used = sum(inode.size_bytes for inode in self._medium.files.values())
        if self._medium.is_full:
            self._medium.seen["no space"] += 1
            return CAPACITY_BYTES, 0
        return CAPACITY_BYTES, CAPACITY_BYTES - used


class SimulatedDatabase:
    """Rows as RocksDB keeps them: common.rocks.RocksDatabase, as one process uses it."""

    def __init__(self, medium: Medium, process: Process, folder: Path) -> None:
        self._medium, self._process, self.folder = medium, process, folder
        if folder in medium.broken_tables:
            raise faults.Corrupt("database", str(folder), "simulated")
        if (medium.fails_reads or medium.fails_syncs) and medium.chance.random() < 0.5:
            medium.seen["database did not open"] += 1
            raise faults.Unavailable("open failed: simulated")
        self._table = medium.tables.setdefault(folder, Table())
        if not (medium.is_lying or medium.fails_syncs):
            for batch in self._table.log:  # recovery writes the log anew, into files it syncs
                apply_batch(self._table.rows, batch)
            self._table.log.clear()
        self._rows = dict(self._table.rows)
        for batch in self._table.log:
            apply_batch(self._rows, batch)
        self._keys = sorted(self._rows)

    def get(self, key: bytes) -> bytes | None:
        """Read a row."""
        return self._rows.get(key)

    def scan(
        self, begin: bytes, end: bytes, limit: int, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Read at most `limit` rows of [begin, end)."""
        first, last = bisect_left(self._keys, begin), bisect_left(self._keys, end)
        if reverse:
            keys = self._keys[max(first, last - limit) : last][::-1]
        else:
            keys = self._keys[first : min(last, first + limit)]
        return [(key, self._rows[key]) for key in keys]

    def snapshot(self) -> "SimulatedSnapshot":
        """The rows of now."""
        return SimulatedSnapshot(sorted(self._rows.items()))

    def write(self, puts: Mapping[bytes, bytes], deletes: Iterable[bytes] = ()) -> None:
        """Write rows into memory and the log, which never fails: the kernel takes them."""
        self._medium.step(self._process)
        gone = list(deletes)
        self._table.log.append((dict(puts), gone))
        for key in puts:
            if key not in self._rows:
                insort(self._keys, key)
        self._rows.update(puts)
        for key in gone:
            if self._rows.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def sync_blocking(self) -> None:
        """Put the log on the medium. raises Unavailable"""
        self._medium.step(self._process)
        if self._medium.fails_syncs:
            self._medium.seen["sync refused"] += 1
            raise faults.Unavailable("sync failed: simulated")
        if self._medium.is_lying:
            self._medium.seen["sync that lied"] += bool(self._table.log)
        else:
            for batch in self._table.log:
                apply_batch(self._table.rows, batch)
            self._table.log.clear()

    def close(self) -> None:
        """Close; what was written survives a clean end."""


class SimulatedSnapshot:
    """The rows of one moment: common.rocks.Snapshot."""

    def __init__(self, rows: list[tuple[bytes, bytes]]) -> None:
        self._rows = rows

    def scan(self, begin: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Read at most `limit` rows of [begin, end)."""
        first = bisect_left(self._rows, (begin, b""))
        last = bisect_left(self._rows, (end, b""))
        return self._rows[first : min(last, first + limit)]
