"""The x-amz-copy-source header: which version of which key to copy."""

from dataclasses import dataclass

from gateway.s3 import errors, text
from gateway.s3.address import check_key
from gateway.s3.errors import InvalidArgument

_VERSION = "?versionId="


@dataclass(frozen=True, slots=True)
class CopySource:
    """version_id is None for the current version."""

    bucket: str
    key: str
    version_id: str | None = None


def parse_copy_source(header: str) -> CopySource:
    """Read `/bucket/key?versionId=id`; the first slash may be missing, the key is percent-encoded.

    raises  InvalidArgument, KeyTooLongError; NotImplemented for access points
    """
    # The version is set apart by a raw `?`; one that belongs to the key travels as %3F.
    path, separator, version_id = header.rpartition(_VERSION)
    if not separator:
        path, version_id = header, ""
    if separator and not version_id:
        raise InvalidArgument(
            "Version id cannot be the empty string", ArgumentName="x-amz-copy-source"
        )
    decoded = _decode(path, header).removeprefix("/")
    if decoded.startswith("arn:"):
        raise errors.NotImplemented(Header="x-amz-copy-source")
    bucket, _, key = decoded.partition("/")
    if not bucket or not key:
        raise _invalid(header)
    check_key(key)
    return CopySource(bucket, key, _decode(version_id, header) or None)


def _decode(raw: str, header: str) -> str:
    try:
        return text.decode_percent(raw)
    except ValueError as error:
        raise _invalid(header) from error


def _invalid(header: str) -> InvalidArgument:
    return InvalidArgument(
        "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
        ArgumentName="x-amz-copy-source",
        ArgumentValue=header,
    )
