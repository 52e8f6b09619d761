"""Byte ranges of a GET, and of a part copied from an object.

Offsets count from 0; `end` is exclusive, unlike on the wire.
"""

import re
from dataclasses import dataclass

from gateway.s3.errors import InvalidArgument, InvalidRange

_RANGE = re.compile(r"bytes\s*=\s*([0-9]*)\s*-\s*([0-9]*)\s*", re.ASCII | re.IGNORECASE)
_COPY_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]+)", re.ASCII)
# Longer numbers are past the end of any object; converting them would cost quadratic time.
DIGITS_MAX = 19


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [begin, end) of an object of `size` bytes; empty only for an empty part."""

    begin: int
    end: int
    size: int

    @property
    def length(self) -> int:
        return self.end - self.begin

    @property
    def content_range(self) -> str:
        """The Content-Range header."""
        return f"bytes {self.begin}-{self.end - 1}/{self.size}"


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Read a Range header for an object of `size` bytes.

    returns  None for the whole object: no header, several ranges, another unit, or malformed,
             which S3 ignores (RFC 9110, 14.2)
    raises   InvalidRange if no byte of the object is in the range
    """
    found = _RANGE.fullmatch(header) if header else None
    if header is None or found is None:
        return None
    first, last = (_number(digits) for digits in found.groups())
    if first is None and last is None:
        return None
    if first is None:
        begin, end = max(0, size - (last or 0)), size
    else:
        if last is not None and last < first:
            return None
        begin, end = first, size if last is None else min(last + 1, size)
    if begin >= end:
        raise InvalidRange(RangeRequested=header, ActualObjectSize=size)
    return ByteRange(begin, end, size)


def parse_copy_source_range(header: str, size: int) -> ByteRange:
    """Read x-amz-copy-source-range: only `bytes=first-last`, and wholly inside the object.

    raises  InvalidArgument
    """
    found = _COPY_RANGE.fullmatch(header)
    first, last = (_number(digits) for digits in found.groups()) if found else (None, None)
    if first is None or last is None or last < first:
        raise InvalidArgument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=header,
        )
    if last >= size:
        raise InvalidArgument(
            f"Range specified is not valid for source object of size: {size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=header,
        )
    return ByteRange(first, last + 1, size)


def _number(digits: str) -> int | None:
    if not digits:
        return None
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= DIGITS_MAX else 10**DIGITS_MAX
