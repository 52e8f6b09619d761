"""The small forms inside headers: copy sources, tags, continuation tokens, scalars.

Method: tables of good and bad texts, and round trips by Hypothesis.
"""

from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.limits import BUCKET_TAGS_MAX, OBJECT_TAGS_MAX
from gateway.s3 import errors, text
from gateway.s3.copy_source import CopySource, parse_copy_source
from gateway.s3.model.bucket import Tag
from gateway.s3.tagging import check_tags, parse_tagging_header, tags_of
from gateway.s3.tokens import decode_token, encode_token


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bucket/key", CopySource("bucket", "key")),
        ("/bucket/a/b", CopySource("bucket", "a/b")),
        ("/bucket//a", CopySource("bucket", "/a")),
        ("bucket/a%20b%3Fc+d", CopySource("bucket", "a b?c+d")),
        ("bucket/key?versionId=v1", CopySource("bucket", "key", "v1")),
        ("bucket/key%3FversionId=v1", CopySource("bucket", "key?versionId=v1")),
        ("bucket%2Fkey", CopySource("bucket", "key")),
        ("bucket/k?versionId=null", CopySource("bucket", "k", "null")),
    ],
)
def test_copy_sources(header: str, expected: CopySource) -> None:
    assert parse_copy_source(header) == expected


@pytest.mark.parametrize(
    "header",
    ["", "/", "bucket", "bucket/", "//key", "b/%ff", "b/%z", "b/k?versionId=", "b/\udcff"],
)
def test_copy_sources_that_are_refused(header: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse_copy_source(header)


def test_access_points_are_not_implemented() -> None:
    with pytest.raises(errors.NotImplemented):
        parse_copy_source("arn:aws:s3:us-east-1:123456789012:accesspoint/ap/object/k")


@given(st.text(min_size=1, max_size=100))
def test_any_key_survives_a_copy_source(key: str) -> None:
    header = f"/bucket/{quote(key)}?versionId=v"
    assert parse_copy_source(header) == CopySource("bucket", key, "v")


def test_tagging_header() -> None:
    parsed = parse_tagging_header("a=1&b=x%20y&c+d=%2B&e", OBJECT_TAGS_MAX)
    assert parsed == {"a": "1", "b": "x y", "c d": "+", "e": ""}
    assert parse_tagging_header("", OBJECT_TAGS_MAX) == {}


@pytest.mark.parametrize("header", ["a=1&a=2", "a=%ff", "a=%"])
def test_tagging_headers_of_bad_form(header: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse_tagging_header(header, OBJECT_TAGS_MAX)


@pytest.mark.parametrize(
    ("key", "value"),
    [("", "v"), ("k" * 129, "v"), ("k", "v" * 257), ("aws:k", "v"), ("AWS:k", "v"), ("k!", "v"),
     ("k", "a&b"), ("k", "\x01"), ("k", "🙂")],
)  # fmt: skip
def test_tags_that_are_refused(key: str, value: str) -> None:
    with pytest.raises(errors.InvalidTag):
        check_tags([(key, value)], OBJECT_TAGS_MAX)


def test_tags_at_their_limits() -> None:
    assert check_tags([("é" * 128, "ж" * 256)], OBJECT_TAGS_MAX)
    assert check_tags([("a+-=._:/@ 1", "")], OBJECT_TAGS_MAX)
    for maximum in (OBJECT_TAGS_MAX, BUCKET_TAGS_MAX):
        tag_set = [Tag(key=f"k{number}", value="v") for number in range(maximum)]
        assert len(tags_of(tag_set, maximum)) == maximum
        with pytest.raises(errors.InvalidTag):
            tags_of([*tag_set, Tag(key="one-more", value="v")], maximum)
    with pytest.raises(errors.InvalidTag):
        tags_of([Tag(key="k", value="1"), Tag(key="k", value="2")], OBJECT_TAGS_MAX)


@given(
    st.dictionaries(
        st.text("ab é=+/", min_size=1), st.text("ab é&=+/".replace("&", "")), max_size=9
    )
)
def test_tags_survive_the_header(tags: dict[str, str]) -> None:
    assert parse_tagging_header(urlencode(tags), OBJECT_TAGS_MAX) == tags


@given(st.text())
def test_tokens_round_trip(position: str) -> None:
    assert decode_token(encode_token(position)) == position


@given(st.text(max_size=40))
@example("AQ")  # the version alone: a checksum of no bytes is none
def test_foreign_tokens_are_refused(token: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        decode_token(token)


def test_tampered_tokens_are_refused() -> None:
    token = encode_token("photos/2026/a.jpg")
    for place in range(len(token)):
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(errors.InvalidArgument):
            decode_token(token[:place] + other + token[place + 1 :])


MOMENTS = st.integers(0, 200_000_000_000).map(lambda second: datetime.fromtimestamp(second, UTC))


@given(MOMENTS)
def test_times_round_trip(moment: datetime) -> None:
    assert text.parse_iso(text.format_iso(moment)) == moment
    assert text.parse_http(text.format_http(moment)) == moment


def test_time_forms() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
    assert text.format_iso(moment) == "2026-01-02T03:04:05.678Z"
    assert text.parse_iso("2026-01-02") == datetime(2026, 1, 2, tzinfo=UTC)
    assert text.parse_iso("2026-01-02T05:04:05+02:00") == moment.replace(microsecond=0)
    assert text.parse_http("Friday, 02-Jan-26 03:04:05 GMT") == moment.replace(microsecond=0)
    for bad in ("", "0001-01-01T00:00:00+14:00", "then"):
        with pytest.raises(ValueError):
            text.parse_iso(bad)


@given(st.text())
def test_no_text_breaks_the_readers(value: str) -> None:
    for read in (text.parse_bool, text.parse_int, text.parse_iso, text.parse_http):
        try:
            read(value)
        except ValueError:
            continue
