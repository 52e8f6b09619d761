"""A small HTTP client that costs as little as it can, so that a benchmark measures the server.

One connection, requests one after another. Received bytes go straight into memory of the caller
or into one scratch buffer that is used again: nothing is allocated per piece.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from benchmarks.s3.signing import Target

SCRATCH_BYTES = 256 * 1024
HEAD_BYTES_MAX = 64 * 1024
JOIN_BYTES_MAX = 256 * 1024  # below this one write of head and body is cheaper than two
LAST_CHUNK = b"0\r\n\r\n"
NOWHERE = memoryview(bytearray())


class Broken(ConnectionError):
    """The connection ended, or what came is not HTTP."""


class Answer:
    """Status and body of one answer."""

    __slots__ = ("status", "size_bytes", "head")

    def __init__(self, status: int, size_bytes: int, head: bytes) -> None:
        self.status = status
        self.size_bytes = size_bytes
        self.head = head


Answered = Callable[[Answer | None], None]


class Connection(asyncio.BufferedProtocol):
    """One keep-alive connection. Not to be used any more once an exchange has raised."""

    def __init__(self) -> None:
        self._scratch = bytearray(SCRATCH_BYTES)
        self._view = memoryview(self._scratch)
        self._transport: asyncio.Transport | None = None
        self._answered: Answered | None = None
        self._broken_because = "closed"
        self._into = NOWHERE
        self._is_head_method = False
        self._begin_answer()

    def _begin_answer(self) -> None:
        self._head = b""
        self._filled = 0
        self._status = 0
        self._left: int | None = None  # body bytes to come; None: chunked, or no head yet
        self._received = 0
        self._is_last = False
        self._tail = b""

    @classmethod
    async def open(cls, target: Target) -> "Connection":
        """Connect. raises OSError"""
        host, port = target.address
        _, protocol = await asyncio.get_running_loop().create_connection(cls, host, port)
        return protocol

    @property
    def is_open(self) -> bool:
        """Whether another exchange can be tried."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(
        self, head: bytes, body: bytes = b"", into: bytearray | None = None
    ) -> Answer:
        """Send a request and wait for its whole answer. raises Broken

        into   where the answer's body goes, from its begin; what does not fit is counted only
        """
        waiter: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

        def answered(answer: Answer | None) -> None:
            if not waiter.done():
                waiter.set_result(answer)

        self.begin(head, body, answered, into)
        try:
            answer = await waiter
        except asyncio.CancelledError:
            self.close()
            raise
        if answer is None:
            raise Broken(self._broken_because)
        return answer

    def begin(
        self, head: bytes, body: bytes, answered: Answered, into: bytearray | None = None
    ) -> None:
        """Send a request now; no task and no future, for clients that must cost nothing.

        answered   called with the whole answer, or with None if there will be none; it may begin
                   the next request
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            answered(None)
            return
        self._begin_answer()
        self._is_head_method = head.startswith(b"HEAD ")
        self._into = memoryview(into) if into is not None else NOWHERE
        self._answered = answered
        if len(body) <= JOIN_BYTES_MAX:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    def close(self) -> None:
        """Disconnect at once; an exchange under way raises Broken."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(str(exc) if exc else "ended")

    def eof_received(self) -> bool:
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        if not self._head:
            return self._view[self._filled :]
        if self._left and self._received < len(self._into):
            return self._into[self._received :][: self._left]
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        if not self._head:
            self._filled += nbytes
            end = self._scratch.find(b"\r\n\r\n", 0, self._filled)
            if end < 0:
                if self._filled >= HEAD_BYTES_MAX:
                    self._fail("no HTTP")
                    self.close()
                return
            self._read_head(end + 4)
        elif self._left is None:
            self._chunked(bytes(self._view[:nbytes]))
        else:
            self._received += nbytes  # already in the caller's memory, see get_buffer
            self._left -= nbytes
        self._finish_if_complete()

    def _read_head(self, end: int) -> None:
        self._head = bytes(self._view[:end])
        lower = self._head.lower()
        self._is_last = b"\r\nconnection: close" in lower
        rest = bytes(self._view[end : self._filled])
        try:
            self._status = int(self._head[9:12])
            self._left = _length(lower)
        except ValueError:
            self._fail("no HTTP")
            self.close()
            return
        if self._is_head_method or self._status in (204, 304):
            self._left = 0
        if self._left is None:
            self._chunked(rest)
            return
        self._left -= len(rest)
        size = min(len(rest), len(self._into))
        self._into[:size] = rest[:size]
        self._received = len(rest)

    def _chunked(self, piece: bytes) -> None:
        """Chunked answers (listings of some servers): bytes are kept with their framing."""
        size = max(0, min(len(piece), len(self._into) - self._received))
        self._into[self._received : self._received + size] = piece[:size]
        self._received += len(piece)
        self._tail = (self._tail + piece)[-len(LAST_CHUNK) :]
        if self._tail == LAST_CHUNK:
            self._left = 0

    def _finish_if_complete(self) -> None:
        if not self._head or self._left != 0 or self._answered is None:
            return
        answer = Answer(self._status, self._received, self._head)
        if self._is_last:
            self.close()
        self._end(answer)

    def _fail(self, reason: str) -> None:
        if self._answered is not None:
            self._broken_because = reason
            self._end(None)

    def _end(self, answer: Answer | None) -> None:
        answered, self._answered = self._answered, None
        self._into = NOWHERE
        if answered is not None:
            answered(answer)


def _length(lower_head: bytes) -> int | None:
    """The announced length of a body; None: chunked. raises ValueError"""
    at = lower_head.find(b"\r\ncontent-length:")
    if at >= 0:
        return int(lower_head[at + 17 : lower_head.index(b"\r", at + 17)])
    return None if b"\r\ntransfer-encoding: chunked" in lower_head else 0
