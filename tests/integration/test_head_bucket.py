"""HeadBucket: is it there, is it mine, where is it."""

from typing import Any

from tests.support.cluster import Cluster
from tests.support.s3 import refused, send, send_signed


def test_own_bucket_names_its_region(s3: Any, bucket: str) -> None:
    answer = s3.head_bucket(Bucket=bucket)
    assert answer["BucketRegion"] == "us-east-1"
    assert answer["AccessPointAlias"] is False


def test_missing_bucket_is_404(s3: Any) -> None:
    refused("404", 404, s3.head_bucket, Bucket="there-is-none")


def test_bucket_of_another_account_is_403(other: Any, bucket: str) -> None:
    refused("403", 403, other.head_bucket, Bucket=bucket)


def test_errors_have_no_body_but_ids(cluster: Cluster) -> None:
    answer = send_signed(cluster, "HEAD", "/there-is-none")
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["x-amz-request-id"]
    assert answer.headers["x-amz-id-2"]
    assert answer.headers["server"] == "Ostraka"
    assert "date" in answer.headers


def test_anonymous_is_403(cluster: Cluster, bucket: str) -> None:
    assert send(cluster, "HEAD", f"/{bucket}").status == 403
