"""ListMultipartUploads."""

from typing import Any

import pytest


@pytest.fixture
def opened(s3: Any, bucket: str) -> list[tuple[str, str]]:
    """Keys and ids of open uploads, in listing order."""
    keys = ("a", "a", "b/1", "b/2", "c")
    made = [(k, s3.create_multipart_upload(Bucket=bucket, Key=k)["UploadId"]) for k in keys]
    assert made == sorted(made), "ids of one key sort by when the upload was begun"
    return made


def test_pages_add_up(s3: Any, bucket: str, opened: list[tuple[str, str]]) -> None:
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    )
    found = [(entry["Key"], entry["UploadId"]) for page in pages for entry in page["Uploads"]]
    assert found == opened


def test_prefix_and_delimiter(s3: Any, bucket: str, opened: list[tuple[str, str]]) -> None:
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [entry["Key"] for entry in page["Uploads"]] == ["a", "a", "c"]
    assert page["CommonPrefixes"] == [{"Prefix": "b/"}]
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="b/")
    assert [entry["Key"] for entry in page["Uploads"]] == ["b/1", "b/2"]
    page = s3.list_multipart_uploads(Bucket=bucket, KeyMarker="b/1")
    assert [entry["Key"] for entry in page["Uploads"]] == ["b/2", "c"]
