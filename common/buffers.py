"""Reused, page-aligned memory for bytes in flight, with a budget that callers wait for.

Fresh memory faults in page by page (60 to 235 faults per megabyte measured, more CPU than the
encryption), so buffers are kept. The budget bounds a process's memory by bytes, not by requests:
who wants more than is left waits its turn. Take all that one step needs in one `reserve`: two
waits in a row could deadlock.
"""

import asyncio
import ctypes
import mmap
from collections import deque
from types import TracebackType

from common import limits

CLASS_BYTES_MIN = 64 * limits.KIB
CLASSES_PER_DOUBLING = 8


class Buffer:
    """One piece of memory: `view` is as long as was asked for, `address` its first byte's."""

    __slots__ = ("_memory", "_pool", "address", "capacity", "is_taken", "view")

    def __init__(self, pool: "BufferPool", capacity: int) -> None:
        self._pool = pool
        self._memory = memoryview(mmap.mmap(-1, capacity))
        self.capacity = capacity
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.view = self._memory
        self.is_taken = False

    def resize(self, size: int) -> None:
        """Show the first `size` bytes."""
        self.view = self._memory[:size] if size != self.capacity else self._memory

    def padded(self, size: int) -> memoryview:
        """The first `size` bytes of the whole memory, beyond what `view` shows."""
        return self._memory[:size]

    def release(self) -> None:
        """Give the memory back; nobody may use its views any more."""
        self._pool.put_back(self)

    def __enter__(self) -> "Buffer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Reservation:
    """A share of the budget, and the buffers taken from it. Release exactly once."""

    __slots__ = ("_buffers", "_pool", "_size", "is_released")

    def __init__(self, pool: "BufferPool", size: int) -> None:
        self._pool = pool
        self._size = size
        self._buffers: list[Buffer] = []
        self.is_released = False

    def take(self, size: int) -> Buffer:
        """Take a buffer; all of a reservation's buffers must fit into what it asked for."""
        assert not self.is_released, "used after release"
        buffer = self._pool.take_now(size)
        self._buffers.append(buffer)
        return buffer

    def give_back(self, buffer: Buffer) -> None:
        """Give back one buffer, and its part of the share, before the rest."""
        self._buffers.remove(buffer)
        part = min(len(buffer.view), self._size)
        buffer.release()
        self._size -= part
        self._pool.give_share_back(part)

    def release(self) -> None:
        """Give back all buffers and the share."""
        assert not self.is_released, "released twice"
        self.is_released = True
        for buffer in self._buffers:
            buffer.release()
        self._buffers.clear()
        self._pool.give_share_back(self._size)

    async def __aenter__(self) -> "Reservation":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class BufferPool:
    """Buffers of a few sizes, and the budget of bytes in flight."""

    def __init__(self, budget_bytes: int, idle_bytes_max: int | None = None) -> None:
        self.budget_bytes = budget_bytes
        self._idle_bytes_max = budget_bytes if idle_bytes_max is None else idle_bytes_max
        self._free_bytes = budget_bytes
        self._idle: dict[int, list[Buffer]] = {}
        self._idle_bytes = 0
        self._taken_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def bytes_in_flight(self) -> int:
        """Bytes reserved now."""
        return self.budget_bytes - self._free_bytes

    @property
    def is_contended(self) -> bool:
        """Whether somebody waits for memory."""
        return bool(self._waiting)

    async def reserve(self, size: int) -> Reservation:
        """Wait, in order of asking, until `size` bytes of the budget are free."""
        size = min(size, self.budget_bytes)
        if self._waiting or size > self._free_bytes:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                was_given = not turn.cancelled()
                self.give_share_back(size if was_given else 0)  # those behind may go on now
                raise
        else:
            self._free_bytes -= size
        return Reservation(self, size)

    @property
    def bytes_held(self) -> int:
        """Memory of all buffers, taken and idle."""
        return self._taken_bytes + self._idle_bytes

    def take_now(self, size: int) -> Buffer:
        """Take a buffer outside the budget's waiting; for holders of a share."""
        capacity = capacity_of(size)
        idle = self._idle.get(capacity)
        if idle:
            buffer = idle.pop()
            self._idle_bytes -= capacity
        else:
            self._make_room(capacity)
            buffer = Buffer(self, capacity)
        self._taken_bytes += capacity
        buffer.is_taken = True
        buffer.resize(size)
        return buffer

    def put_back(self, buffer: Buffer) -> None:
        """Keep a buffer for its next use, or let its memory go if enough are idle."""
        assert buffer.is_taken, "buffer released twice"
        buffer.is_taken = False
        self._taken_bytes -= buffer.capacity
        idle_bytes = self._idle_bytes + buffer.capacity
        if idle_bytes <= min(self._idle_bytes_max, self.budget_bytes - self._taken_bytes):
            self._idle.setdefault(buffer.capacity, []).append(buffer)
            self._idle_bytes = idle_bytes

    def give_share_back(self, size: int) -> None:
        """Return a share of the budget and let those go on whose turn it is."""
        self._free_bytes += size
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.done():
                if wanted > self._free_bytes:
                    break
                self._free_bytes -= wanted
                turn.set_result(None)
            self._waiting.popleft()

    def _make_room(self, capacity: int) -> None:
        """Let idle memory of other sizes go, so that all sizes together stay within the budget."""
        while self._idle_bytes and self.bytes_held + capacity > self.budget_bytes:
            fullest = max(self._idle.values(), key=lambda idle: sum(b.capacity for b in idle))
            self._idle_bytes -= fullest.pop().capacity


def capacity_of(size: int) -> int:
    """The size class that holds `size` bytes: at most an eighth is wasted."""
    if size <= CLASS_BYTES_MIN:
        return CLASS_BYTES_MIN
    step = max(1 << (size - 1).bit_length() - 1, CLASS_BYTES_MIN) // CLASSES_PER_DOUBLING
    return -(-size // step) * step
