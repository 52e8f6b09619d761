"""What a handler is given beside the decoded request, and small translations all handlers share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from common import limits
from gateway.objects.buckets import BucketScope
from gateway.s3 import errors
from gateway.s3.model.access import Owner
from proto import meta_pb2

NULL_VERSION = "null"
VERSION_ID_CHARACTERS = 32


class Caller(Protocol):
    """Who asks: the authenticated account."""

    @property
    def account_id(self) -> str: ...
    @property
    def canonical_id(self) -> str: ...
    @property
    def display_name(self) -> str: ...
    @property
    def user_arn(self) -> str: ...


class Payload(Protocol):
    """A request body on its way: what it must hash to, and where it comes from."""

    @property
    def size(self) -> int | None:
        """Decoded bytes; None: not known before the end."""
        ...

    @property
    def algorithms(self) -> frozenset[str]:
        """Digests that `verify` wants: names of common.checksum."""
        ...

    async def read_into(self, view: memoryview) -> int:
        """Copy what is there, at least a byte; 0 at the end."""
        ...

    def verify(self, digests: dict[str, bytes]) -> None:
        """Compare with what the client declared, in headers or trailers.

        raises   S3Error (BadDigest, XAmzContentSHA256Mismatch, IncompleteBody, ...)
        """
        ...

    @property
    def checksum_algorithm(self) -> str | None:
        """The algorithm of the checksum that the client sends, if it sends one."""
        ...


@dataclass(slots=True)
class Context:
    """One authenticated, authorized request.

    scope    the addressed bucket; absent for service-level requests and CreateBucket
    payload  the body of operations that stream one
    if_range the If-Range header, which is HTTP's and no member of any request
    base_url scheme and host as the client addressed them, for Location
    open_source  find a bucket to copy from and check that the caller may read it: its name, and
             the account that the client expects to own it
    """

    caller: Caller
    request_id: str
    region: str
    base_url: str
    open_source: Callable[[str, str | None], Awaitable[BucketScope]]
    scope: BucketScope | None = None
    payload: Payload | None = None
    if_range: str | None = None

    @property
    def bucket(self) -> BucketScope:
        """The addressed bucket of a bucket- or object-level request."""
        assert self.scope is not None, "a service-level request has no bucket"
        return self.scope


def time_of(nanoseconds: int) -> datetime:
    """A stored time as the wire shapes want it."""
    return datetime.fromtimestamp(nanoseconds / 1e9, tz=UTC)


def owner_of(canonical_id: str, display_name: str = "") -> Owner:
    """An owner element; the display name only where it is known."""
    if display_name:
        return Owner(id=canonical_id, display_name=display_name)
    return Owner(id=canonical_id)


def shown_version_id(version_id: bytes) -> str:
    """A stored version id as clients see it; the null version has none stored."""
    return version_id.hex() if version_id else NULL_VERSION


def version_name(version_id: str | None) -> meta_pb2.VersionName:
    """The version that a request names; None is the current one.

    raises   InvalidArgument for what was never a version id
    """
    if version_id is None:
        return meta_pb2.VersionName()
    if version_id == NULL_VERSION:
        return meta_pb2.VersionName(is_null=True)
    if len(version_id) == VERSION_ID_CHARACTERS:
        try:
            return meta_pb2.VersionName(version_id=bytes.fromhex(version_id))
        except ValueError:
            pass
    raise errors.InvalidArgument(
        "Invalid version id specified", ArgumentName="versionId", ArgumentValue=version_id
    )


def check_part_number(number: int) -> None:
    """raises   InvalidArgument for what no part can be numbered"""
    if not 1 <= number <= limits.PART_NUMBER_MAX:
        raise errors.InvalidArgument(
            f"Part number must be an integer between 1 and {limits.PART_NUMBER_MAX}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=number,
        )


def page_size(value: int | None, argument: str, largest: int = limits.LIST_KEYS_MAX) -> int:
    """A max-keys argument: absent means the largest, more is cut, negative refused."""
    if value is None:
        return largest
    if value < 0:
        raise errors.InvalidArgument(
            f"Argument {argument} must be an integer between 0 and 2147483647",
            ArgumentName=argument,
            ArgumentValue=value,
        )
    return min(value, largest)
