"""A thread that works for an event loop: order, outcomes, cancelled callers, its end."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from common.worker_thread import WorkerThread


@pytest.fixture
def worker() -> Iterator[WorkerThread]:
    made = WorkerThread("worker")
    yield made
    made.shutdown()


async def test_results_and_failures_come_back(worker: WorkerThread) -> None:
    assert await worker.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await worker.call(divmod, 7, 0)
    assert await worker.call(threading.current_thread) is not threading.current_thread()


async def test_all_is_done_in_order(worker: WorkerThread) -> None:
    done: list[int] = []
    await asyncio.gather(*[worker.call(done.append, number) for number in range(100)])
    assert done == list(range(100))


async def test_work_of_a_cancelled_caller_is_done_all_the_same(worker: WorkerThread) -> None:
    begun, may_end, done = threading.Event(), threading.Event(), list[int]()

    def work() -> None:
        begun.set()
        may_end.wait(10)
        done.append(1)

    call = worker.call(work)
    begun.wait(10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    may_end.set()
    assert await worker.call(done.copy) == [1]


async def test_shutdown_waits_for_what_was_queued() -> None:
    worker, done = WorkerThread("worker"), list[int]()
    calls = [worker.call(done.append, number) for number in range(50)]
    worker.shutdown()
    assert done == list(range(50))
    await asyncio.gather(*calls)
    with pytest.raises(RuntimeError):
        worker.call(done.append, 1)


async def test_a_thread_that_never_worked_ends_too() -> None:
    worker = WorkerThread("worker")
    worker.shutdown()
    with pytest.raises(RuntimeError):
        worker.call(divmod, 1, 1)


def test_results_for_a_closed_loop_are_dropped() -> None:
    worker, may_end = WorkerThread("worker"), threading.Event()

    async def main() -> None:
        worker.call(may_end.wait, 10)

    asyncio.run(main())
    may_end.set()

    async def again() -> tuple[int, int]:
        return await worker.call(divmod, 7, 2)

    assert asyncio.run(again()) == (3, 1)
    worker.shutdown()
