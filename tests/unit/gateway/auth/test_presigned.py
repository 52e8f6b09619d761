"""Presigned URLs: headers hoisted into the query, and version 2 as botocore signs it."""

import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gateway.auth.credentials import Credential
from gateway.auth.presigned import is_presigned, read_v2, verify_v2, with_hoisted
from gateway.s3 import errors
from gateway.s3.address import parse_query

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIAL = Credential(ACCESS_KEY, SECRET_KEY, "1", "c", "d", "arn")


def signed(
    method: str, target: str, headers: dict[str, str] | None = None, expires: int = 60
) -> str:
    """A query that botocore has signed."""
    request = AWSRequest(method, f"http://s3.test{target}", headers=headers or {})
    HmacV1QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), expires).add_auth(request)
    return urlsplit(request.url).query


def verify(
    method: str, path: str, raw_query: str, headers: dict[str, str] | None = None
) -> dict[str, str]:
    """Verify as the pipeline does; the headers that count then."""
    query = parse_query(raw_query)
    assert is_presigned(query)
    merged = with_hoisted(headers or {}, query)
    claim = read_v2(merged, query, time.time())
    assert claim is not None
    verified = verify_v2(claim, CREDENTIAL, (method, path, raw_query), merged)
    assert verified.credential is CREDENTIAL
    return merged


@pytest.mark.parametrize(
    ("method", "path", "query", "headers"),
    [
        ("GET", "/bucket/key", "", {}),
        ("GET", "/bucket/a%20b/%C3%A9%2B", "", {}),
        ("GET", "/bucket/k", "versionId=abc%3D&response-content-type=text%2Fplain", {}),
        ("GET", "/bucket", "prefix=a%2Fb&list-type=2&max-keys=5", {}),
        ("PUT", "/bucket/k", "partNumber=1&uploadId=u", {}),
        ("PUT", "/bucket/k", "", {"content-type": "text/x"}),
        ("PUT", "/bucket/k", "", {"x-amz-meta-b": "2  3", "x-amz-meta-a": "1"}),
        ("PUT", "/bucket/k", "tagging", {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}),
        ("DELETE", "/bucket/k", "", {}),
    ],
)
def test_what_botocore_signs_is_accepted(
    method: str, path: str, query: str, headers: dict[str, str]
) -> None:
    raw = signed(method, f"{path}?{query}" if query else path, headers)
    merged = verify(method, path, raw)
    for name, value in headers.items():
        assert merged[name] == value
    verify(method, path, raw, headers)  # sent beside the query, too


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"method": "PUT"}, errors.SignatureDoesNotMatch),
        ({"path": "/bucket/other"}, errors.SignatureDoesNotMatch),
        ({"more": "&versionId=2"}, errors.SignatureDoesNotMatch),
        ({"more": "&acl"}, errors.SignatureDoesNotMatch),
        ({"more": "&attributes"}, errors.InvalidRequest),
        ({"more": "&encryption"}, errors.InvalidRequest),
        ({"more": "&x-amz-meta-a=1"}, errors.SignatureDoesNotMatch),
        ({"headers": {"x-amz-acl": "public-read"}}, errors.SignatureDoesNotMatch),
        ({"headers": {"content-type": "text/html"}}, errors.SignatureDoesNotMatch),
        ({"headers": {"authorization": "AWS a:b"}}, errors.InvalidArgument),
        ({"headers": {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}},
         errors.InvalidRequest),
    ],
)  # fmt: skip
def test_a_signature_is_good_for_nothing_else(
    change: dict[str, Any], error: type[errors.S3Error]
) -> None:
    raw = signed("GET", "/bucket/key")
    with pytest.raises(error):
        verify(
            change.get("method", "GET"), change.get("path", "/bucket/key"),
            raw + change.get("more", ""), change.get("headers"),
        )  # fmt: skip


@pytest.mark.parametrize("expires", ["", "soon", "-1", "1000", "１２"])
def test_urls_end(expires: str) -> None:
    query = {"AWSAccessKeyId": "a", "Signature": "s", "Expires": expires}
    with pytest.raises(errors.AccessDenied):
        read_v2({}, query, time.time())


def test_hoisted_headers_are_the_requests() -> None:
    query = {
        "X-Amz-Signature": "s", "X-Amz-Credential": "c",
        "x-amz-meta-a": "1", "X-Amz-Acl": "private", "x-id": "PutObject",
        "content-type": "not of version 4",
        "x-amz-sdk-checksum-algorithm": "CRC32",
    }  # fmt: skip
    merged = with_hoisted({"host": "h", "x-amz-meta-a": "1"}, query)
    assert merged == {"host": "h", "x-amz-meta-a": "1", "x-amz-acl": "private"}
    with pytest.raises(errors.InvalidArgument):
        with_hoisted({"x-amz-meta-a": "2"}, query)
    with pytest.raises(errors.InvalidArgument):
        with_hoisted({}, {**query, "X-Amz-Meta-A": "1"})
