"""Bucket and key of a request, in both styles, and the naming rules.

Method: tables from the public naming rules, and hostile keys that must come through untouched.
"""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3 import errors
from gateway.s3.address import (
    Address,
    Addressing,
    check_bucket_name,
    check_key,
    decode_path,
    parse_query,
)

ADDRESSING = Addressing(["s3.example.com", "example.com", "Storage.Local."])


@pytest.mark.parametrize(
    ("host", "path", "bucket", "key"),
    [
        ("s3.example.com", "/", "", ""),
        ("s3.example.com", "/bucket", "bucket", ""),
        ("s3.example.com", "/bucket/", "bucket", ""),
        ("s3.example.com", "/bucket/a/b", "bucket", "a/b"),
        ("s3.example.com:9000", "/bucket/a", "bucket", "a"),
        ("my.bucket.s3.example.com", "/a/b", "my.bucket", "a/b"),
        ("bucket.s3.example.com:9000", "/", "bucket", ""),
        ("BUCKET.S3.EXAMPLE.COM.", "/a", "bucket", "a"),
        ("bucket.example.com", "/a", "bucket", "a"),
        ("bucket.storage.local", "/a", "bucket", "a"),
        ("notexample.com", "/bucket/a", "bucket", "a"),
        ("127.0.0.1:9000", "/bucket/a", "bucket", "a"),
        ("[::1]:9000", "/bucket/a", "bucket", "a"),
        ("", "/bucket/a", "bucket", "a"),
    ],
)
def test_both_styles(host: str, path: str, bucket: str, key: str) -> None:
    address = ADDRESSING.resolve(host, path)
    assert (address.bucket, address.key) == (bucket, key)


def test_levels() -> None:
    levels = [Address("", "").level, Address("b", "").level, Address("b", "k").level]
    assert levels == ["service", "bucket", "object"]


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        "/a",
        "//",
        "a//b",
        "a/./b",
        "a/..",
        ".",
        "\x00",
        "%2e",
        "+",
        "a b",
        "?#é",
    ],
)
def test_hostile_keys_come_through_untouched(key: str) -> None:
    raw = quote(key, safe="/+.")
    assert ADDRESSING.resolve("localhost", f"/bucket/{raw}").key == key
    assert ADDRESSING.resolve("bucket.example.com", f"/{raw}").key == key


@given(st.text(min_size=1, max_size=200))
def test_any_key_comes_through(key: str) -> None:
    assert ADDRESSING.resolve("localhost", "/bucket/" + quote(key, safe="")).key == key


def test_an_encoded_slash_is_part_of_the_bucket_name() -> None:
    assert ADDRESSING.resolve("localhost", "/a%2Fb/k").bucket == "a/b"


@pytest.mark.parametrize("path", ["/b/%ff", "/b/%zz", "/b/%", "/b/%2", "*", "", "b/k", "/b/\udcff"])
def test_what_cannot_be_decoded_is_an_invalid_uri(path: str) -> None:
    with pytest.raises(errors.InvalidURI):
        ADDRESSING.resolve("localhost", path)


def test_a_key_without_a_bucket() -> None:
    with pytest.raises(errors.InvalidBucketName):
        ADDRESSING.resolve("localhost", "//key")


def test_key_length_is_counted_in_bytes() -> None:
    check_key("a" * 1024)
    check_key("é" * 512)
    for key in ("a" * 1025, "é" * 513):
        with pytest.raises(errors.KeyTooLongError):
            check_key(key)
    with pytest.raises(errors.KeyTooLongError):
        ADDRESSING.resolve("localhost", "/b/" + "a" * 1025)


def test_plus_is_a_space_in_the_query_only() -> None:
    assert parse_query("a=1+2&b=%2B&c&=d&&") == {"a": "1 2", "b": "+", "c": "", "": "d"}
    assert decode_path("1+2") == "1+2"


def test_queries_that_are_refused() -> None:
    with pytest.raises(errors.InvalidURI):
        parse_query("a=%ff")
    with pytest.raises(errors.InvalidArgument):
        parse_query("uploadId=1&uploadId=2")


@pytest.mark.parametrize(
    "name",
    ["abc", "a" * 63, "1-2.3", "a.b-c", "0ab", "1.2.3", "xn-ab", "my-s3aliased", "999.1.1.1a"],
)
def test_names_that_are_accepted(name: str) -> None:
    check_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "ab", "a" * 64, "Abc", "a_b", "192.168.5.4", "999.999.999.999", "-abc", ".abc",
        "abc-", "abc.", "a..b", "xn--abc", "sthree-abc", "sthree-configurator",
        "amzn-s3-demo-bucket", "abc-s3alias", "abc--ol-s3", "abc.mrap", "abc--x-s3",
        "abc--table-s3", "a b", "a/b", "abc\n", "é23", "abç", "a\x00c",
    ],
)  # fmt: skip
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(errors.InvalidBucketName):
        check_bucket_name(name)
