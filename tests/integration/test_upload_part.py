"""UploadPart: any order, again, and what may not be a part."""

import os
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.s3 import MIB, complete, refused, send_signed, upload


def test_parts_in_any_order_become_one_object(s3: Any, bucket: str) -> None:
    parts = {7: os.urandom(5 * MIB), 2: os.urandom(6 * MIB), 9: b"tail"}
    upload_id, listed = upload(s3, bucket, "k", parts)
    complete(s3, bucket, "k", upload_id, listed)
    whole = parts[2] + parts[7] + parts[9]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == whole
    border = f"bytes={6 * MIB - 3}-{6 * MIB + 2}"
    ranged = s3.get_object(Bucket=bucket, Key="k", Range=border)
    assert ranged["Body"].read() == whole[6 * MIB - 3 : 6 * MIB + 3]


def test_part_sent_again_replaces_the_first(s3: Any, bucket: str) -> None:
    upload_id, _ = upload(s3, bucket, "k", {1: b"first"})
    again = s3.upload_part(
        Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=1, Body=b"and second"
    )
    complete(s3, bucket, "k", upload_id, [{"PartNumber": 1, "ETag": again["ETag"]}])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"and second"


@pytest.mark.parametrize("number", ["0", "10001", "-1", "one"])
def test_number_that_no_part_has_is_refused(
    cluster: Cluster, s3: Any, bucket: str, number: str
) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    target = f"/{bucket}/k?partNumber={number}&uploadId={upload_id}"
    answer = send_signed(cluster, "PUT", target, body=b"x")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_unknown_upload_is_404(s3: Any, bucket: str) -> None:
    upload_id, _ = upload(s3, bucket, "k", {})
    part: dict[str, Any] = {"PartNumber": 1, "Body": b"x", "Bucket": bucket}
    refused("NoSuchUpload", 404, s3.upload_part, **part, Key="k", UploadId="made-up")
    refused("NoSuchUpload", 404, s3.upload_part, **part, Key="k", UploadId="0" * 32)
    refused("NoSuchUpload", 404, s3.upload_part, **part, Key="other", UploadId=upload_id)


def test_digest_that_does_not_match_stores_nothing(cluster: Cluster, s3: Any, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    target = f"/{bucket}/k?partNumber=1&uploadId={upload_id}"
    answer = send_signed(cluster, "PUT", target, {"content-md5": "A" * 22 + "=="}, b"x")
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="k", UploadId=upload_id)


def test_checksum_of_another_algorithm_is_refused(s3: Any, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256"
    )["UploadId"]  # fmt: skip
    refused(
        "InvalidRequest", 400, s3.upload_part, Bucket=bucket, Key="k", UploadId=upload_id,
        PartNumber=1, Body=b"x", ChecksumAlgorithm="CRC32",
    )  # fmt: skip


def test_whole_has_a_checksum_whatever_its_parts_came_with(
    cluster: Cluster, s3: Any, bucket: str
) -> None:
    """An upload without an algorithm gets CRC64NVME of the whole; its parts' CRC32 are verified."""
    created = send_signed(cluster, "POST", f"/{bucket}/k?uploads=")
    upload_id = created.body.split(b"<UploadId>")[1].split(b"<")[0].decode()
    part = s3.upload_part(
        Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=1, Body=b"hello world",
        ChecksumAlgorithm="CRC32",
    )  # fmt: skip
    listed = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}]
    done = complete(s3, bucket, "k", upload_id, listed)
    assert (done["ChecksumCRC64NVME"], done["ChecksumType"]) == ("jSnVw/bqjr4=", "FULL_OBJECT")


def test_other_account_is_403(s3: Any, other: Any, bucket: str) -> None:
    upload_id, _ = upload(s3, bucket, "k", {})
    refused(
        "AccessDenied", 403, other.upload_part, Bucket=bucket, Key="k", UploadId=upload_id,
        PartNumber=1, Body=b"x",
    )  # fmt: skip
