"""Faults as S3 errors: the one table between the two families.

A handler that knows better (whose bucket it is that exists) raises the S3 error itself. What is
not in the table is InternalError: logged where it is caught, never shown.
"""

from collections.abc import Callable
from typing import Any

from common import faults
from gateway.s3 import errors

RETRY_AFTER_S = 1

NOT_FOUND: dict[str, type[errors.S3Error]] = {
    "bucket": errors.NoSuchBucket,
    "key": errors.NoSuchKey,
    "version": errors.NoSuchVersion,
    "upload": errors.NoSuchUpload,
    "part": errors.InvalidPart,
}
NOT_FOUND_DETAILS = {
    "bucket": "BucketName",
    "key": "Key",
    "version": "VersionId",
    "upload": "UploadId",
    "part": "PartNumber",
}


def from_fault(fault: faults.Fault) -> errors.S3Error:
    """Translate a fault; the caller raises the result `from fault`."""
    for kind, translate in _TABLE.items():
        if isinstance(fault, kind):
            return translate(fault)
    return errors.InternalError()


def _not_found(fault: faults.Fault) -> errors.S3Error:
    error = NOT_FOUND.get(fault.kind)
    if error is None:
        return errors.InternalError()
    details: dict[str, Any] = {NOT_FOUND_DETAILS[fault.kind]: fault.name or None}
    return error(**details)


def _already_exists(fault: faults.Fault) -> errors.S3Error:
    if fault.kind == "bucket":
        return errors.BucketAlreadyExists(BucketName=fault.name)
    return errors.OperationAborted()


def _precondition_failed(fault: faults.Fault) -> errors.S3Error:
    return errors.PreconditionFailed(Condition=fault.condition or None)


def _conflict(fault: faults.Fault) -> errors.S3Error:
    """A condition lost its race (409, the client asks again), or a change of a bucket did."""
    if fault.kind in ("key", "version", "upload"):
        return errors.ConditionalRequestConflict()
    return errors.OperationAborted()


def _invalid(fault: faults.Fault) -> errors.S3Error:
    """`reason` is the S3 code where the place that found the fault knew one."""
    named = errors.CODES.get(fault.reason)
    if named is not None and named.status < 500:
        return named()
    return errors.InvalidArgument(ArgumentName=fault.field, ArgumentValue=fault.value)


def _unavailable(_: faults.Fault) -> errors.S3Error:
    return errors.ServiceUnavailable(headers={"retry-after": str(RETRY_AFTER_S)})


def _busy(_: faults.Fault) -> errors.S3Error:
    return errors.SlowDown(headers={"retry-after": str(RETRY_AFTER_S)})


_TABLE: dict[type[faults.Fault], Callable[[faults.Fault], errors.S3Error]] = {
    faults.NotFound: _not_found,
    faults.AlreadyExists: _already_exists,
    faults.PreconditionFailed: _precondition_failed,
    faults.Conflict: _conflict,
    faults.Invalid: _invalid,
    faults.Forbidden: lambda _: errors.AccessDenied(),
    faults.Unavailable: _unavailable,
    faults.Busy: _busy,
    faults.Fenced: _unavailable,
    faults.Full: lambda _: errors.InsufficientStorage(),
    faults.Unsupported: lambda fault: errors.NotImplemented(Feature=fault.feature or None),
}
