"""CreateMultipartUpload."""

from typing import Any

from tests.support.cluster import Cluster
from tests.support.s3 import refused, send_signed


def test_upload_is_open_and_shows_nothing_yet(s3: Any, bucket: str) -> None:
    made = s3.create_multipart_upload(Bucket=bucket, Key="k")
    assert (made["Bucket"], made["Key"]) == (bucket, "k")
    assert made["ServerSideEncryption"] == "AES256"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    refused("NoSuchKey", 404, s3.get_object, Bucket=bucket, Key="k")


def test_two_uploads_of_a_key_are_two(s3: Any, bucket: str) -> None:
    ids = {s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"] for _ in range(2)}
    assert len(ids) == 2


def test_checksum_kind_must_fit_its_algorithm(s3: Any, bucket: str) -> None:
    create: dict[str, Any] = {"Bucket": bucket, "Key": "k"}
    for algorithm, kind in (("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")):
        refused(
            "InvalidRequest", 400, s3.create_multipart_upload, **create,
            ChecksumAlgorithm=algorithm, ChecksumType=kind,
        )  # fmt: skip
    made = s3.create_multipart_upload(**create, ChecksumAlgorithm="SHA256")
    assert (made["ChecksumAlgorithm"], made["ChecksumType"]) == ("SHA256", "COMPOSITE")


def test_what_cannot_be_honoured_is_refused(cluster: Cluster, s3: Any, bucket: str) -> None:
    for headers, status, code in (
        ({"x-amz-storage-class": "GLACIER"}, 501, "NotImplemented"),
        ({"x-amz-acl": "public-read"}, 400, "AccessControlListNotSupported"),
        ({"x-amz-meta-a": "x" * 3000}, 400, "MetadataTooLarge"),
        ({"x-amz-tagging": "a=1&a=2"}, 400, "InvalidArgument"),
    ):
        answer = send_signed(cluster, "POST", f"/{bucket}/k?uploads=", headers)
        assert (answer.status, answer.code) == (status, code), headers
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_other_account_is_403(other: Any, bucket: str) -> None:
    refused("AccessDenied", 403, other.create_multipart_upload, Bucket=bucket, Key="k")
