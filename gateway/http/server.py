"""The S3 listener: aiohttp's low-level server in front of one function, request to reply.

No router and no middleware of aiohttp's: the pipeline does that. This module turns bytes into
HttpRequest, HttpReply into bytes, and keeps `Expect: 100-continue`, the pace of answers, and what
happens when a peer goes away in the middle.
"""

import asyncio
import logging
import resource
import secrets
import ssl
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web
from aiohttp.http import HttpVersion11, StreamWriter
from multidict import CIMultiDict

from common import faults, limits
from common.clock import Clock
from gateway.config import ConnectionLimits
from gateway.http.body import DEFAULT_BOUNDS, RequestBody
from gateway.http.connection import FILES_RESERVED, Listener, ReaderWatch
from gateway.http.request import HttpReply, HttpRequest, ReplyStream
from gateway.http.whole import whole

Handler = Callable[[HttpRequest], Awaitable[HttpReply]]
log = logging.getLogger(__name__)

WRITE_BUFFER_HIGH_BYTES = 256 * limits.KIB
STOP_GRACE_S = 20.0
NAMES_MAX = 1000  # of headers that are known by heart


class Server:
    """Serves one handler on one or more addresses; several processes may share a port."""

    def __init__(
        self,
        handler: Handler,
        clock: Clock,
        host_id: str,
        bounds: ConnectionLimits = DEFAULT_BOUNDS,
    ) -> None:
        # Beyond the process's files a connection could only be dropped without a word.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_RESERVED
        self._bounds = replace(bounds, count_max=min(bounds.count_max, max(files, 1)))
        self._handler = handler
        self._clock = clock
        self._host_id = host_id
        self._listener: Listener | None = None
        self._servers: list[asyncio.Server] = []
        self._date = (0, "")

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; port 0 chooses one. Returns the port."""
        if self._listener is None:
            self._listener = Listener(
                self._handle,
                access_log=None,
                auto_decompress=False,
                bounds=self._bounds,
                keepalive_timeout=self._bounds.keep_alive_s,
                max_line_size=limits.URI_BYTES_MAX,
                max_field_size=limits.HEADER_BYTES_MAX,
                max_headers=limits.HEADERS_MAX,
                read_bufsize=256 * limits.KIB,
                lingering_time=5.0,
            )
        server = await asyncio.get_running_loop().create_server(
            self._listener, host, port, reuse_port=True, backlog=4096, ssl=tls
        )
        self._servers.append(server)
        port_number: int = server.sockets[0].getsockname()[1]
        return port_number

    async def stop(self) -> None:
        """Accept nothing more, let requests in flight finish, then close."""
        for server in self._servers:
            server.close()
        if self._listener is not None:
            self._listener.pre_shutdown()
            await self._listener.shutdown(STOP_GRACE_S)

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._listener.connections) if self._listener is not None else 0

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        request = self._read(http)
        reply = await self._handler(request)
        if isinstance(request.body, RequestBody) and request.body.is_announced:
            # What comes next on this connection may be a body, or another request: nobody knows.
            reply.close = True
        if http.version == HttpVersion11:
            keeps_alive = http.keep_alive and not reply.close
            response = whole(reply, request.method, self._http_date(), keeps_alive=keeps_alive)
            if response is not None:
                return response
        headers = CIMultiDict(reply.headers)
        headers["date"] = self._http_date()
        headers["server"] = "Ostraka"
        if isinstance(reply.body, bytes):
            return self._whole(reply, headers, request.method)
        return await self._stream(http, reply, reply.body, headers, request.method)

    def _read(self, http: web.BaseRequest) -> HttpRequest:
        message = (
            http._message
        )  # the parsed head: BaseRequest offers no cheaper way to the raw names
        headers: dict[str, str] = {}
        for raw_name, raw_value in message.raw_headers:
            name = _NAMES.get(raw_name) or _name_of(raw_name)
            try:
                value = raw_value.decode()
            except UnicodeDecodeError:  # user metadata is UTF-8, of others nobody knows
                value = raw_value.decode("latin-1")
            # Repeated headers are one list to HTTP; signatures are made over the joined form.
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        raw_path, _, raw_query = message.path.partition("?")
        if not raw_path.startswith("/"):
            raw_path = _absolute_form_path(raw_path, headers)
        length = headers.get("content-length")
        size = int(length) if length is not None else (None if message.chunked else 0)
        send_continue = None
        if headers.get("expect", "").lower() == "100-continue":
            send_continue = _continue_sender(http)
        transport = http.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        return HttpRequest(
            method=message.method,
            raw_path=raw_path,
            raw_query=raw_query,
            headers=headers,
            body=RequestBody(http.content, size, send_continue, self._clock, self._bounds),
            peer=peer[0] if isinstance(peer, tuple) else "",
            is_tls=http.protocol.ssl_context is not None,
            request_id=secrets.token_hex(8).upper(),
            host_id=self._host_id,
        )

    def _whole(self, reply: HttpReply, headers: CIMultiDict[str], method: str) -> web.Response:
        body = reply.body
        assert isinstance(body, bytes)
        response = web.Response(status=reply.status, headers=headers)
        if method == "HEAD" or reply.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            # A HEAD names the length of what a GET would send.
            if reply.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
                headers.setdefault("content-length", str(len(body)))
                response.headers["content-length"] = headers["content-length"]
        else:
            response.body = body
        _trim_content_type(response, headers)
        if reply.close:
            response.force_close()
        return response

    async def _stream(
        self,
        http: web.BaseRequest,
        reply: HttpReply,
        stream: ReplyStream,
        headers: CIMultiDict[str],
        method: str,
    ) -> web.StreamResponse:
        headers["content-length"] = str(reply.body_bytes)
        response = web.StreamResponse(status=reply.status, headers=headers)
        _trim_content_type(response, headers)
        if reply.close:
            response.force_close()
        async with aclosing(stream):
            await response.prepare(http)
            if method == "HEAD":
                return response
            transport = http.transport
            if transport is None:
                raise ConnectionResetError("client went away")
            try:
                await self._send(http, stream)
            except BaseException as error:
                # After the first byte the only honest error is a cut connection.
                transport.abort()
                if isinstance(error, faults.Fault):
                    log.warning("an answer was cut short: %s", faults.in_words(error))
                    raise ConnectionResetError("cut short") from error
                raise
            await response.write_eof()
        return response

    async def _send(self, http: web.BaseRequest, stream: ReplyStream) -> None:
        transport = http.transport
        writer = http.writer
        assert transport is not None and isinstance(writer, StreamWriter)
        # Pieces live in reused buffers: a piece may be replaced only when the kernel has it all.
        transport.set_write_buffer_limits(high=0)
        try:
            async for piece in stream:
                # Not response.write: that one waits for a drain of its own, without a limit.
                await writer.write(piece, drain=False)
                if transport.get_write_buffer_size():
                    watch = ReaderWatch(transport, self._bounds)
                    try:
                        await http.protocol._drain_helper()
                    finally:
                        watch.stop()
        finally:
            if not transport.is_closing():
                transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH_BYTES)

    def _http_date(self) -> str:
        second = self._clock.now_ns() // 1_000_000_000
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]


_NAMES: dict[bytes, str] = {}  # of headers, as they came and in lower case


def _name_of(raw: bytes) -> str:
    name = raw.decode("ascii").lower()
    if len(_NAMES) < NAMES_MAX:
        _NAMES[raw] = name
    return name


def _absolute_form_path(target: str, headers: dict[str, str]) -> str:
    """`GET http://host/path`, as clients of proxies send it, means `/path` at that host."""
    _, separator, rest = target.partition("://")
    host, slash, path = rest.partition("/")
    if not separator or not host:
        return "/" + target
    headers["host"] = host
    return slash + path or "/"


def _continue_sender(http: web.BaseRequest) -> Callable[[], Awaitable[None]]:
    async def send() -> None:
        transport = http.transport
        if transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    return send


def _trim_content_type(response: web.StreamResponse, headers: CIMultiDict[str]) -> None:
    """aiohttp adds a default content type; S3 sends one only where it says one."""
    if "content-type" not in headers:
        response.headers.popall("content-type", None)
