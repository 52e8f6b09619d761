"""How a fragment lies in an extent: header, cells, trailer. Extents explain themselves.

The header names blob, index, geometry, the fragment's own place and an identity (bucket, key, ...);
the trailer holds the blocks' CRC32Cs and proves that the fragment was finished. Both carry a CRC of
their own. A small fragment (one cell) is packed: header, cell and trailer directly behind one
another, one write. In others cells begin at whole pages, for direct I/O.

  packed   [header][cell][trailer]                       one aligned write
  paged    [header page(s)][cell, padded]...[trailer page(s)]
"""

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from common import faults
from common.checksum import crc32c
from common.limits import IDENTITY_BYTES_MAX, KIB
from storagenode.store.files import PAGE, align

MAGIC = b"OSTKFRAG"
DEAD_MAGIC = b"OSTKDEAD"
TRAILER_MAGIC = b"OSTKTAIL"
FORMAT = 1
PACKED_BYTES_MAX = 64 * KIB
SHAPES_KEPT = 4096

# magic, format, flags (1: packed), blob id, index, extent, offset, fragment, cell, block bytes,
# header bytes, identity bytes, trailer offset, record bytes, written ns; then the CRC of all before
_HEADER = Struct("<8sHH16sIIQQIIIIQQQ")
# magic, blob id, index, table bytes; then the table and the CRC of all before
_TRAILER = Struct("<8s16sII")
_CRC_BYTES = 4


class Shape(NamedTuple):
    """Sizes within a record, in bytes, and counts: see `Record`."""

    is_packed: bool
    header_bytes: int
    stride_bytes: int
    cell_count: int
    blocks_per_cell: int
    block_count: int
    trailer_offset: int
    record_bytes: int


@lru_cache(SHAPES_KEPT)
def shape_of(fragment_bytes: int, cell_bytes: int, block_bytes: int, identity_bytes: int) -> Shape:
    """The shape of a fragment; kept, since few sizes come again and again."""
    is_packed = fragment_bytes == cell_bytes and fragment_bytes < PACKED_BYTES_MAX
    header_bytes = _HEADER.size + identity_bytes + _CRC_BYTES
    stride_bytes, cell_count = cell_bytes, -(-fragment_bytes // cell_bytes)
    last_bytes = last_room = fragment_bytes - (cell_count - 1) * cell_bytes
    if not is_packed:
        header_bytes, stride_bytes = align(header_bytes), align(cell_bytes)
        last_room = align(last_bytes)
    blocks_per_cell = -(-cell_bytes // block_bytes)
    block_count = (cell_count - 1) * blocks_per_cell + -(-last_bytes // block_bytes)
    trailer_offset = header_bytes + (cell_count - 1) * stride_bytes + last_room
    return Shape(
        is_packed,
        header_bytes,
        stride_bytes,
        cell_count,
        blocks_per_cell,
        block_count,
        trailer_offset,
        align(trailer_offset + _TRAILER.size + 4 * block_count + _CRC_BYTES),
    )


@dataclass(frozen=True, slots=True)
class Record:
    """A fragment's place and geometry."""

    blob_id: bytes
    index: int
    extent: int
    offset: int  # of the header, in the extent
    fragment_bytes: int
    cell_bytes: int
    block_bytes: int
    identity_bytes: int
    written_ns: int

    @property
    def shape(self) -> "Shape":
        """What follows from its sizes."""
        return shape_of(self.fragment_bytes, self.cell_bytes, self.block_bytes, self.identity_bytes)

    @property
    def is_packed(self) -> bool:
        """Whether everything is behind one another in one write."""
        return self.shape.is_packed

    @property
    def header_bytes(self) -> int:
        """From the record's begin to its first cell."""
        return self.shape.header_bytes

    @property
    def stride_bytes(self) -> int:
        """From cell to cell."""
        return self.shape.stride_bytes

    @property
    def cell_count(self) -> int:
        """Cells of the fragment; the last may be shorter."""
        return self.shape.cell_count

    @property
    def blocks_per_cell(self) -> int:
        """Blocks of a full cell."""
        return self.shape.blocks_per_cell

    @property
    def block_count(self) -> int:
        """Blocks of the whole fragment."""
        return self.shape.block_count

    @property
    def trailer_offset(self) -> int:
        """Where the trailer begins, from the record's begin."""
        return self.shape.trailer_offset

    @property
    def record_bytes(self) -> int:
        """All of it, in whole pages."""
        return self.shape.record_bytes

    def cell_offset(self, cell_index: int) -> int:
        """Where a cell begins, in the extent."""
        return self.offset + self.header_bytes + cell_index * self.stride_bytes

    def cell_size(self, cell_index: int) -> int:
        """Bytes of a cell."""
        return min(self.cell_bytes, self.fragment_bytes - cell_index * self.cell_bytes)

    def place(self, offset: int, length: int) -> int:
        """Where fragment bytes lie in the extent; they must be of one cell. raises Invalid"""
        cell, within = divmod(offset, self.cell_bytes)
        if length <= 0 or offset < 0 or offset + length > self.fragment_bytes:
            raise faults.Invalid("range", f"{offset}+{length}", "outside the fragment")
        if within + length > self.cell_bytes:
            raise faults.Invalid("range", f"{offset}+{length}", "crosses cells")
        return self.cell_offset(cell) + within

    def blocks(self, offset: int, length: int) -> tuple[int, int]:
        """The blocks [begin, end) that fragment bytes of one cell consist of. raises Invalid"""
        cell, within = divmod(offset, self.cell_bytes)
        end = within + length
        if within % self.block_bytes or (end % self.block_bytes and end != self.cell_size(cell)):
            raise faults.Invalid("range", f"{offset}+{length}", "not whole blocks")
        first = cell * self.blocks_per_cell
        return first + within // self.block_bytes, first + -(-end // self.block_bytes)

    def encode_header(self, identity: bytes) -> bytes:
        """The header's bytes, padded to the first cell."""
        shape = self.shape
        fixed = _HEADER.pack(
            MAGIC,
            FORMAT,
            int(shape.is_packed),
            self.blob_id,
            self.index,
            self.extent,
            self.offset,
            self.fragment_bytes,
            self.cell_bytes,
            self.block_bytes,
            shape.header_bytes,
            len(identity),
            shape.trailer_offset,
            shape.record_bytes,
            self.written_ns,
        )
        body = fixed + identity
        return (body + _crc(body)).ljust(shape.header_bytes, b"\x00")

    def identity_of(self, record: memoryview) -> bytes:
        """The identity in a record's bytes."""
        return bytes(record[_HEADER.size : _HEADER.size + self.identity_bytes])

    def encode_trailer(self, table: bytes) -> bytes:
        """The trailer's bytes; whole pages unless packed."""
        body = _TRAILER.pack(TRAILER_MAGIC, self.blob_id, self.index, len(table)) + table
        body += _crc(body)
        return body if self.is_packed else body.ljust(align(len(body)), b"\x00")


def _crc(body: bytes) -> bytes:
    return crc32c(body).to_bytes(_CRC_BYTES, "big")


def decode_header(page: bytes | memoryview, extent: int, offset: int) -> Record | None:
    """Read a header found at a place; None if there is none, or it belongs elsewhere.

    page   bytes from `offset` on, at least HEADER_READ_BYTES of them where the extent has them
    """
    if bytes(page[: len(MAGIC)]) != MAGIC or len(page) < _HEADER.size:
        return None
    (
        _, version, _, blob_id, index, at_extent, at_offset, fragment_bytes, cell_bytes,
        block_bytes, _, identity_bytes, _, _, written_ns,
    ) = _HEADER.unpack_from(page)  # fmt: skip
    end = _HEADER.size + identity_bytes
    if identity_bytes > IDENTITY_BYTES_MAX or end + _CRC_BYTES > len(page):
        return None
    body = bytes(page[:end])
    if _crc(body) != bytes(page[end : end + _CRC_BYTES]):
        return None
    if version > FORMAT:  # and no flipped bit: the CRC covers it
        raise faults.Invalid("fragment format", str(version), "of a newer Ostraka")
    if (at_extent, at_offset) != (extent, offset):
        return None  # a misdirected or copied write
    return Record(
        blob_id, index, extent, offset, fragment_bytes, cell_bytes, block_bytes, identity_bytes,
        written_ns,
    )  # fmt: skip


def decode_trailer(record: Record, data: bytes | memoryview) -> bytes | None:
    """Read a trailer; the blocks' checksum table, or None: the fragment was never finished."""
    if len(data) < _TRAILER.size:
        return None
    magic, blob_id, index, table_bytes = _TRAILER.unpack_from(data)
    end = _TRAILER.size + table_bytes
    if (magic, blob_id, index) != (TRAILER_MAGIC, record.blob_id, record.index):
        return None
    if table_bytes != 4 * record.block_count or end + _CRC_BYTES > len(data):
        return None
    body = bytes(data[:end])
    if _crc(body) != bytes(data[end : end + _CRC_BYTES]):
        return None
    return body[_TRAILER.size :]


HEADER_READ_BYTES = align(_HEADER.size + IDENTITY_BYTES_MAX + _CRC_BYTES)
assert HEADER_READ_BYTES % PAGE == 0
