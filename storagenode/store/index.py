"""Which fragments a disk has, and where: rows in RocksDB that the extents could rebuild.

Writes are not synced: after a crash the extents that were not closed are scanned again, and the log
of deletions (`tombstones.py`), which is synced before they are acknowledged, is read from where the
index may lack some. Tombstones are kept, so that a fragment that was deleted is neither written
again nor found again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from struct import Struct
from typing import NamedTuple, NoReturn, cast

from common import faults
from common.rocks import RocksDatabase
from storagenode.store.files import Files
from storagenode.store.record import Record

_ROW = Struct("<IQQIIIQ")  # extent, offset, fragment, cell, block, identity bytes, written ns
FRAGMENT, TOMBSTONE, CLOSED, CLOSED_LOG = b"F", b"T", b"E", b"D"
CACHE_BYTES = 32 * 2**20
WRITE_BUFFER_BYTES = 16 * 2**20
BATCH_ROWS = 1000
MAY_RETURN = b"\x01"
SUCCESSOR = "index.new"


class Tombstone(NamedTuple):
    """A deletion.

    may_return  the same fragment may be written here again, by a repair with a token above `fence`
    """

    deleted_ns: int
    may_return: bool
    fence: int = 0


def row_key(blob_id: bytes, index: int) -> bytes:
    """A fragment's id as it sorts: by session, then by blob."""
    return blob_id + bytes([index])


class Index:
    """One disk's index."""

    def __init__(self, folder: Path) -> None:
        """raises Corrupt: remove the folder, and rebuild; Unavailable: it cannot be read now"""
        self._database = RocksDatabase(folder, CACHE_BYTES, WRITE_BUFFER_BYTES)
        self.on_failed: Callable[[str], None] = lambda why: None  # told by any thread
        self._failure = ""

    def is_dead(self, record: Record) -> bool:
        """Whether a record found in an extent was deleted, or written anew elsewhere since."""
        tombstone = self.tombstone(record.blob_id, record.index)
        if tombstone is not None and tombstone.deleted_ns >= record.written_ns:
            return True
        known = self.get(record.blob_id, record.index)
        return known is not None and known[0].written_ns > record.written_ns

    def get(self, blob_id: bytes, index: int) -> tuple[Record, bytes] | None:
        """A fragment's record and its block checksums."""
        row = self._database.get(FRAGMENT + row_key(blob_id, index))
        return _decode(blob_id, index, row) if row is not None else None

    def tombstone(self, blob_id: bytes, index: int) -> Tombstone | None:
        """When the fragment was deleted, if that was not long ago."""
        row = self._database.get(TOMBSTONE + row_key(blob_id, index))
        return _decode_tombstone(row) if row is not None else None

    def put(self, record: Record, table: bytes) -> None:
        """Add or move a fragment."""
        self.put_all([(record, table)])

    def repoint(self, record: Record, moved: Record, table: bytes) -> bool:
        """Name a fragment's new place, unless it was deleted meanwhile."""
        known = self.get(record.blob_id, record.index)
        if known is None or known[0] != record:
            return False
        self.put(moved, table)
        return True

    def put_all(self, rows: Iterable[tuple[Record, bytes]]) -> None:
        """Add or move fragments, in one write. raises Unavailable"""
        self._write(
            {
                FRAGMENT + row_key(record.blob_id, record.index): _encode(record) + table
                for record, table in rows
            }
        )

    def delete(self, fragments: list[tuple[bytes, int]], tombstone: Tombstone) -> None:
        """Replace rows by tombstones; durable after `sync_blocking`."""
        names = [row_key(blob_id, index) for blob_id, index in fragments]
        stamp = _encode_tombstone(tombstone)
        self._write(
            {TOMBSTONE + name: stamp for name in names}, [FRAGMENT + name for name in names]
        )

    def bury(self, deletions: Sequence[tuple[tuple[bytes, int], Tombstone]]) -> int:
        """Note deletions that it may know, in their order; returns how many were news to it."""
        last = dict[tuple[bytes, int], Tombstone]()
        for name, tombstone in deletions:
            if name not in last or last[name].deleted_ns <= tombstone.deleted_ns:
                last[name] = tombstone
        puts, gone = dict[bytes, bytes](), list[bytes]()
        for name, tombstone in last.items():
            known = self.tombstone(*name)
            if known is None or known.deleted_ns <= tombstone.deleted_ns:
                puts[TOMBSTONE + row_key(*name)] = _encode_tombstone(tombstone)
            row = self.get(*name)
            if row is not None and row[0].written_ns <= tombstone.deleted_ns:
                gone.append(FRAGMENT + row_key(*name))
        self._write(puts, gone)
        return len(gone)

    def scan(self, after: bytes, prefix: bytes, limit: int) -> list[tuple[Record, bytes]]:
        """Fragments whose id begins with a prefix, after an id, in order."""
        begin = FRAGMENT + max(after + b"\x00" if after else b"", prefix)
        end = FRAGMENT + prefix + b"\xff" * (18 - len(prefix))
        rows = self._database.scan(begin, end, limit)
        return [_decode(key[1:17], key[17], value) for key, value in rows]

    def all(self) -> Iterator[Record]:
        """Every fragment."""
        after = b""
        while rows := self.scan(after, b"", BATCH_ROWS):
            for record, _ in rows:
                yield record
            after = row_key(rows[-1][0].blob_id, rows[-1][0].index)

    def close_extent_blocking(self, number: int) -> None:
        """Note that every fragment of an extent is indexed and durable. raises Unavailable

        Syncs first: where the engine begins a new log in between, this row could be on disk after
        a power loss and rows of fragments not, and the extent would not be scanned for them.
        """
        self.sync_blocking()
        self._write({CLOSED + number.to_bytes(4, "big"): b""})

    def reopen_extent(self, number: int) -> None:
        """Forget an extent, or that it was closed."""
        self._write({}, [CLOSED + number.to_bytes(4, "big")])

    def closed_extents(self) -> set[int]:
        """Extents that need no scan."""
        rows = self._database.scan(CLOSED, b"F", 2**20)
        return {int.from_bytes(key[1:], "big") for key, _ in rows}

    def close_tombstones_blocking(self, number: int, newest_ns: int) -> None:
        """Note that all deletions of a segment of the log are here, and durable. raises Unavailable

        newest_ns   when the last of them was
        """
        self.sync_blocking()
        self._write({CLOSED_LOG + number.to_bytes(4, "big"): newest_ns.to_bytes(8, "big")})

    def forget_tombstones(self, number: int) -> None:
        """Forget a segment of the log that is gone."""
        self._write({}, [CLOSED_LOG + number.to_bytes(4, "big")])

    def closed_tombstones(self) -> dict[int, int]:
        """Segments of the log that need not be read, and when their last deletions were."""
        rows = self._database.scan(CLOSED_LOG, CLOSED, 2**20)
        return {int.from_bytes(key[1:], "big"): int.from_bytes(row, "big") for key, row in rows}

    def trim_tombstones(self, before_ns: int) -> None:
        """Forget a bounded number of deletions older than a time."""
        rows = self._database.scan(TOMBSTONE, b"U", BATCH_ROWS)
        old = [key for key, value in rows if int.from_bytes(value[:8], "big") < before_ns]
        if old:
            self._write({}, old)

    def salvage_tombstones(self) -> dict[bytes, bytes]:
        """All tombstones of a damaged index, up to the first that cannot be read."""
        found: dict[bytes, bytes] = {}
        begin = TOMBSTONE
        try:
            while rows := self._database.scan(begin, b"U", BATCH_ROWS):
                found.update(rows)
                begin = rows[-1][0] + b"\x00"
        except faults.Corrupt:
            return found
        return found

    def tombstones(self) -> Iterator[tuple[tuple[bytes, int], Tombstone]]:
        """All deletions. raises Corrupt"""
        begin = TOMBSTONE
        while rows := self._database.scan(begin, b"U", BATCH_ROWS):
            for key, row in rows:
                yield (key[1:17], key[17]), _decode_tombstone(row)
            begin = rows[-1][0] + b"\x00"

    def put_back(self, tombstones: dict[bytes, bytes]) -> None:
        """Write salvaged tombstones into a fresh index."""
        self._write(tombstones)

    def sync_blocking(self) -> None:
        """Put all rows on disk. raises Unavailable"""
        self._check()
        try:
            self._database.sync_blocking()
        except faults.Unavailable as error:
            raise self._fail(error) from error

    def _write(self, puts: Mapping[bytes, bytes], deletes: Iterable[bytes] = ()) -> None:
        self._check()
        try:
            self._database.write(puts, deletes)
        except faults.Unavailable as error:
            raise self._fail(error) from error

    def _check(self) -> None:
        """After a write or sync that failed a later one proves nothing: the log may have a hole."""
        if self._failure:
            raise faults.Unavailable(self._failure)

    def _fail(self, error: faults.Fault) -> faults.Fault:
        self._failure = f"the index: {faults.in_words(error)}"
        self.on_failed(self._failure)
        return faults.Unavailable(self._failure)

    def close(self, *, is_synced: bool = True) -> None:
        """Sync, unless it is given up, and close."""
        if is_synced and not self._failure:
            self.sync_blocking()
        self._database.close()


class _NoDatabase:
    """In the place of one that is not open: whatever is asked of it cannot be told."""

    def __getattr__(self, name: str) -> NoReturn:
        raise faults.Unavailable("the disk has failed and is not open")

    def close(self) -> None: ...


class ClosedIndex(Index):
    """The index of a disk that is not open. Every call raises Unavailable."""

    def __init__(self) -> None:
        self._database = cast(RocksDatabase, _NoDatabase())
        self.on_failed = lambda why: None
        self._failure = ""

    def close(self, *, is_synced: bool = True) -> None:
        """Nothing is open."""


def open_index(files: Files, folder: Path) -> Index:
    """Open a disk's index, or begin an empty one. raises Corrupt: set the folder aside"""
    successor = folder.with_name(SUCCESSOR)
    if files.has_folder(successor):
        if files.has_folder(folder):
            files.remove_folder(successor)  # of a crash before it was whole
        else:
            files.set_aside(successor, folder.name)  # of a crash between the two renamings
    return Index(folder)


def replace_index(
    files: Files, index: Index, folder: Path, name: str, bury: Callable[[Index], object]
) -> Index:
    """Set a doubted index aside and begin one that has only its tombstones, and those `bury` adds.

    After a crash in between it is the old one or the new one, with every tombstone.
    """
    successor = folder.with_name(SUCCESSOR)
    if files.has_folder(successor):
        files.remove_folder(successor)
    fresh = Index(successor)
    fresh.put_back(index.salvage_tombstones())
    bury(fresh)
    fresh.close()
    index.close(is_synced=False)
    files.set_aside(folder, name)
    files.set_aside(successor, folder.name)
    return Index(folder)


def _encode_tombstone(tombstone: Tombstone) -> bytes:
    row = tombstone.deleted_ns.to_bytes(8, "big")
    return row + MAY_RETURN + tombstone.fence.to_bytes(8, "big") if tombstone.may_return else row


def _decode_tombstone(row: bytes) -> Tombstone:
    fence = int.from_bytes(row[9:17], "big")
    return Tombstone(int.from_bytes(row[:8], "big"), row[8:9] == MAY_RETURN, fence)


def _encode(record: Record) -> bytes:
    return _ROW.pack(
        record.extent,
        record.offset,
        record.fragment_bytes,
        record.cell_bytes,
        record.block_bytes,
        record.identity_bytes,
        record.written_ns,
    )


def _decode(blob_id: bytes, index: int, row: bytes) -> tuple[Record, bytes]:
    extent, offset, fragment, cell, block, identity, written = _ROW.unpack_from(row)
    record = Record(blob_id, index, extent, offset, fragment, cell, block, identity, written)
    return record, row[_ROW.size :]
