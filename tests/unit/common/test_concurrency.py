"""Nobody goes on while a thread still works on their memory, however often they are cancelled."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.concurrency import run_blocking, wait_out


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


async def test_results_and_errors_come_back(executor: ThreadPoolExecutor) -> None:
    assert await run_blocking(executor, divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await run_blocking(executor, divmod, 7, 0)


async def test_a_cancelled_caller_waits_for_its_thread(executor: ThreadPoolExecutor) -> None:
    begun, may_end = threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        begun.set()
        assert may_end.wait(30)
        done.append("thread")

    async def call() -> None:
        try:
            await run_blocking(executor, work)
        finally:
            done.append("caller")

    task = asyncio.create_task(call())
    await asyncio.to_thread(begun.wait, 30)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["thread", "caller"]


async def test_waiting_out_raises_a_cancellation_at_the_end() -> None:
    loop = asyncio.get_running_loop()
    first: asyncio.Future[None] = loop.create_future()
    second: asyncio.Future[None] = loop.create_future()
    task = asyncio.create_task(wait_out([first, second]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    first.set_exception(ValueError("nobody looks"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    second.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_waiting_for_nothing_is_over_at_once() -> None:
    await wait_out([])
