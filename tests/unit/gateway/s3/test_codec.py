"""Routing and strictness: the right operation, and nothing it does not know.

Method: requests by hand; the round trip of whole operations is in tests/conformance.
"""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3 import errors
from gateway.s3.codec import COMMON_HEADERS, COMMON_QUERY, OPERATIONS_BY_NAME, ROUTER
from gateway.s3.model.bucket import GetBucketLocationOutput
from gateway.s3.model.object import GetObjectOutput, PostObjectOutput, PostResponse, PutObjectOutput

FORM = {"content-type": "multipart/form-data; boundary=x"}
COPY = {"x-amz-copy-source": "/b/k"}
ROUTES: list[tuple[str, str, dict[str, str], dict[str, str], str | None]] = [
    ("GET", "service", {}, {}, "ListBuckets"),
    ("GET", "service", {"max-directory-buckets": "5"}, {}, "ListDirectoryBuckets"),
    ("GET", "bucket", {}, {}, "ListObjects"),
    ("GET", "bucket", {"prefix": "uploads"}, {}, "ListObjects"),
    ("GET", "bucket", {"list-type": "2"}, {}, "ListObjectsV2"),
    ("GET", "bucket", {"list-type": "3"}, {}, "ListObjects"),
    ("GET", "bucket", {"versions": ""}, {}, "ListObjectVersions"),
    ("GET", "bucket", {"uploads": "", "prefix": "a"}, {}, "ListMultipartUploads"),
    ("GET", "bucket", {"lifecycle": ""}, {}, "GetBucketLifecycleConfiguration"),
    ("GET", "bucket", {"analytics": ""}, {}, "ListBucketAnalyticsConfigurations"),
    ("GET", "bucket", {"analytics": "", "id": "1"}, {}, "GetBucketAnalyticsConfiguration"),
    ("DELETE", "bucket", {"analytics": ""}, {}, "DeleteBucketAnalyticsConfiguration"),
    ("DELETE", "bucket", {}, {}, "DeleteBucket"),
    ("POST", "bucket", {"delete": ""}, {}, "DeleteObjects"),
    ("POST", "bucket", {"delete": ""}, FORM, "DeleteObjects"),
    ("POST", "bucket", {}, FORM, "PostObject"),
    ("POST", "bucket", {}, {}, None),
    ("PUT", "object", {}, {}, "PutObject"),
    ("PUT", "object", {}, COPY, "CopyObject"),
    ("PUT", "object", {"partNumber": "1", "uploadId": "u"}, {}, "UploadPart"),
    ("PUT", "object", {"uploadId": "u", "partNumber": "1"}, COPY, "UploadPartCopy"),
    ("PUT", "object", {"uploadId": "u"}, {}, "UploadPart"),
    ("PUT", "object", {"partNumber": "1"}, {}, "UploadPart"),
    ("PUT", "object", {"tagging": ""}, {}, "PutObjectTagging"),
    ("GET", "object", {}, {}, "GetObject"),
    ("GET", "object", {"partNumber": "1"}, {}, "GetObject"),
    ("GET", "object", {"uploadId": "u"}, {}, "ListParts"),
    ("GET", "object", {"attributes": ""}, {}, "GetObjectAttributes"),
    ("GET", "object", {"torrent": ""}, {}, "GetObjectTorrent"),
    ("GET", "object", {"annotation": ""}, {}, "ListObjectAnnotations"),
    ("GET", "object", {"annotation": "", "annotationName": "n"}, {}, "GetObjectAnnotation"),
    ("DELETE", "object", {"uploadId": "u"}, {}, "AbortMultipartUpload"),
    ("POST", "object", {"uploads": ""}, {}, "CreateMultipartUpload"),
    ("POST", "object", {"uploadId": "u"}, {}, "CompleteMultipartUpload"),
    ("POST", "object", {"select": "", "select-type": "2"}, {}, "SelectObjectContent"),
    ("POST", "object", {}, {}, None),
    ("HEAD", "bucket", {}, {}, "HeadBucket"),
    ("HEAD", "object", {"versionId": "v"}, {}, "HeadObject"),
    ("OPTIONS", "object", {"any": "thing"}, {}, "OptionsObject"),
    ("OPTIONS", "bucket", {}, {}, "OptionsObject"),
    ("PATCH", "object", {}, {}, None),
]


@pytest.mark.parametrize(("method", "level", "query", "headers", "name"), ROUTES)
def test_routes(
    method: str, level: str, query: dict[str, str], headers: dict[str, str], name: str | None
) -> None:
    operation = ROUTER.match(method, level, query, headers)
    assert (operation and operation.name) == name


def test_object_lambda_answers_are_routed_by_their_headers() -> None:
    headers = {"x-amz-request-route": "r", "x-amz-request-token": "t"}
    operation = ROUTER.match("POST", "bucket", {}, headers)
    assert operation is not None and operation.name == "WriteGetObjectResponse"


def decode(name: str, query: dict[str, str] | None = None, **headers: str) -> Any:
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    return OPERATIONS_BY_NAME[name].decode("bucket", "key", query or {}, named, None)


def test_an_unknown_query_parameter_is_refused() -> None:
    with pytest.raises(errors.NotImplemented) as caught:
        decode("GetObject", {"uploads": ""})
    assert caught.value.details == {"Parameter": "uploads"}


def test_an_unknown_amazon_header_is_refused() -> None:
    with pytest.raises(errors.NotImplemented) as caught:
        decode("GetObject", x_amz_new_feature="on")
    assert caught.value.details == {"Header": "x-amz-new-feature"}
    assert caught.value.status == 501


def test_what_signatures_and_sdks_send_is_taken_everywhere() -> None:
    query = dict.fromkeys([*COMMON_QUERY, "x-id", "x-my-log"], "v")
    headers = dict.fromkeys([*COMMON_HEADERS, "amz-sdk-request", "x-amzn-trace-id", "x-other"], "v")
    del headers["x-amz-sdk-checksum-algorithm"]
    for operation in OPERATIONS_BY_NAME.values():
        if operation.required_headers or operation.is_body_required:
            continue
        required = dict.fromkeys(operation.required_query, "1")
        operation.decode("bucket", "key", query | required, headers, None)


def test_a_checksum_of_an_xml_body_is_taken_where_the_model_has_one() -> None:
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    operation = OPERATIONS_BY_NAME["DeleteObjects"]
    assert operation.checksum == "required"
    operation.decode("b", "", {"delete": ""}, {"x-amz-checksum-crc32c": "AAAAAA=="}, body)
    with pytest.raises(errors.NotImplemented):
        operation.decode("b", "", {"delete": ""}, {"x-amz-checksum-crc16": "AAAA"}, body)


def test_a_missing_required_parameter_is_named() -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        decode("UploadPart", {"uploadId": "u"})
    assert caught.value.details == {"ArgumentName": "partNumber"}


@pytest.mark.parametrize("value", ["abc", "-1", "1_000", "٣", "", "2147483648", "9" * 5000])
def test_a_bad_integer_is_an_invalid_argument(value: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        decode("ListObjectsV2", {"list-type": "2", "max-keys": value})
    assert caught.value.details == {"ArgumentName": "max-keys", "ArgumentValue": value}


def test_bad_header_values_have_the_errors_of_their_header() -> None:
    with pytest.raises(errors.InvalidStorageClass):
        decode("PutObject", x_amz_storage_class="CHEAP")
    with pytest.raises(errors.InvalidArgument):
        decode("PutObject", x_amz_server_side_encryption="AES")
    with pytest.raises(errors.InvalidRequest):
        decode("CreateMultipartUpload", {"uploads": ""}, x_amz_checksum_algorithm="CRC16")
    with pytest.raises(errors.InvalidArgument):
        decode("ListObjectsV2", {"list-type": "2", "encoding-type": "base64"})


def test_response_overrides_cannot_add_headers() -> None:
    with pytest.raises(errors.InvalidArgument):
        decode("GetObject", {"response-content-type": "a\r\nset-cookie: b"})
    assert decode("GetObject", {"response-expires": "soon"}).response_expires == "soon"


def test_an_invalid_date_of_a_condition_is_ignored_and_others_are_not() -> None:
    assert decode("GetObject", if_modified_since="yesterday").if_modified_since is None
    with pytest.raises(errors.InvalidArgument):
        decode("PutObject", x_amz_object_lock_retain_until_date="yesterday")


def test_user_metadata_keeps_names_and_values() -> None:
    request = decode("PutObject", x_amz_meta_a="1", x_amz_meta_b_c="2")
    assert request.metadata == {"a": "1", "b-c": "2"}
    assert decode("PutObject").metadata is None


@given(st.text(), st.text(min_size=1))
def test_keys_and_texts_pass_untouched(prefix: str, key: str) -> None:
    request = OPERATIONS_BY_NAME["ListObjects"].decode("b", "", {"prefix": prefix}, {})
    assert request.prefix == prefix
    assert OPERATIONS_BY_NAME["GetObject"].decode("b", key, {}, {}).key == key


def test_put_object_answers_with_headers_only() -> None:
    result = PutObjectOutput(etag='"e"', version_id="v", bucket_key_enabled=True)
    assert OPERATIONS_BY_NAME["PutObject"].encode(result) == (
        200,
        {
            "etag": '"e"',
            "x-amz-version-id": "v",
            "x-amz-server-side-encryption-bucket-key-enabled": "true",
        },
        b"",
    )


def test_a_range_is_partial_content_and_the_stream_is_passed_on() -> None:
    stream = object()
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    result = GetObjectOutput(body=stream, content_range="bytes 0-1/5", last_modified=moment)
    status, headers, body = OPERATIONS_BY_NAME["GetObject"].encode(result)
    assert (status, body) == (206, stream)
    assert headers["last-modified"] == "Fri, 02 Jan 2026 03:04:05 GMT"


def test_the_location_of_us_east_1_is_an_empty_document() -> None:
    _, _, body = OPERATIONS_BY_NAME["GetBucketLocation"].encode(GetBucketLocationOutput())
    assert body.endswith(b'2006-03-01/"></LocationConstraint>')


def test_an_operation_without_members_answers_its_status() -> None:
    assert OPERATIONS_BY_NAME["DeleteBucket"].encode() == (204, {}, b"")
    assert OPERATIONS_BY_NAME["PutBucketPolicy"].encode() == (204, {}, b"")


def test_a_form_upload_chooses_its_status() -> None:
    post = OPERATIONS_BY_NAME["PostObject"]
    created = PostObjectOutput(status=201, post_response=PostResponse(bucket="b", key="k"))
    status, headers, body = post.encode(created)
    assert (status, headers["content-type"]) == (201, "application/xml")
    assert b"<Key>k</Key>" in body
    assert post.encode(PostObjectOutput(etag='"e"')) == (204, {"etag": '"e"'}, b"")


def test_shapes_refuse_members_they_do_not_have() -> None:
    with pytest.raises(AssertionError, match="no_such"):
        PutObjectOutput(no_such="x")  # type: ignore[call-arg]
