"""What a body must be: digests that a client declared in headers, signature or trailers."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.checksum import CRC_BYTES
from gateway.auth.signature import STREAMING, UNSIGNED
from gateway.s3 import errors

CHECKSUM_PREFIX = "x-amz-checksum-"
ALGORITHMS = {
    "crc32": "CRC32",
    "crc32c": "CRC32C",
    "crc64nvme": "CRC64NVME",
    "sha1": "SHA1",
    "sha256": "SHA256",
}
DIGEST_BYTES = {**CRC_BYTES, "SHA1": 20, "SHA256": 32, "MD5": 16}
# Names in this space that are settings, not values.
NO_VALUES = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"})


@dataclass(slots=True)
class Expectations:
    """Digests that a body must have.

    sha256     of the whole payload, by the signature
    md5        by Content-MD5
    checksum   algorithm and value; the value of a trailer is known at the end
    """

    sha256: bytes | None = None
    md5: bytes | None = None
    algorithm: str | None = None
    value: bytes | None = None
    trailer: str = ""
    _trailers: dict[str, str] = field(default_factory=dict)

    @property
    def algorithms(self) -> frozenset[str]:
        """Digests to compute."""
        wanted = set()
        if self.sha256 is not None:
            wanted.add("SHA256")
        if self.md5 is not None:
            wanted.add("MD5")
        if self.algorithm is not None:
            wanted.add(self.algorithm)
        return frozenset(wanted)

    def take_trailers(self, trailers: Mapping[str, str]) -> None:
        """Learn the checksum that came behind the body. raises InvalidRequest"""
        if self.trailer:
            self.value = _value(self.trailer, trailers[self.trailer])

    def verify(self, digests: Mapping[str, bytes]) -> None:
        """Compare. raises BadDigest, XAmzContentSHA256Mismatch"""
        if self.sha256 is not None and not hmac.compare_digest(self.sha256, digests["SHA256"]):
            raise errors.XAmzContentSHA256Mismatch(
                ClientComputedContentSHA256=self.sha256.hex(),
                S3ComputedContentSHA256=digests["SHA256"].hex(),
            )
        if self.md5 is not None and not hmac.compare_digest(self.md5, digests["MD5"]):
            raise errors.BadDigest(
                ExpectedDigest=base64.b64encode(self.md5).decode(),
                CalculatedDigest=base64.b64encode(digests["MD5"]).decode(),
            )
        if self.algorithm is not None and self.value is not None:
            found = digests[self.algorithm]
            if not hmac.compare_digest(self.value, found):
                raise errors.BadDigest(
                    f"The {self.algorithm} you specified did not match the calculated checksum."
                )


def read_expectations(headers: Mapping[str, str], payload_hash: str) -> Expectations:
    """Find what a body is declared to be.

    headers        names in lower case
    payload_hash   x-amz-content-sha256 as signed
    raises         InvalidDigest, InvalidRequest
    """
    expected = Expectations()
    if payload_hash != UNSIGNED and payload_hash not in STREAMING:
        expected.sha256 = bytes.fromhex(payload_hash)
    md5 = headers.get("content-md5")
    if md5 is not None:
        expected.md5 = _decoded(md5, DIGEST_BYTES["MD5"])
        if expected.md5 is None:
            raise errors.InvalidDigest()
    named = [name for name in headers if name.startswith(CHECKSUM_PREFIX) and name not in NO_VALUES]
    trailers = trailer_names(headers)
    named_trailers = [name for name in trailers if name.startswith(CHECKSUM_PREFIX)]
    if len(named) + len(named_trailers) > 1:
        raise errors.InvalidRequest(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    if named:
        expected.algorithm = _algorithm(named[0])
        expected.value = _value(named[0], headers[named[0]])
    elif named_trailers:
        expected.trailer = named_trailers[0]
        expected.algorithm = _algorithm(expected.trailer)
    declared = headers.get("x-amz-sdk-checksum-algorithm")
    if declared is not None:
        _check_declared(declared, expected)
    return expected


def trailer_names(headers: Mapping[str, str]) -> list[str]:
    """Names announced by x-amz-trailer, in lower case."""
    announced = headers.get("x-amz-trailer", "")
    return [name.strip().lower() for name in announced.split(",") if name.strip()]


def _check_declared(declared: str, expected: Expectations) -> None:
    if expected.algorithm is None:
        if expected.md5 is not None:
            return
        raise errors.InvalidRequest(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or "
            "x-amz-trailer headers were found."
        )
    if declared.upper() != expected.algorithm:
        raise errors.InvalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid.")


def _algorithm(name: str) -> str:
    algorithm = ALGORITHMS.get(name[len(CHECKSUM_PREFIX) :])
    if algorithm is None:
        raise errors.NotImplemented(Header=name)
    return algorithm


def _value(name: str, text: str) -> bytes:
    value = _decoded(text, DIGEST_BYTES[_algorithm(name)])
    if value is None:
        raise errors.InvalidRequest(f"Value for {name} header is invalid.")
    return value


def _decoded(text: str, size: int) -> bytes | None:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return value if len(value) == size else None
