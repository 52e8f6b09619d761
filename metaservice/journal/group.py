"""A group of commits as the journal carries it: the rows exactly as the engine writes them.

A group is one record, or several if it is large; all but its last say that more follows. Applying
a group twice changes nothing: counters are there with their final values. Records are sealed under
their segment's key, with their sequence as the nonce: a sequence is used once per segment.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common import faults
from common.keyring import KeySource
from common.limits import MIB

KEY_BYTES = 32
NONCE_BYTES = 12
KEY_CONTEXT = b"ostraka metadata journal"
BODY_BYTES_MAX = 2 * MIB  # of a record's rows; one row may go beyond
_HEAD = Struct("<BQ")  # more follows, time
_ROW = Struct("<HI")  # bytes of the key, bytes of the value
_DELETED = 0xFFFFFFFF

Rows = Mapping[bytes, bytes | None]


def pack_rows(rows: Iterable[tuple[bytes, bytes | None]]) -> list[bytes]:
    """Rows one after another, as pieces to be joined; a value of None deletes."""
    pieces: list[bytes] = []
    pack = _ROW.pack
    for key, value in rows:
        if value is None:
            pieces += (pack(len(key), _DELETED), key)
        else:
            pieces += (pack(len(key), len(value)), key, value)
    return pieces


def unpack_rows(data: bytes | memoryview, at: int = 0) -> Iterator[tuple[bytes, bytes | None]]:
    """Rows as `pack_rows` wrote them. raises Corrupt if they end early"""
    while at < len(data):
        if at + _ROW.size > len(data):
            raise faults.Corrupt("metadata rows", "", "cut short")
        key_bytes, value_bytes = _ROW.unpack_from(data, at)
        at += _ROW.size
        size = 0 if value_bytes == _DELETED else value_bytes
        end = at + key_bytes + size
        if end > len(data):
            raise faults.Corrupt("metadata rows", "", "cut short")
        value = None if value_bytes == _DELETED else bytes(data[at + key_bytes : end])
        yield bytes(data[at : at + key_bytes]), value
        at = end


def encode(rows: Rows, time_ns: int) -> list[bytes]:
    """The bodies of a group's records."""
    if sum(map(len, rows)) + sum(len(row) for row in rows.values() if row) <= BODY_BYTES_MAX:
        return [b"".join((_HEAD.pack(False, time_ns), *pack_rows(rows.items())))]
    parts: list[list[tuple[bytes, bytes | None]]] = [[]]
    size = 0
    for key, value in rows.items():
        if size > BODY_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append((key, value))
        size += len(key) + len(value or b"")
    last = len(parts) - 1
    return [
        b"".join((_HEAD.pack(number != last, time_ns), *pack_rows(part)))
        for number, part in enumerate(parts)
    ]


@dataclass(frozen=True, slots=True)
class Body:
    """One record, opened."""

    has_more: bool  # the group goes on in the next record
    time_ns: int
    rows: dict[bytes, bytes | None]


def decode(data: bytes) -> Body:
    """Read a record's body. raises Corrupt"""
    has_more, time_ns = _HEAD.unpack_from(data)
    return Body(bool(has_more), time_ns, dict(unpack_rows(data, _HEAD.size)))


class SegmentKey:
    """What seals the records of one segment."""

    def __init__(self, segment_id: int, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._key = key
        self._context = segment_id.to_bytes(8, "big")

    @classmethod
    def make(cls, segment_id: int) -> "SegmentKey":
        """A fresh random key."""
        return cls(segment_id, secrets.token_bytes(KEY_BYTES))

    @classmethod
    def unwrap(cls, segment_id: int, wrapped: bytes, ring: KeySource) -> "SegmentKey":
        """The key of a stored segment. raises Corrupt, NotFound("master key")"""
        return cls(segment_id, ring.unwrap(wrapped, KEY_CONTEXT))

    def wrap(self, ring: KeySource) -> bytes:
        """The key as the header carries it."""
        return ring.wrap(self._key, KEY_CONTEXT)

    def seal(self, sequence: int, body: bytes) -> bytes:
        """Seal a record."""
        return self._cipher.encrypt(_nonce(sequence), body, self._context)

    def open(self, sequence: int, sealed: bytes) -> bytes:
        """Open a record. raises Corrupt"""
        try:
            return self._cipher.decrypt(_nonce(sequence), sealed, self._context)
        except InvalidTag as error:
            raise faults.Corrupt("journal record", str(sequence)) from error


def _nonce(sequence: int) -> bytes:
    return sequence.to_bytes(NONCE_BYTES, "big")
