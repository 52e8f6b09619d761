"""The admin port of a process: /health, /ready, /metrics. Bind it where only operators reach it.

A process that was started for tests also answers /fault-points: GET shows, POST arms.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from common import fault_points, faults


class AdminServer:
    """Answers health checks and scrapes."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._server: asyncio.Server | None = None
        self._web = web.Server(self._handle, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Listen; port 0 chooses one. Returns the port."""
        self._server = await asyncio.get_running_loop().create_server(self._web, host, port)
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    async def stop(self) -> None:
        """Close at once."""
        if self._server is not None:
            self._server.close()
        await self._web.shutdown(0.1)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/health":
            return web.Response(text="alive\n")
        if request.path == "/ready":
            is_ready = self._is_ready()
            return web.Response(
                status=200 if is_ready else 503, text="ready\n" if is_ready else "not ready\n"
            )
        if request.path == "/metrics":
            headers = {"content-type": CONTENT_TYPE_LATEST}
            return web.Response(body=generate_latest(REGISTRY), headers=headers)
        if request.path == "/fault-points" and fault_points.is_open():
            return await _fault_points(request)
        return web.Response(status=404, text="not found\n")


async def _fault_points(request: web.BaseRequest) -> web.Response:
    """Arm what the body names, one a line; an empty body disarms all."""
    if request.method == "POST":
        lines = (await request.text()).split()
        try:
            if not lines:
                fault_points.disarm()
            for line in lines:
                fault_points.arm(line)
        except faults.Invalid as invalid:
            return web.Response(status=400, text=faults.in_words(invalid) + "\n")
    return web.Response(text=fault_points.describe())
