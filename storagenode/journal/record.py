"""A record of a journal segment on disk: a header, its payload, padding to whole pages.

Each header names the header before it, so that the records of a segment form a chain: what does not
continue the chain is no part of it, wherever it came from.
"""

from dataclasses import dataclass
from struct import Struct

from common import faults
from common.checksum import crc32c
from storagenode.store.files import PAGE, align

MAGIC = b"OSTKJRNL"
FORMAT = 1
# magic, format, 0, payload bytes, segment, sequence, time ns, payload CRC, CRC of the header before
_FIXED = Struct("<8sHHIQQQII")
_CRC = Struct("<I")
HEADER_BYTES = _FIXED.size + _CRC.size
PAYLOAD_BYTES_MAX = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Record:
    """What a header says."""

    segment_id: int
    sequence: int
    time_ns: int
    size_bytes: int  # of the payload
    payload_crc: int
    previous_crc: int  # of the header before; 0: the segment's first record

    @property
    def disk_bytes(self) -> int:
        """Header, payload and padding."""
        return align(HEADER_BYTES + self.size_bytes)

    def encode(self) -> bytes:
        """The header's bytes."""
        fixed = _FIXED.pack(
            MAGIC, FORMAT, 0, self.size_bytes, self.segment_id, self.sequence, self.time_ns,
            self.payload_crc, self.previous_crc,
        )  # fmt: skip
        return fixed + _CRC.pack(crc32c(fixed))

    @property
    def crc(self) -> int:
        """How the next record names this one."""
        return int(_CRC.unpack(self.encode()[-_CRC.size :])[0])


def decode(page: bytes | memoryview) -> Record | None:
    """Read a header at the begin of a page; None if there is no valid one. raises Invalid"""
    if bytes(page[: len(MAGIC)]) != MAGIC:
        return None
    fixed = bytes(page[: _FIXED.size])
    if _CRC.unpack_from(page, _FIXED.size)[0] != crc32c(fixed):
        return None
    _, version, _, size, segment, sequence, time_ns, payload_crc, previous = _FIXED.unpack(fixed)
    if version > FORMAT:
        raise faults.Invalid("journal", str(version), "of a newer Ostraka")
    return Record(segment, sequence, time_ns, size, payload_crc, previous)


assert HEADER_BYTES < PAGE
