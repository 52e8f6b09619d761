"""Presigned URLs: headers that travel in the query, and signatures of version 2.

Signers hoist headers into the query, so that whoever uses the URL need not send them. S3 takes
them as the headers they are.

Version 2 is what boto3 and the aws CLI still make for an endpoint of one's own unless they are told
otherwise. It covers less than version 4: no host, and of the query the sub-resources only. So any
other parameter that could change what a URL means is refused. source  "Signing and Authenticating
REST Requests" in the S3 API reference
"""

import base64
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.auth.credentials import Credential
from gateway.auth.signature import NOT_V4, QUERY_PARAMETERS, UNSIGNED, Scope, Verified
from gateway.s3 import errors
from gateway.s3.address import decode_path

NOT_HOISTED = frozenset(
    {name.lower() for name in QUERY_PARAMETERS}
    | {"x-amz-content-sha256", "x-amz-security-token", "x-amz-user-agent"}
    | {"x-amz-sdk-checksum-algorithm"}  # of the signer; the checksum itself counts
)
V2_PARAMETERS = frozenset({"AWSAccessKeyId", "Signature", "Expires"})
V2_HOISTED = frozenset({"content-md5", "content-type"})
# What the signature of version 2 covers, of the sub-resources that the gateway knows.
V2_SIGNED = frozenset({
    "acl", "accelerate", "cors", "delete", "lifecycle", "location", "logging", "notification",
    "object-lock", "partNumber", "policy", "replication", "requestPayment", "restore", "tagging",
    "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website",
    "response-cache-control", "response-content-disposition", "response-content-encoding",
    "response-content-language", "response-content-type", "response-expires",
})  # fmt: skip
# What it does not cover and what changes no more than which part of a listing is shown.
V2_FREE = frozenset({
    "continuation-token", "delimiter", "encoding-type", "fetch-owner", "key-marker", "list-type",
    "marker", "max-keys", "max-parts", "max-uploads", "part-number-marker", "prefix", "start-after",
    "upload-id-marker", "version-id-marker",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClaimV2:
    """What a URL of version 2 says about itself; nothing of it is proven yet."""

    access_key: str
    signature: str
    expires: str


def is_presigned(query: Mapping[str, str]) -> bool:
    """Whether a request is signed in its query, by either version."""
    return "X-Amz-Signature" in query or ("Signature" in query and "AWSAccessKeyId" in query)


def with_hoisted(headers: dict[str, str], query: Mapping[str, str]) -> dict[str, str]:
    """The headers of a presigned request, with those that travel in its query.

    raises   InvalidArgument: one was sent beside the query, with another value
    """
    hoisted: dict[str, str] = {}
    for name, value in query.items():
        wire = name.lower()
        is_amz = wire.startswith("x-amz-") and wire not in NOT_HOISTED
        if not is_amz and not (wire in V2_HOISTED and "Signature" in query):
            continue
        if headers.get(wire, value) != value or wire in hoisted:
            raise errors.InvalidArgument(
                "A header was given in the query and beside it, with different values",
                ArgumentName=wire,
                ArgumentValue=value,
            )
        hoisted[wire] = value
    return headers | hoisted if hoisted else headers


def read_v2(headers: Mapping[str, str], query: Mapping[str, str], now_s: float) -> ClaimV2 | None:
    """Find a signature of version 2 in the query; None: there is none.

    raises   S3Error: expired, malformed, or with parameters that it does not cover
    """
    if "Signature" not in query or "AWSAccessKeyId" not in query or "X-Amz-Signature" in query:
        return None
    if "authorization" in headers:
        raise errors.InvalidArgument(
            "Only one auth mechanism allowed", ArgumentName="Authorization"
        )
    for name in query:
        if not (
            name in V2_PARAMETERS or name in V2_SIGNED or name in V2_FREE
            or name in V2_HOISTED or name.lower().startswith("x-amz-") or name == "x-id"
        ):  # fmt: skip
            raise errors.InvalidRequest(NOT_V4)
    expires = query.get("Expires", "")
    if not (expires.isascii() and expires.isdigit()):
        raise errors.AccessDenied("Invalid date (should be seconds since epoch): " + expires)
    if now_s > int(expires[:20]):
        form = "%Y-%m-%dT%H:%M:%SZ"
        raise errors.AccessDenied(
            "Request has expired",
            Expires=time.strftime(form, time.gmtime(int(expires[:10]))),
            ServerTime=time.strftime(form, time.gmtime(now_s)),
        )
    return ClaimV2(query["AWSAccessKeyId"], query["Signature"], expires)


def verify_v2(
    claim: ClaimV2,
    credential: Credential,
    request: tuple[str, str, str],
    headers: Mapping[str, str],
) -> Verified:
    """Compare the signature with the one that the secret makes.

    request   method, resource (bucket and path as it came, percent-encoded) and query
    headers   with those that were hoisted
    raises    SignatureDoesNotMatch; InvalidRequest for a body in signed chunks
    """
    method, resource, raw_query = request
    payload_hash = headers.get("x-amz-content-sha256", UNSIGNED)
    if payload_hash.startswith("STREAMING-"):
        raise errors.InvalidRequest(NOT_V4)
    rest = "\n".join(
        (
            method,
            headers.get("content-md5", ""),
            headers.get("content-type", ""),
            claim.expires,
            *[
                f"{name}:{headers[name].strip()}"
                for name in sorted(headers)
                if name.startswith("x-amz-")
            ],
            "",
        )
    )
    query = _sub_resources(raw_query)
    # Signers end the name of a bucket by a slash, sent or not.
    is_bucket = resource.count("/") == 1 and resource != "/"
    to_sign = rest + resource + query
    for text in (to_sign, f"{rest}{resource}/{query}") if is_bucket else (to_sign,):
        digest = hmac.digest(credential.secret_key.encode(), text.encode(), "sha1")
        if hmac.compare_digest(base64.b64encode(digest), claim.signature.encode()):
            break
    else:
        raise errors.SignatureDoesNotMatch(
            AWSAccessKeyId=claim.access_key,
            StringToSign=to_sign,
            SignatureProvided=claim.signature,
            StringToSignBytes=to_sign.encode().hex(" "),
        )
    scope = Scope(claim.access_key, "", "")
    return Verified(credential, payload_hash, True, claim.signature, b"", scope, claim.expires)


def _sub_resources(raw_query: str) -> str:
    """The covered part of a query: sorted, values decoded."""
    covered = []
    for part in raw_query.split("&"):
        name, separator, value = part.partition("=")
        if name in V2_SIGNED:
            covered.append(name + separator + decode_path(value.replace("+", " ")))
    return "?" + "&".join(sorted(covered)) if covered else ""
