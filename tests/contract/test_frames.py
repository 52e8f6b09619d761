"""Frames over real loopback sockets: order, sizes, faults, deadlines, hostile peers.

Method: a server with a few handlers, the real client, and raw sockets for what no client sends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common import faults, limits
from common.frames import Answer, Call, FrameClient, FrameServer
from common.frames.wire import FAULTS, FIXED, decode_fault, encode_fault

ECHO, SLOW, FAIL, BREAK, BIG = 1, 2, 3, 4, 5


def echo(call: Call) -> Answer:
    return Answer(call.header, (call.payload,) if call.payload else ())


async def slow(call: Call) -> Answer:
    await asyncio.sleep(float(call.header))
    return Answer(b"late")


def fail(call: Call) -> Answer:
    raise faults.NotFound("key", call.header.decode())


def broken(call: Call) -> Answer:
    raise ZeroDivisionError


def big(call: Call) -> Answer:
    return Answer(b"big", (b"x" * int(call.header),))


HANDLERS = {ECHO: echo, SLOW: slow, FAIL: fail, BREAK: broken, BIG: big}


@asynccontextmanager
async def connected(
    secret: bytes = b"", client_secret: bytes | None = None
) -> AsyncIterator[FrameClient]:
    server = FrameServer(HANDLERS, secret=secret)
    port = await server.start("127.0.0.1", 0)
    client = FrameClient(
        "127.0.0.1", port, secret=secret if client_secret is None else client_secret
    )
    await client.start()
    await client.wait_up(5)
    try:
        yield client
    finally:
        await client.stop()
        await server.stop()


async def test_many_calls_in_one_tick_are_matched_to_their_replies() -> None:
    async with connected() as client:
        futures = [
            client.call(ECHO, str(n).encode(), bytes([n % 256]) * (n % 300), deadline_s=10)
            for n in range(5000)
        ]
        for n, reply in enumerate(await asyncio.gather(*futures)):
            assert reply.header == str(n).encode()
            assert bytes(reply.payload) == bytes([n % 256]) * (n % 300)


@pytest.mark.parametrize(
    "size", [0, 1, 65_535, 65_536, 65_537, 262_144, 1_000_003, limits.FRAME_PAYLOAD_BYTES_MAX]
)
async def test_payloads_of_every_size_come_back(size: int) -> None:
    payload = (bytes(range(251)) * (size // 251 + 1))[:size]
    async with connected() as client:
        target = memoryview(bytearray(size + 10))
        plain = await client.call(ECHO, b"h", payload, deadline_s=10)
        assert bytes(plain.payload) == payload
        await client.call(ECHO, b"h", payload, deadline_s=10, into=target)
        assert bytes(target[:size]) == payload
        assert bytes(target[size:]) == bytes(10)


async def test_large_header_message_passes() -> None:
    async with connected() as client:
        header = b"k" * 900_000
        assert (await client.call(ECHO, header, deadline_s=10)).header == header
        assert (await client.call(ECHO, b"after", deadline_s=10)).header == b"after"


async def test_interleaved_large_and_small_calls() -> None:
    async with connected() as client:
        futures = []
        for n in range(60):
            futures.append(client.call(BIG, b"200000", deadline_s=10))
            futures.append(client.call(ECHO, str(n).encode(), b"z" * 70_000, deadline_s=10))
        for n, reply in enumerate(await asyncio.gather(*futures)):
            assert len(reply.payload) == (70_000 if n % 2 else 200_000)


async def test_faults_cross_with_their_fields() -> None:
    async with connected() as client:
        with pytest.raises(faults.NotFound) as caught:
            await client.call(FAIL, b"name", deadline_s=10)
        assert (caught.value.kind, caught.value.name) == ("key", "name")
        with pytest.raises(faults.Internal):
            await client.call(BREAK, b"", deadline_s=10)
        with pytest.raises(faults.Unsupported):
            await client.call(99, b"", deadline_s=10)


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_every_fault_class_round_trips(kind: str) -> None:
    fault = FAULTS[kind](**dict.fromkeys(FAULTS[kind].FIELDS, "value"))
    back = decode_fault(encode_fault(fault))
    assert type(back) is type(fault)
    assert back.fields == fault.fields


async def test_deadline_fails_the_call_and_the_connection_goes_on() -> None:
    async with connected() as client:
        with pytest.raises(faults.Unavailable):
            await client.call(SLOW, b"5", deadline_s=0.15)
        assert (await client.call(ECHO, b"x", deadline_s=5)).header == b"x"


async def test_cancelled_call_leaves_its_buffer_alone() -> None:
    """The reply of a cancelled call arrives after the buffer has another use."""
    async with connected() as client:
        target = memoryview(bytearray(300_000))
        future = client.call(BIG, b"300000", deadline_s=10, into=target)
        await asyncio.sleep(0)
        future.cancel()
        assert (await client.call(ECHO, b"x", deadline_s=5)).header == b"x"
        assert not any(target)


async def test_lost_connection_fails_calls_and_the_client_reconnects() -> None:
    server = FrameServer(HANDLERS)
    port = await server.start("127.0.0.1", 0)
    client = FrameClient("127.0.0.1", port)
    await client.start()
    await client.wait_up(5)
    pending = client.call(SLOW, b"5", deadline_s=10)
    await asyncio.sleep(0.05)
    for peer in list(server.peers):
        peer.abort()
    with pytest.raises(faults.Unavailable):
        await pending
    await client.wait_up(5)
    assert (await client.call(ECHO, b"again", deadline_s=5)).header == b"again"
    await client.stop()
    await server.stop()


async def test_call_while_down_fails_at_once() -> None:
    client = FrameClient("127.0.0.1", 1)
    await client.start()
    with pytest.raises(faults.Unavailable):
        await client.call(ECHO, b"", deadline_s=5)
    await client.stop()


async def test_stop_lets_calls_in_flight_finish() -> None:
    server = FrameServer(HANDLERS)
    port = await server.start("127.0.0.1", 0)
    client = FrameClient("127.0.0.1", port)
    await client.start()
    await client.wait_up(5)
    pending = client.call(SLOW, b"0.2", deadline_s=10)
    await asyncio.sleep(0.05)
    await server.stop()
    assert (await pending).header == b"late"
    await client.stop()


async def test_shared_secret_is_required() -> None:
    async with connected(secret=b"right") as client:
        assert (await client.call(ECHO, b"x", deadline_s=5)).header == b"x"
    async with connected(secret=b"right", client_secret=b"wrong") as client:
        with pytest.raises(faults.Unavailable):
            await client.call(ECHO, b"x", deadline_s=5)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4,
        FIXED.pack(1, 1, 1, 1, limits.FRAME_HEADER_BYTES_MAX + 1, 0, 0),
        FIXED.pack(1, 1, 1, 1, 0, limits.FRAME_PAYLOAD_BYTES_MAX + 1, 0),
        FIXED.pack(9, 1, 1, 1, 0, 0, 0),
    ],
)
async def test_strangers_are_disconnected(data: bytes) -> None:
    server = FrameServer(HANDLERS)
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            assert await reader.read() == b""
    except ConnectionResetError:
        pass
    writer.close()
    await server.stop()
