"""The pace of repair: bytes come evenly, and the rate follows what clients feel."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from common.clock import ManualClock
from common.limits import MIB
from proto import meta_pb2
from workers.pace import BURST_S, BUSY_REQUESTS_PER_S, Pace

LEAST, MOST = 8 * MIB, 64 * MIB
CALM_US = 20_000
TICK_S = 0.01


def felt(pace: Pace, p99_us: int, times: int = 1) -> None:
    """So many seconds of load with a percentile."""
    for _ in range(times):
        pace.felt(meta_pb2.Foreground(p99_us=p99_us, requests_per_s=100))


def quiet(pace: Pace) -> None:
    pace.felt(meta_pb2.Foreground(p99_us=10**6, requests_per_s=BUSY_REQUESTS_PER_S - 1))


async def run_for(clock: ManualClock, seconds: float) -> None:
    """Let sleepers run as time passes."""
    for _ in range(round(seconds / TICK_S)):
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance(TICK_S)


async def use(pace: Pace, clock: ManualClock, p99_us: int, seconds: int) -> None:
    """Repair goes on for some seconds while clients feel a percentile."""
    for _ in range(seconds):
        clock.advance(60.0)  # no debt left
        await pace.take(MIB)
        felt(pace, p99_us)


def taker(
    pace: Pace, took: list[float], clock: ManualClock
) -> Callable[[], Coroutine[Any, Any, None]]:
    async def take() -> None:
        while True:
            await pace.take(MIB)
            took.append(clock.monotonic_s())

    return take


async def test_many_tasks_take_one_after_another() -> None:
    clock = ManualClock()
    pace = Pace(clock, LEAST, LEAST)
    took: list[float] = []
    tasks = [asyncio.ensure_future(taker(pace, took, clock)()) for _ in range(16)]
    try:
        await run_for(clock, 4.0)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    held = LEAST / MIB
    assert 4 * held * 0.9 <= len(took) <= 4 * held + LEAST * BURST_S / MIB + 2
    for begin in range(4 * 10 - 5):
        within = [at for at in took if begin / 10 <= at < begin / 10 + 0.5]
        assert len(within) <= held * 0.5 + LEAST * BURST_S / MIB + 2, "no burst"


async def test_waiting_tasks_notice_a_higher_rate() -> None:
    clock = ManualClock()
    pace = Pace(clock, MOST, LEAST)
    felt(pace, CALM_US)
    await pace.take(64 * MIB)  # eight seconds at the least rate
    task = asyncio.ensure_future(pace.take(MIB))
    await run_for(clock, 0.5)
    assert not task.done()
    quiet(pace)
    await run_for(clock, 1.5)
    assert task.done()


async def test_cancelled_waiter_takes_nothing_and_holds_nobody_up() -> None:
    clock = ManualClock()
    pace = Pace(clock, LEAST, LEAST)
    await pace.take(2 * LEAST)
    first, second = (asyncio.ensure_future(pace.take(64 * LEAST)) for _ in range(2))
    await run_for(clock, 0.1)
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    third = asyncio.ensure_future(pace.take(MIB))
    await run_for(clock, 2.5)
    assert third.done()


async def test_without_load_repair_goes_as_fast_as_it_may() -> None:
    pace = Pace(ManualClock(), MOST, LEAST)
    quiet(pace)
    assert pace.bytes_per_s == MOST and not pace.is_throttled


async def test_load_begins_at_the_least_rate_and_its_end_lifts_it() -> None:
    pace = Pace(ManualClock(), MOST, LEAST)
    felt(pace, CALM_US)
    assert pace.bytes_per_s == LEAST and pace.is_throttled
    quiet(pace)
    assert pace.bytes_per_s == MOST


async def test_rate_rises_while_clients_feel_nothing() -> None:
    clock = ManualClock()
    pace = Pace(clock, MOST, LEAST)
    felt(pace, CALM_US, 10)
    await use(pace, clock, CALM_US, 30)
    assert pace.bytes_per_s == MOST


async def test_rate_falls_when_clients_wait_but_never_below_the_least() -> None:
    clock = ManualClock()
    pace = Pace(clock, MOST, LEAST)
    felt(pace, CALM_US, 10)
    await use(pace, clock, CALM_US, 30)
    await use(pace, clock, 2 * CALM_US, 3)
    assert pace.bytes_per_s < MOST
    await use(pace, clock, 2 * CALM_US, 30)
    assert pace.bytes_per_s == LEAST


async def test_one_slow_second_is_no_reason() -> None:
    clock = ManualClock()
    pace = Pace(clock, MOST, LEAST)
    felt(pace, CALM_US, 10)
    await use(pace, clock, CALM_US, 10)
    before = pace.bytes_per_s
    await use(pace, clock, 50 * CALM_US, 1)
    await use(pace, clock, CALM_US, 2)
    assert pace.bytes_per_s >= before


async def test_what_was_learned_under_repair_is_not_taken_for_healthy() -> None:
    """A percentile that repair itself has raised does not become the measure within minutes."""
    clock = ManualClock()
    pace = Pace(clock, MOST, LEAST)
    felt(pace, CALM_US, 10)
    await use(pace, clock, 3 * CALM_US, 120)
    assert pace.bytes_per_s == LEAST


@pytest.mark.parametrize("most", [LEAST, LEAST // 2])
async def test_least_rate_is_never_above_the_most(most: int) -> None:
    pace = Pace(ManualClock(), most, LEAST)
    felt(pace, CALM_US)
    assert pace.bytes_per_s == most and not pace.is_throttled
