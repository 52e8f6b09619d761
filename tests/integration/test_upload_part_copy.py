"""UploadPartCopy: parts of objects that are there already."""

import os
from typing import Any

from tests.support.s3 import MIB, complete, refused


def test_ranges_of_a_source_become_an_object(s3: Any, bucket: str) -> None:
    data = os.urandom(12 * MIB)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    listed = []
    for number, (begin, end) in enumerate([(5 * MIB, 12 * MIB), (0, 5 * MIB)], 1):
        reply = s3.upload_part_copy(
            Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number,
            CopySource=f"{bucket}/source", CopySourceRange=f"bytes={begin}-{end - 1}",
        )  # fmt: skip
        listed.append({"PartNumber": number, "ETag": reply["CopyPartResult"]["ETag"]})
    complete(s3, bucket, "k", upload_id, listed)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == data[5 * MIB :] + data[: 5 * MIB]


def test_whole_old_version_is_a_part(s3: Any, versioned: str) -> None:
    old = s3.put_object(Bucket=versioned, Key="source", Body=b"old")["VersionId"]
    s3.put_object(Bucket=versioned, Key="source", Body=b"new")
    upload_id = s3.create_multipart_upload(Bucket=versioned, Key="k")["UploadId"]
    reply = s3.upload_part_copy(
        Bucket=versioned, Key="k", UploadId=upload_id, PartNumber=1,
        CopySource={"Bucket": versioned, "Key": "source", "VersionId": old},
    )  # fmt: skip
    assert reply["CopySourceVersionId"] == old
    part = {"PartNumber": 1, "ETag": reply["CopyPartResult"]["ETag"]}
    complete(s3, versioned, "k", upload_id, [part])
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"old"


def test_what_cannot_be_copied_is_refused(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="source", Body=b"12345")["ETag"]
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part: dict[str, Any] = {
        "Bucket": bucket, "Key": "k", "UploadId": upload_id, "PartNumber": 1,
        "CopySource": f"{bucket}/source",
    }  # fmt: skip
    for wrong in ("bytes=0-5", "bytes=3-1", "bytes=0-", "0-1", "bytes=-1"):
        refused("InvalidArgument", 400, s3.upload_part_copy, **part, CopySourceRange=wrong)
    refused("PreconditionFailed", 412, s3.upload_part_copy, **part, CopySourceIfNoneMatch=etag)
    missing = part | {"CopySource": f"{bucket}/none"}
    refused("NoSuchKey", 404, s3.upload_part_copy, **missing)
    unknown = part | {"UploadId": "0" * 32}
    refused("NoSuchUpload", 404, s3.upload_part_copy, **unknown)
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="k", UploadId=upload_id)
