"""Late nodes are read around at their own p95, for a bounded number of extra reads.

Method: the estimate against known distributions; whole reads over nodes in memory that are stuck.
"""

import asyncio
import os
from random import Random

import pytest

from common import faults
from gateway.objects.hedging import (
    DELAY_S_FIRST,
    DELAY_S_MAX,
    DELAY_S_MIN,
    EXTRA_SHARE,
    LOSSES_MAX,
    TOKENS_MAX,
    Hedging,
)
from tests.unit.gateway.objects.fake_nodes import data_path

KIB, MIB = 1024, 1024 * 1024
DATA = os.urandom(MIB)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mean_s", [0.02, 0.05])
def test_the_estimate_comes_to_rest_at_the_p95(seed: int, mean_s: float) -> None:
    random, hedging = Random(seed), Hedging()
    above = 0
    for turn in range(20_000):
        taken_s = random.uniform(0.5 * mean_s, 1.5 * mean_s)
        above += turn >= 10_000 and taken_s > hedging.delay_s(["n"])
        hedging.note("n", taken_s)
    assert 0.03 < above / 10_000 < 0.07, f"seed {seed}"


def test_the_delay_is_bounded_and_follows_the_slowest() -> None:
    hedging = Hedging()
    assert hedging.delay_s(["a", "b"]) == DELAY_S_FIRST
    for _ in range(5000):
        hedging.note("a", 1e-4)
    assert hedging.delay_s(["a"]) == DELAY_S_MIN
    for _ in range(1000):
        hedging.note("b", 10.0)
    assert hedging.delay_s(["a", "b"]) == DELAY_S_MAX


def test_extra_reads_are_a_share_of_all() -> None:
    hedging, extra = Hedging(), 0
    for _ in range(100_000):
        hedging.note("n", 0.01)
        extra += hedging.take(1)
    assert extra <= TOKENS_MAX + EXTRA_SHARE * 100_000 + 1
    assert extra >= EXTRA_SHARE * 100_000 - 1


def test_only_a_node_that_loses_and_never_answers_is_doubted() -> None:
    hedging = Hedging()
    for _ in range(100):
        assert not hedging.lost("n")
        hedging.note("n", 0.05)
    assert [hedging.lost("n") for _ in range(LOSSES_MAX)] == [False] * (LOSSES_MAX - 1) + [True]


async def test_a_stuck_node_is_hedged_then_left_alone() -> None:
    async with data_path() as path:
        version = await path.put(DATA)
        stuck = path.clients[path.names_of(version)[1]]
        stuck.is_stuck = True
        for _ in range(10):
            assert await path.get(version, 0, MIB) == DATA
        assert stuck.reads == LOSSES_MAX
        assert all(answer.cancelled() for answer in stuck.stuck)
        assert path.pool.bytes_in_flight == 0


async def test_without_tokens_a_stuck_node_is_left_at_once() -> None:
    async with data_path() as path:
        version = await path.put(DATA)
        stuck = path.clients[path.names_of(version)[1]]
        stuck.is_stuck = True
        while path.nodes.hedging.take(1):
            pass
        for _ in range(5):
            assert await path.get(version, 0, MIB) == DATA
        assert stuck.reads == 1


async def test_the_late_one_may_still_be_first() -> None:
    """Everything is stuck; the nodes that were asked first wake up before the others."""
    async with data_path() as path:
        version = await path.put(DATA)
        names = path.names_of(version)
        for name in names[1:]:
            path.clients[name].is_stuck = True
        reading = asyncio.create_task(path.get(version, 0, MIB))
        await path.clients[names[4]].was_asked.wait()
        for name in names[1:4]:
            path.clients[name].thaw()
        assert await reading == DATA
        assert path.pool.bytes_in_flight == 0
        spares = [answer for name in names[4:] for answer in path.clients[name].stuck]
        assert spares
        assert all(answer.cancelled() for answer in spares)


@pytest.mark.parametrize("size", [64 * KIB, 100 * KIB])
async def test_a_range_of_one_cell_is_hedged_too(size: int) -> None:
    async with data_path() as path:
        version = await path.put(DATA)
        path.clients[path.names_of(version)[0]].is_stuck = True
        assert await path.get(version, 10, 10 + size) == DATA[10 : 10 + size]


async def test_a_late_node_that_fails_is_decoded_around() -> None:
    async with data_path() as path:
        version = await path.put(DATA)
        names = path.names_of(version)
        for name in (names[0], *names[4:]):
            path.clients[name].is_stuck = True
        reading = asyncio.create_task(path.get(version, 0, MIB))
        await path.clients[names[4]].was_asked.wait()
        path.clients[names[0]].stuck[0].set_exception(faults.NotFound("fragment"))
        for name in names[4:]:
            path.clients[name].thaw()
        assert await reading == DATA


async def test_a_reader_that_goes_away_leaves_no_call() -> None:
    async with data_path() as path:
        version = await path.put(DATA)
        names = path.names_of(version)
        for name in names:
            path.clients[name].is_stuck = True
        reading = asyncio.create_task(path.get(version, 0, MIB))
        await path.clients[names[4]].was_asked.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert all(answer.cancelled() for name in names for answer in path.clients[name].stuck)
        assert path.pool.bytes_in_flight == 0
