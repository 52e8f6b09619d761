"""The frame of a service process: event loop, signals, graceful stop, exit code."""

import asyncio
import gc
import logging
import resource
import signal
import sys
from collections.abc import Callable
from typing import Protocol

import uvloop

from common import exit_codes, faults

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 30.0
GC_ALLOCATIONS = 20_000


class App(Protocol):
    """A service: parts that are built, started and stopped."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Stopper:
    """How a part asks its whole process to stop, because it cannot go on."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.exit_code = exit_codes.OK

    def stop(self, exit_code: int = exit_codes.OK) -> None:
        """End the process gracefully; the first code that is not OK counts."""
        self.exit_code = self.exit_code or exit_code
        self._event.set()

    async def wait(self) -> None:
        """Wait for the word."""
        await self._event.wait()


def run(make_app: Callable[[Stopper], App]) -> int:
    """Run a service until SIGTERM or SIGINT; returns the exit code."""
    _raise_file_limit()
    return uvloop.run(_serve(make_app))


async def _serve(make_app: Callable[[Stopper], App]) -> int:
    stopper = Stopper()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopper.stop)
    app: App | None = None
    try:
        app = make_app(stopper)
        await app.start()
    except (faults.Fault, OSError) as error:
        words = faults.in_words(error) if isinstance(error, faults.Fault) else str(error)
        log.error("cannot start: %s", words)
        sys.stderr.flush()
        if app is not None:
            await _clear_away(app)
        return exit_codes.CONFIG if isinstance(error, faults.Invalid) else exit_codes.FAILED
    # What start-up made stays: collections need not look at it, nor run after every few requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)
    await stopper.wait()
    log.info("stopping")
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await app.stop()
    except TimeoutError:
        log.error("did not stop in time")
        return exit_codes.FAILED
    return stopper.exit_code


async def _clear_away(app: App) -> None:
    """Stop what had begun of a service that could not start; why it could not was said."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await app.stop()
    except Exception:  # parts that never began may say so
        log.debug("while it was cleared away", exc_info=True)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
