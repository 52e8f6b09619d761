"""ListObjectVersions."""

from typing import Any

import pytest

from tests.support.s3 import refused


@pytest.fixture
def filled(s3: Any, versioned: str) -> str:
    """Three versions of `a`, the newest a marker; one of `b/1` and of `b/2`."""
    for body in (b"1", b"2"):
        s3.put_object(Bucket=versioned, Key="a", Body=body)
    s3.delete_object(Bucket=versioned, Key="a")
    for key in ("b/1", "b/2"):
        s3.put_object(Bucket=versioned, Key=key, Body=b"x")
    return versioned


def test_versions_are_newest_first_and_one_is_latest(s3: Any, filled: str) -> None:
    page = s3.list_object_versions(Bucket=filled)
    assert [(v["Key"], v["IsLatest"]) for v in page["Versions"]] == [
        ("a", False), ("a", False), ("b/1", True), ("b/2", True),
    ]  # fmt: skip
    assert [(m["Key"], m["IsLatest"]) for m in page["DeleteMarkers"]] == [("a", True)]
    assert page["Versions"][0]["LastModified"] >= page["Versions"][1]["LastModified"]


def test_pages_of_one_add_up(s3: Any, filled: str) -> None:
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=filled, PaginationConfig={"PageSize": 1}
    )
    ids = [
        entry["VersionId"]
        for page in pages
        for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    ]
    assert len(ids) == len(set(ids)) == 5


def test_prefix_and_delimiter(s3: Any, filled: str) -> None:
    page = s3.list_object_versions(Bucket=filled, Delimiter="/")
    assert page["CommonPrefixes"] == [{"Prefix": "b/"}]
    assert {entry["Key"] for entry in page["Versions"]} == {"a"}
    page = s3.list_object_versions(Bucket=filled, Prefix="b/")
    assert [entry["Key"] for entry in page["Versions"]] == ["b/1", "b/2"]


def test_version_marker_alone_is_refused(s3: Any, filled: str) -> None:
    refused("InvalidArgument", 400, s3.list_object_versions, Bucket=filled, VersionIdMarker="null")


def test_bucket_without_versioning_has_null_versions(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    (version,) = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert (version["VersionId"], version["IsLatest"]) == ("null", True)
