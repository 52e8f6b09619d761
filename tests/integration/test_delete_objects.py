"""DeleteObjects: up to 1,000 keys, each with its own result."""

from typing import Any

from tests.support.cluster import Cluster
from tests.support.s3 import refused, send_signed, with_md5


def named(*keys: str) -> list[dict[str, str]]:
    return [{"Key": key} for key in keys]


def test_all_are_deleted_and_named(s3: Any, bucket: str) -> None:
    keys = [f"k{number:02}" for number in range(25)]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": named(*keys, "never there")})
    assert [entry["Key"] for entry in answer["Deleted"]] == [*keys, "never there"]
    assert "Errors" not in answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_quiet_names_only_errors(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    wrong = {"Key": "k", "VersionId": "made up"}
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Quiet": True, "Objects": [*named("a", "b"), wrong]}
    )
    assert "Deleted" not in answer
    (error,) = answer["Errors"]
    assert (error["Key"], error["VersionId"], error["Code"]) == ("k", "made up", "InvalidArgument")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_a_thousand_keys_fit_and_no_more(s3: Any, bucket: str) -> None:
    keys = [f"{number:04}" + "k" * 200 for number in range(1001)]
    refused("MalformedXML", 400, s3.delete_objects, Bucket=bucket, Delete={"Objects": named(*keys)})
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": named(*keys[:1000])})
    assert len(answer["Deleted"]) == 1000


def test_versions_and_markers_are_named(s3: Any, versioned: str) -> None:
    version = s3.put_object(Bucket=versioned, Key="a", Body=b"x")["VersionId"]
    s3.put_object(Bucket=versioned, Key="b", Body=b"x")
    objects = [{"Key": "a", "VersionId": version}, {"Key": "b"}]
    first, second = s3.delete_objects(Bucket=versioned, Delete={"Objects": objects})["Deleted"]
    assert first == {"Key": "a", "VersionId": version}
    assert second["DeleteMarker"] is True
    marker = {"Key": "b", "VersionId": second["DeleteMarkerVersionId"]}
    (third,) = s3.delete_objects(Bucket=versioned, Delete={"Objects": [marker]})["Deleted"]
    assert third["DeleteMarker"] is True
    assert s3.get_object(Bucket=versioned, Key="b")["Body"].read() == b"x"


def test_etag_of_a_key_is_its_condition(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
    s3.put_object(Bucket=bucket, Key="b", Body=b"x")
    objects = [{"Key": "a", "ETag": etag}, {"Key": "b", "ETag": '"other"'}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["a"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [
        ("b", "PreconditionFailed")
    ]


def test_body_without_a_digest_is_refused(cluster: Cluster, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    answer = send_signed(cluster, "POST", f"/{bucket}?delete", body=body)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    answer = send_signed(cluster, "POST", f"/{bucket}?delete", with_md5(b"other"), body)
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert send_signed(cluster, "POST", f"/{bucket}?delete", with_md5(body), body).status == 200


def test_malformed_bodies_are_refused(cluster: Cluster, bucket: str) -> None:
    for body in (b"<Delete></Delete>", b"<Delete><Object>", b"<Other/>", b"nothing"):
        answer = send_signed(cluster, "POST", f"/{bucket}?delete", with_md5(body), body)
        assert (answer.status, answer.code) == (400, "MalformedXML"), body


def test_other_account_is_403(s3: Any, other: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    delete = {"Objects": named("k")}
    refused("AccessDenied", 403, other.delete_objects, Bucket=bucket, Delete=delete)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
