"""Requests that may wait for others: what leaves when, on a transport that only notes it.

A wait is either too long for any test, so that only what ends it is seen, or as short as it can be.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from common.frames import client_peer
from common.frames.client_peer import ClientPeer, Patience, Reply
from common.frames.wire import FIXED, VERSION, Kind

NEVER_S = 3600.0
WAIT_S = 10.0


class Transport:
    """Takes everything at once."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_aborted = False

    def writelines(self, pieces: list[bytes]) -> None:
        self.writes.append(b"".join(pieces))

    def is_closing(self) -> bool:
        return self.is_aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> None: ...

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None: ...


class Owner:
    def peer_opened(self, peer: ClientPeer) -> None: ...

    def peer_closed(self, peer: ClientPeer) -> None: ...

    def peer_leaving(self, peer: ClientPeer) -> None: ...


class Bench:
    """A connection, and calls on it whose payload is their name."""

    def __init__(self, usual_s: float) -> None:
        self.transport = Transport()
        self.peer = ClientPeer(b"", Owner(), Patience())
        self.peer.connection_made(cast(asyncio.Transport, self.transport))
        self.peer._usual_s = usual_s

    def call(self, name: bytes, *, may_wait: bool) -> "asyncio.Future[Reply]":
        return self.peer.call(1, b"", (memoryview(name),), NEVER_S, None, may_wait)

    @property
    def left(self) -> list[list[bytes]]:
        """Names of the calls in each write."""
        return [list(_payloads(write)) for write in self.transport.writes]

    def answer(self, call_id: int) -> None:
        frame = FIXED.pack(VERSION, Kind.REPLY, 1, call_id, 0, 0, 0)
        self.peer.get_buffer(len(frame))[: len(frame)] = frame
        self.peer.buffer_updated(len(frame))


def _payloads(write: bytes) -> Any:
    at = 0
    while at < len(write):
        *_, header, payload, _ = FIXED.unpack_from(write, at)
        at += FIXED.size + header
        yield write[at : at + payload]
        at += payload


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_peer, "HOLD_S_MAX", NEVER_S)


async def test_those_that_wait_leave_together() -> None:
    bench = Bench(0.0001)
    for name in (b"a", b"b", b"c"):
        bench.call(name, may_wait=True)
    assert not bench.left
    await until(lambda: bool(bench.left))
    assert bench.left == [[b"a", b"b", b"c"]]


async def test_one_that_does_not_wait_takes_the_others_along_in_order() -> None:
    bench = Bench(NEVER_S)
    bench.call(b"a", may_wait=True)
    await turns()
    bench.call(b"b", may_wait=True)
    await turns()
    assert not bench.left
    bench.call(b"c", may_wait=False)
    bench.call(b"d", may_wait=True)
    await turns()
    assert bench.left == [[b"a", b"b", b"c", b"d"]]


async def test_nobody_waits_for_a_peer_that_is_not_known_to_take_long() -> None:
    bench = Bench(0.0)
    bench.call(b"a", may_wait=True)
    await turns()
    assert bench.left == [[b"a"]]


async def test_how_long_is_learned_from_answers() -> None:
    bench = Bench(0.0)
    bench.call(b"a", may_wait=False)
    await turns()
    begun_s = asyncio.get_running_loop().time()
    await until(lambda: asyncio.get_running_loop().time() > begun_s)
    bench.answer(1)
    first_s = bench.peer._usual_s
    assert first_s > 0
    bench.answer(1)  # nothing was asked since
    assert bench.peer._usual_s == first_s


async def test_the_wait_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_peer, "HOLD_S_MAX", 0.0001)
    bench = Bench(NEVER_S)
    bench.call(b"a", may_wait=True)
    await until(lambda: bool(bench.left))
    assert bench.left == [[b"a"]]


async def test_memory_of_a_call_that_is_cancelled_while_it_waits_is_given_back() -> None:
    bench = Bench(NEVER_S)
    memory = bytearray(b"mine")
    call = bench.peer.call(1, b"", (memoryview(memory),), NEVER_S, None, True)
    other = bench.call(b"other", may_wait=True)
    call.cancel()
    memory[:] = b"else"  # whatever has left left before
    await turns()
    assert bench.left == [[b"mine", b"other"]]
    assert not bench.transport.is_aborted
    assert not other.done()


async def test_closing_sends_what_waits() -> None:
    bench = Bench(NEVER_S)
    bench.call(b"a", may_wait=True)
    bench.peer.close()
    assert bench.left == [[b"a"]]


async def test_nothing_is_sent_on_a_connection_that_is_lost_meanwhile() -> None:
    bench = Bench(0.0001)
    call = bench.call(b"a", may_wait=True)
    bench.peer.connection_lost(None)
    assert call.done() and call.exception() is not None
    await turns()
    assert bench.peer._held is None
    assert not bench.left
