"""Error codes: their status against the service model, and documents that always parse."""

import re
from xml.etree import ElementTree

import pytest

from common import faults
from gateway.s3 import errors
from gateway.s3.faults import from_fault
from tools.botocore_model import installed_s3_model

SHAPES = installed_s3_model()["shapes"]
# The model's documentation gives no status for it, or one that its own exception contradicts.
# Without a status, or with another one in each version of the model.
UNSTATED = {"InvalidAddressingHeader", "MissingAttachment"}


def documented_statuses() -> dict[str, int]:
    """Codes and statuses of the list in the service model's documentation of Error."""
    documentation = SHAPES["Error"]["members"]["Code"]["documentation"]
    rows = re.findall(
        r"<i>Code:</i>\s*(\w+)\s*</p>.*?<i>HTTP Status Code:</i>\s*(\d{3})", documentation, re.S
    )
    statuses = {code: int(status) for code, status in rows if code not in UNSTATED}
    for name, shape in SHAPES.items():
        if shape.get("exception") and "error" in shape:
            statuses[name] = shape["error"]["httpStatusCode"]
    return statuses


def test_the_documented_codes_are_there_with_their_status() -> None:
    documented = documented_statuses()
    assert len(documented) > 80
    ours = {code: error.status for code, error in errors.CODES.items()}
    assert {code: ours.get(code) for code in documented} == documented


def test_there_are_as_many_codes_as_the_reference_lists() -> None:
    assert len(errors.CODES) >= 133


@pytest.mark.parametrize("code", sorted(errors.CODES))
def test_every_error_renders(code: str) -> None:
    error = errors.CODES[code](Key="a<&\x00\ud800>", Empty=None)
    assert error.message
    assert 300 <= error.status < 600
    document = error_document(error)
    assert [child.tag for child in document] == [
        "Code", "Message", "Key", "Resource", "RequestId", "HostId",
    ]  # fmt: skip
    assert document.findtext("Code") == code
    assert document.findtext("Message") == error.message
    assert document.findtext("Key") == "a<&\ufffd\ufffd>"
    assert document.findtext("Resource") == "/bucket/a%00"


def error_document(error: errors.S3Error) -> ElementTree.Element:
    body = errors.render_error(error, "/bucket/a%00", "request", "host")
    assert body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>')
    return ElementTree.fromstring(body)


def test_a_message_of_its_own() -> None:
    error = errors.InvalidArgument("Part number must be positive", headers={"a": "b"}, Part=0)
    assert (error.message, error.headers, error.details) == (
        "Part number must be positive",
        {"a": "b"},
        {"Part": "0"},
    )
    assert "InvalidArgument: Part number must be positive, Part='0'" in str(error)
    assert errors.InvalidArgument.message == "Invalid Argument"


def test_answers_without_a_body() -> None:
    assert errors.is_bodiless(errors.NotModified(), "GET")
    assert errors.is_bodiless(errors.NoSuchKey(), "HEAD")
    assert not errors.is_bodiless(errors.NoSuchKey(), "GET")


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        (faults.NotFound("bucket", "b"), "NoSuchBucket", 404),
        (faults.NotFound("key", "k"), "NoSuchKey", 404),
        (faults.NotFound("version", "v"), "NoSuchVersion", 404),
        (faults.NotFound("upload", "u"), "NoSuchUpload", 404),
        (faults.NotFound("part", "1"), "InvalidPart", 400),
        (faults.NotFound("session", "s"), "InternalError", 500),
        (faults.AlreadyExists("bucket", "b"), "BucketAlreadyExists", 409),
        (faults.AlreadyExists("upload", "u"), "OperationAborted", 409),
        (faults.PreconditionFailed("If-Match"), "PreconditionFailed", 412),
        (faults.Conflict("key"), "ConditionalRequestConflict", 409),
        (faults.Conflict("bucket"), "OperationAborted", 409),
        (faults.Invalid("part_number", "0"), "InvalidArgument", 400),
        (faults.Invalid("parts", "", "InvalidPartOrder"), "InvalidPartOrder", 400),
        (faults.Invalid("x", "", "InternalError"), "InvalidArgument", 400),
        (faults.Forbidden("s3:GetObject", "b"), "AccessDenied", 403),
        (faults.Unavailable(), "ServiceUnavailable", 503),
        (faults.Busy(), "SlowDown", 503),
        (faults.Full(), "InsufficientStorage", 507),
        (faults.Unsupported("select"), "NotImplemented", 501),
        (faults.Corrupt("fragment", "f"), "InternalError", 500),
        (faults.Fenced("session", "s"), "ServiceUnavailable", 503),
        (faults.Internal("secret detail"), "InternalError", 500),
    ],
)
def test_faults(fault: faults.Fault, code: str, status: int) -> None:
    error = from_fault(fault)
    assert (error.code, error.status) == (code, status)
    assert ("retry-after" in error.headers) == (status == 503)
    error_document(error.__class__())


def test_an_internal_fault_shows_nothing() -> None:
    error = from_fault(faults.Internal("secret detail"))
    assert "secret" not in errors.render_error(error, "/", "r", "h").decode()
