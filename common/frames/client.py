"""The calling end: a connection that comes back by itself, calls matched by id, deadlines.

A call on a lost connection fails at once with Unavailable: whether the peer did it is unknown,
so that only the caller can decide to repeat it.
"""

import asyncio
import random
import ssl
from collections.abc import Sequence
from typing import NamedTuple

from common import faults
from common.frames.peer import Peer
from common.frames.wire import (
    CALL_ID_MAX,
    NONCE_BYTES,
    Kind,
    Piece,
    decode_fault,
    prove,
)

CALLS_IN_FLIGHT_MAX = 16_384
RECONNECT_S_MIN = 0.05
RECONNECT_S_MAX = 1.0
CONNECT_TIMEOUT_S = 3.0
SWEEP_S = 0.1

REQUEST, REPLY, ERROR = Kind.REQUEST.value, Kind.REPLY.value, Kind.ERROR.value


class Reply(NamedTuple):
    """What a call answered."""

    header: bytes
    payload: Piece


class _Pending(NamedTuple):
    future: "asyncio.Future[Reply]"
    deadline: float
    into: memoryview | None


class ClientPeer(Peer):
    """One connection of a client."""

    def __init__(self, secret: bytes, on_closed: "FrameClient") -> None:
        super().__init__()
        self._secret = secret
        self._owner = on_closed
        self._pending: dict[int, _Pending] = {}
        self._next_id = 0
        self._sweep: asyncio.TimerHandle | None = None
        self.is_leaving = False
        self.ready: asyncio.Future[None] = self._loop.create_future()
        if not secret:
            self.ready.set_result(None)

    @property
    def in_flight(self) -> int:
        """Calls without an answer."""
        return len(self._pending)

    def call(
        self,
        method: int,
        header: bytes,
        pieces: tuple[Piece, ...],
        deadline_s: float,
        into: memoryview | None,
    ) -> "asyncio.Future[Reply]":
        """Send a request; the future is done by the reply, the deadline or the loss of the peer."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        call_id = self._next_id = (self._next_id + 1) & CALL_ID_MAX
        self._pending[call_id] = _Pending(future, self._loop.time() + deadline_s, into)
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_S, self._sweep_deadlines)
        self.send((REQUEST, method, call_id, int(deadline_s * 1000)), header, pieces)
        return future

    def frame_received(
        self, kind: int, method: int, call_id: int, deadline_ms: int, header: bytes, payload: Piece
    ) -> None:
        if kind == REPLY:
            pending = self._pending.pop(call_id, None)
            if pending is None or pending.future.done():
                return
            into = pending.into
            if into is not None and payload and isinstance(payload, bytes):
                into[: len(payload)] = payload
                payload = into[: len(payload)]
            pending.future.set_result(Reply(header, payload))
        elif kind == ERROR:
            pending = self._pending.pop(call_id, None)
            if pending is not None and not pending.future.done():
                pending.future.set_exception(decode_fault(header))
        elif kind == Kind.CHALLENGE:
            self.send((Kind.PROOF, 0, 0, 0), prove(self._secret, header[:NONCE_BYTES]))
            if not self.ready.done():
                self.ready.set_result(None)
        elif kind == Kind.GOODBYE:
            self.is_leaving = True
            self._owner.peer_leaving(self)

    def place_payload(
        self, kind: int, method: int, call_id: int, header: bytes, size: int
    ) -> memoryview | None:
        pending = self._pending.get(call_id)
        if pending is None or pending.into is None or pending.future.done():
            return None
        if len(pending.into) < size:
            self._pending.pop(call_id)
            pending.future.set_exception(
                faults.Internal(f"reply of {size} bytes for a buffer of {len(pending.into)}")
            )
            return None
        return pending.into[:size]

    def is_target_wanted(self, kind: int, call_id: int) -> bool:
        pending = self._pending.get(call_id)
        return pending is not None and not pending.future.done()

    def closed(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.cancel()
        pending, self._pending = self._pending, {}
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for entry in pending.values():
            if not entry.future.done():
                entry.future.set_exception(faults.Unavailable("connection lost"))
        self._owner.peer_closed(self)

    def _sweep_deadlines(self) -> None:
        now = self._loop.time()
        overdue = [
            call_id
            for call_id, entry in self._pending.items()
            if entry.deadline <= now or entry.future.done()
        ]
        for call_id in overdue:
            # While its payload is being received the id stays known, so that the rest is dropped.
            if self._target is not None and self._target_frame[2] == call_id:
                entry = self._pending[call_id]
            else:
                entry = self._pending.pop(call_id)
            if not entry.future.done():
                entry.future.set_exception(faults.Unavailable("deadline missed"))
        self._sweep = (
            self._loop.call_later(SWEEP_S, self._sweep_deadlines) if self._pending else None
        )


class FrameClient:
    """Calls one address. Start it in a running loop; it reconnects until it is stopped."""

    def __init__(
        self,
        host: str,
        port: int,
        secret: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host, self.port = host, port
        self._secret = secret
        self._tls = tls
        self._peer: ClientPeer | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._up = asyncio.Event()

    async def start(self) -> None:
        """Begin connecting; returns at once."""
        assert self._task is None, "started twice"
        self._task = asyncio.get_running_loop().create_task(self._stay_connected())

    async def stop(self) -> None:
        """Close; calls in flight fail with Unavailable."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    @property
    def is_up(self) -> bool:
        """Whether a call would be sent now."""
        return self._peer is not None and self._peer.is_open

    @property
    def in_flight(self) -> int:
        """Calls without an answer."""
        return self._peer.in_flight if self._peer is not None else 0

    async def wait_up(self, timeout_s: float) -> None:
        """Wait for a connection. raises Unavailable"""
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            raise faults.Unavailable(f"{self.host}:{self.port} does not answer") from None

    def call(
        self,
        method: int,
        header: bytes,
        payload: Piece | Sequence[Piece] = b"",
        *,
        deadline_s: float,
        into: memoryview | None = None,
    ) -> "asyncio.Future[Reply]":
        """Send a request now.

        payload  sent without a copy: must not change before the future is done
        into     memory for the reply's payload; after the future is done it is not written again
        raises   through the future: Unavailable (peer lost or late; outcome unknown), Busy (too
                 many calls in flight; nothing was sent), or the fault that the peer raised
        """
        peer = self._peer
        if peer is None or not peer.is_open:
            return _failed(faults.Unavailable(f"{self.host}:{self.port} is down"))
        if peer.in_flight >= CALLS_IN_FLIGHT_MAX:
            return _failed(faults.Busy("too many calls in flight"))
        if isinstance(payload, (bytes, bytearray, memoryview)):
            pieces: tuple[Piece, ...] = (payload,) if payload else ()
        else:
            pieces = tuple(payload)
        return peer.call(method, header, pieces, deadline_s, into)

    async def drain(self) -> None:
        """Wait while the peer takes bytes slower than they are sent."""
        if self._peer is not None:
            await self._peer.drain()

    def peer_closed(self, peer: ClientPeer) -> None:
        """A connection ended; only the current one matters."""
        if peer is self._peer:
            self._peer = None
            self._up.clear()
            self._lost.set()

    def peer_leaving(self, peer: ClientPeer) -> None:
        """The server drains: finish what is in flight there, send new calls elsewhere."""
        self.peer_closed(peer)

    async def _stay_connected(self) -> None:
        delay_s = RECONNECT_S_MIN
        loop = asyncio.get_running_loop()
        while True:
            self._lost.clear()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    _, peer = await loop.create_connection(
                        lambda: ClientPeer(self._secret, self),
                        self.host,
                        self.port,
                        ssl=self._tls,
                    )
                    await asyncio.wait([peer.ready])
            except (OSError, TimeoutError):
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                delay_s = min(delay_s * 2, RECONNECT_S_MAX)
                continue
            if peer.is_open:
                self._peer = peer
                self._up.set()
                delay_s = RECONNECT_S_MIN
                await self._lost.wait()


def _failed(fault: faults.Fault) -> "asyncio.Future[Reply]":
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    future.set_exception(fault)
    return future
