"""ListObjectsV2, and ListObjects where it differs: folders, pages, order, encoding."""

from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.s3 import refused, send_signed

KEYS = ["a", "a/", "a/b/1", "a/b/2", "a/c", "b+c d", "ä", "漢", "\U0001f600"]  # UTF-8 byte order


@pytest.fixture(scope="module")
def filled(s3: Any) -> str:
    """A bucket that no test changes."""
    name = "listed-by-tests"
    s3.create_bucket(Bucket=name)
    for key in reversed(KEYS):
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    return name


def keys_of(page: Any) -> list[str]:
    return [entry["Key"] for entry in page.get("Contents", [])]


def prefixes_of(page: Any) -> list[str]:
    return [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]


def test_keys_are_in_the_order_of_their_bytes(s3: Any, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled)
    assert keys_of(page) == KEYS
    assert (page["KeyCount"], page["IsTruncated"], page["MaxKeys"]) == (9, False, 1000)
    assert [entry["Size"] for entry in page["Contents"]] == [len(key.encode()) for key in KEYS]
    assert {entry["StorageClass"] for entry in page["Contents"]} == {"STANDARD"}


@pytest.mark.parametrize(
    ("prefix", "delimiter", "keys", "prefixes"),
    [
        ("", "/", ["a", "b+c d", "ä", "漢", "\U0001f600"], ["a/"]),
        ("a/", "/", ["a/", "a/c"], ["a/b/"]),
        ("a/b", "", ["a/b/1", "a/b/2"], []),
        ("", "b", [k for k in KEYS if "b" not in k], ["a/b", "b"]),
        ("none", "/", [], []),
    ],
)
def test_folders_are_made_of_prefixes(
    s3: Any, filled: str, prefix: str, delimiter: str, keys: list[str], prefixes: list[str]
) -> None:
    for list_page in (s3.list_objects_v2, s3.list_objects):
        page = list_page(Bucket=filled, Prefix=prefix, Delimiter=delimiter)
        assert (keys_of(page), prefixes_of(page)) == (keys, prefixes)


@pytest.mark.parametrize("operation", ["list_objects_v2", "list_objects"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_pages_add_up(s3: Any, filled: str, operation: str, size: int) -> None:
    pages = s3.get_paginator(operation).paginate(
        Bucket=filled, Delimiter="/", PaginationConfig={"PageSize": size}
    )
    found = [(keys_of(page), prefixes_of(page)) for page in pages]
    assert all(len(keys) + len(prefixes) <= size for keys, prefixes in found)
    assert [key for keys, _ in found for key in keys] == ["a", "b+c d", "ä", "漢", "\U0001f600"]
    assert [prefix for _, prefixes in found for prefix in prefixes] == ["a/"]


def test_start_after_and_marker_begin_behind_a_key(s3: Any, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, StartAfter="a/b/1")
    assert keys_of(page) == KEYS[3:]
    assert page["StartAfter"] == "a/b/1"
    assert keys_of(s3.list_objects(Bucket=filled, Marker="a/b/1")) == KEYS[3:]


def test_no_keys_can_be_asked_for(s3: Any, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert (keys_of(page), page["IsTruncated"], page["KeyCount"]) == ([], False, 0)


def test_more_than_a_thousand_are_cut(s3: Any, filled: str) -> None:
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=5000)["MaxKeys"] == 1000


def test_owner_comes_only_when_fetched(s3: Any, filled: str) -> None:
    assert "Owner" not in s3.list_objects_v2(Bucket=filled)["Contents"][0]
    entry = s3.list_objects_v2(Bucket=filled, FetchOwner=True)["Contents"][0]
    assert entry["Owner"]["ID"] == s3.list_objects(Bucket=filled)["Contents"][0]["Owner"]["ID"]


def test_url_encoding_is_of_every_name(cluster: Cluster, filled: str) -> None:
    answer = send_signed(cluster, "GET", f"/{filled}?list-type=2&encoding-type=url&prefix=b%2B")
    assert b"<Key>b%2Bc%20d</Key>" in answer.body
    assert b"<Prefix>b%2B</Prefix>" in answer.body
    plain = send_signed(cluster, "GET", f"/{filled}?list-type=2&prefix=b%2B")
    assert b"<Key>b+c d</Key>" in plain.body


@pytest.mark.parametrize(
    "query", ["max-keys=-1", "max-keys=many", "encoding-type=base64", "continuation-token=made-up"]
)
def test_invalid_argument_is_refused(cluster: Cluster, filled: str, query: str) -> None:
    answer = send_signed(cluster, "GET", f"/{filled}?list-type=2&{query}")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_hidden_keys_are_not_listed(s3: Any, versioned: str) -> None:
    for key in ("a", "b"):
        s3.put_object(Bucket=versioned, Key=key, Body=b"x")
    s3.delete_object(Bucket=versioned, Key="a")
    assert keys_of(s3.list_objects_v2(Bucket=versioned)) == ["b"]


def test_missing_bucket_and_anothers(s3: Any, other: Any, filled: str) -> None:
    refused("NoSuchBucket", 404, s3.list_objects_v2, Bucket="there-is-none")
    refused("AccessDenied", 403, other.list_objects_v2, Bucket=filled)
