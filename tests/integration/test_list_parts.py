"""ListParts."""

from typing import Any

from tests.support.s3 import refused, upload


def test_parts_come_in_order_and_pages(s3: Any, bucket: str) -> None:
    upload_id, listed = upload(s3, bucket, "k", {5: b"five", 1: b"one", 10_000: b"last"})
    pages = list(
        s3.get_paginator("list_parts").paginate(
            Bucket=bucket, Key="k", UploadId=upload_id, PaginationConfig={"PageSize": 2}
        )
    )
    parts = [part for page in pages for part in page["Parts"]]
    assert [(part["PartNumber"], part["Size"]) for part in parts] == [(1, 3), (5, 4), (10_000, 4)]
    assert [part["ETag"] for part in parts] == [part["ETag"] for part in listed]
    assert [page["IsTruncated"] for page in pages] == [True, False]
    assert pages[0]["NextPartNumberMarker"] == 5
    assert pages[0]["Initiator"]["ID"] == pages[0]["Owner"]["ID"]


def test_unknown_upload_is_404(s3: Any, bucket: str) -> None:
    refused("NoSuchUpload", 404, s3.list_parts, Bucket=bucket, Key="k", UploadId="0" * 32)
