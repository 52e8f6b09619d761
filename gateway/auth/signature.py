"""Signature Version 4: who sent a request, and that nobody changed it.

Two forms: the Authorization header, and the query string of presigned URLs. The canonical request
is made from the bytes as they came: S3 encodes a path once and normalises nothing. Clients that
encode a path otherwise sign it as they send it; that is accepted, too. Unlike other
services' signers S3 wants every x-amz- header signed. source  AWS Signature Version 4 for S3,
"Authenticating Requests" in the S3 API reference.
"""

import calendar
import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from common import limits
from common.clock import Clock
from gateway.auth.credentials import Credential
from gateway.s3 import errors

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
SERVICE = "s3"
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING = frozenset({STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER})
SIGNING_KEYS_MAX = 1024
KNOWN_MAX, KNOWN_BYTES_MAX = 256, 1024  # of what clients repeat, and strangers may make up
_SHA256_HEX = re.compile("[0-9a-f]{64}")
NOT_V4 = (
    "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
)
QUERY_PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signing key is good for."""

    access_key: str
    date: str
    region: str

    @property
    def text(self) -> str:
        """As it stands in the string to sign."""
        return f"{self.date}/{self.region}/{SERVICE}/{TERMINATOR}"


class Claim(NamedTuple):
    """What a request says about itself; nothing of it is proven yet.

    payload_hash   as signed: a hex digest, UNSIGNED-PAYLOAD or STREAMING-...
    """

    scope: Scope
    timestamp: str
    signed_headers: tuple[str, ...]
    signature: str
    payload_hash: str
    is_presigned: bool
    session_token: str = ""


class Verified(NamedTuple):
    """A proven request: by whom, and what its body must be checked against."""

    credential: Credential
    payload_hash: str
    is_presigned: bool
    seed_signature: str
    signing_key: bytes
    scope: Scope
    timestamp: str


class SigningKeys:
    """Derived keys by scope and secret: four HMACs saved per request."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[Scope, str], bytes] = OrderedDict()

    def get(self, scope: Scope, secret: str) -> bytes:
        """The key that signs in this scope."""
        name = (scope, secret)
        key = self._keys.get(name)
        if key is None:
            key = f"AWS4{secret}".encode()
            for part in (scope.date, scope.region, SERVICE, TERMINATOR):
                key = hmac.digest(key, part.encode(), "sha256")
            self._keys[name] = key
            if len(self._keys) > SIGNING_KEYS_MAX:
                self._keys.popitem(last=False)
        return key


def read_claim(
    headers: Mapping[str, str], query: Mapping[str, str], region: str, clock: Clock
) -> Claim | None:
    """Find how a request claims to be signed; None: it is anonymous.

    headers   names in lower case
    query     decoded
    raises    S3Error: malformed, of an unsupported kind, too old, for another region
    """
    authorization = headers.get("authorization")
    is_presigned = "X-Amz-Algorithm" in query or "X-Amz-Signature" in query
    if authorization is not None and is_presigned:
        raise errors.InvalidArgument(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature "
            "query string parameter or the Authorization header should be specified",
            ArgumentName="Authorization",
            ArgumentValue=authorization.split(" ", 1)[0],
        )
    if authorization is not None:
        return _header_claim(authorization, headers, region, clock)
    if is_presigned:
        return _query_claim(query, headers, region, clock)
    return None


def _header_claim(
    authorization: str, headers: Mapping[str, str], region: str, clock: Clock
) -> Claim:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        if algorithm in ("AWS", "AWS4-ECDSA-P256-SHA256"):
            raise errors.InvalidRequest(NOT_V4)
        raise errors.InvalidArgument(
            "Unsupported Authorization Type",
            ArgumentName="Authorization",
            ArgumentValue=algorithm,
        )
    fields, signature = _authorization_fields(rest)
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not (signature if name == "Signature" else fields.get(name)):
            raise errors.AuthorizationHeaderMalformed(
                f"The authorization header is malformed; the {name} component is missing."
            )
    timestamp = headers.get("x-amz-date") or _iso_date(headers.get("date"))
    scope = _scope(fields["Credential"], errors.AuthorizationHeaderMalformed)
    now_s = clock.now_ns() / 1e9
    sent_s = _seconds(timestamp)
    if sent_s is None:
        raise errors.AccessDenied("AWS authentication requires a valid Date or x-amz-date header")
    if abs(now_s - sent_s) > limits.CLOCK_SKEW_S_MAX:
        raise errors.RequestTimeTooSkewed(
            RequestTime=timestamp,
            ServerTime=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s)),
            MaxAllowedSkewMilliseconds=int(limits.CLOCK_SKEW_S_MAX * 1000),
        )
    _check_scope(scope, timestamp, region, errors.AuthorizationHeaderMalformed)
    payload_hash = headers.get("x-amz-content-sha256")
    if payload_hash is None:
        raise errors.InvalidRequest(
            "Missing required header for this request: x-amz-content-sha256"
        )
    _check_payload_hash(payload_hash)
    return Claim(
        scope,
        timestamp,
        tuple(fields["SignedHeaders"].split(";")),
        signature,
        payload_hash,
        is_presigned=False,
        session_token=headers.get("x-amz-security-token", ""),
    )


def _authorization_fields(text: str) -> tuple[Mapping[str, str], str]:
    """Fields of an Authorization header, and its signature.

    What a client sends before the signature is the same all day: it is taken apart once.
    """
    before, name, signature = text.rpartition("Signature=")
    if name and before.rstrip()[-1:] in ("", ",") and "," not in signature:
        fields = (_fields if len(before) <= KNOWN_BYTES_MAX else _fields.__wrapped__)(before)
        return fields, signature.strip()
    fields = _fields.__wrapped__(text)
    return fields, fields.get("Signature", "")


@lru_cache(maxsize=KNOWN_MAX)
def _fields(text: str) -> Mapping[str, str]:
    fields: dict[str, str] = {}
    for part in text.split(","):
        name, separator, value = part.strip().partition("=")
        if separator:
            fields[name] = value.strip()
    return fields


def _query_claim(
    query: Mapping[str, str], headers: Mapping[str, str], region: str, clock: Clock
) -> Claim:
    for name in QUERY_PARAMETERS:
        if not query.get(name):
            raise errors.AuthorizationQueryParametersError(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, "
                "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and "
                "X-Amz-Expires parameters."
            )
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise errors.AuthorizationQueryParametersError(
            'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"'
        )
    timestamp = query["X-Amz-Date"]
    sent_s = _seconds(timestamp)
    if sent_s is None:
        raise errors.AuthorizationQueryParametersError(
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        )
    scope = _scope(query["X-Amz-Credential"], errors.AuthorizationQueryParametersError)
    _check_scope(scope, timestamp, region, errors.AuthorizationQueryParametersError)
    _check_expiry(query["X-Amz-Expires"], sent_s, clock.now_ns() / 1e9)
    payload_hash = headers.get("x-amz-content-sha256") or query.get("X-Amz-Content-Sha256")
    if payload_hash is not None:
        _check_payload_hash(payload_hash)
    return Claim(
        scope,
        timestamp,
        tuple(query["X-Amz-SignedHeaders"].split(";")),
        query["X-Amz-Signature"],
        payload_hash or UNSIGNED,
        is_presigned=True,
        session_token=query.get("X-Amz-Security-Token", ""),
    )


def _check_expiry(text: str, sent_s: float, now_s: float) -> None:
    if not text.isascii() or not text.lstrip("-").isdigit():
        raise errors.AuthorizationQueryParametersError("X-Amz-Expires should be a number")
    expires_s = int(text[:20])
    if expires_s < 0:
        raise errors.AuthorizationQueryParametersError("X-Amz-Expires must be non-negative")
    if expires_s > limits.PRESIGN_EXPIRES_S_MAX:
        raise errors.AuthorizationQueryParametersError(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given "
            f"X-Amz-Expires must be less than {limits.PRESIGN_EXPIRES_S_MAX} seconds"
        )
    if sent_s - now_s > limits.CLOCK_SKEW_S_MAX:
        raise errors.AccessDenied("Request is not valid yet")
    if now_s > sent_s + expires_s:
        form = "%Y-%m-%dT%H:%M:%SZ"
        raise errors.AccessDenied(
            "Request has expired",
            Expires=time.strftime(form, time.gmtime(sent_s + expires_s)),
            ServerTime=time.strftime(form, time.gmtime(now_s)),
        )


class Verifier:
    """Proves claims. One per process: keeps derived keys."""

    def __init__(self) -> None:
        self._keys = SigningKeys()

    def verify(
        self,
        claim: Claim,
        credential: Credential,
        request: tuple[str, str, str],
        headers: Mapping[str, str],
    ) -> Verified:
        """Compare the signature with the one that the secret makes.

        request   method, path and query as they came, percent-encoded
        raises    SignatureDoesNotMatch, AccessDenied (headers that had to be signed)
        """
        method, raw_path, raw_query = request
        _check_signed_headers(claim, headers)
        rest = "\n".join(
            (
                canonical_query(raw_query, without_signature=claim.is_presigned),
                *[f"{name}:{_trimmed(headers.get(name, ''))}" for name in claim.signed_headers],
                "",
                ";".join(claim.signed_headers),
                claim.payload_hash,
            )
        )
        key = self._keys.get(claim.scope, credential.secret_key)
        path = canonical_path(raw_path)
        canonical = f"{method}\n{path}\n{rest}"
        to_sign = string_to_sign(claim.timestamp, claim.scope, canonical)
        expected = hmac.digest(key, to_sign.encode(), "sha256").hex()
        if not _is_same(expected, claim.signature) and path != raw_path:
            for other in other_paths(raw_path):
                text = string_to_sign(claim.timestamp, claim.scope, f"{method}\n{other}\n{rest}")
                signature = hmac.digest(key, text.encode(), "sha256").hex()
                if _is_same(signature, claim.signature):
                    expected = signature
        if not _is_same(expected, claim.signature):
            raise errors.SignatureDoesNotMatch(
                AWSAccessKeyId=claim.scope.access_key,
                StringToSign=to_sign,
                SignatureProvided=claim.signature,
                StringToSignBytes=to_sign.encode().hex(" "),
                CanonicalRequest=canonical,
                CanonicalRequestBytes=canonical.encode().hex(" "),
            )
        return Verified(
            credential,
            claim.payload_hash,
            claim.is_presigned,
            expected,
            key,
            claim.scope,
            claim.timestamp,
        )

    def sign(self, scope: Scope, secret: str, text: str) -> str:
        """Sign text in a scope: for forms."""
        return hmac.digest(self._keys.get(scope, secret), text.encode(), "sha256").hex()


def _is_same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode())


def string_to_sign(timestamp: str, scope: Scope, canonical: str) -> str:
    """The text that a request's signature is made over."""
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{scope.text}\n{digest}"


_PATH_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/%")


def canonical_path(raw: str) -> str:
    """The path, every byte but unreserved ones and slashes encoded once, in upper-case hex."""
    data = raw.encode("utf-8", "surrogateescape")
    if _PATH_SAFE.issuperset(data) and "%" not in raw:
        return raw
    return quote_from_bytes(unquote_to_bytes(data), safe="/-._~")


def other_paths(raw: str) -> tuple[str, ...]:
    """Other forms of a path that signers sign: as it was sent, and with `%2F` kept encoded.

    Each stands for this path alone, which names the same key however it is encoded: a signature
    over one of them is good for nothing else.
    """
    segments = re.split("(?i:%2f)", raw)
    return raw, "%2F".join(canonical_path(segment) for segment in segments)


def canonical_query(raw: str, *, without_signature: bool = False) -> str:
    """The query's parameters, encoded once and sorted."""
    if not raw:
        return ""
    pairs = []
    for part in raw.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        if without_signature and name == "X-Amz-Signature":
            continue
        pairs.append((_encode(name), _encode(value)))
    pairs.sort()
    return "&".join(f"{name}={value}" for name, value in pairs)


def _encode(raw: str) -> str:
    if raw.isalnum() and raw.isascii():
        return raw
    return quote_from_bytes(unquote_to_bytes(raw.replace("+", " ")), safe="-._~")


def _trimmed(value: str) -> str:
    """A header's value without outer spaces, inner runs of them as one."""
    return (
        " ".join(value.split()) if "  " in value or value[:1] == " " or value[-1:] == " " else value
    )


def _check_signed_headers(claim: Claim, headers: Mapping[str, str]) -> None:
    signed = claim.signed_headers
    missing = [name for name in headers if name.startswith("x-amz-") and name not in signed]
    if claim.is_presigned and "x-amz-content-sha256" in missing:
        missing.remove(
            "x-amz-content-sha256"
        )  # may travel in a presigned request without a part in it
    if "host" not in signed:
        missing.append("host")
    if missing:
        raise errors.AccessDenied(
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(missing),
        )


def _scope(text: str, error: type[errors.S3Error]) -> Scope:
    read = _read_scope if len(text) <= KNOWN_BYTES_MAX else _read_scope.__wrapped__
    scope, trouble = read(text)
    if scope is None:
        raise error(trouble)
    return scope


@lru_cache(maxsize=KNOWN_MAX)
def _read_scope(text: str) -> tuple[Scope | None, str]:
    """A scope, or what is wrong with it."""
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or not parts[0]:
        return None, (
            "the Credential is mal-formed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
        )
    access_key, date, region, service, terminator = parts
    if service != SERVICE:
        return None, f'incorrect service "{service}". This endpoint belongs to "{SERVICE}".'
    if terminator != TERMINATOR:
        return None, f'incorrect terminal "{terminator}". This endpoint uses "{TERMINATOR}".'
    return Scope(access_key, date, region), ""


def _check_scope(scope: Scope, timestamp: str, region: str, error: type[errors.S3Error]) -> None:
    if scope.date != timestamp[:8]:
        raise error(
            f'Invalid credential date "{scope.date}". This date is not the same as X-Amz-Date.'
        )
    if scope.region != region:
        raise error(f"the region '{scope.region}' is wrong; expecting '{region}'", Region=region)


def read_scope(text: str, timestamp: str, region: str, error: type[errors.S3Error]) -> Scope:
    """The scope of a form's credential. raises `error` if it is not ours"""
    scope = _scope(text, error)
    _check_scope(scope, timestamp, region, error)
    return scope


def _check_payload_hash(value: str) -> None:
    if value in STREAMING or value == UNSIGNED:
        return
    if value.startswith("STREAMING-"):
        raise errors.NotImplemented(f"The payload form {value}.")
    if not _SHA256_HEX.fullmatch(value):
        raise errors.InvalidArgument(
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, "
            "or a valid sha256 value.",
            ArgumentName="x-amz-content-sha256",
            ArgumentValue=value,
        )


@lru_cache(maxsize=1024)
def _seconds(timestamp: str) -> float | None:
    """Seconds since 1970 of YYYYMMDDTHHMMSSZ; None if it is not of that form."""
    if len(timestamp) != 16 or timestamp[8] != "T" or timestamp[15] != "Z":
        return None
    try:
        return float(calendar.timegm(time.strptime(timestamp, "%Y%m%dT%H%M%SZ")))
    except ValueError:
        return None


def _iso_date(date: str | None) -> str:
    """A Date header in the form of x-amz-date; empty if it is no date.

    Mail dates count too (`-0000` for GMT): signers of SDKs write them.
    """
    if date is None:
        return ""
    if _seconds(date) is not None:
        return date
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return ""
    in_utc = moment if moment.tzinfo is None else moment.astimezone(UTC)
    return in_utc.strftime("%Y%m%dT%H%M%SZ")
