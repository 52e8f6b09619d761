"""SSE-S3: data keys, and packages of 64 KiB sealed with AES-256-GCM before they are coded.

Every object or part has a random data key of its own, so a nonce need only be unique under it:
blob number (4 bytes), package number in the blob (8). The associated data names blob, package and
whether it is the last one: reordered, swapped, cut or spliced packages do not open.
"""

import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common import faults
from common.checksum import crc32c
from common.erasure.layout import SEALED_BYTES
from common.keyring import DATA_KEY_CONTEXT, KeySource
from common.limits import PACKAGE_BYTES, PACKAGE_TAG_BYTES
from proto import records_pb2

METHOD = "AES256"
KEY_BYTES = 32
INLINE_NONCE = b"\xff" * 12  # no package's: blobs are numbered from 0
INLINE_CONTEXT = b"inline"


class DataKey:
    """The key of one object or part; never shown."""

    __slots__ = ("_cipher", "_key")

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES, "AES-256"
        self._key = key
        self._cipher = AESGCM(key)

    @classmethod
    def make(cls) -> "DataKey":
        """A fresh random key."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def unwrap(cls, encryption: records_pb2.Encryption, ring: KeySource) -> "DataKey":
        """Open the key of a stored version or part. raises Corrupt, NotFound("master key")"""
        return cls(ring.unwrap(encryption.wrapped_key, DATA_KEY_CONTEXT))

    def wrap(self, ring: KeySource) -> records_pb2.Encryption:
        """Seal the key under the ring's active master key."""
        wrapped = ring.wrap(self._key, DATA_KEY_CONTEXT)
        return records_pb2.Encryption(method=METHOD, wrapped_key=wrapped)

    def seal_inline(self, data: bytes | bytearray) -> bytes:
        """Seal data that lives in its metadata row."""
        return self._cipher.encrypt(INLINE_NONCE, data, INLINE_CONTEXT)

    def open_inline(self, sealed: bytes) -> bytes:
        """Open inline data. raises Corrupt"""
        try:
            return self._cipher.decrypt(INLINE_NONCE, sealed, INLINE_CONTEXT)
        except InvalidTag as error:
            raise faults.Corrupt("inline data") from error

    def sealer(self, blob_id: bytes, blob_number: int, package_count: int) -> "BlobCipher":
        """Seal and open the packages of one blob."""
        return BlobCipher(self._cipher, blob_id, blob_number, package_count)


class BlobCipher:
    """Packages of one blob. Nothing is allocated per package but nonce and associated data."""

    __slots__ = ("_blob_id", "_cipher", "_last", "_prefix")

    def __init__(
        self, cipher: AESGCM, blob_id: bytes, blob_number: int, package_count: int
    ) -> None:
        self._cipher = cipher
        self._blob_id = blob_id
        self._prefix = blob_number.to_bytes(4, "big")
        self._last = package_count - 1

    def seal(self, plain: memoryview, sealed: memoryview, first_package: int) -> None:
        """Seal consecutive packages: plain bytes into room for 16 more per package."""
        encrypt, size = self._cipher.encrypt_into, len(plain)
        for index in range(-(-size // PACKAGE_BYTES)):
            begin, at = index * PACKAGE_BYTES, index * SEALED_BYTES
            end = min(begin + PACKAGE_BYTES, size)
            nonce, context = self._names(first_package + index)
            encrypt(
                nonce,
                plain[begin:end],
                context,
                sealed[at : at + end - begin + PACKAGE_TAG_BYTES],
            )

    def open(self, sealed: memoryview, plain: memoryview, first_package: int) -> None:
        """Open consecutive packages. raises Corrupt if one is not what was sealed"""
        decrypt, size = self._cipher.decrypt_into, len(sealed)
        number = first_package
        try:
            for index in range(-(-size // SEALED_BYTES)):
                number = first_package + index
                at, begin = index * SEALED_BYTES, index * PACKAGE_BYTES
                end = min(at + SEALED_BYTES, size)
                nonce, context = self._names(number)
                decrypt(
                    nonce,
                    sealed[at:end],
                    context,
                    plain[begin : begin + end - at - PACKAGE_TAG_BYTES],
                )
        except InvalidTag as error:
            raise faults.Corrupt("package", str(number), self._blob_id.hex()) from error

    def open_checked(
        self,
        sealed: memoryview,
        plain: memoryview,
        first_package: int,
        checksums: Sequence[int],
    ) -> bool:
        """Open consecutive packages, each compared with its CRC32C first, while it is in the cache.

        returns  False: one is not what was written; what is in `plain` is worthless
        raises   Corrupt if one is what was written, but not what was sealed
        """
        decrypt, size, at = self._cipher.decrypt_into, len(sealed), 0
        prefix, blob_id, last = self._prefix, self._blob_id, self._last
        begin, number = 0, first_package
        try:
            for checksum in checksums:
                end = min(at + SEALED_BYTES, size)
                package = sealed[at:end]
                if crc32c(package) != checksum:
                    return False
                packed = number.to_bytes(8, "big")
                context = blob_id + packed + (b"\x01" if number == last else b"\x00")
                room = plain[begin : begin + end - at - PACKAGE_TAG_BYTES]
                decrypt(prefix + packed, package, context, room)
                at, begin, number = end, begin + PACKAGE_BYTES, number + 1
        except InvalidTag as error:
            raise faults.Corrupt("package", str(number), self._blob_id.hex()) from error
        return True

    def _names(self, number: int) -> tuple[bytes, bytes]:
        packed = number.to_bytes(8, "big")
        last = b"\x01" if number == self._last else b"\x00"
        return self._prefix + packed, self._blob_id + packed + last
