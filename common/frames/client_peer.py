"""One connection of a client: calls matched by id, their deadlines, and whether the peer lives."""

import asyncio
import hmac
import logging
import secrets
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from common import faults, limits
from common.frames.peer import Peer
from common.frames.wire import (
    CALL_ID_MAX,
    NONCE_BYTES,
    Kind,
    Piece,
    Role,
    WireError,
    decode_fault,
    prove,
    size_of,
)

log = logging.getLogger(__name__)

SWEEP_S = 0.1
# How long a request may wait for others, in times of what the peer usually takes to answer.
# Measured under load: 3 is no better than 2, 1 half as good.
HOLD_FACTOR = 2.0
HOLD_S_MAX = 0.008
USUAL_WEIGHT = 0.1  # of the newest answer

REQUEST, REPLY, ERROR = Kind.REQUEST.value, Kind.REPLY.value, Kind.ERROR.value


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits for what, in seconds."""

    connect_s: float = 3.0  # connection and handshake
    reconnect_s_min: float = 0.05  # first pause after a failed attempt; doubles
    reconnect_s_max: float = 1.0
    ping_s: float = 1.0  # silence, while calls wait, after which the peer is asked
    silence_s_max: float = 5.0  # silence after which the connection is given up


class Reply(NamedTuple):
    """What a call answered."""

    header: bytes
    payload: Piece


class _Pending(NamedTuple):
    future: "asyncio.Future[Reply]"
    deadline: float
    into: memoryview | None


class Owner(Protocol):
    """Who is told of a connection's life."""

    def peer_opened(self, peer: "ClientPeer") -> None: ...

    def peer_closed(self, peer: "ClientPeer") -> None: ...

    def peer_leaving(self, peer: "ClientPeer") -> None: ...


class LendingFuture(asyncio.Future[Reply]):
    """The future of a call that sends the caller's own memory.

    Once it is done, also by cancellation, the memory is the caller's again: if the peer has not
    taken the bytes by then, the connection is cut, so that nothing else is ever sent from there.
    """

    peer: "ClientPeer"
    mark: int

    def cancel(self, msg: object = None) -> bool:
        """Give the call up."""
        is_cancelled = super().cancel(msg)
        if is_cancelled:
            self.take_back()
        return is_cancelled

    def take_back(self) -> None:
        """Make sure that nothing more is read from the payload."""
        self.peer.flush()  # it may not have left because it waited for others
        if not self.peer.has_left(self.mark):
            log.warning("a peer did not take a call's payload in time; the connection is cut")
            self.peer.abort()


class ClientPeer(Peer):
    """One connection of a client."""

    def __init__(self, secret: bytes, owner: Owner, patience: Patience) -> None:
        super().__init__()
        self._secret = secret
        self._owner = owner
        self._patience = patience
        self._nonces = (b"", b"")
        self._pending: dict[int, _Pending] = {}
        self._next_id = 0
        self._sweep: asyncio.TimerHandle | None = None
        self._silent_sweeps = 0
        self._is_leaving = False
        self._asked_s: float | None = None  # when what is to be answered next has left
        self._usual_s = 0.0  # from then to the answer, usually
        self.ready: asyncio.Future[None] = self._loop.create_future()

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
        may_wait: bool = False,
    ) -> "asyncio.Future[Reply]":
        """Send a request; the future is done by the reply, the deadline or the loss of the peer."""
        future: asyncio.Future[Reply]
        is_lent = any(type(piece) is not bytes for piece in pieces) if pieces else False
        future = LendingFuture(loop=self._loop) if is_lent else self._loop.create_future()
        if _is_refused(future, len(header), size_of(pieces), deadline_s):
            return future
        call_id = self._next_id = (self._next_id + 1) & CALL_ID_MAX
        self._pending[call_id] = _Pending(future, self._loop.time() + deadline_s, into)
        if self._sweep is None:
            self._silent_sweeps = 0
            self._sweep = self._loop.call_later(SWEEP_S, self._sweep_calls)
        frame = (REQUEST, method, call_id, int(deadline_s * 1000))
        hold_s = min(HOLD_FACTOR * self._usual_s, HOLD_S_MAX) if may_wait else 0.0
        mark = self.send(frame, header, pieces, hold_s=hold_s)
        if is_lent:
            assert isinstance(future, LendingFuture)
            future.peer, future.mark = self, mark
        return future

    def leave(self) -> None:
        """Close as soon as nothing is in flight; the peer takes no new calls."""
        self._is_leaving = True
        if not self._pending:
            self.close()

    def flush(self) -> None:
        if self._outgoing and self._asked_s is None:
            self._asked_s = self._loop.time()
        super().flush()

    def _note_answer(self, asked_s: float) -> None:
        self._usual_s += USUAL_WEIGHT * (self._loop.time() - asked_s - self._usual_s)
        self._asked_s = None

    # --- frames -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.peer_opened(self)

    def frame_received(
        self, kind: int, method: int, call_id: int, deadline_ms: int, header: bytes, payload: Piece
    ) -> None:
        if kind == REPLY:
            if self._asked_s is not None:
                self._note_answer(self._asked_s)
            pending = self._pending.pop(call_id, None)
            if pending is not None and not pending.future.done():
                _fulfil(pending, header, payload)
        elif kind == ERROR:
            fault = decode_fault(header)
            pending = self._pending.pop(call_id, None)
            if pending is not None and not pending.future.done():
                pending.future.set_exception(fault)
        else:
            self._control_received(kind, header)

    def _control_received(self, kind: int, header: bytes) -> None:
        if kind == Kind.CHALLENGE:
            self._nonces = (header, secrets.token_bytes(NONCE_BYTES))
            proof = prove(self._secret, Role.CLIENT, *self._nonces)
            self.send((Kind.PROOF, 0, 0, 0), self._nonces[1] + proof)
        elif kind == Kind.WELCOME:
            expected = prove(self._secret, Role.SERVER, *self._nonces)
            if not self._nonces[0] or not hmac.compare_digest(expected, header):
                raise WireError("the server did not prove the cluster's secret")
            self.admit()
            if not self.ready.done():
                self.ready.set_result(None)
        elif kind == Kind.GOODBYE:
            self._owner.peer_leaving(self)
            self.leave()
        elif kind != Kind.PONG:
            raise WireError(f"kind {kind}")

    def place_payload(
        self, kind: int, method: int, call_id: int, header: bytes, size: int
    ) -> memoryview | None:
        pending = self._pending.get(call_id)
        if pending is None or pending.future.done():
            return None
        if pending.into is None:
            return memoryview(bytearray(size))
        if len(pending.into) < size:
            _fail_too_small(pending, size)
            return None
        return pending.into[:size]

    def is_target_wanted(self, kind: int, call_id: int) -> bool:
        pending = self._pending.get(call_id)
        return pending is not None and not pending.future.done()

    def payload_dropped(self, kind: int, call_id: int) -> None:
        self._pending.pop(call_id, None)

    def closed(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        pending, self._pending = self._pending, {}
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for entry in pending.values():
            if not entry.future.done():
                entry.future.set_exception(faults.Unavailable("connection lost"))
        self._owner.peer_closed(self)

    # --- deadlines and silence ----------------------------------------------------------------

    def _sweep_calls(self) -> None:
        """Look at all calls ten times a second: a timer per call would cost more than the call."""
        self._sweep = None
        now = self._loop.time()
        overdue = [
            call_id
            for call_id, entry in self._pending.items()
            if entry.deadline <= now or entry.future.done()
        ]
        for call_id in overdue:
            future = self._pending.pop(call_id).future
            if not future.done():
                future.set_exception(faults.Unavailable("deadline missed"))
                if isinstance(future, LendingFuture):
                    future.take_back()
        if self._pending:
            self._sweep = self._loop.call_later(SWEEP_S, self._sweep_calls)
            self._judge_silence()
        elif self._is_leaving:
            self.close()

    def _judge_silence(self) -> None:
        """Ask a silent peer whether it is there, then give it up: frozen, or cut off unnoticed.

        Counts sweeps, not seconds, so that a pause of our own process is not the peer's fault.
        """
        if self.is_heard:
            self.is_heard = False
            self._silent_sweeps = 0
            return
        self._silent_sweeps += 1
        if self._silent_sweeps == max(1, round(self._patience.ping_s / SWEEP_S)):
            self.send((Kind.PING, 0, 0, 0))
        elif self._silent_sweeps * SWEEP_S > self._patience.silence_s_max:
            log.warning("a peer is silent; the connection is cut")
            self.abort()


def _fulfil(pending: _Pending, header: bytes, payload: Piece) -> None:
    """Finish a call with its reply, whose payload goes into the caller's memory if there is one."""
    into = pending.into
    if into is not None and isinstance(payload, bytes):
        if len(payload) > len(into):
            _fail_too_small(pending, len(payload))
            return
        into[: len(payload)] = payload
        payload = into[: len(payload)]
    pending.future.set_result(Reply(header, payload))


def _fail_too_small(pending: _Pending, size: int) -> None:
    pending.future.set_exception(faults.Internal(f"a reply of {size} bytes for a smaller buffer"))


def _is_refused(
    future: "asyncio.Future[Reply]", header_size: int, payload_size: int, deadline_s: float
) -> bool:
    """Fail a call that must not be sent."""
    if deadline_s <= 0:
        future.set_exception(faults.Unavailable("deadline missed"))
    elif header_size > limits.FRAME_HEADER_BYTES_MAX:
        future.set_exception(faults.Invalid("header", str(header_size), "too large"))
    elif payload_size > limits.FRAME_PAYLOAD_BYTES_MAX:
        future.set_exception(faults.Invalid("payload", str(payload_size), "too large"))
    else:
        return False
    return True
