"""The network between the processes of a local cluster: a TCP proxy that can be told to fail.

Every link, from one process to one other, has weather of its own. Each source has a loopback
address of its own here (127.0.N.1) under the ports of the destinations; shim.c sends the source's
connections there.
"""

import asyncio
import multiprocessing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe

import uvloop

PIECE_BYTES = 128 * 1024
START_S = 15.0
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """From a process to another."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Weather:
    """How a link is."""

    delay_s: float = 0.0  # of every piece, both ways
    bytes_per_s: float = 0.0  # each way; 0: unlimited
    is_cut: bool = False  # connections are reset, new ones too
    loses_requests: bool = False  # nothing arrives at the target; nobody is told
    loses_answers: bool = False  # nothing arrives at the source; nobody is told


FAIR = Weather()


@dataclass(frozen=True, slots=True)
class Map:
    """Who is where: a number for each source, a port for each target."""

    sources: Mapping[str, int]
    targets: Mapping[str, int]
    links: tuple[Link, ...] = field(default=())


class Network:
    """Starts the proxy's process; `set` changes the weather of links at once."""

    def __init__(self, where: Map) -> None:
        """raises OSError if an address is taken"""
        self.links = where.links
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(where, theirs), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(START_S):
            raise OSError("the proxy did not start")
        if trouble := self._pipe.recv():
            self._process.join()
            raise OSError(trouble)

    def set(self, links: Iterable[Link], weather: Weather) -> None:
        """Change the weather of some links; it holds when this returns."""
        self._pipe.send([(link, weather) for link in links])
        self._pipe.recv()

    def heal(self) -> None:
        """Fair weather everywhere. What was lost stays lost, so its connections are reset."""
        self.set(self.links, FAIR)

    def of(self, *names: str) -> list[Link]:
        """All links that begin or end at these processes."""
        return [link for link in self.links if link.source in names or link.target in names]

    def stop(self) -> None:
        """End it; connections through it break."""
        self._pipe.send(None)
        self._process.join(START_S)


def serve(where: Map, pipe: Pipe) -> None:
    """The process."""
    uvloop.run(_serve(where, pipe))


async def _serve(where: Map, pipe: Pipe) -> None:
    routes = {link: _Route(where.targets[link.target]) for link in where.links}
    try:
        for link, route in routes.items():
            host = f"127.0.{where.sources[link.source]}.1"
            await asyncio.start_server(route.carry, host, route.port, limit=PIECE_BYTES)
    except OSError as error:
        pipe.send(str(error))
        return
    pipe.send("")
    loop = asyncio.get_running_loop()
    while True:
        try:
            changes = await loop.run_in_executor(None, pipe.recv)
        except EOFError:  # whoever started us has ended
            return
        if changes is None:
            return
        for link, weather in changes:
            routes[link].change(weather)
        pipe.send("")


class _Route:
    """All connections of one link."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._weather = FAIR
        self._arrives = {True: asyncio.Event(), False: asyncio.Event()}  # requests, answers
        for event in self._arrives.values():
            event.set()
        self._open: set[asyncio.StreamWriter] = set()

    def change(self, weather: Weather) -> None:
        has_holes = self._weather.loses_requests or self._weather.loses_answers
        self._weather = weather
        for event, is_lost in (
            (self._arrives[True], weather.loses_requests),
            (self._arrives[False], weather.loses_answers),
        ):
            if is_lost:
                event.clear()
        if weather.is_cut or (has_holes and weather == FAIR):
            for writer in self._open:
                writer.transport.abort()
        if not weather.loses_requests and not weather.loses_answers:
            for event in self._arrives.values():
                event.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._open.add(writer)
        onward_writer = None
        try:
            if self._weather.is_cut:
                return
            onward, onward_writer = await asyncio.open_connection(
                LOOPBACK, self.port, limit=PIECE_BYTES
            )
            self._open.add(onward_writer)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(reader, onward_writer, are_requests=True))
                tasks.create_task(self._pass(onward, writer, are_requests=False))
        except* OSError:
            pass  # one end is gone; the other learns it now
        finally:
            for end in (writer, onward_writer):
                if end is not None:
                    self._open.discard(end)
                    end.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, are_requests: bool
    ) -> None:
        """One direction: pieces in order, each when its delay is over."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

        async def deliver() -> None:
            while True:
                due_s, piece = await under_way.get()
                if due_s > loop.time():
                    await asyncio.sleep(due_s - loop.time())
                await self._arrives[are_requests].wait()  # or the connection is reset
                if sink.transport.is_closing():
                    raise ConnectionResetError("ended")
                sink.write(piece)
                await sink.drain()
                if self._weather.bytes_per_s:
                    await asyncio.sleep(len(piece) / self._weather.bytes_per_s)

        async def take() -> None:
            while piece := await source.read(PIECE_BYTES):
                await under_way.put((loop.time() + self._weather.delay_s, piece))
            raise ConnectionResetError("ended")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deliver())
            tasks.create_task(take())
