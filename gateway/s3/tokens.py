"""Opaque continuation tokens: where a listing goes on.

A token names a position in the order of keys, nothing secret: it is checked against accidents and
tampering by hand, not signed. Form: base64url(version byte, CRC-32 of the rest, position in UTF-8).
"""

import base64
import binascii
import zlib

from gateway.s3.errors import InvalidArgument

VERSION = b"\x01"
_CHECKSUM_BYTES = 4


def encode_token(position: str) -> str:
    """Make the token that continues after `position`."""
    data = position.encode()
    checksum = zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big")
    return base64.urlsafe_b64encode(VERSION + checksum + data).decode().rstrip("=")


def decode_token(token: str) -> str:
    """Read a token. raises InvalidArgument if it is not one of ours."""
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
        version, checksum, data = raw[:1], raw[1 : 1 + _CHECKSUM_BYTES], raw[1 + _CHECKSUM_BYTES :]
        position = data.decode()
    except (UnicodeError, binascii.Error) as error:
        raise _invalid(token) from error
    if version != VERSION or checksum != zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big"):
        raise _invalid(token)
    return position


def _invalid(token: str) -> InvalidArgument:
    return InvalidArgument(
        "The continuation token provided is incorrect",
        ArgumentName="continuation-token",
        ArgumentValue=token,
    )
