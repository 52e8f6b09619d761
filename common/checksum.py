"""Checksums of S3 and of fragments: incremental, combinable, at memory speed.

CRC32C and CRC64NVME come from awscrt (50 GB/s, which is quick enough to hold the GIL), CRC32 from
zlib (no slower than awscrt's 3 GB/s, but without the GIL), the others from OpenSSL through hashlib
(without the GIL above 2 KiB). Digests are raw bytes, big-endian for CRCs: the form whose base64 S3
shows.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from awscrt import checksums

from common import faults

Data = bytes | bytearray | memoryview

CRC_BYTES = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8}


class Checksum(Protocol):
    """One running checksum."""

    def update(self, data: Data) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A CRC whose state is its value so far."""

    def __init__(self, function: Callable[[Data, int], int], size_bytes: int) -> None:
        self._function = function
        self._size_bytes = size_bytes
        self._value = 0

    def update(self, data: Data) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size_bytes, "big")


_FACTORIES: Mapping[str, Callable[[], Checksum]] = {
    "CRC32": lambda: _Crc(zlib.crc32, 4),
    "CRC32C": lambda: _Crc(checksums.crc32c, 4),
    "CRC64NVME": lambda: _Crc(checksums.crc64nvme, 8),
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "SHA256": hashlib.sha256,
    "MD5": lambda: hashlib.md5(usedforsecurity=False),
}
ALGORITHMS = frozenset(_FACTORIES)

_COMBINE: Mapping[str, Callable[[int, int, int], int]] = {
    "CRC32": checksums.combine_crc32,
    "CRC32C": checksums.combine_crc32c,
    "CRC64NVME": checksums.combine_crc64nvme,
}


def new(algorithm: str) -> Checksum:
    """Begin a checksum. raises Unsupported"""
    factory = _FACTORIES.get(algorithm)
    if factory is None:
        raise faults.Unsupported(f"checksum {algorithm}")
    return factory()


def digest(algorithm: str, data: Data) -> bytes:
    """Compute a whole checksum."""
    running = new(algorithm)
    running.update(data)
    return running.digest()


def crc32c(data: Data) -> int:
    """A CRC32C as a number."""
    return checksums.crc32c(data)  # type: ignore[no-any-return]


def combine(algorithm: str, first: bytes, second: bytes, second_size: int) -> bytes:
    """Compute the CRC of two pieces of data from the CRCs of each.

    second_size  bytes of the second piece
    raises       Unsupported for what is no CRC
    """
    function = _COMBINE.get(algorithm)
    if function is None:
        raise faults.Unsupported(f"combining {algorithm}")
    value = function(int.from_bytes(first, "big"), int.from_bytes(second, "big"), second_size)
    return value.to_bytes(CRC_BYTES[algorithm], "big")


def crc32c_values(table: bytes) -> tuple[int, ...]:
    """The CRC32Cs of a block table."""
    return struct.unpack(f"<{len(table) // 4}I", table)


def crc32c_blocks(data: memoryview, block_bytes: int) -> bytes:
    """CRC32Cs of consecutive blocks, the last may be short: little-endian uint32 each."""
    crc32c = checksums.crc32c
    size = len(data)
    if size <= block_bytes:
        return crc32c(data).to_bytes(4, "little")  # type: ignore[no-any-return]
    values = [crc32c(data[at : at + block_bytes]) for at in range(0, size, block_bytes)]
    return struct.pack(f"<{len(values)}I", *values)
