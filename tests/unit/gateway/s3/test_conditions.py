"""Conditional reads and writes, and the ETag lists in them.

Method: the precedence table of the S3 reference, row by row.
"""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3 import errors
from gateway.s3.conditions import ReadConditions, WriteConditions, parse_write_conditions
from gateway.s3.etag import parse_etags, quote, unquote

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
SAME = MOMENT.replace(microsecond=0)
BEFORE, AFTER = SAME - timedelta(seconds=1), SAME + timedelta(seconds=1)
Row = tuple[str | None, str | None, datetime | None, datetime | None, int]

TABLE: list[Row] = [
    # If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, status
    (None, None, None, None, 200),
    ('"e"', None, None, None, 200),
    ("e", None, None, None, 200),
    ("*", None, None, None, 200),
    ('"x", "e"', None, None, None, 200),
    ('"x"', None, None, None, 412),
    ('W/"e"', None, None, None, 412),
    (None, '"e"', None, None, 304),
    (None, 'W/"e"', None, None, 304),
    (None, "*", None, None, 304),
    (None, '"x"', None, None, 200),
    (None, None, BEFORE, None, 200),
    (None, None, SAME, None, 304),
    (None, None, AFTER, None, 304),
    (None, None, None, BEFORE, 412),
    (None, None, None, SAME, 200),
    (None, None, None, AFTER, 200),
    ('"e"', None, None, BEFORE, 200),  # If-Match true beats If-Unmodified-Since false
    ('"x"', None, None, AFTER, 412),
    (None, '"e"', BEFORE, None, 304),  # If-None-Match false beats If-Modified-Since true
    (None, '"x"', AFTER, None, 200),
    ('"x"', '"e"', None, None, 412),
    ('"e"', '"e"', None, None, 304),
]


@pytest.mark.parametrize(("if_match", "if_none_match", "modified", "unmodified", "status"), TABLE)
def test_reads(
    if_match: str | None,
    if_none_match: str | None,
    modified: datetime | None,
    unmodified: datetime | None,
    status: int,
) -> None:
    conditions = ReadConditions(if_match, if_none_match, modified, unmodified)
    if status == 200:
        conditions.check("e", MOMENT)
        conditions.check_copy_source("e", MOMENT)
        return
    with pytest.raises(errors.S3Error) as caught:
        conditions.check("e", MOMENT)
    assert caught.value.status == status
    with pytest.raises(errors.PreconditionFailed) as copied:
        conditions.check_copy_source("e", MOMENT)
    assert copied.value.details["Condition"].startswith("x-amz-copy-source-If-")


def test_not_modified_names_the_version() -> None:
    with pytest.raises(errors.NotModified) as caught:
        ReadConditions(if_none_match="*").check("e", MOMENT)
    expected = {"etag": '"e"', "last-modified": "Fri, 02 Jan 2026 03:04:05 GMT"}
    assert caught.value.headers == expected


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "expected"),
    [
        (None, None, WriteConditions()),
        (None, "*", WriteConditions(is_new=True)),
        ('"e"', None, WriteConditions(if_match="e")),
        ("e", None, WriteConditions(if_match="e")),
        ("*", None, WriteConditions(if_match="*")),
    ],
)
def test_writes(if_match: str | None, if_none_match: str | None, expected: WriteConditions) -> None:
    parsed = parse_write_conditions(if_match, if_none_match)
    assert parsed == expected
    assert parsed.is_empty == (if_match is None and if_none_match is None)


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "error"),
    [
        (None, '"e"', errors.NotImplemented),
        ('"a", "b"', None, errors.NotImplemented),
        ('"a"', "*", errors.NotImplemented),
        ('W/"a"', None, errors.InvalidArgument),
        ("", None, errors.InvalidArgument),
    ],
)
def test_writes_that_are_refused(
    if_match: str | None, if_none_match: str | None, error: type[errors.S3Error]
) -> None:
    with pytest.raises(error):
        parse_write_conditions(if_match, if_none_match)


def test_etags_of_several_parts_and_commas_inside() -> None:
    tags = parse_etags(' "a-2" ,"b,c",W/"d", bare')
    assert tags.strong == {"a-2", "b,c", "bare"}
    assert tags.weak == {"d"}
    assert not parse_etags('"a" "b"').matches("a")


@given(st.text("0123456789abcdef-", min_size=1))
def test_etags_survive_quoting(etag: str) -> None:
    assert unquote(quote(etag)) == unquote(etag) == etag
    assert parse_etags(quote(etag)).matches(etag)


@given(st.text())
def test_no_text_breaks_the_etag_parser(header: str) -> None:
    parse_etags(header).matches_weakly("e")
