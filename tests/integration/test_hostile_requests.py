"""Requests that are no HTTP, or two requests at once to two readers; targets and heads too long.

Method: raw bytes. Each gets one S3 error, ends its connection, and never becomes a second request.
"""

from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.raw import call, exchange, resident_bytes, sign

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
END = b"\r\n\r\n"
BAD_HEADS = {
    "nonsense": b"nonsense\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    "negative length": b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
    "length in words": b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: five\r\n\r\n",
    "length with plus": b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: +5\r\n\r\n",
    "enormous length": b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: " + b"9" * 40 + END,
    "two lengths": b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6" + END,
    "length twice": b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5, 5\r\n\r\n",
    "length and chunked": (
        b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
        b"0\r\n\r\n" + SMUGGLED
    ),
    "chunked and length": (
        b"PUT /b/k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n"
        b"0\r\n\r\n" + SMUGGLED
    ),
    "other encoding": (
        b"PUT /b/k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"
    ),
    "encoding with space": (
        b"PUT /b/k HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n"
    ),
    "folded header": b"GET / HTTP/1.1\r\nhost: x\r\nx-a: 1\r\n content-length: 5\r\n\r\n",
    "folded first": b"GET / HTTP/1.1\r\n host: x\r\n\r\n",
    "bare newlines": b"GET / HTTP/1.1\nhost: x\n\n",
    "bare return": b"GET / HTTP/1.1\r\nhost: x\r\nx-a: 1\rx-b: 2\r\n\r\n",
    "zero in value": b"GET / HTTP/1.1\r\nhost: x\r\nx-a: a\0b\r\n\r\n",
    "space in name": b"GET / HTTP/1.1\r\nhost: x\r\nx a: 1\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nhost: x\r\nheader\r\n\r\n",
    "other version": b"GET / HTTP/3.7\r\nhost: x\r\n\r\n",
    "other method": b"GE\x01T / HTTP/1.1\r\nhost: x\r\n\r\n",
    "tls on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_HEADS)
def test_what_is_not_http_is_refused_once(cluster: Cluster, name: str) -> None:
    answer = exchange(cluster, BAD_HEADS[name])
    assert answer.status == 400
    assert answer.code in ("InvalidRequest", "IncompleteBody")
    assert answer.data.count(b"HTTP/1.") == 1
    assert b"smuggled" not in answer.data


@pytest.mark.parametrize(
    "body",
    [
        b"5;x=\0\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"6\r\nhello\r\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_bad_http_chunks_store_nothing(cluster: Cluster, s3: Any, bucket: str, body: bytes) -> None:
    headers = [("transfer-encoding", "chunked"), ("connection", "close")]
    head = sign(cluster, "PUT", f"/{bucket}/k", headers).head
    answer = exchange(cluster, head + body)
    assert answer.status == 400, answer.data
    assert answer.code in ("InvalidRequest", "IncompleteBody")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_long_chunk_extension_is_no_data(cluster: Cluster, s3: Any, bucket: str) -> None:
    """Refused or passed over, by how it comes in pieces; never kept."""
    pid = cluster.pid_of("gateway-1")
    before = resident_bytes(pid)
    headers = [("transfer-encoding", "chunked"), ("connection", "close")]
    head = sign(cluster, "PUT", f"/{bucket}/k", headers).head
    body = b"5;" + b"e" * 8_000_000 + b"\r\nhello\r\n0\r\n\r\n"
    answer = exchange(cluster, head + body)
    assert answer.status in (0, 200, 400)  # 0: closed while we were still sending
    if answer.status == 200:
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"
    assert resident_bytes(pid) < before + 16 * 1024 * 1024


def test_a_body_behind_a_refused_request_is_no_request(cluster: Cluster, bucket: str) -> None:
    """A body that looks like a request stays a body, whatever became of the request."""
    for target in (f"/{bucket}/k?versionId=nonsense", "/no-such-bucket-at-all/k", f"/{bucket}/k"):
        extra = [("content-length", str(len(SMUGGLED) * 2))]
        head = sign(cluster, "PUT", target, extra).head
        closing = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        answer = exchange(cluster, head + SMUGGLED * 2 + closing)
        assert answer.data.count(b"HTTP/1.1 ") in (1, 2)
        assert b"/smuggled" not in answer.data


def test_pipelined_requests_are_answered_in_order(cluster: Cluster, s3: Any, bucket: str) -> None:
    for key in "abc":
        s3.put_object(Bucket=bucket, Key=key, Body=f"body of {key}".encode())
    heads = [sign(cluster, "GET", f"/{bucket}/{key}").head for key in "ab"]
    heads.append(sign(cluster, "GET", f"/{bucket}/c", [("connection", "close")]).head)
    answer = exchange(cluster, b"".join(heads))
    found = [answer.data.index(f"body of {key}".encode()) for key in "abc"]
    assert found == sorted(found) and answer.data.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    "headers",
    [
        [("x-amz-meta-a", "x" * 17_000)],
        [(f"x-amz-meta-{n}", "x" * 1000) for n in range(20)],
        [(f"x-h-{n}", "x") for n in range(200)],
        [("x" * 17_000, "x")],
        [("x-filler", "x" * 1_000_000)],
    ],
)
def test_a_head_too_large_is_named(
    cluster: Cluster, s3: Any, bucket: str, headers: list[tuple[str, str]]
) -> None:
    answer = call(cluster, "PUT", f"/{bucket}/k", b"x", headers)
    assert (answer.status, answer.code) == (400, "RequestHeaderSectionTooLarge")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_heads_too_large_take_no_memory(cluster: Cluster) -> None:
    pid = cluster.pid_of("gateway-1")
    before = resident_bytes(pid)
    head = b"GET / HTTP/1.1\r\nhost: x\r\n" + b"".join(
        b"x-%d: %s\r\n" % (number, b"x" * 15_000) for number in range(127)
    )
    for _ in range(30):
        assert exchange(cluster, head).code == "RequestHeaderSectionTooLarge"
    assert resident_bytes(pid) < before + 16 * 1024 * 1024


def test_a_target_too_long_is_named(cluster: Cluster, bucket: str) -> None:
    answer = call(cluster, "PUT", f"/{bucket}/" + "k" * 1_100, b"x")
    assert (answer.status, answer.code) == (400, "KeyTooLongError")
    for target in (f"/{bucket}/" + "k" * 100_000, f"/{bucket}?prefix=" + "p" * 100_000):
        answer = exchange(cluster, f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert (answer.status, answer.code) == (400, "InvalidURI")


def test_user_metadata_too_large_is_named(cluster: Cluster, s3: Any, bucket: str) -> None:
    fits = [("x-amz-meta-a", "x" * (2048 - 1))]
    assert call(cluster, "PUT", f"/{bucket}/fits", b"x", fits).status == 200
    answer = call(cluster, "PUT", f"/{bucket}/k", b"x", [("x-amz-meta-a", "x" * 2048)])
    assert (answer.status, answer.code) == (400, "MetadataTooLarge")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["fits"]


def test_compressed_bodies_are_stored_as_they_are(cluster: Cluster, s3: Any, bucket: str) -> None:
    """Content-Encoding is metadata: nothing is ever unpacked here."""
    data = b"\x1f\x8b no gzip at all"
    headers = [("content-encoding", "gzip")]
    assert call(cluster, "PUT", f"/{bucket}/k", data, headers).status == 200
    found = s3.get_object(Bucket=bucket, Key="k")
    assert (found["Body"].read(), found["ContentEncoding"]) == (data, "gzip")
