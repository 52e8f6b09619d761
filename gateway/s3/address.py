"""Which bucket and key a request names: path style or virtual hosting, over several domains.

Names are decoded exactly once and never normalised: `../`, `//`, `a/./b` and NUL are keys like
any other. Pure text: nothing here knows whether a bucket exists.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from common.limits import BUCKET_NAME_CHARACTERS_MAX, BUCKET_NAME_CHARACTERS_MIN, KEY_BYTES_MAX
from gateway.s3 import text
from gateway.s3.errors import InvalidArgument, InvalidBucketName, InvalidURI, KeyTooLongError
from gateway.s3.shape import Level

_BUCKET_NAME = re.compile("[a-z0-9][a-z0-9.-]*[a-z0-9]")
_IPV4 = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_PORT = re.compile(":[0-9]*$")

# Reserved by the Amazon S3 bucket naming rules.
RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


@dataclass(frozen=True, slots=True)
class Address:
    """What a request addresses. bucket and key are empty where the level has none."""

    bucket: str
    key: str
    is_virtual_hosted: bool = False

    @property
    def level(self) -> Level:
        return "object" if self.key else "bucket" if self.bucket else "service"


class Addressing:
    """Resolves requests for the configured domains; any other host is path style."""

    def __init__(self, domains: Sequence[str]) -> None:
        # The longest first: s3.example.com before example.com.
        self._suffixes = sorted(
            ("." + domain.lower().strip(".") for domain in domains), key=len, reverse=True
        )

    def resolve(self, host: str, raw_path: str) -> Address:
        """Find bucket and key.

        host      the Host header, with or without a port
        raw_path  as sent: percent-encoded, without the query
        raises    InvalidURI, InvalidBucketName, KeyTooLongError
        """
        if not raw_path.startswith("/"):
            raise InvalidURI(URI=raw_path)
        bucket = self._bucket_of(host)
        if bucket:
            return self._address(bucket, raw_path[1:], is_virtual_hosted=True)
        raw_bucket, _, raw_key = raw_path[1:].partition("/")
        if raw_key and not raw_bucket:
            raise InvalidBucketName(BucketName="")
        return self._address(decode_path(raw_bucket), raw_key, is_virtual_hosted=False)

    def _address(self, bucket: str, raw_key: str, is_virtual_hosted: bool) -> Address:
        key = decode_path(raw_key)
        if key:
            check_key(key)
        return Address(bucket, key, is_virtual_hosted)

    def _bucket_of(self, host: str) -> str:
        name = _PORT.sub("", host.lower()).rstrip(".")
        dotted = "." + name
        for suffix in self._suffixes:
            if dotted == suffix:
                return ""
            if name.endswith(suffix):
                return name[: -len(suffix)]
        return ""


def decode_path(raw: str) -> str:
    """Decode a part of a path; `+` stays. Raises InvalidURI."""
    try:
        return text.decode_percent(raw)
    except ValueError as error:
        raise InvalidURI(URI=raw) from error


def parse_query(raw: str) -> dict[str, str]:
    """Decode a query string; `+` is a space. Raises InvalidURI, InvalidArgument.

    A name given twice is refused: whoever signed, routed and handled might each see another value.
    """
    query: dict[str, str] = {}
    for part in raw.split("&") if raw else ():
        if not part:
            continue
        raw_name, _, raw_value = part.partition("=")
        name = decode_path(raw_name.replace("+", " "))
        if name in query:
            raise InvalidArgument("A query parameter was given twice", ArgumentName=name)
        query[name] = decode_path(raw_value.replace("+", " "))
    return query


def check_key(key: str) -> None:
    """Raise KeyTooLongError unless the key has at most 1,024 bytes of UTF-8."""
    size = len(key) if key.isascii() else len(key.encode())
    if size > KEY_BYTES_MAX:
        raise KeyTooLongError(Size=size, MaxSizeAllowed=KEY_BYTES_MAX)


def check_bucket_name(name: str) -> None:
    """Raise InvalidBucketName unless a bucket may be called so (general purpose bucket rules)."""
    if (
        not BUCKET_NAME_CHARACTERS_MIN <= len(name) <= BUCKET_NAME_CHARACTERS_MAX
        or not _BUCKET_NAME.fullmatch(name)
        or ".." in name
        or _IPV4.fullmatch(name)
        or name.startswith(RESERVED_PREFIXES)
        or name.endswith(RESERVED_SUFFIXES)
    ):
        raise InvalidBucketName(BucketName=name)
