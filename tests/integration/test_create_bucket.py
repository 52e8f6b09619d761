"""CreateBucket: names, locations, ownership, who comes first."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cluster import Cluster
from tests.support.s3 import refused, send_signed


def fresh() -> str:
    return f"new-{secrets.token_hex(6)}"


def test_new_name_is_created_and_located(s3: Any) -> None:
    name = fresh()
    answer = s3.create_bucket(Bucket=name)
    assert answer["Location"] == f"/{name}"
    assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 0


@pytest.mark.parametrize("size", [3, 63])
def test_shortest_and_longest_names_are_created(s3: Any, size: int) -> None:
    name = secrets.token_hex(32)[:size]
    s3.create_bucket(Bucket=name)
    s3.delete_bucket(Bucket=name)


@pytest.mark.parametrize(
    "name",
    [
        "Upper", "under_score", "ab", "a" * 64, "192.168.5.4", "-abc", ".abc", "abc-", "abc.",
        "xn--abc", "abc-s3alias", "a..b", "sthree-abc", "amzn-s3-demo-abc", "abc--ol-s3",
        "abc.mrap", "abc--x-s3", "abc--table-s3", "a b c",
    ],
)  # fmt: skip
def test_invalid_name_is_refused(cluster: Cluster, name: str) -> None:
    answer = send_signed(cluster, "PUT", f"/{name.replace(' ', '%20')}")
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


def test_own_name_again_is_200_in_us_east_1(s3: Any, bucket: str) -> None:
    assert s3.create_bucket(Bucket=bucket)["Location"] == f"/{bucket}"


def test_name_of_another_account_is_refused(other: Any, bucket: str) -> None:
    refused("BucketAlreadyExists", 409, other.create_bucket, Bucket=bucket)


def test_of_two_accounts_at_once_one_wins(s3: Any, other: Any) -> None:
    def create(client: Any, name: str) -> str:
        try:
            client.create_bucket(Bucket=name)
        except ClientError as error:
            code: str = error.response["Error"]["Code"]
            return code
        return "created"

    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            name = fresh()
            outcomes = list(pool.map(create, (s3, other), (name, name)))
            assert sorted(outcomes) == ["BucketAlreadyExists", "created"]


@pytest.mark.parametrize(
    ("constraint", "code"),
    [
        ("eu-west-1", "IllegalLocationConstraintException"),
        ("us-east-1", "InvalidLocationConstraint"),
    ],
)
def test_location_that_is_not_this_region_is_refused(
    cluster: Cluster, constraint: str, code: str
) -> None:
    body = (
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<LocationConstraint>{constraint}</LocationConstraint></CreateBucketConfiguration>"
    )
    answer = send_signed(cluster, "PUT", f"/{fresh()}", body=body.encode())
    assert (answer.status, answer.code) == (400, code)


def test_malformed_configuration_is_refused(cluster: Cluster) -> None:
    answer = send_signed(cluster, "PUT", f"/{fresh()}", body=b"<CreateBucketConfiguration>")
    assert (answer.status, answer.code) == (400, "MalformedXML")


def test_default_ownership_may_be_named_and_others_are_501(s3: Any) -> None:
    name = fresh()
    s3.create_bucket(Bucket=name, ObjectOwnership="BucketOwnerEnforced")
    rules = s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    refused("NotImplemented", 501, s3.create_bucket, Bucket=fresh(), ObjectOwnership="ObjectWriter")


def test_tags_may_come_with_the_bucket(s3: Any) -> None:
    name, tags = fresh(), [{"Key": "team", "Value": "red"}]
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"Tags": tags})
    assert s3.get_bucket_tagging(Bucket=name)["TagSet"] == tags
    bad = {"Tags": [{"Key": "aws:team", "Value": "red"}]}
    refused("InvalidTag", 400, s3.create_bucket, Bucket=fresh(), CreateBucketConfiguration=bad)


def test_acl_that_opens_the_bucket_is_refused(s3: Any) -> None:
    s3.create_bucket(Bucket=fresh(), ACL="private")
    refused(
        "InvalidBucketAclWithObjectOwnership", 400, s3.create_bucket, Bucket=fresh(),
        ACL="public-read",
    )  # fmt: skip


def test_object_lock_is_501(s3: Any) -> None:
    name = fresh()
    refused("NotImplemented", 501, s3.create_bucket, Bucket=name, ObjectLockEnabledForBucket=True)
    refused("404", 404, s3.head_bucket, Bucket=name)
