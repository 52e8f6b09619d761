"""DeleteBucket: only what is empty, and then the name is free."""

from typing import Any

from tests.support.s3 import enable_versioning, refused, upload


def test_empty_bucket_is_gone_and_its_name_free(s3: Any, other: Any, bucket: str) -> None:
    s3.delete_bucket(Bucket=bucket)
    refused("404", 404, s3.head_bucket, Bucket=bucket)
    refused("NoSuchBucket", 404, s3.list_objects_v2, Bucket=bucket)
    other.create_bucket(Bucket=bucket)
    refused("403", 403, s3.head_bucket, Bucket=bucket)


def test_object_keeps_a_bucket(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused("BucketNotEmpty", 409, s3.delete_bucket, Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)


def test_noncurrent_versions_and_markers_keep_a_bucket(s3: Any, bucket: str) -> None:
    enable_versioning(s3, bucket)
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["VersionId"]
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    refused("BucketNotEmpty", 409, s3.delete_bucket, Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    refused("BucketNotEmpty", 409, s3.delete_bucket, Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="k", VersionId=marker)
    s3.delete_bucket(Bucket=bucket)


def test_open_upload_ends_with_its_bucket(s3: Any, bucket: str) -> None:
    upload_id, _ = upload(s3, bucket, "k", {1: b"part"})
    s3.delete_bucket(Bucket=bucket)
    refused("NoSuchBucket", 404, s3.list_parts, Bucket=bucket, Key="k", UploadId=upload_id)
    s3.create_bucket(Bucket=bucket)
    refused("NoSuchUpload", 404, s3.list_parts, Bucket=bucket, Key="k", UploadId=upload_id)


def test_missing_bucket_is_404(s3: Any) -> None:
    refused("NoSuchBucket", 404, s3.delete_bucket, Bucket="there-is-none")


def test_bucket_of_another_account_is_403(other: Any, bucket: str) -> None:
    refused("AccessDenied", 403, other.delete_bucket, Bucket=bucket)


def test_recreated_bucket_remembers_nothing(s3: Any, bucket: str) -> None:
    enable_versioning(s3, bucket)
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    refused("NoSuchTagSet", 404, s3.get_bucket_tagging, Bucket=bucket)
