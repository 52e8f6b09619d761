"""Frames as bytes: the fixed header, kinds, faults, the proof of a shared secret."""

import hashlib
import hmac
import json
from collections.abc import Iterable
from enum import Enum, IntEnum
from struct import Struct

from common import faults

VERSION = 1
# version, kind, method, call id, header bytes, payload bytes, deadline in milliseconds
FIXED = Struct("<BBHIIII")
FIXED_BYTES = FIXED.size
DIRECT_BYTES_MIN = 64 * 1024  # payloads from here on are received without a copy
CALL_ID_MAX = 2**32 - 1
NONCE_BYTES = 16
HANDSHAKE_BYTES_MAX = 64  # header of a frame before both ends have proved the secret
FAULT_VALUE_CHARACTERS_MAX = 4096

Piece = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What a frame is."""

    REQUEST = 1
    REPLY = 2
    ERROR = 3
    CHALLENGE = 4  # server, first of all: its nonce
    PROOF = 5  # client: its nonce, and its proof over both
    GOODBYE = 6  # server: no new calls on this connection
    WELCOME = 7  # server: its proof over both nonces; calls may begin
    PING = 8  # client: are you there?
    PONG = 9


class Role(Enum):
    """Whose proof it is, so that none can be sent back to its maker."""

    CLIENT = b"client"
    SERVER = b"server"


class WireError(Exception):
    """The peer does not speak this protocol; the connection is worthless."""


def encode_fault(fault: faults.Fault) -> bytes:
    """Write a fault with its fields; very long values are cut."""
    fields = {name: str(value)[:FAULT_VALUE_CHARACTERS_MAX] for name, value in fault.fields.items()}
    return json.dumps({"fault": type(fault).__name__, "fields": fields}).encode()


def decode_fault(data: bytes) -> faults.Fault:
    """Read a fault; one of a class we do not know is Internal. raises WireError"""
    try:
        document = json.loads(data)
        kind = FAULTS.get(document["fault"], faults.Internal)
        return kind(**{str(name): str(value) for name, value in document["fields"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WireError("not a fault") from error


def prove(secret: bytes, role: Role, server_nonce: bytes, client_nonce: bytes) -> bytes:
    """Compute what only a holder of the secret can say of these two nonces."""
    said = b"ostraka-frames-" + role.value + server_nonce + client_nonce
    return hmac.digest(secret, said, hashlib.sha256)


def size_of(pieces: Iterable[Piece]) -> int:
    """Bytes of all pieces."""
    return sum(len(piece) for piece in pieces)


FAULTS: dict[str, type[faults.Fault]] = {
    kind.__name__: kind for kind in faults.Fault.__subclasses__()
}
