"""Blocking work beside the event loop, and waiting that cancellation does not cut short."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any, TypeVar

Result = TypeVar("Result")


async def run_blocking(
    executor: Executor, function: Callable[..., Result], *arguments: object
) -> Result:
    """Run a function in a thread; it has ended when this returns, cancelled or not.

    A thread cannot be stopped. If a cancelled caller went on at once it would release memory that
    the function still writes to, and somebody else's bytes would be overwritten.
    """
    loop = asyncio.get_running_loop()
    work = loop.run_in_executor(executor, lambda: function(*arguments))
    await wait_out([work])
    return work.result()


async def wait_out(futures: Iterable["asyncio.Future[Any]"]) -> None:
    """Wait until all futures are done, whatever their outcome.

    A cancellation meanwhile is raised only then; what the futures raised is dropped in that case.
    """
    pending = {future for future in futures if not future.done()}
    cancelled: asyncio.CancelledError | None = None
    waited = list(pending)
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
            pending = {future for future in pending if not future.done()}
    if cancelled is not None:
        for future in waited:
            if not future.cancelled():
                future.exception()  # seen: nobody else will look
        raise cancelled
