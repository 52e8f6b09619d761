"""PutBucketVersioning and GetBucketVersioning: off, enabled, suspended, and never off again."""

from typing import Any

from tests.support.cluster import Cluster
from tests.support.s3 import enable_versioning, refused, send_signed, with_md5


def test_new_bucket_has_never_had_it(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"")


def test_overwrites_are_versions_newest_first(s3: Any, versioned: str) -> None:
    ids = [s3.put_object(Bucket=versioned, Key="k", Body=b"%d" % n)["VersionId"] for n in range(3)]
    listed = s3.list_object_versions(Bucket=versioned)["Versions"]
    assert [entry["VersionId"] for entry in listed] == ids[::-1]
    assert [entry["IsLatest"] for entry in listed] == [True, False, False]
    for number, version_id in enumerate(ids):
        got = s3.get_object(Bucket=versioned, Key="k", VersionId=version_id)
        assert got["Body"].read() == b"%d" % number


def test_object_from_before_is_the_null_version(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    enable_versioning(s3, bucket)
    assert s3.head_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    s3.put_object(Bucket=bucket, Key="k", Body=b"after")
    got = s3.get_object(Bucket=bucket, Key="k", VersionId="null")
    assert got["Body"].read() == b"before"


def test_suspending_keeps_versions_and_replaces_the_null_one(s3: Any, versioned: str) -> None:
    kept = s3.put_object(Bucket=versioned, Key="k", Body=b"kept")["VersionId"]
    enable_versioning(s3, versioned, "Suspended")
    assert s3.get_bucket_versioning(Bucket=versioned)["Status"] == "Suspended"
    for body in (b"first", b"second"):
        s3.put_object(Bucket=versioned, Key="k", Body=body)
    listed = s3.list_object_versions(Bucket=versioned)["Versions"]
    assert [entry["VersionId"] for entry in listed] == ["null", kept]
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"second"
    assert s3.get_object(Bucket=versioned, Key="k", VersionId=kept)["Body"].read() == b"kept"


def test_enabling_again_keeps_the_null_version(s3: Any, bucket: str) -> None:
    enable_versioning(s3, bucket, "Suspended")
    s3.put_object(Bucket=bucket, Key="k", Body=b"null")
    enable_versioning(s3, bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    got = s3.get_object(Bucket=bucket, Key="k", VersionId="null")
    assert got["Body"].read() == b"null"


def test_configuration_without_a_state_is_refused(cluster: Cluster, bucket: str) -> None:
    body = b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'
    answer = send_signed(cluster, "PUT", f"/{bucket}?versioning", with_md5(body), body)
    assert (answer.status, answer.code) == (400, "IllegalVersioningConfigurationException")
    body = b"<VersioningConfiguration><Status>Off</Status></VersioningConfiguration>"
    answer = send_signed(cluster, "PUT", f"/{bucket}?versioning", with_md5(body), body)
    assert (answer.status, answer.code) == (400, "MalformedXML")


def test_mfa_delete_is_501(s3: Any, bucket: str) -> None:
    refused(
        "NotImplemented", 501, s3.put_bucket_versioning, Bucket=bucket, MFA="serial 123456",
        VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"},
    )  # fmt: skip
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
