"""GetObjectAttributes."""

import os
from typing import Any

from tests.support.s3 import MIB, complete, refused, upload

ALL = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]


def test_only_what_is_asked_for_is_answered(s3: Any, bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 100, ChecksumAlgorithm="SHA256")
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=ALL)
    assert got["ETag"] == put["ETag"].strip('"')
    assert got["Checksum"]["ChecksumSHA256"] == put["ChecksumSHA256"]
    assert (got["ObjectSize"], got["StorageClass"]) == (100, "STANDARD")
    assert "ObjectParts" not in got
    only = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize"])
    assert set(only) == {"ResponseMetadata", "LastModified", "ObjectSize"}


def test_parts_come_in_pages(s3: Any, bucket: str) -> None:
    parts = {1: os.urandom(5 * MIB), 2: os.urandom(5 * MIB), 3: b"tail"}
    upload_id, listed = upload(s3, bucket, "k", parts, ChecksumAlgorithm="SHA256")
    checked = [
        {**part, "ChecksumSHA256": shown["ChecksumSHA256"]}
        for part, shown in zip(
            listed, s3.list_parts(Bucket=bucket, Key="k", UploadId=upload_id)["Parts"], strict=True
        )
    ]
    complete(s3, bucket, "k", upload_id, checked)
    first = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=ALL, MaxParts=2)[
        "ObjectParts"
    ]
    assert (first["TotalPartsCount"], first["IsTruncated"]) == (3, True)
    assert [part["Size"] for part in first["Parts"]] == [5 * MIB, 5 * MIB]
    rest = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=ALL,
        PartNumberMarker=first["NextPartNumberMarker"],
    )["ObjectParts"]  # fmt: skip
    assert [(part["PartNumber"], part["Size"]) for part in rest["Parts"]] == [(3, 4)]
    assert rest["Parts"][0]["ChecksumSHA256"] == checked[2]["ChecksumSHA256"]


def test_missing_key_and_attribute_are_refused(s3: Any, bucket: str) -> None:
    refused(
        "NoSuchKey", 404, s3.get_object_attributes, Bucket=bucket, Key="k", ObjectAttributes=ALL
    )
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused(
        "InvalidArgument", 400, s3.get_object_attributes, Bucket=bucket, Key="k",
        ObjectAttributes=["Colour"],
    )  # fmt: skip
