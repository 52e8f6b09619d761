"""PutObjectAcl, GetObjectAcl: as of buckets, per version."""

from typing import Any

from tests.support.cluster import Cluster
from tests.support.s3 import refused, send_signed


def test_owner_is_the_only_grantee_and_private_is_taken(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    before = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    for acl in ("private", "bucket-owner-full-control"):
        s3.put_object_acl(Bucket=bucket, Key="k", ACL=acl)
    shown = s3.get_object_acl(Bucket=bucket, Key="k")
    assert [grant["Permission"] for grant in shown["Grants"]] == ["FULL_CONTROL"]
    assert s3.head_object(Bucket=bucket, Key="k")["LastModified"] == before


def test_other_acl_is_refused(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused(
        "AccessControlListNotSupported", 400, s3.put_object_acl, Bucket=bucket, Key="k",
        ACL="public-read",
    )  # fmt: skip


def test_missing_key_and_version_are_404(s3: Any, versioned: str) -> None:
    refused("NoSuchKey", 404, s3.put_object_acl, Bucket=versioned, Key="k", ACL="private")
    refused("NoSuchKey", 404, s3.get_object_acl, Bucket=versioned, Key="k")
    s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    refused("NoSuchVersion", 404, s3.get_object_acl, Bucket=versioned, Key="k", VersionId="0" * 32)


def test_signed_body_needs_no_second_digest(cluster: Cluster, s3: Any, bucket: str) -> None:
    """As s3cmd sends it: the list of the source back to the copy, without Content-MD5."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    shown = send_signed(cluster, "GET", f"/{bucket}/k?acl")
    assert send_signed(cluster, "PUT", f"/{bucket}/k?acl", body=shown.body).status == 200
    unsigned = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    answer = send_signed(cluster, "PUT", f"/{bucket}/k?acl", unsigned, shown.body)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    canned = {"x-amz-acl": "private"}
    assert send_signed(cluster, "PUT", f"/{bucket}/k?acl", canned).status == 200
