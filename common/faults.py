"""Internal errors: what went wrong, without HTTP words.

Raised where a problem is known, carried over both planes with their fields, translated to an S3
error once, in gateway/s3/faults.py. `retryable` says whether the same call may succeed later
without the caller changing anything.
"""

from typing import ClassVar


class Fault(Exception):
    """Base of all faults. Positional values are the class's FIELDS, in order; all are strings."""

    FIELDS: ClassVar[tuple[str, ...]] = ("detail",)
    retryable: ClassVar[bool] = False

    def __init__(self, *values: str, **named: str) -> None:
        self.fields: dict[str, str] = dict(zip(self.FIELDS, values, strict=False)) | named
        super().__init__(", ".join(f"{name}={value}" for name, value in self.fields.items()))

    def __getattr__(self, name: str) -> str:
        try:
            return self.__dict__["fields"][name]  # type: ignore[no-any-return]
        except KeyError:
            if name in type(self).FIELDS:
                return ""
            raise AttributeError(name) from None


class NotFound(Fault):
    """A named thing does not exist. kind: bucket, key, version, upload, part, session ..."""

    FIELDS = ("kind", "name", "detail")


class AlreadyExists(Fault):
    """A named thing exists and may not be made again; `owner` tells whose, if that matters."""

    FIELDS = ("kind", "name", "owner")


class PreconditionFailed(Fault):
    """A condition the caller named does not hold; `condition` is the name of it."""

    FIELDS = ("condition", "detail")


class Conflict(Fault):
    """A concurrent change won; the caller may read again and retry."""

    FIELDS = ("kind", "detail")
    retryable = True


class Invalid(Fault):
    """A value is outside what is allowed; `reason` is a code the caller can branch on."""

    FIELDS = ("field", "value", "reason")


class Forbidden(Fault):
    """The caller may not do this."""

    FIELDS = ("action", "resource")


class Unavailable(Fault):
    """A quorum or a deadline was missed, or a peer is away. The outcome of a write is unknown."""

    retryable = True


class Busy(Fault):
    """Shed load: too much is in flight. Nothing was done."""

    retryable = True


class Full(Fault):
    """No space for new data. Deleting still works."""


class Corrupt(Fault):
    """Stored bytes do not match their checksum or identity."""

    FIELDS = ("kind", "name", "detail")


class Fenced(Fault):
    """The caller's session, lease or epoch has been superseded; it must stop and open a new one."""

    FIELDS = ("kind", "name")


class Unsupported(Fault):
    """Known, deliberately not done."""

    FIELDS = ("feature",)


class Internal(Fault):
    """A peer failed in a way it should not have; details are in its log, under the request id."""


def in_words(fault: Fault) -> str:
    """A fault as a sentence for a terminal or a log."""
    if isinstance(fault, Invalid):
        place = f"{fault.field}: " if fault.field else ""
        return place + fault.reason + (f" ({fault.value})" if fault.value else "")
    if isinstance(fault, NotFound):
        return f"there is no {fault.kind} {fault.name}".rstrip()
    if isinstance(fault, AlreadyExists):
        return f"{fault.kind} {fault.name} exists already, and is another one"
    return str(fault.fields.get("detail", "")) or type(fault).__name__
