"""Signatures used for what they were not made for: other path, method, time, body, algorithm.

Method: a good request, then the same with one thing changed; what may be replayed is said too.
"""

import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.support.cluster import Cluster
from tests.support.raw import Answer, exchange, sign


def send(cluster: Cluster, head: bytes, body: bytes = b"") -> Answer:
    return exchange(cluster, head.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1) + body)


def test_a_signed_request_is_good_for_nothing_else(cluster: Cluster, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="other", Body=b"old")
    head = sign(cluster, "PUT", f"/{bucket}/k?tagging=", [("content-length", "4")]).head
    good = sign(cluster, "PUT", f"/{bucket}/k", [("content-length", "4")]).head
    assert send(cluster, good, b"body").status == 200
    assert send(cluster, good, b"body").status == 200  # a repeat writes the same, as in S3
    for old, new in (
        (f"PUT /{bucket}/k", f"PUT /{bucket}/other"),
        (f"PUT /{bucket}/k", f"DELETE /{bucket}/k"),
        (f"PUT /{bucket}/k", f"PUT /{bucket}/k?acl="),
        (f"PUT /{bucket}/k", f"PUT /{bucket}/k/"),
        (f"PUT /{bucket}/k", f"PUT /{bucket}//k"),
        (f"PUT /{bucket}/k", f"PUT /{bucket}/x/../k"),
        ("content-length: 4", "content-length: 5"),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"),
        ("AWS4-HMAC-SHA256", "none"),
        ("/us-east-1/s3/", "/eu-west-1/s3/"),
        ("/us-east-1/s3/", "/us-east-1/iam/"),
        ("SignedHeaders=content-length;", "SignedHeaders="),
        ("x-amz-content-sha256: UNSIGNED-PAYLOAD", "x-amz-content-sha256: " + "0" * 64),
    ):
        assert old.encode() in good
        answer = send(cluster, good.replace(old.encode(), new.encode()), b"evil!"[:5])
        assert answer.status in (400, 403), (old, new, answer.data)
    assert send(cluster, head.replace(b"?tagging=", b"")).status == 403
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"
    assert s3.get_object(Bucket=bucket, Key="other")["Body"].read() == b"old"


def test_headers_that_matter_must_be_signed(cluster: Cluster, s3: Any, bucket: str) -> None:
    head = sign(cluster, "PUT", f"/{bucket}/k", [("content-length", "1")]).head
    smuggled = head.replace(b"\r\n\r\n", b"\r\nx-amz-meta-a: smuggled\r\n\r\n", 1)
    answer = send(cluster, smuggled, b"x")
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_declared_hash_is_enforced(cluster: Cluster, s3: Any, bucket: str) -> None:
    signed = sign(cluster, "PUT", f"/{bucket}/k", [("content-length", "1")], "0" * 64)
    answer = send(cluster, signed.head, b"x")
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_clock_that_is_off_is_told_so(cluster: Cluster, bucket: str, minutes: int) -> None:
    """The date is what is compared, before any signature."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + minutes * 60))
    signed = sign(cluster, "GET", f"/{bucket}")
    moved = signed.head.replace(signed.stamp.encode(), stamp.encode())
    moved = moved.replace(signed.stamp[:8].encode() + b"/", stamp[:8].encode() + b"/")
    answer = send(cluster, moved)
    assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")


def presigned(s3: Any, bucket: str, expires_s: int) -> str:
    url: str = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=expires_s
    )
    return url


def get(cluster: Cluster, target: str) -> Answer:
    head = f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1:{cluster.port}\r\nconnection: close\r\n\r\n"
    return exchange(cluster, head.encode())


def test_presigned_longer_than_seven_days(cluster: Cluster, bucket: str) -> None:
    s3 = cluster.s3(signature_version="s3v4")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for expires_s, status in ((604_800, 200), (604_801, 400), (10**12, 400)):
        url = urlsplit(presigned(s3, bucket, expires_s))
        answer = get(cluster, f"{url.path}?{url.query}")
        assert answer.status == status
        assert answer.code == ("" if status == 200 else "AuthorizationQueryParametersError")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Amz-Expires", "604799"),
        ("X-Amz-Expires", "-1"),
        ("X-Amz-Expires", "forever"),
        ("X-Amz-Algorithm", "none"),
        ("X-Amz-SignedHeaders", ""),
        ("X-Amz-Signature", ""),
        ("X-Amz-Date", "yesterday"),
        ("X-Amz-Credential", "x"),
        ("response-content-type", "text/html"),
    ],
)
def test_presigned_and_changed(cluster: Cluster, bucket: str, name: str, value: str) -> None:
    s3 = cluster.s3(signature_version="s3v4")
    s3.put_object(Bucket=bucket, Key="k", Body=b"secret text")
    url = urlsplit(presigned(s3, bucket, 600))
    query = {**dict(parse_qsl(url.query)), name: value}
    answer = get(cluster, f"{url.path}?{urlencode(query)}")
    assert answer.status in (400, 403) and answer.code
    assert b"secret text" not in answer.data
