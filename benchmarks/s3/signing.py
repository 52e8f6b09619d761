"""Signing requests of a benchmark: Signature Version 4 in the header, as small as it can be.

Written apart from the gateway's verifier, so that a mistake there is not repeated here.
source   AWS Signature Version 4 for S3, "Authenticating Requests" in the S3 API reference
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, urlencode, urlsplit

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
SIGNED_HEADERS = "host;x-amz-content-sha256;x-amz-date"


@dataclass(frozen=True, slots=True)
class Target:
    """An S3 endpoint with keys."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    @property
    def host(self) -> str:
        """Host and port, as in the Host header."""
        return urlsplit(self.endpoint).netloc

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect to."""
        parts = urlsplit(self.endpoint)
        return parts.hostname or "", parts.port or 80


def signed_head(
    target: Target,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    query: dict[str, str] | None = None,
    unsigned: bool = False,
) -> bytes:
    """The head of a signed request, ready to be sent; good for 15 minutes.

    path       "/bucket/key", not yet percent-encoded
    unsigned   do not hash the body, as SDKs do over TLS
    """
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    uri = quote(path, safe="/-_.~")
    text = urlencode(sorted((query or {}).items()), quote_via=quote, safe="-_.~")
    digest = UNSIGNED if unsigned else _digest(body)
    canonical = (
        f"{method}\n{uri}\n{text}\nhost:{target.host}\nx-amz-content-sha256:{digest}\n"
        f"x-amz-date:{now}\n\n{SIGNED_HEADERS}\n{digest}"
    )
    scope = f"{now[:8]}/{target.region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _signing_key(target.secret_key, now[:8], target.region)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return (
        f"{method} {uri}{'?' + text if text else ''} HTTP/1.1\r\nHost: {target.host}\r\n"
        f"Content-Length: {len(body)}\r\nx-amz-content-sha256: {digest}\r\nx-amz-date: {now}\r\n"
        f"Authorization: AWS4-HMAC-SHA256 Credential={target.access_key}/{scope}, "
        f"SignedHeaders={SIGNED_HEADERS}, Signature={signature}\r\n\r\n"
    ).encode()


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256


@lru_cache(maxsize=64)
def _signing_key(secret_key: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
