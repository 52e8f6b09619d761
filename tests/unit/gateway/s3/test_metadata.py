"""User metadata outside ASCII: encoded words both ways, and nothing that breaks a header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.metadata import read_metadata, write_metadata


@pytest.mark.parametrize("text", ["", "plain", "a=?b", "100 %", "tab is not", "~!@#$%^&*()"])
def test_printable_ascii_travels_as_it_is(text: str) -> None:
    assert write_metadata(text) == text
    assert read_metadata(text) == text


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("=?UTF-8?B?w4RNw4RaIFMz?=", "ÄMÄZ S3"),
        ("=?UTF-8?Q?caf=C3=A9?=", "café"),
        ("=?iso-8859-1?q?caf=E9?=", "café"),
        ("=?UTF-8?Q?=C3=A9?= =?UTF-8?Q?=C3=A8?=", "éè"),
        ("=?UTF-8?B?***?=", "=?UTF-8?B?***?="),
        ("=?nonsense?Q?abc?=", "=?nonsense?Q?abc?="),
        ("=?UTF-8?Q?=FF?=", "=?UTF-8?Q?=FF?="),
    ],
)
def test_encoded_words_are_read(header: str, text: str) -> None:
    assert read_metadata(header) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_and_stays_on_one_line(text: str) -> None:
    header = write_metadata(text)
    assert header.isascii()
    assert header.isprintable()
    if "=?" not in text or not text.isascii():
        assert read_metadata(header) == text


def test_line_ends_in_an_encoded_word_add_no_header() -> None:
    header = write_metadata(read_metadata("=?UTF-8?B?YQ0KRXZpbDogMQ==?="))
    assert "\r" not in header
    assert "\n" not in header
