"""One end of a connection: cuts the byte stream into frames, collects frames to send.

Reading: small frames are cut out of one reused receive buffer. When a frame's payload is large,
`place_payload` may name the memory it belongs to, and the transport then reads straight into it.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

from common import limits
from common.frames.wire import (
    DIRECT_BYTES_MIN,
    FIXED,
    FIXED_BYTES,
    HANDSHAKE_BYTES_MAX,
    VERSION,
    Piece,
    WireError,
    size_of,
)

log = logging.getLogger(__name__)

RECEIVE_BYTES = 256 * limits.KIB
SCRATCH_BYTES = 256 * limits.KIB
LENT_CHECK_S = 0.002
WRITE_BUFFER_HIGH_BYTES = 8 * limits.MIB


class Peer(asyncio.BufferedProtocol):
    """Base of both ends. Subclasses say what a whole frame means."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._filled = 0
        self._is_admitted = False
        self.is_heard = False  # set by every byte that arrives
        # A large payload on its way, while bytes of it are left:
        self._target: memoryview | None = None
        self._target_filled = 0
        self._target_left = 0
        self._target_frame: tuple[int, int, int, int, bytes] = (0, 0, 0, 0, b"")
        self._scratch: memoryview | None = None
        self._outgoing: list[Piece] = []
        self._held: asyncio.TimerHandle | None = None  # while what is queued waits for more
        self._resumed: asyncio.Future[None] | None = None
        # Whose memory is still being sent: end of its bytes in the stream, and what gives it back.
        self._queued_bytes = 0
        self._lent: deque[tuple[int, Callable[[], None]]] = deque()
        self._lent_timer: asyncio.TimerHandle | None = None

    # --- for subclasses -----------------------------------------------------------------------

    def frame_received(
        self, kind: int, method: int, call_id: int, deadline_ms: int, header: bytes, payload: Piece
    ) -> None:
        """Handle a whole frame; payload is the caller's own copy, or the placed memory."""
        raise NotImplementedError  # pragma: no cover - abstract

    def place_payload(
        self, kind: int, method: int, call_id: int, header: bytes, size: int
    ) -> memoryview | None:
        """Name the memory for a large payload; None: nobody wants it."""
        return memoryview(bytearray(size))

    def is_target_wanted(self, kind: int, call_id: int) -> bool:
        """False when nobody waits for the payload any more: its memory may be in other use."""
        return True

    def payload_dropped(self, kind: int, call_id: int) -> None:
        """A large payload that nobody wanted has passed."""

    def admit(self) -> None:
        """Both ends have proved the secret: from now on frames may be large."""
        self._is_admitted = True

    def closed(self, error: Exception | None) -> None:
        """The connection is gone."""

    # --- sending ------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether frames can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(
        self,
        frame: tuple[int, int, int, int],
        header: bytes = b"",
        pieces: tuple[Piece, ...] = (),
        release: Callable[[], None] | None = None,
        hold_s: float = 0.0,
    ) -> int:
        """Queue a frame for this tick's write: (kind, method, call id, deadline ms).

        Pieces are not copied: they must stay as they are until the frame has left, that is until
        the peer has answered, or `release` is called. Returns the frame's mark for `has_left`.

        hold_s   how long it may wait for others to leave with it; it goes with the first that does
                 not wait
        """
        kind, method, call_id, deadline_ms = frame
        outgoing = self._outgoing
        if hold_s and not outgoing:
            self._held = self._loop.call_later(hold_s, self.flush)
        elif not outgoing or (self._held is not None and not hold_s):
            self._end_hold()
            self._loop.call_soon(self.flush)
        size = size_of(pieces)
        outgoing.append(FIXED.pack(VERSION, kind, method, call_id, len(header), size, deadline_ms))
        self._queued_bytes += FIXED_BYTES + len(header) + size
        if release is not None:
            self._lent.append((self._queued_bytes, release))
        if header:
            outgoing.append(header)
        outgoing.extend(pieces)
        return self._queued_bytes

    async def drain(self) -> None:
        """Wait while too much is queued in the transport."""
        if self._resumed is not None:
            await asyncio.shield(self._resumed)

    @property
    def is_congested(self) -> bool:
        """Whether more is queued than should be; see `drain`."""
        return self._resumed is not None

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        waiting = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return waiting + size_of(self._outgoing)

    def has_left(self, mark: int) -> bool:
        """Whether nothing of a frame is needed any more: the kernel has it, or we are closed."""
        return not self.is_open or mark <= self._queued_bytes - self.unsent_bytes

    def _end_hold(self) -> None:
        if self._held is not None:
            self._held.cancel()
            self._held = None

    def flush(self) -> None:
        """Hand everything queued to the transport now."""
        self._end_hold()
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(outgoing)
        if self._lent:
            self._release_sent()

    def _release_sent(self) -> None:
        """Give back memory that the kernel has copied; look again soon if some is still queued."""
        sent = self._queued_bytes - self.unsent_bytes
        while self._lent and (self._transport is None or self._lent[0][0] <= sent):
            self._lent.popleft()[1]()
        if self._lent_timer is not None:
            self._lent_timer.cancel()
            self._lent_timer = None
        if self._lent:
            self._lent_timer = self._loop.call_later(LENT_CHECK_S, self._release_sent)

    def abort(self) -> None:
        """Cut the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._outgoing:
            self.flush()
        if self._transport is not None:
            self._transport.close()

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH_BYTES)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
            self._resumed = None
        self._target, self._target_left = None, 0
        self._end_hold()
        self._outgoing = []
        self._release_sent()
        self.closed(error)

    def pause_writing(self) -> None:
        self._resumed = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        self._resumed = None

    def get_buffer(self, size_hint: int) -> memoryview:
        if not self._target_left:
            return self._buffer[self._filled :]
        if self._is_target_wanted():
            assert self._target is not None
            return self._target[self._target_filled : self._target_filled + self._target_left]
        if self._scratch is None:
            self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        return self._scratch[: self._target_left]

    def buffer_updated(self, count: int) -> None:
        self.is_heard = True
        try:
            if self._target_left:
                self._target_filled += count
                self._target_left -= count
                if not self._target_left:
                    self._finish_target()
            else:
                self._filled += count
                self._cut_frames()
        except WireError as error:
            log.warning("a peer does not speak our protocol: %s", error)
            self.abort()

    def _is_target_wanted(self) -> bool:
        kind, _, call_id, _, _ = self._target_frame
        return self._target is not None and self.is_target_wanted(kind, call_id)

    def _finish_target(self) -> None:
        is_wanted = self._is_target_wanted()
        target, self._target = self._target, None
        kind, method, call_id, deadline_ms, header = self._target_frame
        if is_wanted and target is not None:
            self.frame_received(kind, method, call_id, deadline_ms, header, target)
        else:
            self.payload_dropped(kind, call_id)

    def _cut_frames(self) -> None:
        buffer, filled, position = self._buffer, self._filled, 0
        while filled - position >= FIXED_BYTES:
            version, kind, method, call_id, header_size, payload_size, deadline_ms = (
                FIXED.unpack_from(buffer, position)
            )
            if version != VERSION:
                raise WireError(f"version {version}")
            if header_size > HANDSHAKE_BYTES_MAX or payload_size:
                self._check_sizes(header_size, payload_size)
            begin = position + FIXED_BYTES
            middle = begin + header_size
            is_direct = payload_size >= DIRECT_BYTES_MIN
            needed = middle if is_direct else middle + payload_size
            if needed > filled:
                self._make_room(position, needed - position)
                return
            header = bytes(buffer[begin:middle])
            if is_direct:
                position = self._begin_target(
                    (kind, method, call_id, deadline_ms, header), middle, payload_size
                )
                if self._target_left:
                    break
                continue
            position = needed
            payload = bytes(buffer[middle:needed]) if payload_size else b""
            self.frame_received(kind, method, call_id, deadline_ms, header, payload)
        self._keep_rest(position)

    def _begin_target(self, frame: tuple[int, int, int, int, bytes], middle: int, size: int) -> int:
        """Start a large payload with what is here of it; returns where the next frame begins."""
        kind, method, call_id, _, header = frame
        target = self.place_payload(kind, method, call_id, header, size)
        here = min(self._filled - middle, size)
        if target is not None:
            assert len(target) >= size, "placed memory is too small"
            target = target[:size]
            target[:here] = self._buffer[middle : middle + here]
        self._target, self._target_frame = target, frame
        self._target_filled, self._target_left = here, size - here
        if not self._target_left:
            self._finish_target()
        return middle + here

    def _check_sizes(self, header_size: int, payload_size: int) -> None:
        """raises   WireError for what no peer sends, and for all but a handshake from strangers"""
        if (
            not self._is_admitted
            or header_size > limits.FRAME_HEADER_BYTES_MAX
            or payload_size > limits.FRAME_PAYLOAD_BYTES_MAX
        ):
            raise WireError(f"header of {header_size} bytes, payload of {payload_size}")

    def _make_room(self, position: int, needed: int) -> None:
        """Keep an unfinished frame at the front of a buffer that is large enough for it."""
        if needed > len(self._buffer):
            larger = memoryview(bytearray(needed + RECEIVE_BYTES))
            rest = self._filled - position
            larger[:rest] = self._buffer[position : self._filled]
            self._buffer, self._filled = larger, rest
        else:
            self._keep_rest(position)

    def _keep_rest(self, position: int) -> None:
        rest = self._filled - position
        if rest and position:
            # Through bytes: source and destination may overlap.
            self._buffer[:rest] = bytes(self._buffer[position : self._filled])
        self._filled = rest
        if not rest and len(self._buffer) > RECEIVE_BYTES:
            self._buffer = memoryview(bytearray(RECEIVE_BYTES))
