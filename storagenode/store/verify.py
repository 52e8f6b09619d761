"""Whether a fragment is on the medium what the index says: header, every block, trailer.

Read past the page cache where the file system allows it, so that what is judged is the medium's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from common import faults
from common.checksum import crc32c_blocks
from storagenode.store.files import PAGE, ExtentFile, align
from storagenode.store.record import HEADER_READ_BYTES, Record, decode_header, decode_trailer

VERIFY_BUFFER_BYTES = 2 * 1024 * 1024  # holds a full cell, or a header and a short fragment


@dataclass(frozen=True, slots=True)
class Verdict:
    """fault: empty if whole, else missing, bad_header, bad_trailer, bad_block or unreadable."""

    fault: str = ""
    bad_blocks: int = 0
    bytes_read: int = 0


MISSING = Verdict("missing")


def buffer_bytes(record: Record) -> int:
    """The memory that verifying a fragment needs: whole pages."""
    trailer = record.record_bytes - record.trailer_offset
    window = HEADER_READ_BYTES + align(record.cell_bytes) + align(trailer) + PAGE
    return max(VERIFY_BUFFER_BYTES, window)


def verify_all_blocking(
    found: Sequence[tuple[ExtentFile | None, Record, bytes]], memory: memoryview
) -> list[Verdict]:
    """Judge fragments one after another; None: their extent is not there."""
    return [
        verify_blocking(file, record, table, memory) if file is not None else MISSING
        for file, record, table in found
    ]


def verify_blocking(file: ExtentFile, record: Record, table: bytes, memory: memoryview) -> Verdict:
    """Judge one fragment.

    table    its block checksums as indexed
    memory   page-aligned, at least `buffer_bytes`
    """
    try:
        if record.record_bytes <= len(memory):
            return _whole(file, record, table, memory)
        return _by_cells(file, record, table, memory)
    except (OSError, faults.Corrupt):
        return Verdict("unreadable")


def _whole(file: ExtentFile, record: Record, table: bytes, memory: memoryview) -> Verdict:
    """A short fragment in one read."""
    size = record.record_bytes
    data = memory[:size]
    file.read_medium(record.offset, data)
    if not _is_header_right(record, data):
        return Verdict("bad_header", bytes_read=size)
    bad = 0
    for cell in range(record.cell_count):
        at = record.cell_offset(cell) - record.offset
        bad += _bad_blocks(record, table, cell, data[at : at + record.cell_size(cell)])
    if bad:
        return Verdict("bad_block", bad, size)
    if decode_trailer(record, data[record.trailer_offset :]) != table:
        return Verdict("bad_trailer", bytes_read=size)
    return Verdict(bytes_read=size)


def _by_cells(file: ExtentFile, record: Record, table: bytes, memory: memoryview) -> Verdict:
    header = memory[: record.header_bytes]
    file.read_medium(record.offset, header)
    read = len(header)
    if not _is_header_right(record, header):
        return Verdict("bad_header", bytes_read=read)
    bad = 0
    for cell in range(record.cell_count):
        size = record.cell_size(cell)
        data = memory[: align(size)]
        file.read_medium(record.cell_offset(cell), data)
        read += len(data)
        bad += _bad_blocks(record, table, cell, data[:size])
    if bad:
        return Verdict("bad_block", bad, read)
    trailer = memory[: record.record_bytes - record.trailer_offset]
    file.read_medium(record.offset + record.trailer_offset, trailer)
    read += len(trailer)
    if decode_trailer(record, trailer) != table:
        return Verdict("bad_trailer", bytes_read=read)
    return Verdict(bytes_read=read)


def _is_header_right(record: Record, page: memoryview) -> bool:
    try:
        return decode_header(page, record.extent, record.offset) == record
    except faults.Invalid:  # a flipped format number; a newer Ostraka's extents do not open at all
        return False


def _bad_blocks(record: Record, table: bytes, cell: int, data: memoryview) -> int:
    begin = 4 * cell * record.blocks_per_cell
    found = crc32c_blocks(data, record.block_bytes)
    wanted = table[begin : begin + len(found)]
    if found == wanted:
        return 0
    return sum(found[at : at + 4] != wanted[at : at + 4] for at in range(0, len(found), 4))
