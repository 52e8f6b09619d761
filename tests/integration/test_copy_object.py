"""CopyObject: bytes stay in the store; directives, conditions, versions, itself."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.s3 import refused


@pytest.mark.parametrize("size", [0, 10, 100_000, 6_000_000])
def test_copy_has_bytes_metadata_and_tags(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    etag = s3.put_object(
        Bucket=bucket, Key="a b+ü", Body=data, Metadata={"m": "1"}, Tagging="t=1",
        ContentType="text/plain", CacheControl="no-cache",
    )["ETag"]  # fmt: skip
    copied = s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a b+ü"})
    assert copied["CopyObjectResult"]["ETag"] == etag
    got = s3.get_object(Bucket=bucket, Key="b")
    assert got["Body"].read() == data
    assert (got["Metadata"], got["ContentType"], got["CacheControl"]) == (
        {"m": "1"}, "text/plain", "no-cache",
    )  # fmt: skip
    assert s3.get_object_tagging(Bucket=bucket, Key="b")["TagSet"] == [{"Key": "t", "Value": "1"}]


def test_directives_replace(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", Metadata={"m": "1"}, Tagging="t=1")
    s3.copy_object(
        Bucket=bucket, Key="b", CopySource=f"{bucket}/a", MetadataDirective="REPLACE",
        Metadata={"n": "2"}, TaggingDirective="REPLACE", Tagging="u=2",
    )  # fmt: skip
    got = s3.head_object(Bucket=bucket, Key="b")
    assert (got["Metadata"], got["ContentType"]) == ({"n": "2"}, "binary/octet-stream")
    assert s3.get_object_tagging(Bucket=bucket, Key="b")["TagSet"] == [{"Key": "u", "Value": "2"}]
    refused(
        "InvalidArgument", 400, s3.copy_object, Bucket=bucket, Key="b", CopySource=f"{bucket}/a",
        MetadataDirective="MERGE",
    )  # fmt: skip


def test_onto_itself_something_must_change(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    itself: dict[str, Any] = {"Bucket": bucket, "Key": "k", "CopySource": f"{bucket}/k"}
    refused("InvalidRequest", 400, s3.copy_object, **itself)
    s3.copy_object(**itself, MetadataDirective="REPLACE", Metadata={"new": "1"})
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Metadata"], got["Body"].read()) == ({"new": "1"}, b"x")


def test_old_version_copied_over_rolls_back(s3: Any, versioned: str) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"old")["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"new")
    copied = s3.copy_object(
        Bucket=versioned, Key="k", CopySource={"Bucket": versioned, "Key": "k", "VersionId": first}
    )
    assert copied["CopySourceVersionId"] == first
    assert copied["VersionId"] != first
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"old"
    assert len(s3.list_object_versions(Bucket=versioned)["Versions"]) == 3


def test_source_conditions_are_checked(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
    copy: dict[str, Any] = {"Bucket": bucket, "Key": "b", "CopySource": f"{bucket}/a"}
    past = datetime.now(UTC) - timedelta(days=1)
    for wrong in (
        {"CopySourceIfMatch": '"other"'}, {"CopySourceIfNoneMatch": etag},
        {"CopySourceIfUnmodifiedSince": past}, {"CopySourceIfModifiedSince": datetime.now(UTC)},
    ):  # fmt: skip
        refused("PreconditionFailed", 412, s3.copy_object, **copy, **wrong)
    s3.copy_object(**copy, CopySourceIfMatch=etag, CopySourceIfUnmodifiedSince=past)


def test_conditions_on_the_target_are_checked(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
    copy: dict[str, Any] = {"Bucket": bucket, "Key": "b", "CopySource": f"{bucket}/a"}
    refused("NoSuchKey", 404, s3.copy_object, **copy, IfMatch=etag)
    s3.copy_object(**copy, IfNoneMatch="*")
    refused("PreconditionFailed", 412, s3.copy_object, **copy, IfNoneMatch="*")
    s3.copy_object(**copy, IfMatch=etag)


def test_missing_source_has_its_code(s3: Any, versioned: str) -> None:
    for source, code in (
        ("there-is-none/k", "NoSuchBucket"), (f"{versioned}/none", "NoSuchKey"),
        (f"{versioned}/none?versionId={'0' * 32}", "NoSuchVersion"),
    ):  # fmt: skip
        refused(code, 404, s3.copy_object, Bucket=versioned, Key="b", CopySource=source)
    s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    source = f"{versioned}/k"
    refused("NoSuchKey", 404, s3.copy_object, Bucket=versioned, Key="b", CopySource=source)
    refused(
        "InvalidRequest", 400, s3.copy_object, Bucket=versioned, Key="b",
        CopySource=f"{source}?versionId={marker}",
    )  # fmt: skip
    refused("InvalidArgument", 400, s3.copy_object, Bucket=versioned, Key="b", CopySource="nothing")


def test_source_of_another_account_is_403(s3: Any, other: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    own = bucket + "-other"
    other.create_bucket(Bucket=own)
    refused("AccessDenied", 403, other.copy_object, Bucket=own, Key="k", CopySource=f"{bucket}/k")
    refused(
        "AccessDenied", 403, s3.copy_object, Bucket=bucket, Key="b", CopySource=f"{bucket}/k",
        ExpectedSourceBucketOwner="222222222222",
    )  # fmt: skip


def test_checksum_can_be_asked_for(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x" * 20_000)
    copied = s3.copy_object(
        Bucket=bucket, Key="b", CopySource=f"{bucket}/a", ChecksumAlgorithm="SHA256"
    )
    head = s3.head_object(Bucket=bucket, Key="b", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == copied["CopyObjectResult"]["ChecksumSHA256"]
