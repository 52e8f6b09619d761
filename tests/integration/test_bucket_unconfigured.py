"""Sub-resources that are not configured answer what S3 answers then: tools read them first."""

from typing import Any

import pytest

from tests.support.s3 import refused

MISSING = {
    "get_bucket_lifecycle_configuration": "NoSuchLifecycleConfiguration",
    "get_bucket_policy": "NoSuchBucketPolicy",
    "get_bucket_cors": "NoSuchCORSConfiguration",
    "get_bucket_website": "NoSuchWebsiteConfiguration",
    "get_bucket_replication": "ReplicationConfigurationNotFoundError",
    "get_object_lock_configuration": "ObjectLockConfigurationNotFoundError",
    "get_bucket_tagging": "NoSuchTagSet",
}
EMPTY = (
    "get_bucket_notification_configuration", "get_bucket_logging",
    "get_bucket_accelerate_configuration",
)  # fmt: skip
LISTS = ("analytics", "inventory", "metrics")


@pytest.mark.parametrize("operation", MISSING)
def test_missing_configuration_has_its_code(s3: Any, bucket: str, operation: str) -> None:
    refused(MISSING[operation], 404, getattr(s3, operation), Bucket=bucket)


@pytest.mark.parametrize("operation", [*MISSING, *EMPTY])
def test_missing_bucket_comes_first(s3: Any, operation: str) -> None:
    refused("NoSuchBucket", 404, getattr(s3, operation), Bucket="there-is-none")


@pytest.mark.parametrize("operation", ["get_object_retention", "get_object_legal_hold"])
def test_no_object_is_locked_where_no_bucket_can_be(s3: Any, bucket: str, operation: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused("InvalidRequest", 400, getattr(s3, operation), Bucket=bucket, Key="k")
    refused("NoSuchBucket", 404, getattr(s3, operation), Bucket="there-is-none", Key="k")


@pytest.mark.parametrize("operation", EMPTY)
def test_empty_configuration_is_empty(s3: Any, bucket: str, operation: str) -> None:
    answer = getattr(s3, operation)(Bucket=bucket)
    assert set(answer) == {"ResponseMetadata"}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_configurations_are_empty(s3: Any, bucket: str, kind: str) -> None:
    answer = getattr(s3, f"list_bucket_{kind}_configurations")(Bucket=bucket)
    assert answer["IsTruncated"] is False
    assert not any(isinstance(value, list) for value in answer.values())


def test_owner_pays(s3: Any, bucket: str) -> None:
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    s3.put_bucket_request_payment(
        Bucket=bucket, RequestPaymentConfiguration={"Payer": "BucketOwner"}
    )
    refused(
        "NotImplemented", 501, s3.put_bucket_request_payment, Bucket=bucket,
        RequestPaymentConfiguration={"Payer": "Requester"},
    )  # fmt: skip


def test_nothing_is_public(s3: Any, bucket: str) -> None:
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is False
    answer = s3.get_public_access_block(Bucket=bucket)
    assert set(answer["PublicAccessBlockConfiguration"].values()) == {True}


def test_configuring_what_is_not_built_is_501(s3: Any, bucket: str) -> None:
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}
    refused(
        "NotImplemented", 501, s3.put_bucket_cors, Bucket=bucket,
        CORSConfiguration={"CORSRules": [rule]},
    )  # fmt: skip
    refused("NotImplemented", 501, s3.put_bucket_policy, Bucket=bucket, Policy="{}")
