"""The answering end: a table of handlers, faults sent back as faults, bounded bytes in flight.

A handler may answer at once (no task is made: a task costs more than many calls do) or return an
awaitable. What it raises as a Fault goes to the caller; anything else is logged here and is
Internal to the caller.
"""

import asyncio
import hmac
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from common import faults, limits
from common.frames.peer import Peer
from common.frames.wire import NONCE_BYTES, Kind, Piece, encode_fault, prove

log = logging.getLogger(__name__)

BYTES_IN_FLIGHT_MAX = 64 * limits.MIB  # of one connection; it is not read from beyond that
STOP_GRACE_S = 10.0


class Answer(NamedTuple):
    """A reply: header message, and payload pieces that are sent without a copy.

    release   called when the pieces' memory may be used again
    """

    header: bytes = b""
    pieces: tuple[Piece, ...] = ()
    release: Callable[[], None] | None = None


class Slot(Protocol):
    """Memory for one large payload."""

    @property
    def view(self) -> memoryview: ...


class Slots(Protocol):
    """Gives memory for large payloads; whoever handles the call gives it back."""

    def take(self, size: int) -> Slot: ...

    def give_back(self, slot: Slot) -> None: ...


@dataclass(slots=True)
class Call:
    """One request. A `slot`, if the payload is in one, is the handler's to give back."""

    method: int
    header: bytes
    payload: Piece
    deadline_s: float
    slot: Slot | None = None


Handler = Callable[[Call], Answer | Awaitable[Answer]]


class ServerPeer(Peer):
    """One connection of a server."""

    def __init__(self, server: "FrameServer") -> None:
        super().__init__()
        self._server = server
        self._nonce = b""
        self._slot: Slot | None = None
        self._bytes_in_flight = 0
        self._is_paused = False
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.peers.add(self)
        if self._server.secret:
            self._nonce = secrets.token_bytes(NONCE_BYTES)
            self.send((Kind.CHALLENGE, 0, 0, 0), self._nonce)

    def closed(self, error: Exception | None) -> None:
        self._server.peers.discard(self)
        if self._slot is not None and self._server.slots is not None:
            self._server.slots.give_back(self._slot)
            self._slot = None

    def place_payload(
        self, kind: int, method: int, call_id: int, header: bytes, size: int
    ) -> memoryview | None:
        if self._server.slots is None or self._nonce:
            return None
        self._slot = self._server.slots.take(size)
        return self._slot.view

    def frame_received(
        self, kind: int, method: int, call_id: int, deadline_ms: int, header: bytes, payload: Piece
    ) -> None:
        if self._nonce:
            self._check_proof(kind, header)
            return
        slot, self._slot = self._slot, None
        if kind != Kind.REQUEST:
            self.abort()
            return
        call = Call(method, header, payload, deadline_ms / 1000, slot)
        handler = self._server.handlers.get(method)
        try:
            if handler is None:
                raise faults.Unsupported(f"method {method}")
            answer = handler(call)
        except faults.Fault as fault:
            self._answer_fault(method, call_id, fault)
        except Exception:
            self._answer_internal(method, call_id)
        else:
            if isinstance(answer, Answer):
                self._answer(method, call_id, answer)
            else:
                self._begin(method, call_id, answer, len(payload))

    def _check_proof(self, kind: int, header: bytes) -> None:
        expected = prove(self._server.secret, self._nonce)
        if kind == Kind.PROOF and hmac.compare_digest(expected, header):
            self._nonce = b""
        else:
            log.warning("a peer did not prove the cluster's secret")
            self.abort()

    def _begin(
        self, method: int, call_id: int, answer: Awaitable[Answer], payload_size: int
    ) -> None:
        self._bytes_in_flight += payload_size
        if self._bytes_in_flight > BYTES_IN_FLIGHT_MAX and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        task = self._loop.create_task(self._finish(method, call_id, answer, payload_size))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _finish(
        self, method: int, call_id: int, answer: Awaitable[Answer], payload_size: int
    ) -> None:
        try:
            self._answer(method, call_id, await answer)
        except faults.Fault as fault:
            self._answer_fault(method, call_id, fault)
        except Exception:
            self._answer_internal(method, call_id)
        finally:
            self._bytes_in_flight -= payload_size
            if self._is_paused and self._bytes_in_flight <= BYTES_IN_FLIGHT_MAX // 2:
                self._is_paused = False
                if self._transport is not None:
                    self._transport.resume_reading()

    def _answer(self, method: int, call_id: int, answer: Answer) -> None:
        self.send(
            (Kind.REPLY.value, method, call_id, 0), answer.header, answer.pieces, answer.release
        )

    def _answer_fault(self, method: int, call_id: int, fault: faults.Fault) -> None:
        self.send((Kind.ERROR.value, method, call_id, 0), encode_fault(fault))

    def _answer_internal(self, method: int, call_id: int) -> None:
        log.exception("call of method %d failed", method)
        self._answer_fault(method, call_id, faults.Internal())


class FrameServer:
    """Listens, and answers calls from a table of handlers."""

    def __init__(
        self,
        handlers: Mapping[int, Handler],
        secret: bytes = b"",
        tls: ssl.SSLContext | None = None,
        slots: Slots | None = None,
    ) -> None:
        self.handlers = handlers
        self.secret = secret
        self.slots = slots
        self.peers: set[ServerPeer] = set()
        self._tls = tls
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; port 0 chooses one. Returns the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ServerPeer(self), host, port, ssl=self._tls, backlog=1024
        )
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    async def stop(self) -> None:
        """Refuse new calls, finish those in flight (within the grace), close."""
        if self._server is not None:
            self._server.close()
        for peer in list(self.peers):
            peer.send((Kind.GOODBYE, 0, 0, 0))
        tasks = [task for peer in self.peers for task in peer.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_GRACE_S)
        for peer in list(self.peers):
            peer.close()
