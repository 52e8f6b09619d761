"""PutBucketTagging: a set of at most 50 tags, replaced as a whole."""

from typing import Any

import pytest

from tests.support.s3 import refused


def tag_set(tags: dict[str, str]) -> dict[str, Any]:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def test_set_replaces_the_one_before(s3: Any, bucket: str) -> None:
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set({"a": "1", "b": "2"}))
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set({"c": "ü + /"}))
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "c", "Value": "ü + /"}]


def test_fifty_tags_fit_and_one_more_does_not(s3: Any, bucket: str) -> None:
    many = {f"key-{number}": "v" for number in range(51)}
    refused("InvalidTag", 400, s3.put_bucket_tagging, Bucket=bucket, Tagging=tag_set(many))
    del many["key-50"]
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set(many))
    assert len(s3.get_bucket_tagging(Bucket=bucket)["TagSet"]) == 50


@pytest.mark.parametrize("tags", [{"k" * 129: "v"}, {"k": "v" * 257}, {"aws:k": "v"}, {"k!": "v"}])
def test_invalid_tag_is_refused(s3: Any, bucket: str, tags: dict[str, str]) -> None:
    refused("InvalidTag", 400, s3.put_bucket_tagging, Bucket=bucket, Tagging=tag_set(tags))
    refused("NoSuchTagSet", 404, s3.get_bucket_tagging, Bucket=bucket)


def test_same_key_twice_is_refused(s3: Any, bucket: str) -> None:
    twice = {"TagSet": [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}]}
    refused("InvalidTag", 400, s3.put_bucket_tagging, Bucket=bucket, Tagging=twice)
