"""Signature Version 4 against published examples, botocore's signer, and attacks.

Method: the examples of the S3 API reference with their fixed date; then random requests signed by
botocore, and each of them changed a little.
"""

import calendar
import hashlib
import time
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import ManualClock
from gateway.auth.chunked import ChunkDecoder, ChunkSigner
from gateway.auth.credentials import Credential
from gateway.auth.signature import Scope, Verified, Verifier, read_claim
from gateway.s3 import errors
from gateway.s3.address import Addressing, parse_query

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIAL = Credential(ACCESS_KEY, SECRET_KEY, "1", "c", "d", "arn")
EXAMPLE_CLOCK = ManualClock(calendar.timegm(time.strptime("20130524", "%Y%m%d")))
EMPTY = hashlib.sha256(b"").hexdigest()
HOST = "examplebucket.s3.amazonaws.com"


def verify(
    method: str, path: str, query: str, headers: dict[str, str], clock: Any = EXAMPLE_CLOCK
) -> Verified:
    claim = read_claim(headers, parse_query(query), "us-east-1", clock)
    assert claim is not None
    return Verifier().verify(claim, CREDENTIAL, (method, path, query), headers)


def example(signed: str, signature: str, **more: str) -> dict[str, str]:
    scope = "20130524/us-east-1/s3/aws4_request"
    return {
        "host": HOST,
        "x-amz-date": "20130524T000000Z",
        "x-amz-content-sha256": EMPTY,
        "authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope},"
        f"SignedHeaders={signed},Signature={signature}",
        **more,
    }


def test_published_get_object() -> None:
    headers = example(
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        range="bytes=0-9",
    )
    assert verify("GET", "/test.txt", "", headers).credential is CREDENTIAL


def test_published_put_object() -> None:
    headers = example(
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        date="Fri, 24 May 2013 00:00:00 GMT",
        **{
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": hashlib.sha256(b"Welcome to Amazon S3.").hexdigest(),
        },
    )
    verify("PUT", "/test%24file.text", "", headers)


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_published_queries(query: str, signature: str) -> None:
    verify("GET", "/", query, example("host;x-amz-content-sha256;x-amz-date", signature))


def test_published_presigned_url() -> None:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2F"
        "us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&"
        "X-Amz-SignedHeaders=host&X-Amz-Signature="
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    assert verify("GET", "/test.txt", query, {"host": HOST}).is_presigned


CHUNK_SIGNATURES = (
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"


def chunk_signer() -> ChunkSigner:
    scope = Scope(ACCESS_KEY, "20130524", "us-east-1")
    key = Verifier()._keys.get(scope, SECRET_KEY)
    return ChunkSigner(key, scope, "20130524T000000Z", SEED)


def published_chunks() -> list[bytes]:
    return [
        b"%x;chunk-signature=%s\r\n%s\r\n" % (size, signature.encode(), b"a" * size)
        for size, signature in zip((65_536, 1024, 0), CHUNK_SIGNATURES, strict=True)
    ]


@pytest.mark.parametrize("piece", [1, 7, 1000, 100_000])
def test_published_chunked_upload(piece: int) -> None:
    decoder = ChunkDecoder(66_560, chunk_signer())
    body, found = b"".join(published_chunks()), b""
    for at in range(0, len(body), piece):
        found += b"".join(decoder.feed(body[at : at + piece]))
    decoder.finish()
    assert found == b"a" * 66_560


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"".join(published_chunks()[:2]), errors.IncompleteBody),
        (b"".join(published_chunks()).replace(b"a\r\n", b"b\r\n", 1), errors.SignatureDoesNotMatch),
        (b"".join([published_chunks()[1], *published_chunks()[::2]]), errors.SignatureDoesNotMatch),
        (published_chunks()[0] * 2, errors.IncompleteBody),
        (b"zz\r\n", errors.InvalidChunkSizeError),
        (b"-1;chunk-signature=x\r\n", errors.InvalidChunkSizeError),
        (b"400\r\n", errors.SignatureDoesNotMatch),
        (b"x" * 10_000, errors.InvalidChunkSizeError),
        (b"".join(published_chunks()) + b"more", errors.IncompleteBody),
    ],
)
def test_changed_chunks_are_refused(body: bytes, error: type[errors.S3Error]) -> None:
    decoder = ChunkDecoder(66_560, chunk_signer())
    with pytest.raises(error):
        decoder.feed(body)
        decoder.finish()


NOW = ManualClock(1_800_000_000.0)


def signed_by_botocore(
    method: str, path: str, headers: dict[str, str], presign: int = 0
) -> tuple[str, str, dict[str, str]]:
    url = f"http://s3.example.com:9000{path}"
    request = AWSRequest(method=method, url=url, headers=headers, data=b"")
    credentials = Credentials(ACCESS_KEY, SECRET_KEY)
    if presign:
        S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=presign).add_auth(request)
    else:
        S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    parts = urlsplit(request.url)
    sent = {name.lower(): value for name, value in request.headers.items()}
    return parts.path, parts.query, {"host": "s3.example.com:9000", **sent}


class RealClock(ManualClock):
    def now_ns(self) -> int:
        return time.time_ns()


@settings(deadline=None, max_examples=150)
@given(
    method=st.sampled_from(["GET", "PUT", "DELETE", "HEAD", "POST"]),
    key=st.text(st.characters(blacklist_categories=["Cs"]), max_size=30),
    value=st.text("abc -_.~", max_size=10),
    presign=st.booleans(),
)
def test_what_botocore_signs_is_accepted(method: str, key: str, value: str, presign: bool) -> None:
    quoted = quote(key, safe="/~")
    path, query, headers = signed_by_botocore(
        method, f"/bucket/{quoted}?prefix=a%20b&x=", {"x-amz-meta-a": value}, 60 if presign else 0
    )
    verify(method, path, query, headers, RealClock())


# What is sent, what is signed (None: what is sent), and the key that is meant.
ODD_PATHS = [
    ("/bucket/a%2Fb", None, "a/b"),
    ("/bucket/a%2Fb", "/bucket/a/b", "a/b"),
    ("/bucket/a%2fb", None, "a/b"),
    ("/bucket/a%2fb", "/bucket/a%2Fb", "a/b"),
    ("/bucket/a%2fb", "/bucket/a/b", "a/b"),
    ("/bucket/%c3%a9", None, "\u00e9"),
    ("/bucket/%c3%a9", "/bucket/%C3%A9", "\u00e9"),
    ("/bucket/%41%7e%2d", None, "A~-"),
    ("/bucket/%41%7e%2d", "/bucket/A~-", "A~-"),
    ("/bucket/a+b", None, "a+b"),
    ("/bucket/a+b", "/bucket/a%2Bb", "a+b"),
    ("/bucket/a%2Bb", None, "a+b"),
    ("/bucket/a%20b", None, "a b"),
    ("/bucket/a(1)!*'", None, "a(1)!*'"),
    ("/bucket/a(1)!*'", "/bucket/a%281%29%21%2A%27", "a(1)!*'"),
    ("/bucket/a%252Fb", None, "a%2Fb"),
    ("/bucket//a/../b", None, "/a/../b"),
    ("/bucket/%2e%2E/a", None, "../a"),
]


@pytest.mark.parametrize("presign", [0, 60])
@pytest.mark.parametrize(("sent", "signed", "key"), ODD_PATHS)
def test_a_path_may_be_signed_as_it_is_sent(
    sent: str, signed: str | None, key: str, presign: int
) -> None:
    _, query, headers = signed_by_botocore("GET", signed or sent, {}, presign)
    verify("GET", sent, query, headers, RealClock())
    assert Addressing([]).resolve("s3.example.com", sent).key == key


@pytest.mark.parametrize(
    ("signed", "sent"),
    [
        ("/bucket/a%2Fb", "/bucket/a%252Fb"),
        ("/bucket/a%252Fb", "/bucket/a%2Fb"),
        ("/bucket/a+b", "/bucket/a%20b"),
        ("/bucket/a%2Bb", "/bucket/a%20b"),
        ("/bucket/a%2Fb", "/bucket/a//b"),
        ("/bucket/a%2e", "/bucket/a%2e%2e"),
    ],
)
def test_an_odd_path_signs_no_other_key(signed: str, sent: str) -> None:
    _, query, headers = signed_by_botocore("GET", signed, {})
    with pytest.raises(errors.SignatureDoesNotMatch):
        verify("GET", sent, query, headers, RealClock())


@pytest.mark.parametrize("presign", [0, 60])
def test_a_signature_is_good_for_nothing_else(presign: int) -> None:
    path, query, headers = signed_by_botocore("GET", "/bucket/key?a=1", {"x-amz-x": "1"}, presign)
    changed = [
        ("PUT", path, query, headers),
        ("GET", path + "2", query, headers),
        ("GET", path, query + "&b=2", headers),
        ("GET", path, query, headers | {"host": "other"}),
        ("GET", path, query, headers | {"x-amz-x": "2"}),
    ]
    for request in changed:
        with pytest.raises(errors.SignatureDoesNotMatch):
            verify(*request, RealClock())
    with pytest.raises(errors.AccessDenied):
        verify("GET", path, query, headers | {"x-amz-acl": "public-read"}, RealClock())


def claim_of(clock: Any, region: str = "us-east-1", presign: int = 0, **changed: str) -> Any:
    _, query, headers = signed_by_botocore("GET", "/b/k", {}, presign)
    return read_claim(headers, parse_query(query) | changed, region, clock)


def test_old_requests_are_refused() -> None:
    clock = ManualClock(time.time() + 16 * 60)
    with pytest.raises(errors.RequestTimeTooSkewed):
        claim_of(clock)


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 24 May 2013 00:00:00 GMT",
        "Fri, 24 May 2013 00:00:00 -0000",
        "Fri, 24 May 2013 02:00:00 +0200",
        "20130524T000000Z",
    ],
)
def test_a_date_header_serves_where_x_amz_date_is_missing(date: str) -> None:
    headers = example("host;date", "0" * 64, date=date)
    del headers["x-amz-date"]
    claim = read_claim(headers, {}, "us-east-1", EXAMPLE_CLOCK)
    assert claim is not None
    assert claim.timestamp == "20130524T000000Z"


@pytest.mark.parametrize("date", ["", "today", "Fri, 99 May 2013 00:00:00 GMT"])
def test_what_is_no_date_is_refused(date: str) -> None:
    headers = example("host;date", "0" * 64, date=date)
    del headers["x-amz-date"]
    with pytest.raises(errors.AccessDenied):
        read_claim(headers, {}, "us-east-1", EXAMPLE_CLOCK)


def test_presigned_urls_end() -> None:
    with pytest.raises(errors.AccessDenied, match="expired"):
        claim_of(ManualClock(time.time() + 62), presign=60)
    for expires in ("604801", "-1", "x"):
        with pytest.raises(errors.AuthorizationQueryParametersError):
            claim_of(RealClock(), presign=60, **{"X-Amz-Expires": expires})
    assert claim_of(RealClock(), presign=604_800) is not None


def test_other_regions_are_refused() -> None:
    with pytest.raises(errors.AuthorizationHeaderMalformed):
        claim_of(RealClock(), region="eu-west-1")


@pytest.mark.parametrize(
    ("authorization", "error"),
    [
        ("AWS AKIA:signature", errors.InvalidRequest),
        ("Bearer x", errors.InvalidArgument),
        ("AWS4-HMAC-SHA256 nonsense", errors.AuthorizationHeaderMalformed),
        ("AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=host,Signature=x",
         errors.AuthorizationHeaderMalformed),
    ],
)  # fmt: skip
def test_other_authorizations_are_refused(authorization: str, error: type[errors.S3Error]) -> None:
    headers = {"authorization": authorization, "x-amz-date": "20130524T000000Z", "host": HOST}
    with pytest.raises(error):
        read_claim(headers, {}, "us-east-1", EXAMPLE_CLOCK)


def test_no_authorization_is_anonymous() -> None:
    assert read_claim({"host": HOST}, {}, "us-east-1", EXAMPLE_CLOCK) is None
