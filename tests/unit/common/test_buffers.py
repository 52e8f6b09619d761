"""Memory is reused, bounded and given in turn; nothing of it is lost when a waiter gives up."""

import asyncio
import ctypes
import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.buffers import CLASS_BYTES_MIN, BufferPool, Reservation, capacity_of

KIB = 1024
MIB = 1024 * KIB


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_buffer_is_page_aligned_and_its_address_is_its_memory() -> None:
    buffer = BufferPool(MIB).take_now(100_000)
    buffer.view[:3] = b"abc"
    assert buffer.address % mmap.PAGESIZE == 0
    assert len(buffer.view) == 100_000
    assert ctypes.string_at(buffer.address, 3) == b"abc"


def test_memory_is_used_again_by_sizes_of_the_same_class() -> None:
    pool = BufferPool(MIB)
    first = pool.take_now(100_000)
    first.release()
    second = pool.take_now(99_999)
    assert second is first
    assert len(second.view) == 99_999
    assert len(second.padded(second.capacity)) == second.capacity


def test_releasing_twice_is_a_programmers_error() -> None:
    buffer = BufferPool(MIB).take_now(1)
    buffer.release()
    with pytest.raises(AssertionError):
        buffer.release()


async def test_a_reservation_is_released_once_and_not_used_after() -> None:
    pool = BufferPool(MIB)
    reservation = await pool.reserve(100)
    reservation.release()
    with pytest.raises(AssertionError):
        reservation.release()
    with pytest.raises(AssertionError):
        reservation.take(1)


async def test_leaving_the_block_gives_everything_back() -> None:
    pool = BufferPool(MIB)
    async with await pool.reserve(300 * KIB) as reservation:
        reservation.take(100 * KIB)
        assert pool.bytes_in_flight == 300 * KIB
        reservation.give_back(reservation.take(200 * KIB))
        assert pool.bytes_in_flight == 100 * KIB
    assert pool.bytes_in_flight == 0


async def test_who_finds_no_budget_waits_in_order_of_asking() -> None:
    pool = BufferPool(100)
    served: list[str] = []

    async def ask(name: str, size: int) -> Reservation:
        reservation = await pool.reserve(size)
        served.append(name)
        return reservation

    first = await ask("first", 60)
    large = asyncio.create_task(ask("large", 80))
    small = asyncio.create_task(ask("small", 10))
    await settle()
    assert served == ["first"], "the small one must not overtake the large one for ever"
    first.release()
    await settle()
    assert served == ["first", "large", "small"]
    (await large).release()
    (await small).release()
    assert pool.bytes_in_flight == 0


async def test_a_waiter_that_gives_up_lets_those_behind_it_go_on() -> None:
    pool = BufferPool(100)
    first = await pool.reserve(60)
    large = asyncio.create_task(pool.reserve(80))
    small = asyncio.create_task(pool.reserve(10))
    await settle()
    large.cancel()
    await settle()
    assert small.done()
    (await small).release()
    first.release()
    assert pool.bytes_in_flight == 0


async def test_a_share_given_to_a_task_cancelled_in_the_same_tick_is_not_lost() -> None:
    pool = BufferPool(100)
    first = await pool.reserve(100)
    waiting = asyncio.create_task(pool.reserve(70))
    await settle()
    first.release()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert pool.bytes_in_flight == 0


async def test_more_than_the_budget_waits_for_all_of_it_instead_of_for_ever() -> None:
    pool = BufferPool(100)
    first = await pool.reserve(1)
    greedy = asyncio.create_task(pool.reserve(1000))
    await settle()
    assert not greedy.done()
    first.release()
    (await greedy).release()
    assert pool.bytes_in_flight == 0


def test_idle_memory_of_one_size_makes_room_for_another() -> None:
    pool = BufferPool(MIB)
    small = [pool.take_now(128 * KIB) for _ in range(8)]
    for buffer in small:
        buffer.release()
    assert pool.bytes_held == MIB
    large = pool.take_now(MIB)
    assert pool.bytes_held == MIB
    large.release()
    assert pool.bytes_held == MIB


def test_idle_memory_is_bounded_by_its_own_limit() -> None:
    pool = BufferPool(MIB, idle_bytes_max=128 * KIB)
    for buffer in [pool.take_now(128 * KIB) for _ in range(3)]:
        buffer.release()
    assert pool.bytes_held == 128 * KIB


@given(st.integers(1, 1 << 30))
def test_size_classes_hold_what_is_asked_and_waste_little(size: int) -> None:
    capacity = capacity_of(size)
    assert capacity >= size
    assert capacity % mmap.PAGESIZE == 0
    assert capacity == CLASS_BYTES_MIN or capacity < size * 1.126
    assert capacity_of(capacity) == capacity


@given(st.lists(st.tuples(st.integers(1, 120), st.booleans()), max_size=40), st.data())
def test_the_budget_holds_whatever_is_asked_released_and_given_up(
    steps: list[tuple[int, bool]], data: st.DataObject
) -> None:
    async def run() -> None:
        pool = BufferPool(100)
        tasks: list[asyncio.Task[Reservation]] = []
        held: list[Reservation] = []
        for size, gives_up in steps:
            tasks.append(asyncio.create_task(pool.reserve(size)))
            await settle()
            if gives_up:
                data.draw(st.sampled_from(tasks)).cancel()
                await settle()
            for task in [task for task in tasks if task.done()]:
                tasks.remove(task)
                if not task.cancelled():
                    held.append(task.result())
            assert 0 <= pool.bytes_in_flight <= 100
            assert held or not tasks, "somebody must be able to go on"
            is_released: bool = data.draw(st.booleans())
            if held and is_released:
                held.pop(data.draw(st.integers(0, len(held) - 1))).release()
                await settle()
        while tasks or held:
            await settle()
            held += [task.result() for task in tasks if task.done()]
            tasks = [task for task in tasks if not task.done()]
            held.pop().release()
        assert pool.bytes_in_flight == 0

    asyncio.run(run())
