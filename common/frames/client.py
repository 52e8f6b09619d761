"""The calling end: a connection that comes back by itself.

A call on a lost connection fails at once with Unavailable: whether the peer did it is unknown,
so that only the caller can decide to repeat it.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Sequence

from common import faults, limits
from common.frames.client_peer import ClientPeer, Patience, Reply
from common.frames.wire import Piece

log = logging.getLogger(__name__)

CALLS_IN_FLIGHT_MAX = 16_384
UNSENT_BYTES_MAX = 64 * limits.MIB  # of one connection; calls are refused beyond that


class FrameClient:
    """Calls one address. Start it in a running loop; it reconnects until it is stopped."""

    def __init__(
        self,
        host: str,
        port: int,
        secret: bytes = b"",
        tls: ssl.SSLContext | None = None,
        patience: Patience = Patience(),  # noqa: B008 - immutable
    ) -> None:
        self.host, self.port = host, port
        self._secret = secret
        self._tls = tls
        self._patience = patience
        self._peer: ClientPeer | None = None
        self._peers: set[ClientPeer] = set()  # all that are not closed yet
        self._down_because = "not connected yet"
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
        self._down_because = "stopped"
        for peer in list(self._peers):
            if peer.in_flight:
                peer.abort()  # a peer that takes no bytes would keep the callers waiting
            else:
                peer.close()

    @property
    def is_up(self) -> bool:
        """Whether a call would be sent now."""
        return self._peer is not None and self._peer.is_open

    @property
    def in_flight(self) -> int:
        """Calls without an answer."""
        return sum(peer.in_flight for peer in self._peers)

    async def wait_up(self, timeout_s: float) -> None:
        """Wait for a connection. raises Unavailable"""
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            raise self._down() from None

    def call(
        self,
        method: int,
        header: bytes,
        payload: Piece | Sequence[Piece] = b"",
        *,
        deadline_s: float,
        into: memoryview | None = None,
        may_wait: bool = False,
    ) -> "asyncio.Future[Reply]":
        """Send a request now.

        payload  sent without a copy: must not change before the future is done. If the future ends
                 (cancelled, too late) before the peer has taken it all, the connection is cut
        into     memory for the reply's payload; after the future is done it is not written again
        may_wait it may leave a little later, with others: after twice the time that the peer
                 usually takes to answer, at most HOLD_S_MAX. Where many come, the peer wakes and
                 works once for all of them
        raises   through the future: Unavailable (peer lost or late; outcome unknown), Busy (too
                 much in flight; nothing was sent), Invalid (larger than a frame may be), or the
                 fault that the peer raised
        """
        peer = self._peer
        if peer is None or not peer.is_open:
            return _failed(self._down())
        if peer.in_flight >= CALLS_IN_FLIGHT_MAX:
            return _failed(faults.Busy("too many calls in flight"))
        if peer.is_congested and peer.unsent_bytes > UNSENT_BYTES_MAX:
            return _failed(faults.Busy("too many bytes in flight"))
        if isinstance(payload, (bytes, bytearray, memoryview)):
            pieces: tuple[Piece, ...] = (payload,) if payload else ()
        else:
            pieces = tuple(payload)
        return peer.call(method, header, pieces, deadline_s, into, may_wait)

    def flush(self) -> None:
        """Let what was called in this turn of the loop leave now, not at its end."""
        if self._peer is not None:
            self._peer.flush()

    async def drain(self) -> None:
        """Wait while the peer takes bytes slower than they are sent."""
        if self._peer is not None:
            await self._peer.drain()

    def peer_opened(self, peer: ClientPeer) -> None:
        """A connection began."""
        self._peers.add(peer)

    def peer_closed(self, peer: ClientPeer) -> None:
        """A connection ended."""
        self._peers.discard(peer)
        self._forget(peer, "connection lost")

    def peer_leaving(self, peer: ClientPeer) -> None:
        """The server drains: what is in flight is finished there, new calls go elsewhere."""
        self._forget(peer, "leaving")

    def _forget(self, peer: ClientPeer, reason: str) -> None:
        """Only the end of the current connection matters for new calls."""
        if peer is self._peer:
            self._peer = None
            self._down_because = reason
            self._up.clear()
            self._lost.set()

    def _down(self) -> faults.Unavailable:
        return faults.Unavailable(f"{self.host}:{self.port} is down: {self._down_because}")

    async def _stay_connected(self) -> None:
        patience = self._patience
        delay_s = patience.reconnect_s_min
        while True:
            peer = await self._connect()
            if peer is None:
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                delay_s = min(delay_s * 2, patience.reconnect_s_max)
                continue
            delay_s = patience.reconnect_s_min
            self._lost.clear()
            self._peer = peer
            self._up.set()
            await self._lost.wait()
            log.info("lost %s:%d: %s", self.host, self.port, self._down_because)

    async def _connect(self) -> ClientPeer | None:
        """Try once; the connection is ready for calls, or there is none."""
        loop = asyncio.get_running_loop()
        peer: ClientPeer | None = None
        try:
            async with asyncio.timeout(self._patience.connect_s):
                _, peer = await loop.create_connection(
                    lambda: ClientPeer(self._secret, self, self._patience),
                    self.host,
                    self.port,
                    ssl=self._tls,
                )
                await asyncio.wait([peer.ready])
        except TimeoutError:
            self._down_because = "no answer in time"
        except OSError as error:
            self._down_because = error.strerror or str(error)
        else:
            if peer.is_open:
                return peer
            self._down_because = "refused by the server: another secret or version?"
        finally:
            if peer is not None and not (peer.is_open and peer.ready.done()):
                peer.abort()
        return None


def _failed(fault: faults.Fault) -> "asyncio.Future[Reply]":
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    future.set_exception(fault)
    return future
