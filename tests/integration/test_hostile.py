"""What no honest client sends: a known error, nothing half stored, and the service goes on.

Method: raw sockets and unsigned or changed requests against the running endpoint.
"""

import http.client
import os
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.support.cluster import ACCESS_KEY, REGION, SECRET_KEY, Cluster
from tests.support.raw import exchange


def presigned(cluster: Cluster, bucket: str, key: str, method: str = "put_object") -> str:
    client = boto3.client(
        "s3", endpoint_url=cluster.endpoint, region_name=REGION, aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY, config=Config(signature_version="s3v4"),
    )  # fmt: skip
    url: str = client.generate_presigned_url(method, Params={"Bucket": bucket, "Key": key})
    return url.removeprefix(cluster.endpoint)


def request(cluster: Cluster, method: str, target: str, **options: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=20)
    try:
        connection.request(method, target, **options)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_anonymous_is_403(cluster: Cluster, bucket: str) -> None:
    for method, target in [("GET", "/"), ("GET", f"/{bucket}"), ("PUT", f"/{bucket}/k")]:
        status, body = request(cluster, method, target)
        assert status == 403
        assert b"<Code>AccessDenied</Code>" in body


def test_presigned_urls_work_and_name_one_key(cluster: Cluster, bucket: str) -> None:
    target = presigned(cluster, bucket, "k")
    assert request(cluster, "PUT", target, body=b"data")[0] == 200
    assert request(cluster, "GET", presigned(cluster, bucket, "k", "get_object"))[1] == b"data"
    assert request(cluster, "PUT", target.replace("/k?", "/other?"), body=b"x")[0] == 403
    assert request(cluster, "GET", target)[0] == 403


@pytest.mark.parametrize("path", ["/%ff", "/bucket/%80", "/bucket/%zz"])
def test_invalid_utf8_in_paths_is_400(cluster: Cluster, path: str) -> None:
    status, body = request(cluster, "GET", path)
    assert status == 400
    assert b"<Code>InvalidURI</Code>" in body


def test_unsupported_operations_are_501(s3: Any, bucket: str) -> None:
    with pytest.raises(Exception, match="NotImplemented"):
        s3.put_bucket_cors(
            Bucket=bucket,
            CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]},
        )
    with pytest.raises(Exception, match="NotImplemented"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"", StorageClass="GLACIER")


def test_no_plaintext_and_no_secret_on_disk(cluster: Cluster, s3: Any, bucket: str) -> None:
    marker = b"plaintext-marker-" + os.urandom(8).hex().encode()
    s3.put_object(Bucket=bucket, Key="inline", Body=marker * 10)
    s3.put_object(Bucket=bucket, Key="blob", Body=marker * 20_000)
    os.sync()
    for name in ["meta", *[f"zone-{n}" for n in range(1, 7)], "logs"]:
        for path in (Path(cluster.data) / name).rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert marker not in data, path
                assert SECRET_KEY.encode() not in data, path


def test_refused_upload_that_waits_for_100_continue_ends_the_connection(cluster: Cluster) -> None:
    """The client may send the body or another request next: only a new connection is safe."""
    target = presigned(cluster, "no-such-bucket", "k")
    head = (
        f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{cluster.port}\r\n"
        "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    answer = exchange(cluster, head.encode())
    assert answer.status == 404
    assert b"100 Continue" not in answer.data
