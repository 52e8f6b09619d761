"""Uploads that are cut, or lie about their length, their chunks or their parts: nothing is stored.

Method: raw sockets with good signatures, so that only the lie is left to be found.
"""

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cluster import Cluster, wait_for
from tests.support.raw import (
    STREAMING,
    Answer,
    call,
    connect,
    exchange,
    read_all,
    resident_bytes,
    sign,
)

MIB = 1 << 20
PIECES = [bytes([number]) * 65_536 for number in range(3)]
SIZE = sum(map(len, PIECES))
Change = Callable[[list[bytes]], list[bytes]]


def stored(s3: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.mark.parametrize("sent", [0, 10, 300_000, 3_900_000])
def test_cut_uploads_store_nothing_and_keep_what_was_there(
    cluster: Cluster, s3: Any, bucket: str, sent: int
) -> None:
    s3.put_object(Bucket=bucket, Key="old", Body=b"before")
    for key in ("new", "old"):
        head = sign(cluster, "PUT", f"/{bucket}/{key}", [("content-length", "4000000")]).head
        exchange(cluster, head + bytes(sent), is_cut=True)
    assert stored(s3, bucket) == ["old"]
    assert s3.get_object(Bucket=bucket, Key="old")["Body"].read() == b"before"


def test_a_hundred_cut_uploads_leave_no_memory(cluster: Cluster, s3: Any, bucket: str) -> None:
    pid = cluster.pid_of("gateway-1")
    s3.put_object(Bucket=bucket, Key="warm", Body=bytes(16 * MIB))
    before = resident_bytes(pid)
    for number in range(100):
        head = sign(cluster, "PUT", f"/{bucket}/{number}", [("content-length", "90000000")]).head
        with connect(cluster) as connection:
            connection.sendall(head + bytes(2 * MIB))
    s3.put_object(Bucket=bucket, Key="after", Body=bytes(16 * MIB))
    assert stored(s3, bucket) == ["after", "warm"]
    # The budget of buffers may have been used; nothing beyond it.
    assert resident_bytes(pid) < before + 192 * MIB


def test_more_bytes_than_announced_are_no_part_of_it(
    cluster: Cluster, s3: Any, bucket: str
) -> None:
    head = sign(cluster, "PUT", f"/{bucket}/k", [("content-length", "5")]).head
    answer = exchange(cluster, head + b"hello world, and no request\r\n\r\n")
    assert b" 400 " in answer.data  # the rest is no request
    for key in stored(s3, bucket):
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"hello"


def test_a_length_beyond_what_one_upload_may_have(cluster: Cluster, bucket: str) -> None:
    for size in (5 * 1024**3 + 1, 2**62):
        head = sign(cluster, "PUT", f"/{bucket}/k", [("content-length", str(size))]).head
        answer = exchange(cluster, head)
        assert (answer.status, answer.code) == (400, "EntityTooLarge")


def test_a_body_without_length_is_refused(cluster: Cluster, bucket: str) -> None:
    answer = exchange(cluster, sign(cluster, "PUT", f"/{bucket}/k", [("connection", "close")]).head)
    assert (answer.status, answer.code) == (411, "MissingContentLength")


def chunked(cluster: Cluster, target: str, change: Change, declared: int = SIZE) -> Answer:
    """An upload in signed chunks, changed on its way."""
    honest = sum(len(f"{len(p):x};chunk-signature=") + 64 + 4 + len(p) for p in [*PIECES, b""])
    headers = [
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", str(declared)),
        ("content-length", str(honest)),
        ("connection", "close"),
    ]
    signed = sign(cluster, "PUT", target, headers, STREAMING)
    with connect(cluster) as connection:
        connection.sendall(signed.head)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"".join(change(signed.chunks(PIECES))))
            connection.shutdown(socket.SHUT_WR) if change is cut else None
        return read_all(connection)


def honestly(chunks: list[bytes]) -> list[bytes]:
    return chunks


def cut(chunks: list[bytes]) -> list[bytes]:
    return chunks[:2]


def test_signed_chunks_as_they_should_be(cluster: Cluster, s3: Any, bucket: str) -> None:
    assert chunked(cluster, f"/{bucket}/k", honestly).status == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"".join(PIECES)


def flipped(chunk: bytes) -> bytes:
    return chunk[:-3] + bytes([chunk[-3] ^ 1]) + chunk[-2:]


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda c: [c[1], c[0], c[2], c[3]], {"SignatureDoesNotMatch"}),
        (lambda c: [c[0], c[0], c[2], c[3]], {"SignatureDoesNotMatch"}),
        (lambda c: [c[0], c[2], c[3], b"0" * len(c[1])], {"SignatureDoesNotMatch"}),
        (lambda c: [c[0], flipped(c[1]), c[2], c[3]], {"SignatureDoesNotMatch"}),
        (lambda c: [c[0], c[1], c[2], c[3].replace(b"0;", b"0;x-")], {"SignatureDoesNotMatch"}),
        (lambda c: [c[0].replace(b"10000;", b"1000g;"), *c[1:]], {"InvalidChunkSizeError"}),
        (lambda c: [c[0].replace(b"10000;", b"-0001;"), *c[1:]], {"InvalidChunkSizeError"}),
        (lambda c: [c[0].replace(b"10000;", b"0ffff;"), *c[1:]], {"InvalidChunkSizeError"}),
        (lambda c: [c[0].replace(b"10000;", b"fffff;"), *c[1:]], {"IncompleteBody"}),
        (lambda c: [b"x" * len(b"".join(c))], {"InvalidChunkSizeError"}),
    ],
)
def test_chunks_reordered_repeated_cut_out_or_changed(
    cluster: Cluster, s3: Any, bucket: str, change: Change, codes: set[str]
) -> None:
    answer = chunked(cluster, f"/{bucket}/k", change)
    assert answer.status in (400, 403) and answer.code in codes, answer.data
    assert stored(s3, bucket) == []


def test_chunks_that_end_early(cluster: Cluster, s3: Any, bucket: str) -> None:
    chunked(cluster, f"/{bucket}/k", cut)
    assert stored(s3, bucket) == []


@pytest.mark.parametrize("declared", [SIZE - 1, SIZE + 1, 0])
def test_lies_about_the_decoded_length(
    cluster: Cluster, s3: Any, bucket: str, declared: int
) -> None:
    answer = chunked(cluster, f"/{bucket}/k", honestly, declared)
    assert (answer.status, answer.code) == (400, "IncompleteBody")
    assert stored(s3, bucket) == []


@pytest.mark.parametrize("declared", ["", "-1", "five", "9" * 30])
def test_no_decoded_length(cluster: Cluster, bucket: str, declared: str) -> None:
    headers = [("x-amz-decoded-content-length", declared), ("content-length", "10")]
    headers.append(("connection", "close"))
    answer = exchange(
        cluster, sign(cluster, "PUT", f"/{bucket}/k", headers, STREAMING).head + bytes(10)
    )
    assert (answer.status, answer.code) == (411, "MissingContentLength")


def error_of(request: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as found:
        request()
    return str(found.value.response["Error"]["Code"])


def test_part_numbers_and_lists_beyond_ten_thousand(cluster: Cluster, s3: Any, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    for number in ("0", "10001", "-1", "1e3", "99999999999999999999"):
        answer = call(cluster, "PUT", f"/{bucket}/k?partNumber={number}&uploadId={upload_id}", b"x")
        assert (answer.status, answer.code) == (400, "InvalidArgument"), number
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=10_000, Body=b"x")
    parts = [{"PartNumber": number, "ETag": part["ETag"]} for number in range(1, 10_002)]
    complete = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    code = error_of(
        lambda: s3.complete_multipart_upload(**complete, MultipartUpload={"Parts": parts})
    )
    assert code in ("InvalidArgument", "InvalidPart", "MalformedXML")
    assert stored(s3, bucket) == []
    s3.complete_multipart_upload(**complete, MultipartUpload={"Parts": [{**part_of(part)}]})
    assert stored(s3, bucket) == ["k"]


def part_of(part: Any) -> dict[str, Any]:
    return {"PartNumber": 10_000, "ETag": part["ETag"]}


def test_a_part_that_is_cut_is_no_part(cluster: Cluster, s3: Any, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    target = f"/{bucket}/k?partNumber=1&uploadId={upload_id}"
    head = sign(cluster, "PUT", target, [("content-length", "6000000")]).head
    exchange(cluster, head + bytes(5_900_000), is_cut=True)
    wait_for(
        lambda: not s3.list_parts(Bucket=bucket, Key="k", UploadId=upload_id).get("Parts"),
        "a list without it",
    )
