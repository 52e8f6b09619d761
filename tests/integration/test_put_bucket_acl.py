"""PutBucketAcl, GetBucketAcl: the owner has full control, and that cannot be changed."""

from typing import Any

import pytest

from tests.support.s3 import refused


def test_owner_is_the_only_grantee(s3: Any, bucket: str) -> None:
    acl = s3.get_bucket_acl(Bucket=bucket)
    (grant,) = acl["Grants"]
    assert grant["Permission"] == "FULL_CONTROL"
    assert grant["Grantee"]["ID"] == acl["Owner"]["ID"]


def test_acl_that_holds_anyway_is_taken(s3: Any, bucket: str) -> None:
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    acl = s3.get_bucket_acl(Bucket=bucket)
    policy = {"Owner": acl["Owner"], "Grants": acl["Grants"]}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)


@pytest.mark.parametrize("acl", ["public-read", "public-read-write", "authenticated-read"])
def test_other_acl_is_refused(s3: Any, bucket: str, acl: str) -> None:
    refused("AccessControlListNotSupported", 400, s3.put_bucket_acl, Bucket=bucket, ACL=acl)


def test_other_grants_are_refused(s3: Any, bucket: str) -> None:
    refused(
        "AccessControlListNotSupported", 400, s3.put_bucket_acl, Bucket=bucket,
        GrantRead='uri="http://acs.amazonaws.com/groups/global/AllUsers"',
    )  # fmt: skip
    owner = s3.get_bucket_acl(Bucket=bucket)["Owner"]
    grantee = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}
    policy = {"Owner": owner, "Grants": [{"Grantee": grantee, "Permission": "READ"}]}
    refused(
        "AccessControlListNotSupported", 400, s3.put_bucket_acl, Bucket=bucket,
        AccessControlPolicy=policy,
    )  # fmt: skip


def test_no_acl_at_all_is_refused(s3: Any, bucket: str) -> None:
    refused("MissingSecurityHeader", 400, s3.put_bucket_acl, Bucket=bucket)
