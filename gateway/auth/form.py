"""Browser uploads: multipart/form-data with a signed policy, the file streamed behind the fields.

The fields come first and are small; the file must be the last part that matters. Every field but
a few must be allowed by a condition of the policy. source  "Browser-Based Uploads Using POST" in
the S3 API reference.
"""

import base64
import binascii
import calendar
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from common import limits
from common.clock import Clock
from gateway.s3 import errors

BOUNDARY_BYTES_MAX = 70  # RFC 2046, 5.1.1
FILE = "file"
EXEMPT = frozenset({"x-amz-signature", "awsaccesskeyid", "signature", "file", "policy", "bucket"})
EXEMPT_PREFIXES = ("x-ignore-", "x-amz-checksum-")
_PARAMETER = re.compile(r';\s*([a-zA-Z*]+)="((?:[^"\\]|\\.)*)"')
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^;\s]+))')


class Chunks(Protocol):
    """A body in pieces as they come; b"" at the end."""

    async def read_chunk(self) -> bytes: ...


@dataclass(slots=True)
class Form:
    """The fields of a form, by lower-case name, and what of the file's part is known."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""
    file_type: str = ""


class FormReader:
    """Reads the fields of a form, then is the source of its file."""

    def __init__(self, body: Chunks, content_type: str) -> None:
        """raises MalformedPOSTRequest"""
        found = _BOUNDARY.search(content_type)
        boundary = (found[1] or found[2]) if found is not None else ""
        if not 1 <= len(boundary) <= BOUNDARY_BYTES_MAX:
            raise errors.MalformedPOSTRequest()
        self._body = body
        self._delimiter = b"\r\n--" + boundary.encode("latin-1")
        self._buffer = bytearray(b"\r\n")  # the first delimiter has no line before it
        self._file_is_over = False
        self.file_bytes = 0

    async def read_fields(self) -> Form:
        """Read all parts up to the file's content.

        raises   MalformedPOSTRequest, MaxPostPreDataLengthExceededError, IncompleteBody
        """
        form = Form()
        await self._skip_past(self._delimiter)
        total = 0
        while True:
            head = await self._take_until(b"\r\n\r\n")
            if head.startswith(b"--"):
                raise errors.IncorrectNumberOfFilesInPostRequest()
            parameters, content_type = _part_head(head)
            name = parameters.get("name", "").lower()
            if name == FILE:
                form.filename = re.split(r"[/\\]", parameters.get("filename", ""))[-1]
                form.file_type = content_type
                return form
            value = await self._take_until(self._delimiter)
            total += len(head) + len(value)
            if total > limits.FORM_FIELDS_BYTES_MAX:
                raise errors.MaxPostPreDataLengthExceededError()
            try:
                form.fields[name] = value.decode()
            except UnicodeDecodeError:
                raise errors.MalformedPOSTRequest() from None

    async def read_into(self, view: memoryview) -> int:
        """Copy some of the file's content; 0 at its end. raises IncompleteBody"""
        while not self._file_is_over:
            at = self._buffer.find(self._delimiter)
            # What may be the begin of a delimiter stays until more has come.
            size = at if at >= 0 else len(self._buffer) - len(self._delimiter)
            if size > 0:
                size = min(size, len(view))
                view[:size] = self._buffer[:size]
                del self._buffer[:size]
                self.file_bytes += size
                return size
            if at == 0:
                self._file_is_over = True
                await self._drain()
                return 0
            await self._more()
        return 0

    async def _drain(self) -> None:
        """Fields behind the file are ignored, as S3 does."""
        while await self._body.read_chunk():
            continue

    async def _take_until(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > limits.FORM_FIELDS_BYTES_MAX + len(end):
                raise errors.MaxPostPreDataLengthExceededError()
            await self._more()
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return taken

    async def _skip_past(self, end: bytes) -> None:
        await self._take_until(end)

    async def _more(self) -> None:
        chunk = await self._body.read_chunk()
        if not chunk:
            raise errors.IncompleteBody()
        self._buffer += chunk


def _part_head(head: bytes) -> tuple[dict[str, str], str]:
    parameters: dict[str, str] = {}
    content_type = ""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            parameters = {key.lower(): text for key, text in _PARAMETER.findall(value)}
        elif name.strip().lower() == "content-type":
            content_type = value.strip()
    return parameters, content_type


@dataclass(frozen=True, slots=True)
class FilePolicy:
    """What a policy says about the file's size."""

    bytes_min: int = 0
    bytes_max: int = limits.PUT_BYTES_MAX

    def check(self, size: int) -> None:
        """raises EntityTooSmall, EntityTooLarge"""
        if size < self.bytes_min:
            raise errors.EntityTooSmall(ProposedSize=size, MinSizeAllowed=self.bytes_min)
        if size > self.bytes_max:
            raise errors.EntityTooLarge(ProposedSize=size, MaxSizeAllowed=self.bytes_max)


def check_policy(fields: Mapping[str, str], bucket: str, clock: Clock) -> FilePolicy:
    """Check a form's fields against its policy; the signature over it is checked apart.

    raises   AccessDenied (expired, a condition does not hold, a field is not covered),
             InvalidPolicyDocument
    """
    policy = _read_policy(fields["policy"])
    if clock.now_ns() / 1e9 > _expiry(policy):
        raise errors.AccessDenied("Invalid according to Policy: Policy expired.")
    values = {**fields, "bucket": bucket}
    covered: set[str] = set()
    size = FilePolicy()
    for condition in policy["conditions"]:
        if isinstance(condition, dict):
            rules = [("eq", name, value) for name, value in condition.items()]
            if not rules:
                raise errors.InvalidPolicyDocument()
        elif isinstance(condition, list) and len(condition) == 3:
            if str(condition[0]).lower() == "content-length-range":
                size = _size_range(condition)
                continue
            rules = [(str(condition[0]).lower(), str(condition[1]).removeprefix("$"), condition[2])]
        else:
            raise errors.InvalidPolicyDocument()
        for operator, name, wanted in rules:
            covered.add(_check_rule(operator, name.lower(), wanted, values))
    for name in fields:
        if name not in covered and name not in EXEMPT and not name.startswith(EXEMPT_PREFIXES):
            raise errors.AccessDenied(f"Invalid according to Policy: Extra input fields: {name}")
    return size


def _read_policy(encoded: str) -> dict[str, Any]:
    try:
        policy = json.loads(base64.b64decode(encoded))
    except (binascii.Error, ValueError):
        raise errors.InvalidPolicyDocument("Invalid Policy: Invalid JSON.") from None
    if not isinstance(policy, dict) or not isinstance(policy.get("expiration"), str):
        raise errors.InvalidPolicyDocument("Invalid Policy: Policy missing expiration.")
    if not isinstance(policy.get("conditions"), list):
        raise errors.InvalidPolicyDocument("Invalid Policy: Policy missing conditions.")
    return policy


def _expiry(policy: Mapping[str, Any]) -> float:
    text = re.sub(r"\.\d+Z$", "Z", policy["expiration"])
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        raise errors.InvalidPolicyDocument("Invalid Policy: Invalid 'expiration' value.") from None


def _size_range(condition: list[Any]) -> FilePolicy:
    try:
        low, high = int(condition[1]), int(condition[2])
    except (TypeError, ValueError):
        raise errors.InvalidPolicyDocument() from None
    if low < 0 or high < low:
        raise errors.InvalidPolicyDocument()
    return FilePolicy(low, high)


def _check_rule(operator: str, name: str, wanted: Any, values: Mapping[str, str]) -> str:
    """Check one condition; returns the name of the field it covers."""
    if not isinstance(wanted, str) or operator not in ("eq", "starts-with"):
        raise errors.InvalidPolicyDocument()
    value = values.get(name, "")
    holds = value == wanted if operator == "eq" else value.startswith(wanted)
    if not holds or (name not in values and wanted):
        raise errors.AccessDenied(
            f'Invalid according to Policy: Policy Condition failed: ["{operator}", "${name}", '
            f'"{wanted}"]'
        )
    return name
