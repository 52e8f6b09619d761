"""A network that misbehaves: a TCP proxy on loopback, in a process of its own.

It listens on other loopback addresses than the real services, so that a node whose configuration
names those addresses is reached, and reaches others, only through here.
"""

import asyncio
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import uvloop

PIECE_BYTES = 256 * 1024
START_S = 10.0


@dataclass(frozen=True, slots=True)
class Route:
    """What connects to `listen` comes out at `to`."""

    listen: tuple[str, int]
    to: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Weather:
    """How the network is: every answer late by delay_s; cut: no connection lives."""

    delay_s: float = 0.0
    is_cut: bool = False


class Proxy:
    """Starts the process; `set` changes the weather at once."""

    def __init__(self, routes: Sequence[Route]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(list(routes), theirs), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(START_S):
            raise TimeoutError("the proxy did not start")
        trouble = self._pipe.recv()
        if trouble:
            self._process.join()
            raise OSError(trouble)

    def set(self, weather: Weather) -> None:
        """Change the weather."""
        self._pipe.send(weather)

    def stop(self) -> None:
        """End it; connections through it break."""
        self._pipe.send(None)
        self._process.join()


def serve(routes: list[Route], pipe: Pipe) -> None:
    """The process."""
    uvloop.run(_serve(routes, pipe))


async def _serve(routes: list[Route], pipe: Pipe) -> None:
    network = Network()
    try:
        servers = [await network.listen(route) for route in routes]
    except OSError as error:
        pipe.send(str(error))
        return
    pipe.send("")
    loop = asyncio.get_running_loop()
    try:
        while (weather := await loop.run_in_executor(None, pipe.recv)) is not None:
            network.change(weather)
    except EOFError:
        pass  # whoever started us has ended
    network.change(Weather(is_cut=True))
    for server in servers:
        server.close()


class Network:
    """All connections through the proxy."""

    def __init__(self) -> None:
        self._weather = Weather()
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self, route: Route) -> asyncio.Server:
        """Serve one route. raises OSError"""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._carry(route, reader, writer)

        return await asyncio.start_server(connected, *route.listen, limit=PIECE_BYTES)

    def change(self, weather: Weather) -> None:
        """Adopt a weather; connections die if it is cut."""
        self._weather = weather
        if weather.is_cut:
            for writer in self._open:
                writer.transport.abort()

    async def _carry(
        self, route: Route, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._open.add(writer)
        onward_writer = None
        try:
            if self._weather.is_cut:
                return
            onward, onward_writer = await asyncio.open_connection(*route.to, limit=PIECE_BYTES)
            self._open.add(onward_writer)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forward(reader, onward_writer))
                tasks.create_task(self._answer(onward, writer))
        except* OSError:
            pass  # one end is gone; the other learns it now
        finally:
            for end in (writer, onward_writer):
                if end is not None:
                    self._open.discard(end)
                    end.transport.abort()

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(PIECE_BYTES):
            sink.write(piece)
            await sink.drain()
        raise ConnectionResetError("ended")

    async def _answer(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Answers pass in order, each when its delay is over; many may be under way."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=1024)

        async def deliver() -> None:
            while True:
                due_s, piece = await under_way.get()
                if due_s > loop.time():
                    await asyncio.sleep(due_s - loop.time())
                sink.write(piece)
                await sink.drain()

        delivering = loop.create_task(deliver())
        try:
            while piece := await source.read(PIECE_BYTES):
                await under_way.put((loop.time() + self._weather.delay_s, piece))
        finally:
            delivering.cancel()
        raise ConnectionResetError("ended")
