"""The answering end: a table of handlers, faults sent back as faults, bounded bytes in flight.

A handler may answer at once, or return a future (no task is made: a task costs more than many
calls do) or another awaitable; a result of None is an empty answer. What it raises as a Fault goes
to the caller; anything else is logged here and is Internal to the caller.
"""

import asyncio
import functools
import hmac
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from common import faults, limits
from common.frames.peer import Peer
from common.frames.wire import (
    NONCE_BYTES,
    Kind,
    Piece,
    Role,
    WireError,
    encode_fault,
    prove,
    size_of,
)

log = logging.getLogger(__name__)

BYTES_IN_FLIGHT_MAX = 64 * limits.MIB  # of one connection; it is not read from beyond that
CALL_BYTES = 2 * limits.KIB  # what a call in flight costs beside its header and payload
HANDSHAKE_S = 5.0
STOP_GRACE_S = 10.0  # for calls in flight
CLOSE_GRACE_S = 2.0  # for peers to take what is queued for them

REQUEST, REPLY, ERROR = Kind.REQUEST.value, Kind.REPLY.value, Kind.ERROR.value


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
    """Gives memory for large payloads, and takes it back when the call's answer has left."""

    def take(self, size: int) -> Slot: ...

    def give_back(self, slot: Slot) -> None: ...


@dataclass(slots=True)
class Call:
    """One request. The payload, and the slot if it is in one, may be used until the answer."""

    method: int
    header: bytes
    payload: Piece
    deadline_s: float
    slot: Slot | None = None


Handler = Callable[[Call], Answer | Awaitable[Answer | None]]
EMPTY = Answer()


class ServerPeer(Peer):
    """One connection of a server."""

    def __init__(self, server: "FrameServer") -> None:
        super().__init__()
        self._server = server
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._handshake: asyncio.TimerHandle | None = None
        self._slot: Slot | None = None
        self._bytes_in_flight = 0
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.peers.add(self)
        self._handshake = self._loop.call_later(HANDSHAKE_S, self.abort)
        self.send((Kind.CHALLENGE, 0, 0, 0), self._nonce)

    def closed(self, error: Exception | None) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
        self._server.peer_closed(self)
        self._give_back(self._slot)
        self._slot = None

    def place_payload(
        self, kind: int, method: int, call_id: int, header: bytes, size: int
    ) -> memoryview | None:
        if self._server.slots is None:
            return memoryview(bytearray(size))
        self._slot = self._server.slots.take(size)
        return self._slot.view

    def frame_received(
        self, kind: int, method: int, call_id: int, deadline_ms: int, header: bytes, payload: Piece
    ) -> None:
        slot, self._slot = self._slot, None
        if kind != REQUEST or self._handshake is not None:
            self._give_back(slot)
            self._control_received(kind, header)
            return
        call = Call(method, header, payload, deadline_ms / 1000, slot)
        try:
            answer = self._server.handle(call)
        except faults.Fault as fault:
            self._give_back(slot)
            self._answer_fault(method, call_id, fault)
        except Exception as failure:
            self._give_back(slot)
            self._answer_internal(method, call_id, failure)
        else:
            if isinstance(answer, Answer):
                self._answer(call, call_id, answer)
            else:
                self._begin(call, call_id, answer)

    def _control_received(self, kind: int, header: bytes) -> None:
        if self._handshake is not None:
            self._check_proof(kind, header)
        elif kind == Kind.PING:
            self.send((Kind.PONG, 0, 0, 0))
        else:
            raise WireError(f"kind {kind}")

    def _check_proof(self, kind: int, header: bytes) -> None:
        secret = self._server.secret
        nonce, proof = header[:NONCE_BYTES], header[NONCE_BYTES:]
        expected = prove(secret, Role.CLIENT, self._nonce, nonce)
        if kind != Kind.PROOF or not hmac.compare_digest(expected, proof):
            raise WireError("the client did not prove the cluster's secret")
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None
        self.admit()
        self.send((Kind.WELCOME, 0, 0, 0), prove(secret, Role.SERVER, self._nonce, nonce))

    # --- answers ------------------------------------------------------------------------------

    def _begin(self, call: Call, call_id: int, answer: Awaitable[Answer | None]) -> None:
        cost = CALL_BYTES + len(call.header) + len(call.payload)
        self._bytes_in_flight += cost
        if self._bytes_in_flight > BYTES_IN_FLIGHT_MAX:
            self._govern_reading()
        work = asyncio.ensure_future(answer, loop=self._loop)
        self._server.tasks.add(work)
        work.add_done_callback(functools.partial(self._ended, call, call_id, cost))

    def _ended(
        self, call: Call, call_id: int, cost: int, work: "asyncio.Future[Answer | None]"
    ) -> None:
        """Answer; also for work that was cancelled, which has no answer."""
        self._server.tasks.discard(work)
        if not work.cancelled():
            failure = work.exception()
            if failure is None:
                self._answer(call, call_id, work.result() or EMPTY)
            elif isinstance(failure, faults.Fault):
                self._answer_fault(call.method, call_id, failure)
            else:
                self._answer_internal(call.method, call_id, failure)
        self._give_back(call.slot)
        call.slot = None
        self._bytes_in_flight -= cost
        if self._is_paused:
            self._govern_reading()

    def _answer(self, call: Call, call_id: int, answer: Answer) -> None:
        header, pieces, release = answer
        size = size_of(pieces) if pieces else 0
        if len(header) > limits.FRAME_HEADER_BYTES_MAX or size > limits.FRAME_PAYLOAD_BYTES_MAX:
            log.error("method %d: answer too large: %d + %d", call.method, len(header), size)
            if release is not None:
                release()
            self._answer_fault(call.method, call_id, faults.Internal("answer too large"))
            return
        if call.slot is not None and pieces:
            # The pieces may be the slot's own memory: it is given back when they have left.
            release = functools.partial(self._release_both, release, call.slot)
            call.slot = None
        self.send((REPLY, call.method, call_id, 0), header, pieces, release)
        if call.slot is not None:
            self._give_back(call.slot)
            call.slot = None

    def _answer_fault(self, method: int, call_id: int, fault: faults.Fault) -> None:
        self.send((ERROR, method, call_id, 0), encode_fault(fault))

    def _answer_internal(self, method: int, call_id: int, failure: BaseException) -> None:
        log.error("call of method %d failed", method, exc_info=failure)
        self._answer_fault(method, call_id, faults.Internal())

    def _release_both(self, release: Callable[[], None] | None, slot: Slot) -> None:
        if release is not None:
            release()
        self._give_back(slot)

    def _give_back(self, slot: Slot | None) -> None:
        if slot is not None and self._server.slots is not None:
            self._server.slots.give_back(slot)

    # --- back-pressure ------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._govern_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._govern_reading()

    def _govern_reading(self) -> None:
        """Take no requests while too many are in flight, or the peer does not take its answers."""
        high = BYTES_IN_FLIGHT_MAX // 2 if self._is_paused else BYTES_IN_FLIGHT_MAX
        should_pause = self._bytes_in_flight > high or self.is_congested
        if should_pause == self._is_paused or self._transport is None or not self.is_open:
            return
        self._is_paused = should_pause
        if should_pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


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
        self.tasks: set[asyncio.Future[Answer | None]] = (
            set()
        )  # calls in flight, of lost connections too
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._is_stopping = False
        self._all_closed = asyncio.Event()

    async def start(self, host: str, port: int) -> int:
        """Listen; port 0 chooses one. Returns the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ServerPeer(self), host, port, ssl=self._tls, backlog=1024
        )
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    def handle(self, call: Call) -> Answer | Awaitable[Answer | None]:
        """Find a call's handler and begin it."""
        if self._is_stopping:
            raise faults.Busy("stopping")
        handler = self.handlers.get(call.method)
        if handler is None:
            raise faults.Unsupported(f"method {call.method}")
        return handler(call)

    def peer_closed(self, peer: ServerPeer) -> None:
        """A connection ended."""
        self.peers.discard(peer)
        if not self.peers:
            self._all_closed.set()

    async def stop(self) -> None:
        """Refuse new calls, finish those in flight (within the grace), send the answers, close."""
        self._is_stopping = True
        if self._server is not None:
            self._server.close()
        for peer in list(self.peers):
            peer.send((Kind.GOODBYE, 0, 0, 0))
        await self._finish_calls()
        for peer in list(self.peers):
            peer.close()
        self._all_closed.clear()
        if self.peers:
            try:
                async with asyncio.timeout(CLOSE_GRACE_S):
                    await self._all_closed.wait()
            except TimeoutError:
                for peer in list(self.peers):
                    peer.abort()

    async def _finish_calls(self) -> None:
        if not self.tasks:
            return
        _, late = await asyncio.wait(set(self.tasks), timeout=STOP_GRACE_S)
        for task in late:
            task.cancel()
        if late:
            log.warning("%d calls did not end in time", len(late))
            await asyncio.wait(late)
