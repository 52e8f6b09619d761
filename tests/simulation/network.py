"""A simulated TCP: bytes arrive in order, in pieces, after a delay, or not until a cut heals.

Segments are delayed, lost and sent again, overtake one another and arrive twice; each end puts
its stream in order by their numbers. Between connections nothing keeps an order. A cut is one-way
or both ways; it holds back bytes, ends and resets alike, so the far end of a broken connection
may stay in the belief that it is open.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.loop import PROCESS, Process, SimulatedLoop

CONNECT_RETRY_S = 0.5
HELD_RETRY_S = 0.05
RETRANSMIT_S = 0.2
RETRANSMITS_MAX = 6


@dataclass(slots=True)
class Weather:
    """How a process's packets fare."""

    delay_s: float = 0.0003
    loss: float = 0.0005
    duplicates: float = 0.001


@dataclass(slots=True)
class Network:
    """Listeners, links, and what is wrong between hosts."""

    loop: SimulatedLoop
    listeners: dict[tuple[str, int], tuple[Callable[[], Any], contextvars.Context]] = field(
        default_factory=dict
    )
    ends: list["End"] = field(default_factory=list)
    cuts: set[tuple[str, str]] = field(default_factory=set)  # from, to; "*" is anybody
    weather: dict[str, Weather] = field(default_factory=dict)

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets from one host to another."""
        cuts = self.cuts
        return bool(cuts) and not cuts.isdisjoint(((source, target), (source, "*"), ("*", target)))

    def worst_weather(self, source: str, target: str) -> Weather:
        """The weather between two hosts."""
        if not self.weather:
            return FAIR
        return max(
            (self.weather.get(source, FAIR), self.weather.get(target, FAIR)),
            key=lambda weather: (weather.loss, weather.delay_s),
        )

    def latency_s(self, source: str, target: str) -> float:
        """The time of one segment, lost ones sent again."""
        worst, chance = self.worst_weather(source, target), self.loop.random
        latency_s = 0.00005 + chance.expovariate(1 / worst.delay_s)
        for attempt in range(RETRANSMITS_MAX):
            if chance.random() >= worst.loss:
                break
            self.loop.seen["segment lost"] += 1
            latency_s += RETRANSMIT_S * 2 ** min(attempt, 3)
        return latency_s

    def forget(self, process: Process) -> None:
        """A process died: its listeners are gone, its peers get a reset."""
        for key in [key for key, value in self.listeners.items() if _process(value[1]) is process]:
            del self.listeners[key]
        for end in [end for end in self.ends if end.process is process]:
            end.abort()

    def reset(self, name: str) -> int:
        """Break all connections of a host; returns how many."""
        ends = [end for end in self.ends if end.process.name == name]
        for end in ends:
            end.fail()
        return len(ends)

    async def create_server(
        self, factory: Callable[[], Any], host: str, port: int, **_: Any
    ) -> "Listener":
        """What `loop.create_server` does."""
        assert host == PROCESS.get().name, "a process listens on its own name"
        self.listeners[host, port] = (factory, contextvars.copy_context())
        return Listener(self, host, port)

    async def create_connection(
        self, factory: Callable[[], Any], host: str, port: int, **_: Any
    ) -> tuple["End", Any]:
        """What `loop.create_connection` does. raises ConnectionRefusedError"""
        process = PROCESS.get()
        await asyncio.sleep(self.latency_s(process.name, host))
        while self.is_cut(process.name, host) or self.is_cut(host, process.name):  # noqa: ASYNC110
            await asyncio.sleep(CONNECT_RETRY_S)
        listener = self.listeners.get((host, port))
        if listener is None:
            raise ConnectionRefusedError(111, f"{host}:{port} refused")
        near = End(self, process, contextvars.copy_context())
        far = End(self, _process(listener[1]), listener[1].copy())
        near.peer, far.peer = far, near
        self.ends += [near, far]
        far.open(listener[0])
        near.open(factory)
        return near, near.protocol


FAIR = Weather()
NOBODY = contextvars.Context()  # no process: what is on its way arrives, whoever lives


def _process(context: contextvars.Context) -> Process:
    return context[PROCESS]


class Listener:
    """A listening socket, as far as servers use it."""

    def __init__(self, network: Network, host: str, port: int) -> None:
        self._network, self._key = network, (host, port)
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        return self._key

    def close(self) -> None:
        self._network.listeners.pop(self._key, None)


_CLOSED, _RESET = object(), object()  # what arrives instead of bytes at the end of a stream


class End(asyncio.Transport):
    """One end of a connection."""

    peer: "End"
    protocol: Any

    def __init__(self, network: Network, process: Process, context: contextvars.Context) -> None:
        super().__init__()
        self._network = network
        self._loop = network.loop
        self.process = process
        self._context = context
        self._is_closed = False
        self._sent_count = self._arrived_count = 0
        self._early: dict[int, Any] = {}
        self._is_paused = False
        self._held: deque[Any] = deque()
        self._is_release_due = False

    def open(self, factory: Callable[[], Any]) -> None:
        """Make the protocol and tell it."""
        self.protocol = self._context.copy().run(factory)
        self._context.copy().run(self.protocol.connection_made, self)

    # --- sending --------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if self._is_closed or not data:
            return
        copied = bytes(data)
        self._loop.log(self.process.name, self.peer.process.name, len(copied))
        cut = int(self._loop.random.random() * 3 * len(copied))
        if 0 < cut < len(copied):
            self._send(copied[:cut])
            self._send(copied[cut:])
        else:
            self._send(copied)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def _send(self, item: Any) -> None:
        """Put a segment on its way, now and then twice."""
        network, loop = self._network, self._loop
        source, target = self.process.name, self.peer.process.name
        number, self._sent_count = self._sent_count, self._sent_count + 1
        count = 1
        if loop.random.random() < network.worst_weather(source, target).duplicates:
            loop.seen["segment sent twice"] += 1
            count = 2
        for _ in range(count):
            due_s = loop.now_s + network.latency_s(source, target)
            loop.call_at(due_s, self.peer.arrive, number, item, context=NOBODY)

    # --- receiving ------------------------------------------------------------------------------

    def arrive(self, number: int, item: Any) -> None:
        """Take what the network brings, in the order in which it was sent, each segment once."""
        if self._is_closed or number < self._arrived_count or number in self._early:
            return
        if number > self._arrived_count:
            self._loop.seen["segment overtook another"] += 1
            self._early[number] = item
            return
        self._put(item)
        self._arrived_count += 1
        while self._early and not self._is_closed:
            if self._arrived_count not in self._early:
                return
            self._put(self._early.pop(self._arrived_count))
            self._arrived_count += 1

    def _put(self, item: Any) -> None:
        if self._held or self._must_wait():
            self._held.append(item)
            self._release_later()
        else:
            self._take(item)

    def _must_wait(self) -> bool:
        source, target = self.peer.process.name, self.process.name
        if self._network.is_cut(source, target):
            is_one_way = not self._network.is_cut(target, source)
            self._loop.seen["held by a one-way cut" if is_one_way else "held by a cut"] += 1
            return True
        return self._is_paused or self.process.frozen_until_s > self._loop.now_s

    def _release_later(self) -> None:
        if not self._is_release_due:
            self._is_release_due = True
            self._loop.call_later(HELD_RETRY_S, self._release, context=NOBODY)

    def _release(self) -> None:
        self._is_release_due = False
        while self._held and not self._is_closed:
            if self._must_wait():
                self._release_later()
                return
            self._take(self._held.popleft())

    def _take(self, item: Any) -> None:
        if item is _CLOSED or item is _RESET:
            self._end(ConnectionResetError() if item is _RESET else None)
            return
        piece = memoryview(item)
        run, protocol = self._context.run, self.protocol
        while piece and not self._is_closed:
            room = run(protocol.get_buffer, len(piece))
            count = min(len(room), len(piece))
            room[:count] = piece[:count]
            piece = piece[count:]
            run(protocol.buffer_updated, count)

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        if self._held:
            self._release_later()

    # --- ending ---------------------------------------------------------------------------------

    def close(self) -> None:
        self._leave(_CLOSED, None)

    def abort(self) -> None:
        self._leave(_RESET, ConnectionResetError())

    def fail(self) -> None:
        """The connection breaks: both ends are told as the network lets them."""
        self._leave(_RESET, ConnectionResetError())

    def _leave(self, goodbye: Any, error: Exception | None) -> None:
        if self._is_closed:
            return
        if not self.peer._is_closed:
            self._send(goodbye)
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        self._is_closed = True
        self._held.clear()
        self._early.clear()
        self._network.ends.remove(self)
        self._loop.call_soon(self.protocol.connection_lost, error, context=self._context.copy())

    def is_closing(self) -> bool:
        return self._is_closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return
