"""Small answers that are there as a whole: one piece of bytes, written at once.

aiohttp's own Response is made for anything, in a dozen steps; for the answer to a PUT they cost as
much as its signature. What is not small, or not HTTP/1.1, goes its way.
"""

from http import HTTPStatus

from aiohttp import web

from common.limits import KIB
from gateway.http.request import HttpReply

BODY_BYTES_MAX = 64 * KIB
WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}


class WholeResponse(web.StreamResponse):
    """Bytes of a whole answer, as aiohttp's protocol takes it from a handler."""

    def __init__(self, data: bytes, *, keeps_alive: bool) -> None:
        # Not the base class's: nothing of what that prepares is used.
        self._data = data
        self._keep_alive = keeps_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write everything."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        transport.write(self._data)

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


def whole(reply: HttpReply, method: str, date: str, *, keeps_alive: bool) -> WholeResponse | None:
    """The answer in one piece; None if it is none that can be: a header that would break out of
    its line is left to those who refuse it."""
    body = reply.body
    status_line = STATUS_LINES.get(reply.status)
    if not isinstance(body, bytes) or len(body) > BODY_BYTES_MAX or status_line is None:
        return None
    headers = reply.headers
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    is_bodiless = method == "HEAD" or reply.status in WITHOUT_BODY
    if reply.status not in WITHOUT_BODY and "content-length" not in headers:
        lines.append(f"content-length: {len(body)}\r\n")
    if body and not is_bodiless and "content-type" not in headers:
        lines.append("content-type: application/octet-stream\r\n")
    lines.append(f"date: {date}\r\nserver: Ostraka\r\n")
    if not keeps_alive:
        lines.append("connection: close\r\n")
    head = "".join(lines)
    ends = len(lines) + 1
    if head.count("\r") != ends or head.count("\n") != ends or "\0" in head:
        return None
    data = f"{status_line}{head}\r\n".encode()
    return WholeResponse(data if is_bodiless else data + body, keeps_alive=keeps_alive)
