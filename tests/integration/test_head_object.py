"""HeadObject: what GET says, without the bytes."""

import os
from typing import Any

from tests.support.cluster import Cluster
from tests.support.s3 import refused, send_signed


def test_headers_are_those_of_get(cluster: Cluster, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=os.urandom(100_000), Metadata={"a": "1"})
    for headers in ({}, {"range": "bytes=5-9"}, {"x-amz-checksum-mode": "ENABLED"}):
        head = send_signed(cluster, "HEAD", f"/{bucket}/k", headers)
        got = send_signed(cluster, "GET", f"/{bucket}/k", headers)
        volatile = {"date", "x-amz-request-id"}
        assert {n: v for n, v in head.headers.items() if n not in volatile} == {
            n: v for n, v in got.headers.items() if n not in volatile
        }
        assert head.status == got.status
        assert head.body == b""


def test_missing_names_are_bare_404(s3: Any, versioned: str) -> None:
    refused("404", 404, s3.head_object, Bucket=versioned, Key="k")
    refused("404", 404, s3.head_object, Bucket="there-is-none", Key="k")
    s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    headers = refused("404", 404, s3.head_object, Bucket=versioned, Key="k")
    assert headers["x-amz-delete-marker"] == "true"
    refused("405", 405, s3.head_object, Bucket=versioned, Key="k", VersionId=marker)


def test_conditions_are_those_of_get(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    refused("304", 304, s3.head_object, Bucket=bucket, Key="k", IfNoneMatch=etag)
    refused("412", 412, s3.head_object, Bucket=bucket, Key="k", IfMatch='"other"')
    refused("416", 416, s3.head_object, Bucket=bucket, Key="k", Range="bytes=9-")


def test_other_account_is_403(s3: Any, other: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused("403", 403, other.head_object, Bucket=bucket, Key="k")
