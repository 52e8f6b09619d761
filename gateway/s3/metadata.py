"""Values of user metadata: text inside, ASCII on the wire.

S3 reads encoded words (RFC 2047) and writes what is not printable ASCII as one, since HTTP headers
have no other form for it. source  "Working with object metadata" in the S3 user guide.
"""

import base64
import binascii
import re

_WORD = re.compile(r"=\?(?P<charset>[^?\s]+)\?(?P<coding>[bBqQ])\?(?P<text>[^?\s]*)\?=")
_BETWEEN_WORDS = re.compile(r"(?<=\?=)\s+(?==\?)")


def read_metadata(value: str) -> str:
    """The text of a header; one with an invalid encoded word is its own text."""
    if "=?" not in value:
        return value
    try:
        return _WORD.sub(_decoded, _BETWEEN_WORDS.sub("", value))
    except (binascii.Error, LookupError, ValueError):
        return value


def write_metadata(text: str) -> str:
    """The header that says a text; never more than one line."""
    if text.isascii() and text.isprintable():
        return text
    return f"=?UTF-8?B?{base64.b64encode(text.encode()).decode()}?="


def _decoded(word: re.Match[str]) -> str:
    if word["coding"] in "bB":
        data = base64.b64decode(word["text"], validate=True)
    else:
        data = binascii.a2b_qp(word["text"], header=True)
    return data.decode(word["charset"])
