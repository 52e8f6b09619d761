"""AbortMultipartUpload."""

from typing import Any

from tests.support.s3 import complete, refused, upload


def test_upload_is_gone_and_so_are_its_parts(s3: Any, bucket: str) -> None:
    upload_id, listed = upload(s3, bucket, "k", {1: b"a"})
    named: dict[str, Any] = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    answer = s3.abort_multipart_upload(**named)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused("NoSuchUpload", 404, s3.list_parts, **named)
    refused("NoSuchUpload", 404, s3.upload_part, **named, PartNumber=1, Body=b"x")
    refused(
        "NoSuchUpload", 404, s3.complete_multipart_upload, **named,
        MultipartUpload={"Parts": listed},
    )  # fmt: skip
    refused("NoSuchUpload", 404, s3.abort_multipart_upload, **named)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_completed_upload_cannot_be_aborted(s3: Any, bucket: str) -> None:
    upload_id, listed = upload(s3, bucket, "k", {1: b"a"})
    complete(s3, bucket, "k", upload_id, listed)
    refused(
        "NoSuchUpload", 404, s3.abort_multipart_upload, Bucket=bucket, Key="k", UploadId=upload_id
    )
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"a"


def test_other_account_is_403(s3: Any, other: Any, bucket: str) -> None:
    upload_id, _ = upload(s3, bucket, "k", {})
    refused(
        "AccessDenied", 403, other.abort_multipart_upload, Bucket=bucket, Key="k",
        UploadId=upload_id,
    )  # fmt: skip
