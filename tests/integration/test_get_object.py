"""GetObject: ranges, conditions, versions, overrides, and the bytes that a range reads."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.s3 import MIB, complete, node_bytes_read, refused, send_signed, upload

SIZE = 5_000_000
BLOCK_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def readable(s3: Any) -> tuple[str, bytes]:
    """A bucket with one large object that no test changes, and its bytes."""
    name = f"readable-{os.urandom(6).hex()}"
    data = os.urandom(SIZE)
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=data)
    return name, data


@pytest.mark.parametrize(
    ("header", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=65530-65545", 65_530, 65_546),
        ("bytes=4194300-4194310", 4_194_300, 4_194_311),
        ("bytes=4999990-", 4_999_990, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        ("bytes=-9999999", 0, SIZE),
        ("bytes=100-9999999", 100, SIZE),
    ],
)
def test_range_is_206_with_its_place(
    s3: Any, readable: tuple[str, bytes], header: str, begin: int, end: int
) -> None:
    bucket, data = readable
    got = s3.get_object(Bucket=bucket, Key="k", Range=header)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {begin}-{end - 1}/{SIZE}"
    assert got["ContentLength"] == end - begin
    assert got["Body"].read() == data[begin:end]


@pytest.mark.parametrize(
    "header", ["bytes=2-1", "lines=0-1", "bytes=a-b", "bytes=0-1,5-6", "bytes"]
)
def test_range_that_is_none_reads_the_whole(
    s3: Any, readable: tuple[str, bytes], header: str
) -> None:
    bucket, data = readable
    got = s3.get_object(Bucket=bucket, Key="k", Range=header)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert got["Body"].read() == data


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 1}", "bytes=-0"])
def test_range_beyond_the_end_is_416(s3: Any, readable: tuple[str, bytes], header: str) -> None:
    refused("InvalidRange", 416, s3.get_object, Bucket=readable[0], Key="k", Range=header)


def test_range_of_nothing_is_416(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    refused("InvalidRange", 416, s3.get_object, Bucket=bucket, Key="k", Range="bytes=0-")


def test_parallel_ranges_make_the_object(s3: Any, readable: tuple[str, bytes]) -> None:
    bucket, data = readable
    step = 777_777

    def piece(begin: int) -> bytes:
        wanted = f"bytes={begin}-{begin + step - 1}"
        got: bytes = s3.get_object(Bucket=bucket, Key="k", Range=wanted)["Body"].read()
        return got

    with ThreadPoolExecutor(4) as pool:
        assert b"".join(pool.map(piece, range(0, SIZE, step))) == data


def test_range_touches_only_the_blocks_it_needs(
    cluster: Cluster, s3: Any, readable: tuple[str, bytes]
) -> None:
    """A byte lies in one sealed package of 64 KiB and 16 bytes: in two blocks of 64 KiB, or in
    three where the package goes over the end of a cell.

    Method: the nodes' counters around a read; others (workers) may read meanwhile, so that the
    smallest of some tries counts.
    """
    bucket, data = readable

    def cost(header: str) -> int:
        before = node_bytes_read(cluster)
        s3.get_object(Bucket=bucket, Key="k", Range=header)["Body"].read()
        return node_bytes_read(cluster) - before

    for begin in (0, 1_000_000, 4_500_000):
        smallest = min(cost(f"bytes={begin}-{begin}") for _ in range(3))
        assert 0 < smallest <= 3 * BLOCK_BYTES, begin
    assert min(cost("bytes=-1") for _ in range(3)) <= 3 * BLOCK_BYTES
    assert min(cost("bytes=0-") for _ in range(3)) >= len(data)


def test_inline_object_reads_no_node(cluster: Cluster, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="small", Body=b"x" * 16_384)

    def cost() -> int:
        before = node_bytes_read(cluster)
        s3.get_object(Bucket=bucket, Key="small")["Body"].read()
        return node_bytes_read(cluster) - before

    assert min(cost() for _ in range(3)) == 0


def test_range_that_was_cut_can_be_asked_again_alone(s3: Any, readable: tuple[str, bytes]) -> None:
    bucket, data = readable
    got = s3.get_object(Bucket=bucket, Key="k", Range="bytes=1000000-2999999")
    got["Body"].read(10)
    got["Body"].close()
    again = s3.get_object(Bucket=bucket, Key="k", Range="bytes=1000000-2999999")
    assert again["Body"].read() == data[1_000_000:3_000_000]


def test_etag_conditions_beat_dates(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    past = datetime.now(UTC) - timedelta(days=1)
    future = datetime.now(UTC) - timedelta(seconds=-3600)
    get: dict[str, Any] = {"Bucket": bucket, "Key": "k"}
    assert s3.get_object(**get, IfMatch=etag, IfUnmodifiedSince=past)["Body"].read() == b"x"
    refused("304", 304, s3.get_object, **get, IfNoneMatch=etag, IfModifiedSince=past)
    assert s3.get_object(**get, IfNoneMatch='"other"', IfModifiedSince=future)["ETag"] == etag
    refused("PreconditionFailed", 412, s3.get_object, **get, IfMatch='"other"')
    refused("PreconditionFailed", 412, s3.get_object, **get, IfUnmodifiedSince=past)
    refused("304", 304, s3.get_object, **get, IfModifiedSince=datetime.now(UTC))
    headers = refused("304", 304, s3.get_object, **get, IfNoneMatch=etag)
    assert headers["etag"] == etag


def test_failed_condition_beats_a_bad_range(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    refused("304", 304, s3.get_object, Bucket=bucket, Key="k", IfNoneMatch=etag, Range="bytes=9-")


def test_overrides_replace_headers_of_the_answer(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    got = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="image/png", ResponseCacheControl="no-store",
        ResponseContentDisposition="inline", ResponseContentEncoding="br",
        ResponseContentLanguage="fr", ResponseExpires=datetime(2100, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    assert got["ContentType"] == "image/png"
    assert got["CacheControl"] == "no-store"
    assert got["ContentDisposition"] == "inline"
    assert got["ContentEncoding"] == "br"
    assert got["ContentLanguage"] == "fr"
    assert got["ExpiresString"] == "Fri, 01 Jan 2100 00:00:00 GMT"


def test_part_by_number(s3: Any, bucket: str) -> None:
    parts = {2: os.urandom(5 * MIB), 5: b"tail"}
    upload_id, listed = upload(s3, bucket, "k", parts)
    etag = complete(s3, bucket, "k", upload_id, listed)["ETag"]
    for number, body in enumerate(parts.values(), 1):
        got = s3.get_object(Bucket=bucket, Key="k", PartNumber=number)
        assert got["Body"].read() == body
        assert got["PartsCount"] == 2
        assert got["ETag"] == etag
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    refused("InvalidPartNumber", 416, s3.get_object, Bucket=bucket, Key="k", PartNumber=3)
    refused(
        "InvalidRequest", 400, s3.get_object, Bucket=bucket, Key="k", PartNumber=1,
        Range="bytes=0-1",
    )  # fmt: skip


@pytest.mark.parametrize("number", [0, 10_001])
def test_what_numbers_no_part_is_refused(s3: Any, bucket: str, number: int) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused("InvalidArgument", 400, s3.get_object, Bucket=bucket, Key="k", PartNumber=number)


def test_empty_part_has_no_place(s3: Any, bucket: str) -> None:
    """No Content-Range can say that there is nothing."""
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    upload_id, listed = upload(s3, bucket, "k", {1: b"a" * 5 * MIB, 2: b""})
    complete(s3, bucket, "k", upload_id, listed)
    for key, number in (("empty", 1), ("k", 2)):
        got = s3.get_object(Bucket=bucket, Key=key, PartNumber=number)
        assert (got["Body"].read(), got["ContentLength"]) == (b"", 0)
        assert "ContentRange" not in got


def test_resumed_download_never_joins_two_versions(cluster: Cluster, s3: Any, bucket: str) -> None:
    """If-Range: the range of what the client has begun to read, or the whole of what is new."""
    old = s3.put_object(Bucket=bucket, Key="k", Body=b"old bytes")["ETag"]
    date = s3.head_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"][
        "last-modified"
    ]

    def resumed(if_range: str) -> tuple[int, bytes]:
        headers = {"If-Range": if_range, "Range": "bytes=4-"}
        answer = send_signed(cluster, "GET", f"/{bucket}/k", headers)
        return answer.status, answer.body

    assert resumed(old) == resumed(date) == (206, b"bytes")
    for other in (f"W/{old}", "*", "rubbish", "Sun, 01 Jan 2023 00:00:00 GMT", ""):
        assert resumed(other) == (200, b"old bytes"), other
    s3.put_object(Bucket=bucket, Key="k", Body=b"new bytes")
    assert resumed(old) == (200, b"new bytes")


def test_missing_names_have_their_codes(s3: Any, versioned: str) -> None:
    refused("NoSuchBucket", 404, s3.get_object, Bucket="there-is-none", Key="k")
    refused("NoSuchKey", 404, s3.get_object, Bucket=versioned, Key="k")
    s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    refused("NoSuchVersion", 404, s3.get_object, Bucket=versioned, Key="k", VersionId="0" * 32)
    refused("InvalidArgument", 400, s3.get_object, Bucket=versioned, Key="k", VersionId="made up")


def test_delete_marker_is_404_or_405(s3: Any, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    headers = refused("NoSuchKey", 404, s3.get_object, Bucket=versioned, Key="k")
    assert headers["x-amz-delete-marker"] == "true"
    headers = refused(
        "MethodNotAllowed", 405, s3.get_object, Bucket=versioned, Key="k", VersionId=marker
    )
    assert headers["x-amz-delete-marker"] == "true"
    assert headers["allow"] == "DELETE"


def test_other_account_may_not_read(s3: Any, other: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused("AccessDenied", 403, other.get_object, Bucket=bucket, Key="k")
    refused("AccessDenied", 403, other.get_object, Bucket=bucket, Key="none")


def test_unexpected_owner_is_403(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.get_object(Bucket=bucket, Key="k", ExpectedBucketOwner="111111111111")
    refused(
        "AccessDenied", 403, s3.get_object, Bucket=bucket, Key="k",
        ExpectedBucketOwner="222222222222",
    )  # fmt: skip


def test_answers_and_errors_carry_ids(cluster: Cluster, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = send_signed(cluster, "GET", f"/{bucket}/k")
    assert answer.headers["etag"] == f'"{hashlib.md5(b"x").hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    for name in ("x-amz-request-id", "x-amz-id-2", "date", "server"):
        assert answer.headers[name]
    missing = send_signed(cluster, "GET", f"/{bucket}/none")
    assert f"<RequestId>{missing.headers['x-amz-request-id']}</RequestId>".encode() in missing.body
    assert f"<Resource>/{bucket}/none</Resource>".encode() in missing.body
