"""What a new version will carry besides its data: checked request headers as a record."""

from typing import Protocol
from urllib.parse import quote

from common import limits
from gateway.handlers.bucket import refuse_acl
from gateway.handlers.context import Context
from gateway.s3 import errors, tagging
from gateway.s3.metadata import read_metadata
from proto import records_pb2, storage_pb2

BUCKET_HEADERS_MAX = 10_000
DEFAULT_CONTENT_TYPE = "binary/octet-stream"
DEFAULT_CHECKSUM = "CRC64NVME"  # what S3 computes when a client sends none
CHECKSUM_ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
SYSTEM_HEADERS = (
    "cache_control",
    "content_disposition",
    "content_encoding",
    "content_language",
    "expires",
)


class MetadataRequest(Protocol):
    """The members that PutObject, CopyObject and CreateMultipartUpload share."""

    acl: str | None
    cache_control: str | None
    content_disposition: str | None
    content_encoding: str | None
    content_language: str | None
    content_type: str | None
    expires: str | None
    metadata: dict[str, str] | None
    storage_class: str | None
    server_side_encryption: str | None
    tagging: str | None


def draft_version(context: Context, request: MetadataRequest) -> records_pb2.Version:
    """Check what a request says about its object and write it down.

    raises   S3Error for an ACL, storage class, encryption, metadata or tag that cannot be kept
    """
    check_placement(request)
    version = records_pb2.Version(
        owner_id=context.bucket.record.owner_id,
        tags=tag_pairs(request.tagging),
    )
    set_metadata(version, request)
    return version


def header_of(context: Context, version: records_pb2.Version) -> bytes:
    """What every fragment of a version's data says of it: tags, which change, are not among it.

    Serialized messages one after another are one message: the bucket's part is made once.
    """
    bucket = context.bucket.record
    of_version = storage_pb2.ObjectHeader(
        owner_id=version.owner_id,
        content_type=version.content_type,
        system=version.system,
        user=version.user,
    )
    return _bucket_header(bucket.bucket_id, bucket.epoch, bucket) + of_version.SerializeToString()


_BUCKET_HEADERS: dict[int, tuple[int, bytes]] = {}  # by bucket: of which epoch, serialized


def _bucket_header(bucket_id: int, epoch: int, bucket: records_pb2.Bucket) -> bytes:
    known = _BUCKET_HEADERS.get(bucket_id)
    if known is not None and known[0] == epoch:
        return known[1]
    header = storage_pb2.ObjectHeader(
        bucket_id=bucket_id,
        bucket_account=bucket.owner_account,
        bucket_owner_id=bucket.owner_id,
        versioning=bucket.versioning,
        bucket_created_ns=bucket.created_ns,
    )
    if len(_BUCKET_HEADERS) >= BUCKET_HEADERS_MAX:
        _BUCKET_HEADERS.clear()
    serialized = header.SerializeToString()
    _BUCKET_HEADERS[bucket_id] = (epoch, serialized)
    return serialized


def check_placement(request: MetadataRequest) -> None:
    """Refuse ACLs, storage classes and encryption methods that are not there."""
    refuse_acl(request.acl)
    if request.storage_class not in (None, "STANDARD"):
        raise errors.NotImplemented(f"Storage class {request.storage_class}.")
    if request.server_side_encryption not in (None, "AES256"):
        raise errors.NotImplemented(f"Encryption by {request.server_side_encryption}.")


def set_metadata(version: records_pb2.Version, request: MetadataRequest) -> None:
    """Replace content type, system and user metadata of a version by the request's."""
    version.content_type = request.content_type or DEFAULT_CONTENT_TYPE
    del version.system[:]
    for name in SYSTEM_HEADERS:
        value = getattr(request, name)
        if name == "content_encoding" and value is not None:
            value = _without_transport_coding(value)
        if value:
            version.system.add(name=name, value=value)
    del version.user[:]
    if request.metadata:
        metadata = {name: read_metadata(value) for name, value in request.metadata.items()}
        size = sum(len(name) + len(value.encode()) for name, value in metadata.items())
        if size > limits.USER_METADATA_BYTES_MAX:
            raise errors.MetadataTooLarge(Size=size, MaxSizeAllowed=limits.USER_METADATA_BYTES_MAX)
        for name, value in metadata.items():
            version.user.add(name=name, value=value)


def tag_pairs(header: str | None) -> list[records_pb2.Pair]:
    """The tags of an x-amz-tagging header as records."""
    if not header:
        return []
    tags = tagging.parse_tagging_header(header, limits.OBJECT_TAGS_MAX)
    return [records_pb2.Pair(name=key, value=value) for key, value in tags.items()]


def checksum_record(algorithm: str, value: bytes) -> records_pb2.Checksum:
    """A full-object checksum as a record."""
    return records_pb2.Checksum(algorithm=algorithm, value=value)


def object_url(context: Context, bucket: str, key: str) -> str:
    """Where an object is, for Location elements."""
    return f"{context.base_url}/{bucket}/{quote(key, safe='/~')}"


def _without_transport_coding(value: str) -> str:
    """aws-chunked describes the transport, not the object."""
    codings = [coding.strip() for coding in value.split(",")]
    return ", ".join(coding for coding in codings if coding and coding != "aws-chunked")
