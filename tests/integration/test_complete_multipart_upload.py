"""CompleteMultipartUpload: the list decides, once, and says so again when asked again."""

import base64
import hashlib
import os
from typing import Any

import pytest

from tests.support.s3 import MIB, complete, refused, upload


def test_etag_metadata_and_tags_are_those_of_the_upload(s3: Any, bucket: str) -> None:
    parts = {1: os.urandom(5 * MIB), 2: b"tail"}
    upload_id, listed = upload(
        s3, bucket, "k", parts, Metadata={"m": "1"}, Tagging="t=1", ContentType="text/plain"
    )
    done = complete(s3, bucket, "k", upload_id, listed)
    digests = b"".join(hashlib.md5(part).digest() for part in parts.values())
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-2"'
    assert done["Location"].endswith(f"/{bucket}/k")
    assert done["ServerSideEncryption"] == "AES256"
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ETag"], head["Metadata"], head["ContentType"]) == (
        done["ETag"], {"m": "1"}, "text/plain",
    )  # fmt: skip
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "t", "Value": "1"}]


def test_asked_again_it_answers_the_same(s3: Any, versioned: str) -> None:
    upload_id, listed = upload(s3, versioned, "k", {1: b"only"})
    first = complete(s3, versioned, "k", upload_id, listed)
    again = complete(s3, versioned, "k", upload_id, listed)
    assert (again["ETag"], again["VersionId"]) == (first["ETag"], first["VersionId"])
    assert len(s3.list_object_versions(Bucket=versioned)["Versions"]) == 1
    s3.put_object(Bucket=versioned, Key="k", Body=b"newer")
    complete(s3, versioned, "k", upload_id, listed)
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"newer"
    wrong = [{"PartNumber": 1, "ETag": "0" * 32}]
    refused(
        "NoSuchUpload", 404, s3.complete_multipart_upload, Bucket=versioned, Key="k",
        UploadId=upload_id, MultipartUpload={"Parts": wrong},
    )  # fmt: skip


def test_wrong_list_is_refused_and_the_upload_stays(s3: Any, bucket: str) -> None:
    upload_id, listed = upload(s3, bucket, "k", {1: b"a" * 10, 2: b"b" * 10})
    for parts, code in (
        (listed[::-1], "InvalidPartOrder"),
        ([listed[0], listed[0]], "InvalidPartOrder"),
        ([{"PartNumber": 3, "ETag": listed[0]["ETag"]}], "InvalidPart"),
        ([{"PartNumber": 1, "ETag": "0" * 32}], "InvalidPart"),
        (listed, "EntityTooSmall"),
        ([], "MalformedXML"),
    ):
        refused(
            code, 400, s3.complete_multipart_upload, Bucket=bucket, Key="k", UploadId=upload_id,
            MultipartUpload={"Parts": parts},
        )  # fmt: skip
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    complete(s3, bucket, "k", upload_id, listed[1:])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"b" * 10


def test_conditions_are_decided_inside_the_commit(s3: Any, bucket: str) -> None:
    upload_id, listed = upload(s3, bucket, "k", {1: b"part"})
    again: dict[str, Any] = {
        "Bucket": bucket, "Key": "k", "UploadId": upload_id, "MultipartUpload": {"Parts": listed},
    }  # fmt: skip
    refused("NoSuchKey", 404, s3.complete_multipart_upload, **again, IfMatch="*")
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    refused("PreconditionFailed", 412, s3.complete_multipart_upload, **again, IfNoneMatch="*")
    refused("PreconditionFailed", 412, s3.complete_multipart_upload, **again, IfMatch='"other"')
    assert s3.complete_multipart_upload(**again, IfMatch=etag)["ETag"].endswith('-1"')


@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
def test_crc32_of_parts_makes_one_of_the_whole(s3: Any, bucket: str, kind: str) -> None:
    parts = {1: os.urandom(5 * MIB), 2: b"tail"}
    upload_id = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32", ChecksumType=kind
    )["UploadId"]
    listed = []
    for number, data in parts.items():
        reply = s3.upload_part(
            Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number, Body=data,
            ChecksumAlgorithm="CRC32",
        )  # fmt: skip
        listed.append(
            {"PartNumber": number, "ETag": reply["ETag"], "ChecksumCRC32": reply["ChecksumCRC32"]}
        )
    done = complete(s3, bucket, "k", upload_id, listed, ChecksumType=kind)
    whole = s3.put_object(
        Bucket=bucket, Key="whole", Body=parts[1] + parts[2], ChecksumAlgorithm="CRC32"
    )
    assert done["ChecksumType"] == kind
    if kind == "FULL_OBJECT":
        assert done["ChecksumCRC32"] == whole["ChecksumCRC32"]
    else:
        assert done["ChecksumCRC32"].endswith("-2")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == done["ChecksumCRC32"]


def test_sha256_is_a_digest_of_digests(s3: Any, bucket: str) -> None:
    upload_id, _ = upload(s3, bucket, "k", {1: b"only"}, ChecksumAlgorithm="SHA256")
    (part,) = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload_id)["Parts"]
    listed = [{name: part[name] for name in ("PartNumber", "ETag", "ChecksumSHA256")}]
    wrong = base64.b64encode(bytes(32)).decode()
    refused(
        "BadDigest", 400, s3.complete_multipart_upload, Bucket=bucket, Key="k",
        UploadId=upload_id, MultipartUpload={"Parts": listed}, ChecksumSHA256=wrong,
    )  # fmt: skip
    done = complete(s3, bucket, "k", upload_id, listed)
    digest = hashlib.sha256(hashlib.sha256(b"only").digest()).digest()
    assert done["ChecksumSHA256"] == base64.b64encode(digest).decode() + "-1"


def test_wrong_size_is_refused(s3: Any, bucket: str) -> None:
    upload_id, listed = upload(s3, bucket, "k", {1: b"four"})
    refused(
        "InvalidRequest", 400, s3.complete_multipart_upload, Bucket=bucket, Key="k",
        UploadId=upload_id, MultipartUpload={"Parts": listed}, MpuObjectSize=5,
    )  # fmt: skip
    complete(s3, bucket, "k", upload_id, listed, MpuObjectSize=4)


def test_digest_of_digests_needs_those_of_all_listed_parts(s3: Any, bucket: str) -> None:
    upload_id, listed = upload(s3, bucket, "k", {1: b"only"}, ChecksumAlgorithm="SHA256")
    named: dict[str, Any] = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    (part,) = s3.list_parts(**named)["Parts"]
    bare = [{name: part[name] for name in ("PartNumber", "ETag")}]
    refused(
        "InvalidRequest", 400, s3.complete_multipart_upload, **named,
        MultipartUpload={"Parts": bare},
    )  # fmt: skip
    whole = [{**bare[0], "ChecksumSHA256": part["ChecksumSHA256"]}]
    done = complete(s3, bucket, "k", upload_id, whole)
    assert done["ChecksumType"] == "COMPOSITE"


def test_checksum_type_must_be_that_of_the_upload(s3: Any, bucket: str) -> None:
    upload_id, listed = upload(s3, bucket, "k", {1: b"only"})
    refused(
        "InvalidRequest", 400, s3.complete_multipart_upload, Bucket=bucket, Key="k",
        UploadId=upload_id, MultipartUpload={"Parts": listed}, ChecksumType="COMPOSITE",
    )  # fmt: skip
    complete(s3, bucket, "k", upload_id, listed, ChecksumType="FULL_OBJECT")
