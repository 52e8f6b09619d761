"""deploy/ready, the containers' health check, against the admin port that every process has."""

import asyncio
from pathlib import Path

from cli.ports import free_port, port_trouble
from common.admin_server import AdminServer

READY = Path(__file__).parents[2] / "deploy" / "ready"


async def exit_code(*arguments: object) -> int:
    process = await asyncio.create_subprocess_exec(
        str(READY), *map(str, arguments), stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    return await asyncio.wait_for(process.wait(), 20)


async def test_readiness_is_the_exit_code() -> None:
    states = [True, True]
    servers = [AdminServer(lambda number=number: states[number]) for number in range(2)]  # type: ignore[misc]
    port = free_port()
    while port_trouble(port + 1):  # two side by side
        port = free_port()
    assert await exit_code(port) != 0, "nobody listens"
    try:
        for number, server in enumerate(servers):
            await server.start("127.0.0.1", port + number)
        assert await exit_code(port) == await exit_code(port, 2) == 0
        states[1] = False
        assert await exit_code(port) == 0
        assert await exit_code(port, 2) == 1
        states[0], states[1] = False, True
        assert await exit_code(port, 2) == 1
    finally:
        for server in servers:
            await server.stop()
    assert await exit_code(port, 2) != 0
