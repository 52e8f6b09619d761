"""When a gateway leaves a node out, and when it uses it again."""

import asyncio
from typing import Any

from common import faults
from common.clock import ManualClock
from gateway.objects.doubts import DOUBT_S, DOUBT_S_MAX, QUICK_S, REMEMBERED_S, Doubts
from tests.unit.gateway.objects.fake_nodes import data_path

SLOW_S = 0.3


def test_a_late_node_is_doubted_for_a_while() -> None:
    clock = ManualClock()
    doubts = Doubts(clock)
    assert not doubts.is_doubtful("a")
    doubts.was_late("a")
    assert doubts.is_doubtful("a") and not doubts.is_doubtful("b")
    clock.advance(DOUBT_S)
    assert not doubts.is_doubtful("a")


def test_late_again_doubles_it_but_calls_of_one_moment_count_once() -> None:
    clock = ManualClock()
    doubts = Doubts(clock)
    for _ in range(8):
        doubts.was_late("a")
    clock.advance(DOUBT_S)
    assert not doubts.is_doubtful("a")
    doubts.was_late("a")
    clock.advance(DOUBT_S)
    assert doubts.is_doubtful("a")
    clock.advance(DOUBT_S)
    assert not doubts.is_doubtful("a")
    for _ in range(20):
        doubts.was_late("a")
        clock.advance(DOUBT_S_MAX)
        assert not doubts.is_doubtful("a")


def test_what_is_long_over_is_forgotten() -> None:
    clock = ManualClock()
    doubts = Doubts(clock)
    doubts.was_late("a")
    clock.advance(DOUBT_S + REMEMBERED_S + 1)
    doubts.was_late("a")
    clock.advance(DOUBT_S)
    assert not doubts.is_doubtful("a")


def test_a_node_that_stands_still_is_left_out_until_it_answers() -> None:
    clock = ManualClock()
    doubts = Doubts(clock)
    doubts.was_late("a")
    doubts.stood_still("a")
    clock.advance(10 * DOUBT_S)
    assert doubts.is_doubtful("a") and doubts.to_ask(["a", "b"]) == ["a"]
    doubts.answered("a", SLOW_S)
    assert not doubts.is_doubtful("a") and not doubts.to_ask(["a", "b"])


def test_a_hiccup_is_over_when_node_and_disks_are_quick_but_remembered() -> None:
    clock = ManualClock()
    doubts = Doubts(clock)
    doubts.was_late("a")
    doubts.answered("a", QUICK_S / 2)
    assert not doubts.is_doubtful("a")
    clock.advance(1)
    doubts.was_late("a")
    clock.advance(DOUBT_S)
    assert doubts.is_doubtful("a"), "late again: for longer"


def test_a_slow_disk_whose_node_answers_is_left_out_all_the_same() -> None:
    clock = ManualClock()
    doubts = Doubts(clock)
    doubts.was_late("a")
    doubts.answered("a", SLOW_S)
    assert doubts.is_doubtful("a")


def test_who_is_connected_anew_is_used_at_once() -> None:
    clock = ManualClock()
    doubts = Doubts(clock)
    doubts.heard(["a"])
    doubts.was_late("a")
    doubts.connected("a", is_up=False)
    assert doubts.is_doubtful("a") and not doubts.to_ask(["a"]), "nobody is there to ask"
    doubts.connected("a", is_up=True)
    assert not doubts.is_doubtful("a")


def test_a_node_that_the_service_misses_is_used_when_it_answers_here() -> None:
    doubts = Doubts(ManualClock())
    doubts.heard(["a"])
    assert doubts.is_doubtful("a") and doubts.to_ask(["a"]) == ["a"]
    doubts.answered("a", SLOW_S)
    assert not doubts.is_doubtful("a")
    doubts.heard(["a"])
    assert not doubts.is_doubtful("a"), "still vouched for"
    doubts.was_late("a")
    assert doubts.is_doubtful("a")
    doubts.stood_still("a")
    doubts.heard([])
    doubts.heard(["a"])
    assert doubts.is_doubtful("a"), "missed a second time"


async def test_a_thawed_node_takes_the_next_write() -> None:
    """Whole writes: frozen, it costs one write; thawed, it is used by the next one."""
    async with data_path() as path:
        client: Any = path.clients["n3"]
        client.is_stuck = True
        data = bytes(300_000)
        assert (await path.put(data)).blobs[0].degraded
        await path.nodes.probe()
        calls = len(client.stuck)
        assert (await path.put(data)).blobs[0].degraded
        assert len(client.stuck) == calls, "it is not asked again"
        client.is_stuck = False
        await path.nodes.probe()
        assert not (await path.put(data)).blobs[0].degraded


async def test_probes_go_to_doubted_nodes_only() -> None:
    async with data_path() as path:
        await path.nodes.probe()
        assert [client.probes for client in path.clients.values()] == [0] * 6
        path.nodes.was_late(3)
        path.clients["n3"].fault = faults.Unavailable("away")
        await asyncio.gather(path.nodes.probe(), path.nodes.probe())
        assert [client.probes for client in path.clients.values()] == [0, 0, 2, 0, 0, 0]
