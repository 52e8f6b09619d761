"""RocksDB, opened and used the one way that loses nothing. The only importer of the binding.

What the plain binding does otherwise, and what is done here instead:
- A synced `write` holds the GIL through fdatasync: write without sync, then `sync_blocking` in a
  thread, one for a whole group.
- The default WAL recovery stops at a flipped bit and silently drops what was acknowledged after
  it: only a torn end is tolerated here (see write_ahead_log.py), anything else fails the open.
- `items()` and `keys()` end early and silently on a bad block: `scan` checks the status.
- After a failed write the state on disk is unknown: the caller must stop using this object.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    WriteBatch,
    WriteOptions,
)

from common import faults, limits
from common.folders import make_durable_folder
from common.write_ahead_log import cut_torn_end, note

log = logging.getLogger(__name__)

BLOOM_BITS_PER_KEY = 10
METADATA_BLOCK_BYTES = 4 * limits.KIB
LOG_FILES_MAX = 4
# A run of deleted rows makes scans slow until it is compacted: compact files with many of them.
DELETIONS_WINDOW = 4096
DELETIONS_TRIGGER = 1024
# What the engine says of a disk that may answer in a moment, or is in use: not of damaged data.
PASSING = (
    "Input/output error", "No space left", "Resource temporarily unavailable",
    "Too many open files", "Read-only file system", "lock hold by current process",
)  # fmt: skip
# What the binding says of a database that is closed, or just being closed by another thread.
CLOSED = ("DB instance already closed", "Already mutably borrowed")
Row = tuple[bytes, bytes]


def _options(cache_bytes: int, write_buffer_bytes: int) -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(Cache(cache_bytes))
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, False)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    # In pieces of a block: whole, those of a large file exceed a shard of the cache, are never kept
    # there, and every read of a row reads and unpacks them anew (0.15 ms at a million rows).
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(METADATA_BLOCK_BYTES)
    table.set_pin_top_level_index_and_filter(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_paranoid_checks(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(write_buffer_bytes)
    options.set_keep_log_file_num(LOG_FILES_MAX)
    options.set_max_background_jobs(2)
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.02)
    options.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW, DELETIONS_TRIGGER, 0.5)
    return options


class Snapshot:
    """The rows of one moment. Reading it does not disturb writers; drop it when done."""

    def __init__(self, database: Rdict) -> None:
        self._snapshot = database.snapshot()

    def scan(self, begin: bytes, end: bytes, limit: int) -> list[Row]:
        """Read at most `limit` rows of [begin, end). raises Corrupt"""
        return _scan_forward(self._snapshot.iter(), begin, end, limit)


def _scan_forward(cursor: RdictIter, begin: bytes, end: bytes, limit: int) -> list[Row]:
    rows: list[Row] = []
    cursor.seek(begin)
    while len(rows) < limit and cursor.valid():
        key = cursor.key()
        if key >= end:
            break
        rows.append((key, cursor.value()))
        cursor.next()
    try:
        cursor.status()
    except Exception as error:
        raise faults.Corrupt("database", "", str(error)) from error
    return rows


class RocksDatabase:
    """Ordered rows of bytes in one folder."""

    def __init__(
        self,
        folder: Path,
        cache_bytes: int = 64 * limits.MIB,
        write_buffer_bytes: int = 64 * limits.MIB,
    ) -> None:
        """Open or create.

        raises   Corrupt if the stored data cannot be trusted; Unavailable if it could not be read
                 now, or somebody else has it open: nothing is known of the data
        """
        self.folder = folder
        try:
            make_durable_folder(folder)  # the binding does not sync the name of its folder
            self._database = self._open(_options(cache_bytes, write_buffer_bytes))
        except Exception as error:  # the binding raises bare Exception for every failure
            if any(words in str(error) for words in PASSING):
                raise faults.Unavailable(f"open failed: {error}") from error
            raise faults.Corrupt("database", str(folder), str(error)) from error
        self._write_options = WriteOptions()

    def _open(self, options: Options) -> Rdict:
        try:
            return Rdict(str(self.folder), options)
        except Exception:
            if not cut_torn_end(self.folder):
                raise
        return Rdict(str(self.folder), options)

    def get(self, key: bytes) -> bytes | None:
        """Read a row; None if it is absent.

        raises   Corrupt if its block could not be read; Unavailable if the database is closed
        """
        try:
            value: bytes | None = self._database.get(key)
        except Exception as error:
            raise self._unread(error) from error
        return value

    def scan(self, begin: bytes, end: bytes, limit: int, reverse: bool = False) -> list[Row]:
        """Read at most `limit` rows of [begin, end), in order of keys or reversed.

        raises   Corrupt if a block could not be read, never a short answer; Unavailable if the
                 database is closed
        """
        try:
            cursor = self._database.iter()
        except Exception as error:
            raise self._unread(error) from error
        if not reverse:
            return _scan_forward(cursor, begin, end, limit)
        rows: list[Row] = []
        cursor.seek_for_prev(end)
        if cursor.valid() and cursor.key() >= end:
            cursor.prev()
        while len(rows) < limit and cursor.valid():
            key = cursor.key()
            if key < begin:
                break
            rows.append((key, cursor.value()))
            cursor.prev()
        try:
            cursor.status()
        except Exception as error:
            raise faults.Corrupt("database", str(self.folder), str(error)) from error
        return rows

    def _unread(self, error: Exception) -> faults.Fault:
        if any(words in str(error) for words in CLOSED):  # nothing is known of the data
            return faults.Unavailable(f"read failed: {error}")
        return faults.Corrupt("database", str(self.folder), str(error))

    def snapshot(self) -> Snapshot:
        """The rows of now."""
        return Snapshot(self._database)

    def write(self, puts: Mapping[bytes, bytes], deletes: Iterable[bytes] = ()) -> None:
        """Write rows at once, into memory and the log, not yet on disk.

        raises   Unavailable: the state is unknown, close and open again; Corrupt: the engine found
                 damage while it merged tables, and takes nothing any more
        """
        batch = WriteBatch(raw_mode=True)
        for key, value in puts.items():
            batch.put(key, value)
        for key in deletes:
            batch.delete(key)
        try:
            self._database.write(batch, self._write_options)
        except Exception as error:
            raise self._failure("write", error) from error

    def sync_blocking(self) -> None:
        """Put all written rows on disk. raises Unavailable: the state is unknown; Corrupt"""
        try:
            sequence = self._database.latest_sequence_number()
            self._database.flush_wal(True)
        except Exception as error:
            raise self._failure("sync", error) from error
        self.write(note(sequence))

    def _failure(self, what: str, error: Exception) -> faults.Fault:
        if str(error).startswith("Corruption"):
            return faults.Corrupt("database", str(self.folder), f"{what} failed: {error}")
        return faults.Unavailable(f"{what} failed: {error}")

    def close(self) -> None:
        """Close; rows written but not synced survive a close.

        An engine that failed in the background says so once more and is closed all the same: what
        was acknowledged was synced, and whoever gives the engine up must be able to.
        """
        try:
            self._database.close()
        except Exception as error:
            log.warning("the engine had failed when it was closed: %s", error)
