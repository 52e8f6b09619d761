"""The body of a request: pulled from the connection, bounded in length and in waiting.

`Expect: 100-continue` is answered by the first read, so that a refused upload never sends its body.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import StreamReader
from aiohttp.web import RequestPayloadError

from common import limits
from common.clock import Clock
from gateway.config import ConnectionLimits
from gateway.http.request import BodySource
from gateway.s3 import errors

DEFAULT_BOUNDS = ConnectionLimits()


class RequestBody:
    """Plain body, `size` bytes by Content-Length (None: HTTP chunked)."""

    def __init__(
        self,
        reader: StreamReader,
        size: int | None,
        send_continue: Callable[[], Awaitable[None]] | None,
        clock: Clock,
        bounds: ConnectionLimits = DEFAULT_BOUNDS,
    ) -> None:
        self.size = size
        self._bounds = bounds
        self._reader = reader
        self._send_continue = send_continue
        self._clock = clock
        self._chunk = memoryview(b"")
        self._begun_s = 0.0
        self.received = 0

    @property
    def is_announced(self) -> bool:
        """Whether the client still waits for `100 Continue`: it may never send the body."""
        return self._send_continue is not None

    async def read_into(self, view: memoryview) -> int:
        if not self._chunk:
            self._chunk = memoryview(await self.read_chunk())
            if not self._chunk:
                return 0
        size = min(len(view), len(self._chunk))
        view[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        return size

    async def read_chunk(self) -> bytes:
        """Take what the connection has, as it came; b"" at the end."""
        if self._send_continue is not None:
            send, self._send_continue = self._send_continue, None
            await send()
        if not self._begun_s:
            self._begun_s = self._clock.monotonic_s()
        reader = self._reader
        try:
            if reader.is_eof() or reader.total_bytes > self.received:
                chunk = await reader.readany()
            else:
                async with asyncio.timeout(self._bounds.body_idle_s):
                    chunk = await reader.readany()
        except TimeoutError:
            raise errors.RequestTimeout() from None
        except (RequestPayloadError, ConnectionError, asyncio.IncompleteReadError) as error:
            raise errors.IncompleteBody() from error
        self.received += len(chunk)
        if not chunk and self.size is not None and self.received < self.size:
            raise errors.IncompleteBody()
        self._check_rate()
        return chunk

    def _check_rate(self) -> None:
        """Refuse senders that keep a connection open with a byte now and then."""
        elapsed_s = self._clock.monotonic_s() - self._begun_s
        if (
            elapsed_s > self._bounds.body_rate_grace_s
            and self.received < elapsed_s * self._bounds.body_bytes_per_s_min
        ):
            raise errors.RequestTimeout()


async def read_all(source: BodySource, size_max: int) -> bytes:
    """Collect a small body (XML, policies); more than size_max bytes is EntityTooLarge."""
    body = bytearray()
    piece = memoryview(bytearray(64 * limits.KIB))
    while count := await source.read_into(piece):
        if len(body) + count > size_max:
            raise errors.EntityTooLarge(MaxSizeAllowed=size_max)
        body += piece[:count]
    return bytes(body)
