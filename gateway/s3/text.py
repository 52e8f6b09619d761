"""Text forms of S3 scalars: one reader and one writer per type.

Readers are strict, since a value that is guessed at is a value that is stored wrong; they raise
ValueError, which the codec turns into the S3 error of the place the value came from.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote_to_bytes

INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
INTEGER_MAX = 2**63 - 1

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip

Read = Callable[[str], Any]
Write = Callable[[Any], str]


def decode_percent(raw: str) -> str:
    """Decode percent-encoded UTF-8, once; `+` stays."""
    if "%" not in raw and raw.isascii():
        return raw
    if _BAD_ESCAPE.search(raw):
        raise ValueError(f"incomplete percent escape: {raw!r}")
    return unquote_to_bytes(raw).decode()


def parse_bool(text: str) -> bool:
    """Read true or false, in any case."""
    value = text.strip().lower()
    if value not in ("true", "false"):
        raise ValueError(f"not a boolean: {text!r}")
    return value == "true"


def parse_int(text: str) -> int:
    """Read a decimal number of at most 64 bits: ASCII digits only, no 1_000."""
    if not INTEGER.fullmatch(text.strip()) or abs(value := int(text)) > INTEGER_MAX:
        raise ValueError(f"not an integer: {text!r}")
    return value


def parse_iso(text: str) -> datetime:
    """Read an ISO 8601 date or moment; one without a zone is UTC."""
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return _in_utc(moment)


def parse_http(text: str) -> datetime:
    """Read an HTTP date (RFC 9110: IMF-fixdate, and the two obsolete forms)."""
    moment = parsedate_to_datetime(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return _in_utc(moment)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:  # year 1 or 9999, moved over the edge by its zone
        raise ValueError(str(error)) from error


def format_bool(value: bool) -> str:
    return "true" if value else "false"


def format_iso(moment: datetime) -> str:
    """Write UTC with milliseconds, as S3 does: 2026-01-02T03:04:05.000Z."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    # A third faster than isoformat(), which a listing would call a thousand times.
    return "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (  # noqa: UP031
        moment.year, moment.month, moment.day,
        moment.hour, moment.minute, moment.second, moment.microsecond // 1000,
    )  # fmt: skip


def format_http(moment: datetime) -> str:
    """Write an IMF-fixdate: Fri, 02 Jan 2026 03:04:05 GMT."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return (
        f"{WEEKDAYS[moment.weekday()]}, {moment.day:02} {MONTHS[moment.month - 1]} "
        f"{moment.year:04} {moment.hour:02}:{moment.minute:02}:{moment.second:02} GMT"
    )


READERS: dict[Any, Read] = {str: str, int: parse_int, bool: parse_bool}
WRITERS: dict[Any, Write] = {str: str, int: str, bool: format_bool}


def reader(kind: Any, time: str) -> Read:
    """The reader of a scalar type; `time` is the form of timestamps: "http" or "iso"."""
    if kind is datetime:
        return parse_http if time == "http" else parse_iso
    return READERS[kind]


def writer(kind: Any, time: str) -> Write:
    """The writer of a scalar type; `time` is the form of timestamps: "http" or "iso"."""
    if kind is datetime:
        return format_http if time == "http" else format_iso
    return WRITERS[kind]


def one_of(values: tuple[str, ...], read: Read, *, in_any_case: bool = False) -> Read:
    """A reader that takes only the given values; in upper and lower case alike, if so said."""
    allowed = {value.lower() if in_any_case else value: value for value in values}

    def read_one(text: str) -> Any:
        value = read(text)
        known = allowed.get(value.lower() if in_any_case else value)
        if known is None:
            raise ValueError(f"not one of {', '.join(values)}: {text!r}")
        return known

    return read_one
