"""Multipart uploads through boto3."""

import os
from typing import Any

import pytest
from botocore.exceptions import ClientError

MIB = 1024 * 1024


def upload(s3: Any, bucket: str, parts: dict[int, bytes], **options: Any) -> tuple[str, list[Any]]:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k", **options)["UploadId"]
    listed = []
    for number, data in parts.items():
        reply = s3.upload_part(
            Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number, Body=data
        )
        listed.append({"PartNumber": number, "ETag": reply["ETag"]})
    return upload_id, sorted(listed, key=lambda part: part["PartNumber"])


def complete(s3: Any, bucket: str, upload_id: str, parts: list[Any]) -> Any:
    return s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload_id, MultipartUpload={"Parts": parts}
    )


def test_parts_in_any_order_become_one_object(s3: Any, bucket: str) -> None:
    parts = {7: os.urandom(5 * MIB), 2: os.urandom(6 * MIB), 9: b"tail"}
    upload_id, listed = upload(s3, bucket, parts, Metadata={"m": "1"})
    first = complete(s3, bucket, upload_id, listed)
    assert first["ETag"].endswith('-3"')
    whole = parts[2] + parts[7] + parts[9]
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == whole
    assert got["Metadata"] == {"m": "1"}
    ranged = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={6 * MIB - 3}-{6 * MIB + 2}")
    assert ranged["Body"].read() == whole[6 * MIB - 3 : 6 * MIB + 3]
    part = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert part["Body"].read() == parts[7]
    assert part["PartsCount"] == 3
    assert complete(s3, bucket, upload_id, listed)["ETag"] == first["ETag"]


def test_wrong_lists_are_refused(s3: Any, bucket: str) -> None:
    upload_id, listed = upload(s3, bucket, {1: b"a" * 10, 2: b"b" * 10})
    wrong = [
        (listed[::-1], "InvalidPartOrder"),
        ([{"PartNumber": 3, "ETag": listed[0]["ETag"]}], "InvalidPart"),
        ([{"PartNumber": 1, "ETag": '"0" * 32'}], "InvalidPart"),
        (listed, "EntityTooSmall"),
    ]
    for parts, code in wrong:
        with pytest.raises(ClientError) as caught:
            complete(s3, bucket, upload_id, parts)
        assert caught.value.response["Error"]["Code"] == code
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload_id)
    with pytest.raises(ClientError) as caught:
        s3.list_parts(Bucket=bucket, Key="k", UploadId=upload_id)
    assert caught.value.response["Error"]["Code"] == "NoSuchUpload"


def test_part_copy(s3: Any, bucket: str) -> None:
    data = os.urandom(12 * MIB)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    listed = []
    for number, (begin, end) in enumerate([(0, 5 * MIB), (5 * MIB, 12 * MIB)], 1):
        reply = s3.upload_part_copy(
            Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number,
            CopySource=f"{bucket}/source", CopySourceRange=f"bytes={begin}-{end - 1}",
        )  # fmt: skip
        listed.append({"PartNumber": number, "ETag": reply["CopyPartResult"]["ETag"]})
    complete(s3, bucket, upload_id, listed)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == data


def test_uploads_and_parts_are_listed(s3: Any, bucket: str) -> None:
    upload_id, listed = upload(s3, bucket, {1: b"a", 3: b"b"})
    uploads = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [entry["UploadId"] for entry in uploads] == [upload_id]
    parts = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload_id)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in parts] == [(1, 1), (3, 1)]
    assert [part["ETag"] for part in parts] == [part["ETag"] for part in listed]
