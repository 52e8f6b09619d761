"""The base of all S3 errors, and their XML form."""

from typing import ClassVar

from gateway.s3.markup import DECLARATION, escape_printable


class S3Error(Exception):
    """An answer that is not a success. The class name is the code, unless `code` says otherwise.

    details  become XML elements after Message, in order: `NoSuchKey(Key=key)`
    headers  go with the answer: Retry-After, Allow, ETag of a 304
    """

    code: ClassVar[str] = ""
    status: ClassVar[int] = 500
    message: str = ""

    def __init_subclass__(cls) -> None:
        cls.code = vars(cls).get("code") or cls.__name__

    def __init__(
        self,
        message: str = "",
        /,
        headers: dict[str, str] | None = None,
        **details: object,
    ) -> None:
        self.message = message or type(self).message
        self.headers = headers or {}
        self.details = {name: str(value) for name, value in details.items() if value is not None}
        super().__init__(self.message, self.details)

    def __str__(self) -> str:
        details = "".join(f", {name}={value!r}" for name, value in self.details.items())
        return f"{self.code}: {self.message}{details}"


def is_bodiless(error: S3Error, method: str) -> bool:
    """Whether the answer carries no body: to HEAD, and 304 Not Modified, by HTTP."""
    return method == "HEAD" or error.status == 304


def render_error(error: S3Error, resource: str, request_id: str, host_id: str) -> bytes:
    """Write the XML document of an error.

    resource  the path of the request, as it was sent (percent-encoded)
    """
    elements = {
        "Code": error.code,
        "Message": error.message,
        **error.details,
        "Resource": resource,
        "RequestId": request_id,
        "HostId": host_id,
    }
    body = "".join(
        f"<{name}>{escape_printable(value)}</{name}>" for name, value in elements.items()
    )
    return f"{DECLARATION}<Error>{body}</Error>".encode()
