"""Client connections: what is no request is answered in S3's XML, and nobody holds one for nothing.

A head must come whole within its deadline and size, however slowly its bytes trickle. Beyond the
limit of connections a client is told so (503 SlowDown) instead of being dropped without a word.
"""

import asyncio
import fcntl
import logging
import secrets
import struct
import termios
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler
from prometheus_client import Counter, Gauge

from common import limits
from gateway.config import ConnectionLimits
from gateway.s3 import errors

log = logging.getLogger(__name__)

CONNECTIONS = Gauge("ostraka_s3_connections", "Open S3 connections")
REFUSED = Counter("ostraka_s3_connections_refused", "Connections beyond the limit")

REFUSAL_S = 2.0  # for a refused client to take its answer
REFUSALS_MAX = 256  # at once; beyond, connections are cut
FILES_RESERVED = 256  # of the process's file descriptors, for all that are no clients


class Connection(RequestHandler):
    """One client connection."""

    __slots__ = ("_bounds", "_head_bytes", "_head_deadline")

    def __init__(self, *arguments: Any, bounds: ConnectionLimits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._bounds = bounds
        self._head_bytes = 0
        self._head_deadline: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        waiter = self._waiter
        if waiter is None or waiter.done():
            if self._head_deadline is not None:
                self._forget_head()
            return
        # A request is waited for, and these bytes did not complete its head.
        self._head_bytes += len(data)
        if self._head_bytes > limits.HEADER_BYTES_MAX + limits.URI_BYTES_MAX:
            self._refuse(errors.RequestHeaderSectionTooLarge())
        elif self._head_deadline is None:
            self._head_deadline = self._loop.call_later(
                self._bounds.head_s, self._refuse, errors.RequestTimeout()
            )

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head_deadline is not None:
            self._forget_head()
        super().connection_lost(exc)

    def _forget_head(self) -> None:
        assert self._head_deadline is not None
        self._head_deadline.cancel()
        self._head_deadline, self._head_bytes = None, 0

    def _refuse(self, error: errors.S3Error) -> None:
        """Answer a request that is no request yet, and end the connection."""
        transport = self.transport
        if transport is not None and not self._force_close:
            transport.write(bare_answer(error))
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            if isinstance(exc, ConnectionError):  # the client left while its answer was on the way
                log.info("the client went away: %s", exc)
            else:
                log.error("request failed outside the pipeline", exc_info=exc)
            error: errors.S3Error = errors.InternalError()
        else:
            error = malformed(exc, message or "")
        body = errors.render_error(error, request.path, _request_id(), "")
        self.close()
        return web.Response(status=error.status, body=body, content_type="application/xml")


class Refusal(asyncio.Protocol):
    """A connection beyond the limit: one answer, then the end."""

    def __init__(self, refusals: set["Refusal"]) -> None:
        self._refusals = refusals

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self._refusals.add(self)
        REFUSED.inc()
        if len(self._refusals) > REFUSALS_MAX:
            transport.abort()
            return
        transport.write(bare_answer(errors.SlowDown(headers={"retry-after": "1"})))
        # What the client has sent is read and dropped for a while: closing with bytes unread would
        # reset the connection, and the answer with it.
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(REFUSAL_S, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._refusals.discard(self)


class Listener(web.Server):
    """web.Server that makes our connections."""

    def __init__(self, *arguments: Any, bounds: ConnectionLimits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._bounds = bounds
        self._refusals: set[Refusal] = set()
        CONNECTIONS.set_function(lambda: len(self.connections))

    def __call__(self) -> Any:
        if len(self.connections) >= self._bounds.count_max:
            return Refusal(self._refusals)
        return Connection(self, loop=self._loop, bounds=self._bounds, **self._kwargs)


def malformed(exc: BaseException | None, message: str) -> errors.S3Error:
    """The S3 error for what the HTTP parser refused."""
    if isinstance(exc, LineTooLong):
        is_target = exc.args[1] == limits.URI_BYTES_MAX
        return errors.InvalidURI() if is_target else errors.RequestHeaderSectionTooLarge()
    if "Too many headers" in message:
        return errors.RequestHeaderSectionTooLarge()
    return errors.InvalidRequest("The request is not well-formed HTTP.")


def bare_answer(error: errors.S3Error) -> bytes:
    """A whole HTTP answer that ends its connection, for where no request is."""
    body = errors.render_error(error, "/", _request_id(), "")
    headers = {
        "content-type": "application/xml",
        "content-length": str(len(body)),
        "connection": "close",
        **error.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    status = HTTPStatus(error.status)
    return f"HTTP/1.1 {status} {status.phrase}\r\n{head}\r\n".encode() + body


class ReaderWatch:
    """Cuts the connection of a client that takes nothing of what is sent to it.

    A slow one may take as long for a piece as it wants, as long as it takes some bytes of it.
    """

    def __init__(self, transport: asyncio.Transport, bounds: ConnectionLimits) -> None:
        self._transport = transport
        self._idle_s = bounds.body_idle_s
        self._due_bytes = int(bounds.body_idle_s * bounds.body_bytes_per_s_min)
        self._left_bytes = self._left()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._idle_s, self._look)

    def stop(self) -> None:
        """The client has taken everything, or is gone."""
        self._timer.cancel()

    def _left(self) -> int:
        return self._transport.get_write_buffer_size() + _in_kernel_bytes(self._transport)

    def _look(self) -> None:
        before, left = self._left_bytes, self._left()
        if before - left < min(self._due_bytes, before):
            self._transport.abort()
            return
        self._left_bytes = left
        self._timer = self._loop.call_later(self._idle_s, self._look)


def _in_kernel_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the kernel has and the peer has not confirmed."""
    socket = transport.get_extra_info("socket")
    try:
        return int(struct.unpack("i", fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except (OSError, ValueError):
        return 0


def _request_id() -> str:
    return secrets.token_hex(8).upper()
