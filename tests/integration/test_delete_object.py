"""DeleteObject: for good, behind a marker, by version, on a condition."""

from typing import Any

from tests.support.s3 import enable_versioning, refused


def test_object_without_versions_is_gone(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = s3.delete_object(Bucket=bucket, Key="k")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "DeleteMarker" not in answer
    assert "VersionId" not in answer
    refused("NoSuchKey", 404, s3.get_object, Bucket=bucket, Key="k")


def test_missing_key_is_204(s3: Any, bucket: str) -> None:
    s3.delete_object(Bucket=bucket, Key="never there")
    refused("NoSuchBucket", 404, s3.delete_object, Bucket="there-is-none", Key="k")


def test_marker_hides_and_deleting_it_restores(s3: Any, versioned: str) -> None:
    version = s3.put_object(Bucket=versioned, Key="k", Body=b"x")["VersionId"]
    marker = s3.delete_object(Bucket=versioned, Key="k")
    assert marker["DeleteMarker"] is True
    assert marker["VersionId"] not in ("null", version)
    assert s3.list_objects_v2(Bucket=versioned)["KeyCount"] == 0
    gone = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker["VersionId"])
    assert gone["DeleteMarker"] is True
    assert gone["VersionId"] == marker["VersionId"]
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"x"


def test_deleting_newer_versions_rolls_back(s3: Any, versioned: str) -> None:
    ids = [s3.put_object(Bucket=versioned, Key="k", Body=b"%d" % n)["VersionId"] for n in range(3)]
    for version_id in ids[:0:-1]:
        s3.delete_object(Bucket=versioned, Key="k", VersionId=version_id)
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"0"


def test_suspended_bucket_gets_a_null_marker(s3: Any, versioned: str) -> None:
    kept = s3.put_object(Bucket=versioned, Key="k", Body=b"kept")["VersionId"]
    enable_versioning(s3, versioned, "Suspended")
    s3.put_object(Bucket=versioned, Key="k", Body=b"null")
    answer = s3.delete_object(Bucket=versioned, Key="k")
    assert (answer["DeleteMarker"], answer["VersionId"]) == (True, "null")
    listed = s3.list_object_versions(Bucket=versioned)
    assert [entry["VersionId"] for entry in listed["DeleteMarkers"]] == ["null"]
    assert [entry["VersionId"] for entry in listed["Versions"]] == [kept]


def test_unknown_version_is_204(s3: Any, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    s3.delete_object(Bucket=versioned, Key="k", VersionId="0" * 32)
    assert s3.list_objects_v2(Bucket=versioned)["KeyCount"] == 1


def test_if_match_deletes_only_what_was_read(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    refused("PreconditionFailed", 412, s3.delete_object, Bucket=bucket, Key="k", IfMatch='"other"')
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_conditions_of_directory_buckets_are_501(s3: Any, bucket: str) -> None:
    refused("NotImplemented", 501, s3.delete_object, Bucket=bucket, Key="k", IfMatchSize=1)


def test_other_account_is_403(s3: Any, other: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused("AccessDenied", 403, other.delete_object, Bucket=bucket, Key="k")
