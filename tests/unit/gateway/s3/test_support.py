"""What is known but not built is refused, and said in the documentation.

Method: requests that ask for each feature, and a rendering with a sample of handlers.
"""

from typing import Any

import pytest

from gateway.s3 import errors
from gateway.s3.codec import OPERATIONS_BY_NAME
from gateway.s3.registry_doc import render
from gateway.s3.support import FEATURES, refuse_unsupported, refused_features


def check(name: str, headers: dict[str, str], body: bytes | None = None) -> Any:
    operation = OPERATIONS_BY_NAME[name]
    query = {mark: "" for mark in operation.marks}
    request = operation.decode("bucket", "key", query, headers, body)
    refuse_unsupported(operation, request)
    return request


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-acl", "private"),
        ("x-amz-acl", "bucket-owner-full-control"),
        ("x-amz-request-payer", "requester"),
        ("x-amz-server-side-encryption-bucket-key-enabled", "false"),
        ("x-amz-expected-bucket-owner", "123456789012"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
    ],
)
def test_what_is_accepted(header: str, value: str) -> None:
    check("PutObject", {header: value})


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-legal-hold", "OFF"),
        ("x-amz-website-redirect-location", "/other"),
        ("x-amz-checksum-sha512", "AAAA"),
        ("x-amz-sdk-checksum-algorithm", "XXHASH3"),
        ("x-amz-write-offset-bytes", "0"),
    ],
)
def test_headers_that_are_refused(header: str, value: str) -> None:
    with pytest.raises(errors.NotImplemented) as caught:
        check("PutObject", {header: value})
    assert caught.value.details == {"Header": header}


@pytest.mark.parametrize("header", ["x-amz-acl", "x-amz-grant-read"])
def test_acls_have_their_own_error(header: str) -> None:
    with pytest.raises(errors.AccessControlListNotSupported):
        check("PutObject", {header: "public-read"})


def test_nested_members_are_checked() -> None:
    plain = b"<Delete><Object><Key>a</Key></Object></Delete>"
    assert check("DeleteObjects", {}, plain).delete.objects[0].key == "a"
    asking = (
        b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key><Size>1</Size></Object></Delete>"
    )
    with pytest.raises(errors.NotImplemented) as caught:
        check("DeleteObjects", {}, asking)
    assert caught.value.details == {"Element": "Size"}


@pytest.mark.parametrize(("algorithm", "is_refused"), [("AES256", False), ("aws:kms", True)])
def test_bucket_encryption(algorithm: str, is_refused: bool) -> None:
    body = (
        "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
        f"<SSEAlgorithm>{algorithm}</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
        "</ServerSideEncryptionConfiguration>"
    ).encode()
    if is_refused:
        with pytest.raises(errors.NotImplemented):
            check("PutBucketEncryption", {}, body)
    else:
        check("PutBucketEncryption", {}, body)


def test_every_member_of_the_table_exists_somewhere() -> None:
    for feature in FEATURES:
        users = [name for name in OPERATIONS_BY_NAME if feature in refused_features(name)]
        assert users, feature.title
        for member in feature.members:
            name = member.partition(".")[0]
            assert any(name in OPERATIONS_BY_NAME[user].request.wire_fields for user in users)


def test_the_documentation_names_all_operations_and_what_is_refused() -> None:
    page = render({"PutObject", "ListBuckets"})
    for name in OPERATIONS_BY_NAME:
        assert f"| {name} | `" in page
    assert "| PutObject | `PUT /bucket/key` | yes |" in page
    assert "| UploadPart | `PUT /bucket/key?partNumber&uploadId` | no (501) |" in page
    assert "| ListObjectsV2 | `GET /bucket?list-type=2` | no (501) |" in page
    assert f"2 of {len(OPERATIONS_BY_NAME)} operations" in page
    assert "| object lock | 501 NotImplemented | nothing | PutObject |" in page
    assert "object lock for a bucket" not in page  # CreateBucket has no handler in this sample


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="PutObjectt"):
        render({"PutObjectt"})


@pytest.mark.parametrize("headers", [{"x-amz-acl": "public-read"}, {"x-amz-grant-read": "id=a"}])
def test_acls_of_new_buckets_have_an_error_of_their_own(headers: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidBucketAclWithObjectOwnership):
        check("CreateBucket", headers)
    with pytest.raises(errors.AccessControlListNotSupported):
        check("PutObject", headers)
