"""PutBucketEncryption, GetBucketEncryption, DeleteBucketEncryption: SSE-S3 is always on."""

from typing import Any

from tests.support.s3 import refused


def configuration(algorithm: str, **more: Any) -> dict[str, Any]:
    default = {"SSEAlgorithm": algorithm, **more}
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}


def algorithm(s3: Any, bucket: str) -> str:
    answer = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    (rule,) = answer["Rules"]
    name: str = rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"]
    return name


def test_new_bucket_encrypts(s3: Any, bucket: str) -> None:
    assert algorithm(s3, bucket) == "AES256"
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert put["ServerSideEncryption"] == "AES256"
    assert s3.head_object(Bucket=bucket, Key="k")["ServerSideEncryption"] == "AES256"


def test_asking_for_it_and_deleting_it_change_nothing(s3: Any, bucket: str) -> None:
    s3.put_bucket_encryption(
        Bucket=bucket, ServerSideEncryptionConfiguration=configuration("AES256")
    )
    assert algorithm(s3, bucket) == "AES256"
    s3.delete_bucket_encryption(Bucket=bucket)
    assert algorithm(s3, bucket) == "AES256"


def test_other_algorithms_are_501(s3: Any, bucket: str) -> None:
    for asked in (configuration("aws:kms"), configuration("aws:kms:dsse")):
        refused(
            "NotImplemented", 501, s3.put_bucket_encryption, Bucket=bucket,
            ServerSideEncryptionConfiguration=asked,
        )  # fmt: skip


def test_bucket_of_another_account_is_403(other: Any, bucket: str) -> None:
    refused("AccessDenied", 403, other.get_bucket_encryption, Bucket=bucket)
