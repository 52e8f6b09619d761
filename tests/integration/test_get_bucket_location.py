"""GetBucketLocation."""

from typing import Any

from tests.support.cluster import Cluster
from tests.support.s3 import refused, send_signed


def test_us_east_1_is_an_empty_constraint(cluster: Cluster, s3: Any, bucket: str) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    answer = send_signed(cluster, "GET", f"/{bucket}?location")
    assert b"<LocationConstraint" in answer.body


def test_missing_bucket_is_404(s3: Any) -> None:
    refused("NoSuchBucket", 404, s3.get_bucket_location, Bucket="there-is-none")


def test_bucket_of_another_account_is_403(other: Any, bucket: str) -> None:
    refused("AccessDenied", 403, other.get_bucket_location, Bucket=bucket)
