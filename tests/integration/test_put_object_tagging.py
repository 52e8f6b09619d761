"""PutObjectTagging, GetObjectTagging, DeleteObjectTagging: per version."""

from typing import Any

import pytest

from tests.support.s3 import refused


def tag_set(tags: dict[str, str]) -> dict[str, Any]:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def tags_of(s3: Any, **arguments: str) -> dict[str, str]:
    shown = s3.get_object_tagging(**arguments)["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in shown}


def test_set_is_replaced_and_deleted(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="old=1")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tag_set({"a": "1", "ü": "+ /"}))
    assert tags_of(s3, Bucket=bucket, Key="k") == {"a": "1", "ü": "+ /"}
    assert s3.head_object(Bucket=bucket, Key="k")["TagCount"] == 2
    deleted = s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert tags_of(s3, Bucket=bucket, Key="k") == {}


def test_versions_have_tags_of_their_own(s3: Any, versioned: str) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1", Tagging="a=1")["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"2")
    answer = s3.put_object_tagging(
        Bucket=versioned, Key="k", VersionId=first, Tagging=tag_set({"b": "2"})
    )
    assert answer["VersionId"] == first
    assert tags_of(s3, Bucket=versioned, Key="k", VersionId=first) == {"b": "2"}
    assert tags_of(s3, Bucket=versioned, Key="k") == {}


@pytest.mark.parametrize(
    "tags", [{f"k{n}": "v" for n in range(11)}, {"k" * 129: "v"}, {"k": "v" * 257}, {"aws:k": "v"}]
)
def test_invalid_set_changes_nothing(s3: Any, bucket: str, tags: dict[str, str]) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="kept=1")
    refused("InvalidTag", 400, s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=tag_set(tags))
    assert tags_of(s3, Bucket=bucket, Key="k") == {"kept": "1"}


def test_missing_key_version_and_marker(s3: Any, versioned: str) -> None:
    for call in (s3.get_object_tagging, s3.delete_object_tagging):
        refused("NoSuchKey", 404, call, Bucket=versioned, Key="k")
    s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    refused(
        "NoSuchVersion", 404, s3.get_object_tagging, Bucket=versioned, Key="k", VersionId="0" * 32
    )
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    refused(
        "MethodNotAllowed", 405, s3.put_object_tagging, Bucket=versioned, Key="k",
        VersionId=marker, Tagging=tag_set({}),
    )  # fmt: skip


def test_other_account_is_403(s3: Any, other: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused("AccessDenied", 403, other.get_object_tagging, Bucket=bucket, Key="k")
