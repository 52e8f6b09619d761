"""PutObject: bytes, metadata, digests, conditions; what is refused leaves nothing behind."""

import base64
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cluster import Cluster
from tests.support.s3 import refused, send_signed, with_md5

SIZES = [0, 1, 4096, 16_384, 16_385, 65_536, 262_144, 262_145, 1_048_576, 5_000_000, 70_000_001]
ALGORITHMS = ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"]


def count(s3: Any, bucket: str) -> int:
    number: int = s3.list_objects_v2(Bucket=bucket)["KeyCount"]
    return number


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_any_size_come_back(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data)
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert put["ServerSideEncryption"] == "AES256"
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data
    assert got["ContentLength"] == size


def test_overwrite_is_seen_at_once_and_listed(s3: Any, bucket: str) -> None:
    for body in (b"first", b"and second"):
        s3.put_object(Bucket=bucket, Key="k", Body=body)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
        (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
        assert entry["Size"] == len(body)


def test_system_metadata_comes_back(s3: Any, bucket: str) -> None:
    given = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a b"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
    }
    expires = "Fri, 01 Jan 2100 00:00:00 GMT"
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Expires=expires, **given)
    for answer in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in given} == given
        assert answer["ExpiresString"] == expires


def test_content_type_has_a_default(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "binary/octet-stream"


def test_user_metadata_names_are_lower_case(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"One": "1", "tWo": "Zwei  2"})
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"one": "1", "two": "Zwei  2"}


def test_metadata_outside_ascii_comes_back_as_an_encoded_word(
    cluster: Cluster, s3: Any, bucket: str
) -> None:
    word = "=?UTF-8?B?" + base64.b64encode("grün 漢".encode()).decode() + "?="
    s3.put_object(Bucket=bucket, Key="word", Body=b"", Metadata={"m": word})
    assert s3.head_object(Bucket=bucket, Key="word")["Metadata"] == {"m": word}
    answer = send_signed(cluster, "PUT", f"/{bucket}/raw", {"x-amz-meta-m": "grün"})
    assert answer.status == 200, answer.body
    expected = "=?UTF-8?B?" + base64.b64encode("grün".encode()).decode() + "?="
    assert s3.head_object(Bucket=bucket, Key="raw")["Metadata"] == {"m": expected}


def test_two_kilobytes_of_metadata_fit_and_no_more(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 2047})
    refused(
        "MetadataTooLarge", 400, s3.put_object, Bucket=bucket, Key="l", Body=b"",
        Metadata={"a": "x" * 2048},
    )  # fmt: skip
    assert count(s3, bucket) == 1


def test_tags_come_with_the_object(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b=x%2By")
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 2
    tags = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    assert tags == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "x+y"}]


@pytest.mark.parametrize(
    ("tagging", "code"),
    [
        ("&".join(f"k{n}=v" for n in range(11)), "InvalidTag"),
        ("k" * 129 + "=v", "InvalidTag"),
        ("k=" + "v" * 257, "InvalidTag"),
        ("a=1&a=2", "InvalidArgument"),
        ("aws:a=1", "InvalidTag"),
    ],
)
def test_invalid_tags_are_refused(s3: Any, bucket: str, tagging: str, code: str) -> None:
    refused(code, 400, s3.put_object, Bucket=bucket, Key="k", Body=b"x", Tagging=tagging)
    assert count(s3, bucket) == 0


@pytest.mark.parametrize(
    "key",
    ["a/../b", "//", "a//b", "./x", "%2e%2e", "a b+c", "ü/ñ/漢", "x" * 1024, "a?b&c=d#e", " "],
)
def test_unusual_key_is_only_a_name(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=b"here")
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"here"
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]


def test_key_and_its_folder_are_three_objects(s3: Any, bucket: str) -> None:
    for key in ("a", "a/", "a/b"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.delete_object(Bucket=bucket, Key="a/b")
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [entry["Key"] for entry in listed] == ["a", "a/"]
    s3.delete_object(Bucket=bucket, Key="a/")
    s3.delete_object(Bucket=bucket, Key="a")
    assert count(s3, bucket) == 0


def test_key_of_1025_bytes_is_refused(s3: Any, bucket: str) -> None:
    for key in ("x" * 1025, "ü" * 512 + "x"):
        refused("KeyTooLongError", 400, s3.put_object, Bucket=bucket, Key=key, Body=b"")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksum_is_kept_and_shown_on_demand(s3: Any, bucket: str, algorithm: str) -> None:
    body = os.urandom(100_000)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
    name = f"Checksum{algorithm}"
    assert name not in s3.head_object(Bucket=bucket, Key="k")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[name] == put[name]
    assert head["ChecksumType"] == "FULL_OBJECT"
    if algorithm.startswith("SHA"):
        digest = hashlib.new(algorithm.lower(), body).digest()
        assert head[name] == base64.b64encode(digest).decode()


def test_crc64nvme_is_computed_when_a_client_sends_none(
    cluster: Cluster, s3: Any, bucket: str
) -> None:
    send_signed(cluster, "PUT", f"/{bucket}/k", body=b"hello world")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == "jSnVw/bqjr4="


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"),
        ({"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()}, "BadDigest"),
        (with_md5(b"another body"), "BadDigest"),
        ({"content-md5": "no base64"}, "InvalidDigest"),
        ({"content-md5": "AAAA"}, "InvalidDigest"),
        ({"x-amz-checksum-crc32": "bad"}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-sha1": "AAAA"}, "InvalidRequest"),
        ({"x-amz-content-sha256": "0" * 64}, "XAmzContentSHA256Mismatch"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [10, 300_000])
def test_wrong_digest_stores_nothing(
    cluster: Cluster, s3: Any, bucket: str, headers: dict[str, str], code: str, size: int
) -> None:
    answer = send_signed(cluster, "PUT", f"/{bucket}/k", headers, b"x" * size)
    assert (answer.status, answer.code) == (400, code)
    assert count(s3, bucket) == 0


def test_right_md5_is_taken(cluster: Cluster, bucket: str) -> None:
    answer = send_signed(cluster, "PUT", f"/{bucket}/k", with_md5(b"body"), b"body")
    assert answer.status == 200


def test_version_id_is_shown_once_versioning_is_enabled(s3: Any, versioned: str) -> None:
    assert len(s3.put_object(Bucket=versioned, Key="k", Body=b"x")["VersionId"]) == 32


def test_if_none_match_creates_only_once(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
    refused(
        "PreconditionFailed", 412, s3.put_object, Bucket=bucket, Key="k", Body=b"2",
        IfNoneMatch="*",
    )  # fmt: skip
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
    s3.delete_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfNoneMatch="*")


def test_if_match_replaces_only_what_was_read(s3: Any, bucket: str) -> None:
    refused("NoSuchKey", 404, s3.put_object, Bucket=bucket, Key="k", Body=b"", IfMatch="*")
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    refused(
        "PreconditionFailed", 412, s3.put_object, Bucket=bucket, Key="k", Body=b"3", IfMatch=etag
    )
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"


def test_if_none_match_with_an_etag_is_501(s3: Any, bucket: str) -> None:
    refused(
        "NotImplemented", 501, s3.put_object, Bucket=bucket, Key="k", Body=b"", IfNoneMatch='"e"'
    )


@pytest.mark.parametrize("size", [10, 100_000])
def test_of_concurrent_creates_exactly_one_succeeds(s3: Any, bucket: str, size: int) -> None:
    def create(number: int) -> int | None:
        try:
            s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % number * size, IfNoneMatch="*")
        except ClientError as error:
            assert error.response["Error"]["Code"] in (
                "PreconditionFailed", "ConditionalRequestConflict",
            )  # fmt: skip
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [number for number in pool.map(create, range(8)) if number is not None]
    assert len(won) == 1
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"%d" % won[0] * size


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"x-amz-storage-class": "GLACIER"}, 501, "NotImplemented"),
        ({"x-amz-storage-class": "NONE"}, 400, "InvalidStorageClass"),
        ({"x-amz-server-side-encryption": "aws:kms"}, 501, "NotImplemented"),
        ({"x-amz-server-side-encryption": "rot13"}, 400, "InvalidArgument"),
        ({"x-amz-acl": "public-read"}, 400, "AccessControlListNotSupported"),
        ({"x-amz-grant-read": "id=x"}, 400, "AccessControlListNotSupported"),
        ({"x-amz-object-lock-legal-hold": "ON"}, 501, "NotImplemented"),
        ({"x-amz-made-up": "1"}, 501, "NotImplemented"),
        ({"x-amz-expected-bucket-owner": "999999999999"}, 403, "AccessDenied"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    cluster: Cluster, s3: Any, bucket: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = send_signed(cluster, "PUT", f"/{bucket}/k", headers, b"x")
    assert (answer.status, answer.code) == (status, code)
    assert count(s3, bucket) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-storage-class": "STANDARD"},
        {"x-amz-server-side-encryption": "AES256"},
        {"x-amz-acl": "private"},
        {"x-amz-acl": "bucket-owner-full-control"},
        {"x-amz-expected-bucket-owner": "111111111111"},
    ],
)
def test_what_holds_anyway_may_be_asked_for(
    cluster: Cluster, bucket: str, headers: dict[str, str]
) -> None:
    assert send_signed(cluster, "PUT", f"/{bucket}/k", headers, b"x").status == 200


def test_missing_bucket_is_404_and_anothers_403(s3: Any, other: Any, bucket: str) -> None:
    refused("NoSuchBucket", 404, s3.put_object, Bucket="there-is-none", Key="k", Body=b"")
    refused("AccessDenied", 403, other.put_object, Bucket=bucket, Key="k", Body=b"")


def test_more_than_five_gib_is_refused_unread(cluster: Cluster, bucket: str) -> None:
    headers = {
        "content-length": str(5 * 2**30 + 1),
        "expect": "100-continue",
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
    }
    answer = send_signed(cluster, "PUT", f"/{bucket}/k", headers)
    assert (answer.status, answer.code) == (400, "EntityTooLarge")
