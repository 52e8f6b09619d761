"""GetBucketTagging."""

from typing import Any

from tests.support.s3 import refused


def test_bucket_without_tags_says_so(s3: Any, bucket: str) -> None:
    refused("NoSuchTagSet", 404, s3.get_bucket_tagging, Bucket=bucket)


def test_bucket_of_another_account_is_403(other: Any, bucket: str) -> None:
    refused("AccessDenied", 403, other.get_bucket_tagging, Bucket=bucket)
