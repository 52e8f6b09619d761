"""Frames as bytes: the fixed header, kinds, faults, the proof of a shared secret."""

import hashlib
import hmac
import json
from collections.abc import Iterable
from enum import IntEnum
from struct import Struct

from common import faults

VERSION = 1
# version, kind, method, call id, header bytes, payload bytes, deadline in milliseconds
FIXED = Struct("<BBHIIII")
FIXED_BYTES = FIXED.size
DIRECT_BYTES_MIN = 64 * 1024  # payloads from here on are received without a copy
CALL_ID_MAX = 2**32 - 1
NONCE_BYTES = 16

Piece = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What a frame is."""

    REQUEST = 1
    REPLY = 2
    ERROR = 3
    CHALLENGE = 4  # server: prove the shared secret over this nonce
    PROOF = 5
    GOODBYE = 6  # server: no new calls on this connection


class WireError(Exception):
    """The peer does not speak this protocol; the connection is worthless."""


def encode_fault(fault: faults.Fault) -> bytes:
    """Write a fault with its fields."""
    return json.dumps({"fault": type(fault).__name__, "fields": fault.fields}).encode()


def decode_fault(data: bytes) -> faults.Fault:
    """Read a fault; one of a class we do not know is Internal."""
    document = json.loads(data)
    kind = FAULTS.get(document["fault"], faults.Internal)
    return kind(**document["fields"])


def prove(secret: bytes, nonce: bytes) -> bytes:
    """Compute what only a holder of the secret can answer to a challenge."""
    return hmac.digest(secret, b"ostraka-frames" + nonce, hashlib.sha256)


def size_of(pieces: Iterable[Piece]) -> int:
    """Bytes of all pieces."""
    return sum(len(piece) for piece in pieces)


FAULTS: dict[str, type[faults.Fault]] = {
    kind.__name__: kind for kind in faults.Fault.__subclasses__()
}
