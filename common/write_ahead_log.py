"""The torn end of RocksDB's log, told apart from damage in what was on disk.

After a power loss the log may end in a record whose pages arrived in part: its file is long
enough, its checksum wrong. RocksDB takes that for a flipped bit and refuses to open. Here such an
end is cut off, but only if nothing shows that it had ever been synced: a later record that says so
(`note`, written after each sync) proves that it was; then the damage is real and stays an error.
The format: blocks of 32 KiB, in them pieces (CRC32C of type and data, size, type) of records.
source  the RocksDB wiki, "Write Ahead Log File Format"
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from common.checksum import crc32c
from common.folders import sync_folder

log = logging.getLogger(__name__)

BLOCK_BYTES = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
NOTE_KEY = b"\xff" * 16 + b"synced"  # behind every key that is scanned
_PIECE = Struct("<IHB")  # masked CRC, size, type
_BATCH = Struct("<QI")  # of a record: sequence of its first row, rows
_SEQUENCE = Struct(">Q")
_MASK_DELTA = 0xA282EAD8
_CHUNK_BITS = 15


@dataclass(frozen=True, slots=True)
class _Found:
    """A piece of a record that is as it was written."""

    offset: int
    type: int
    data: memoryview

    @property
    def end(self) -> int:
        return self.offset + _PIECE.size + len(self.data)


def note(sequence: int) -> dict[bytes, bytes]:
    """The row that says that all rows up to a sequence are on disk."""
    return {NOTE_KEY: _SEQUENCE.pack(sequence)}


def cut_torn_end(folder: Path) -> bool:
    """Cut off what was being written to a database's newest log when the power failed.

    Whether there was such an end. What is cut is kept beside the log. Durable when this returns; a
    crash before leaves the log as it was.
    raises   OSError
    """
    logs = sorted(folder.glob("*.log"), key=lambda path: int(path.stem))
    if not logs:
        return False
    newest = logs[-1]
    data = memoryview(newest.read_bytes())
    good_bytes, sequence = _whole_part(data)
    if good_bytes == len(data) or sequence < _synced(data, good_bytes):
        return False
    log.error(
        "the log ended in the middle of a write: the power failed, or it was damaged",
        extra={"log": str(newest), "cut_at": good_bytes, "size": len(data)},
    )
    _write_synced(newest.with_name(f"{newest.name}.cut-{good_bytes}"), data[good_bytes:])
    sync_folder(folder)
    with newest.open("r+b") as file:
        file.truncate(good_bytes)
        os.fsync(file.fileno())
    return True


def _write_synced(path: Path, data: memoryview) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _whole_part(data: memoryview) -> tuple[int, int]:
    """Where the first record that is not whole begins, and the last sequence before it."""
    offset, end, sequence = 0, 0, 0
    first: memoryview | None = None
    while (piece := _piece(data, offset)) is not None:
        if piece.type in (FULL, FIRST):
            if first is not None:
                break  # the record before it has no end
            first = piece.data
        offset = piece.end
        if piece.type in (FULL, LAST) and first is not None:
            if len(first) >= _BATCH.size:
                begin, rows = _BATCH.unpack_from(first)
                sequence = begin + rows - 1
            first = None
        if first is None:
            end = offset
        if BLOCK_BYTES - offset % BLOCK_BYTES < _PIECE.size:
            offset += BLOCK_BYTES - offset % BLOCK_BYTES
    return end, sequence


def _piece(data: memoryview, offset: int) -> _Found | None:
    """A piece that begins at a place and is as it was written."""
    if offset + _PIECE.size > len(data):
        return None
    masked, size, kind = _PIECE.unpack_from(data, offset)
    end = offset + _PIECE.size + size
    if not kind or end > len(data) or offset % BLOCK_BYTES + _PIECE.size + size > BLOCK_BYTES:
        return None
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    if (rotated >> 17 | rotated << _CHUNK_BITS) & 0xFFFFFFFF != crc32c(data[offset + 6 : end]):
        return None
    return _Found(offset, kind, data[offset + _PIECE.size : end])


def _synced(data: memoryview, begin: int) -> int:
    """The highest sequence that a note behind a place says is on disk; 0: there is none."""
    return max(_notes(data, begin), default=0)


def _notes(data: memoryview, begin: int) -> Iterator[int]:
    """What notes say. Each lies whole in a piece; pieces are found by their key, not by a chain."""
    whole = bytes(data)
    at = whole.find(NOTE_KEY, begin)
    while at >= 0:
        # A piece of a note alone: header, batch header, tag and size of the key before the key.
        offset = at - _PIECE.size - _BATCH.size - 2
        piece = _piece(data, offset) if offset >= 0 else None
        value = at + len(NOTE_KEY) + 1
        if piece is not None and piece.type == FULL and piece.end == value + _SEQUENCE.size:
            yield _SEQUENCE.unpack_from(whole, value)[0]
        at = whole.find(NOTE_KEY, at + 1)
