"""Objects come back whole over any loss the code covers, and memory comes back on every path.

The writer and reader run over nodes in memory; the nodes check every cell they get.
"""

import asyncio
import hashlib
import os

import pytest

from common import faults
from common.erasure.layout import SEALED_BYTES
from gateway.objects.gathering import AT_ONCE_MIN
from gateway.objects.reader import ObjectStream
from tests.unit.gateway.objects.fake_nodes import (
    IDENTITY,
    BytesSource,
    data_path,
    version_of,
)

KIB, MIB = 1024, 1024 * 1024
LARGE = os.urandom(9 * MIB + 12_345)  # three stripes of 4 + 2


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", [0, 1, 16 * KIB])
async def test_small_objects_are_sealed_inline(size: int) -> None:
    async with data_path() as path:
        source = BytesSource(LARGE[:size])
        stored = await path.writer.write(source, size, frozenset({"MD5"}), IDENTITY)
        assert stored.is_inline
        assert not any(client.fragments for client in path.clients.values())
        version = version_of(stored)
        assert path.reader.read(version, stored.inline, 0, size) == LARGE[:size]


@pytest.mark.parametrize(
    "size", [16 * KIB + 1, 64 * KIB, 64 * KIB + 1, MIB, 4 * MIB, 4 * MIB + 1, len(LARGE)]
)
@pytest.mark.parametrize("geometry", [(4, 2, 6), (1, 0, 1), (1, 2, 3), (2, 1, 3), (3, 2, 5)])
async def test_blobs_come_back(size: int, geometry: tuple[int, int, int]) -> None:
    async with data_path(*geometry) as path:
        version = await path.put(LARGE[:size])
        assert version.etag == hashlib.md5(LARGE[:size], usedforsecurity=False).hexdigest()
        assert await path.get(version, 0, size) == LARGE[:size]
        assert path.pool.bytes_in_flight == 0


async def test_small_objects_under_way_are_counted() -> None:
    async with data_path() as path:
        gathering, stored = path.writer._nodes.gathering, []
        for number in range(AT_ONCE_MIN):
            assert not gathering.may_wait(KIB)
            source, size = BytesSource(LARGE[: 64 * KIB]), 64 * KIB + number % 2
            work = path.writer.write(source, size, frozenset({"MD5"}), IDENTITY)
            if number % 2:  # a byte more was promised
                with pytest.raises(faults.Invalid):
                    await work
                gathering.begin()
            else:
                stored.append(await work)
        assert gathering.may_wait(KIB)
        await path.writer.discard(stored.pop())
        assert not gathering.may_wait(KIB)
        for each in stored:
            path.writer.release(each)
            path.writer.release(each)
        for _ in range(AT_ONCE_MIN // 2 - 1):
            gathering.begin()
        assert not gathering.may_wait(KIB)


async def test_ranges_come_back_and_read_only_their_blocks() -> None:
    async with data_path() as path:
        version = await path.put(LARGE)
        for begin, size in [(0, 1), (65_535, 2), (4 * MIB - 1, 2), (len(LARGE) - 1, 1), (5, MIB)]:
            before = sum(client.bytes_read for client in path.clients.values())
            assert await path.get(version, begin, begin + size) == LARGE[begin : begin + size]
            read = sum(client.bytes_read for client in path.clients.values()) - before
            assert read <= (size // (64 * KIB) + 2) * SEALED_BYTES * 2


@pytest.mark.parametrize("lost", [(0,), (5,), (0, 1), (0, 5), (4, 5), (2, 3)])
@pytest.mark.parametrize("how", ["down", "absent", "flipped", "failing"])
async def test_any_two_losses_are_decoded_around(lost: tuple[int, ...], how: str) -> None:
    async with data_path() as path:
        version = await path.put(LARGE)
        for index in lost:
            client = path.clients[path.names_of(version)[index]]
            client.is_up = how != "down"
            client.is_flipping = how == "flipped"
            if how == "absent":
                client.fragments.clear()
            if how == "failing":
                client.fault = faults.Unavailable("disk error")
        assert await path.get(version, 0, len(LARGE)) == LARGE
        assert await path.get(version, 70_000, 5 * MIB) == LARGE[70_000 : 5 * MIB]
        assert path.pool.bytes_in_flight == 0
        if how in {"absent", "flipped"}:
            reported = {index for _, index, _ in path.reader.reports}
            assert reported >= {index for index in lost if index < 4}


async def test_three_losses_are_an_error_and_never_wrong_bytes() -> None:
    async with data_path() as path:
        version = await path.put(LARGE)
        for name in path.names_of(version)[:3]:
            path.clients[name].is_flipping = True
        with pytest.raises(faults.Unavailable):
            await path.get(version, 0, len(LARGE))
        assert path.pool.bytes_in_flight == 0


async def test_what_cannot_be_read_is_refused_before_anything_is_answered() -> None:
    async with data_path() as path:
        version = await path.put(LARGE)
        for name in path.names_of(version)[:3]:
            path.clients[name].fault = faults.Unavailable("away")
        with pytest.raises(faults.Unavailable):
            await path.reader.open(version, b"", 0, len(LARGE))
        assert path.pool.bytes_in_flight == 0
        for client in path.clients.values():
            client.fault = None
        stream = await path.reader.open(version, b"", 0, len(LARGE))
        assert isinstance(stream, ObjectStream)
        assert b"".join([bytes(piece) async for piece in stream]) == LARGE
        await stream.aclose()
        assert path.pool.bytes_in_flight == 0


async def test_a_stuck_node_is_decoded_around() -> None:
    async with data_path() as path:
        version = await path.put(LARGE[:MIB])
        path.clients[path.names_of(version)[1]].is_stuck = True
        assert await path.get(version, 0, MIB) == LARGE[:MIB]


async def test_writes_go_on_with_two_zones_down() -> None:
    async with data_path() as path:
        path.clients["n2"].is_up = path.clients["n5"].is_up = False
        version = await path.put(LARGE)
        assert version.blobs[0].degraded
        assert not {"n2", "n5"} & set(path.names_of(version))
        assert await path.get(version, 0, len(LARGE)) == LARGE


async def test_a_fragment_that_fails_is_left_to_repair() -> None:
    async with data_path() as path:
        path.clients["n3"].fault = faults.Full("disk")
        version = await path.put(LARGE)
        assert version.blobs[0].degraded
        assert list(version.blobs[0].disk_ids).count(0) == 1
        assert await path.get(version, 0, len(LARGE)) == LARGE


@pytest.mark.parametrize("fault", [faults.Full("disk"), faults.Unavailable("lost")])
async def test_without_a_quorum_nothing_is_kept(fault: faults.Fault) -> None:
    async with data_path() as path:
        path.clients["n1"].fault = path.clients["n2"].fault = fault
        with pytest.raises(type(fault)):
            await path.put(LARGE)
        await settle()
        assert not any(client.fragments for client in path.clients.values())
        assert path.pool.bytes_in_flight == 0


@pytest.mark.parametrize("size", [0, 10, MIB, 4 * MIB, 5 * MIB])
async def test_a_body_that_breaks_off_leaves_nothing(size: int) -> None:
    async with data_path() as path:
        source = BytesSource(LARGE[:size], fails=True)
        with pytest.raises(faults.Invalid):
            await path.writer.write(source, len(LARGE), frozenset({"MD5"}), IDENTITY)
        assert path.pool.bytes_in_flight == 0
        assert not any(client.fragments for client in path.clients.values())


@pytest.mark.parametrize("ticks", [1, 2, 3, 5, 8, 20, 100])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_upload_gives_its_memory_back(ticks: int, times: int) -> None:
    async with data_path() as path:
        for client in path.clients.values():
            client.is_stuck = True
        upload = asyncio.create_task(path.put(LARGE))
        for _ in range(ticks):
            await asyncio.sleep(0)
        for _ in range(times):
            upload.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await upload
        await settle()
        assert path.pool.bytes_in_flight == 0


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5, 8, 20, 100])
async def test_a_reader_that_leaves_gives_its_memory_back(ticks: int) -> None:
    async with data_path() as path:
        version = await path.put(LARGE)
        stream = path.reader.read(version, b"", 0, len(LARGE))
        assert isinstance(stream, ObjectStream)
        task = asyncio.create_task(anext(stream))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stream.aclose()
        assert path.pool.bytes_in_flight == 0


async def test_memory_of_an_abandoned_read_is_not_written_any_more() -> None:
    """The nodes' late replies would land in whatever the memory is used for next."""
    async with data_path() as path:
        version = await path.put(LARGE)
        for client in path.clients.values():
            client.is_stuck = True
        reading = asyncio.create_task(path.get(version, 0, len(LARGE)))
        await settle()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        calls = [call for client in path.clients.values() for call in client.stuck]
        assert calls
        assert all(call.cancelled() for call in calls)
        assert path.pool.bytes_in_flight == 0


class TricklingSource:
    """A client that sends a byte now and then, until the clock has moved far enough."""

    def __init__(self, clock: list[float]) -> None:
        self._clock = clock

    async def read_into(self, view: memoryview) -> int:
        self._clock[0] += 1.0
        await asyncio.sleep(0)
        view[:1] = b"x"
        return 1


async def test_a_slow_upload_makes_room_when_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async with data_path() as path:
        clock = [0.0]
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock[0], raising=False)
        everything = path.pool.budget_bytes
        slow = asyncio.ensure_future(
            path.writer.write(TricklingSource(clock), 4 * MIB, frozenset({"MD5"}), IDENTITY)
        )
        await settle()
        waiting = asyncio.ensure_future(path.pool.reserve(everything))
        with pytest.raises(faults.Busy):
            await slow
        (await waiting).release()
        assert path.pool.bytes_in_flight == 0


async def test_readers_that_stand_still_leave_memory_to_others() -> None:
    """Far more of them than would fit, if each held stripes; then a reader and a writer go on."""
    async with data_path() as path, asyncio.timeout(60):
        version = await path.put(LARGE)
        standing = []
        for _ in range(24):
            stream = path.reader.read(version, b"", 0, len(LARGE))
            assert isinstance(stream, ObjectStream)
            standing.append((stream, bytes(await anext(stream))))
        assert await path.get(version, 0, len(LARGE)) == LARGE
        assert await path.get(await path.put(LARGE), 0, len(LARGE)) == LARGE
        for stream, first in standing[:3] + standing[-3:]:
            assert first + b"".join([bytes(piece) async for piece in stream]) == LARGE
        for stream, _ in standing:
            await stream.aclose()
        assert path.pool.bytes_in_flight == 0
