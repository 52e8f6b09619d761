"""What the model knows and this store does not do yet: refused in one place, before any handler.

A feature names the request members that ask for it. It holds for every operation whose request has
such a member, so that nothing is forgotten where an operation gains a handler; a feature leaves
this table when it is built. Nested members are dotted paths, through lists too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.s3 import errors
from gateway.s3.codec import OPERATIONS_BY_NAME, Operation
from gateway.s3.encryption import check_encryption
from gateway.s3.shape import Field, Place, Shape


@dataclass(frozen=True, slots=True)
class Feature:
    """Something a request may ask for and gets an error for.

    members              paths of the request members that ask for it
    accepted             their values that ask for nothing special
    create_bucket_error  what CreateBucket answers, if that is another error
    """

    title: str
    members: tuple[str, ...]
    accepted: tuple[object, ...] = ()
    error: type[errors.S3Error] = errors.NotImplemented
    create_bucket_error: type[errors.S3Error] | None = None


FEATURES = (
    Feature("storage classes other than STANDARD", ("storage_class",), ("STANDARD",)),
    Feature(
        "encryption other than SSE-S3",
        (
            "server_side_encryption",
            "server_side_encryption_configuration.rules.apply_server_side_encryption_by_default.sse_algorithm",
        ),
        ("AES256",),
    ),
    Feature(
        "encryption with keys of a key management service",
        (
            "sse_kms_key_id",
            "sse_kms_encryption_context",
            "server_side_encryption_configuration.rules.apply_server_side_encryption_by_default.kms_master_key_id",
            "server_side_encryption_configuration.rules.blocked_encryption_types",
        ),
    ),
    Feature(
        "bucket keys",
        ("bucket_key_enabled", "server_side_encryption_configuration.rules.bucket_key_enabled"),
        (False,),
    ),
    Feature(
        "encryption with the client's keys (SSE-C)",
        (
            "sse_customer_algorithm",
            "sse_customer_key",
            "sse_customer_key_md5",
            "copy_source_sse_customer_algorithm",
            "copy_source_sse_customer_key",
            "copy_source_sse_customer_key_md5",
        ),
    ),
    Feature(
        "access control lists",
        ("acl",),
        ("private", "bucket-owner-full-control"),
        errors.AccessControlListNotSupported,
        errors.InvalidBucketAclWithObjectOwnership,
    ),
    Feature(
        "grants of access control lists",
        (
            "grant_full_control",
            "grant_read",
            "grant_read_acp",
            "grant_write",
            "grant_write_acp",
        ),
        error=errors.AccessControlListNotSupported,
        create_bucket_error=errors.InvalidBucketAclWithObjectOwnership,
    ),
    Feature(
        "object ownership other than BucketOwnerEnforced",
        ("object_ownership",),
        ("BucketOwnerEnforced",),
    ),
    Feature(
        "object lock",
        (
            "object_lock_mode",
            "object_lock_retain_until_date",
            "object_lock_legal_hold_status",
            "object_lock_event_hold",
            "object_lock_event_hold_duration_days",
            "object_lock_event_hold_duration_years",
        ),
    ),
    Feature("object lock for a bucket", ("object_lock_enabled_for_bucket",), (False,)),
    Feature(
        "MFA delete",
        ("mfa", "versioning_configuration.mfa_delete"),
        ("Disabled",),
    ),
    Feature("redirects of website objects", ("website_redirect_location",)),
    Feature("annotations", ("annotation_directive",)),
    Feature(
        "checksums other than CRC32, CRC32C, CRC64NVME, SHA-1 and SHA-256",
        (
            "checksum_sha512",
            "checksum_md5",
            "checksum_xxhash64",
            "checksum_xxhash3",
            "checksum_xxhash128",
        ),
    ),
    Feature(
        "checksum algorithms other than CRC32, CRC32C, CRC64NVME, SHA-1 and SHA-256",
        ("checksum_algorithm",),
        ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"),
    ),
    Feature("appending to objects", ("write_offset_bytes",)),
    Feature(
        "conditions on size and time of what is deleted",
        (
            "if_match_last_modified_time",
            "if_match_size",
            "if_match_initiated_time",
            "delete.objects.last_modified_time",
            "delete.objects.size",
        ),
    ),
    Feature(
        "directory buckets",
        ("create_bucket_configuration.location", "create_bucket_configuration.bucket"),
    ),
    Feature("account-regional bucket names", ("bucket_namespace",), ("global",)),
)


def refuse_unsupported(operation: Operation, request: Shape) -> None:
    """Raise the error of the first feature that the request asks for and that is not built."""
    refused = _REFUSED[operation.name]
    for name, value in request.__dict__.items():
        for rest, feature, wire in refused.get(name, ()):
            for asked in _values(value, rest):
                if asked not in feature.accepted:
                    check_encryption(request)
                    raise _refusal(operation, feature, wire)


def refused_features(operation: str) -> list[Feature]:
    """The features that an operation knows of and refuses, in the table's order."""
    found = {feature.title for rows in _REFUSED[operation].values() for _, feature, _ in rows}
    return [feature for feature in FEATURES if feature.title in found]


def _refusal(operation: Operation, feature: Feature, field: Field) -> errors.S3Error:
    if operation.name == "CreateBucket" and feature.create_bucket_error is not None:
        return feature.create_bucket_error()
    if feature.error is not errors.NotImplemented:
        return feature.error()
    if field.place is Place.HEADER:
        return errors.NotImplemented(Header=field.wire)
    return errors.NotImplemented(f"Not implemented: {feature.title}", Element=field.wire)


def _values(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Yield the present values at a path below a member."""
    if value is None:
        return
    if not path:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _values(item, path)
    else:
        yield from _values(getattr(value, path[0]), path[1:])


def _field_at(shape: type[Shape], path: tuple[str, ...]) -> Field | None:
    field = shape.wire_fields.get(path[0])
    if field is None or len(path) == 1:
        return field
    return _field_at(field.value_type, path[1:])


Rows = dict[str, list[tuple[tuple[str, ...], Feature, Field]]]


def _rows_of(request: type[Shape]) -> Rows:
    rows: Rows = {}
    for feature in FEATURES:
        for member in feature.members:
            path = tuple(member.split("."))
            field = _field_at(request, path)
            if field is not None:
                rows.setdefault(path[0], []).append((path[1:], feature, field))
    return rows


_REFUSED: dict[str, Rows] = {
    name: _rows_of(operation.request) for name, operation in OPERATIONS_BY_NAME.items()
}
