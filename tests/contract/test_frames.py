"""Frames over real loopback sockets: order, sizes, faults, deadlines, hostile peers.

Method: a server with a few handlers, the real client, and raw sockets for what no client sends.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from common import faults, limits
from common.frames import Answer, Call, FrameClient, FrameServer, Handler, Patience
from common.frames.wire import (
    FAULTS,
    FIXED,
    NONCE_BYTES,
    VERSION,
    Kind,
    Role,
    decode_fault,
    encode_fault,
    prove,
)

SECRET = b"right"
ECHO, SLOW, FAIL, BREAK, BIG, FUTURE = 1, 2, 3, 4, 5, 6


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


def future(call: Call) -> "asyncio.Future[None]":
    """A handler without a task: done later, by somebody else, as the header says."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    outcome = {
        b"nothing": lambda: done.set_result(None),
        b"fault": lambda: done.set_exception(faults.Full("disk")),
        b"error": lambda: done.set_exception(ZeroDivisionError()),
    }
    loop.call_soon(outcome[call.header])
    return done


HANDLERS: dict[int, Handler] = {
    ECHO: echo, SLOW: slow, FAIL: fail, BREAK: broken, BIG: big, FUTURE: future,
}  # fmt: skip


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


async def test_a_handler_may_return_a_future() -> None:
    async with connected() as client:
        reply = await client.call(FUTURE, b"nothing", bytes(100_000), deadline_s=5)
        assert (reply.header, bytes(reply.payload)) == (b"", b"")
        with pytest.raises(faults.Full):
            await client.call(FUTURE, b"fault", deadline_s=5)
        with pytest.raises(faults.Internal):
            await client.call(FUTURE, b"error", deadline_s=5)


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
    server = FrameServer(HANDLERS, secret=b"right")
    client = FrameClient("127.0.0.1", await server.start("127.0.0.1", 0), secret=b"wrong")
    await client.start()
    with pytest.raises(faults.Unavailable, match="secret"):
        await client.wait_up(0.3)
    with pytest.raises(faults.Unavailable):
        await client.call(ECHO, b"x", deadline_s=5)
    await client.stop()
    await server.stop()


@asynccontextmanager
async def raw_server(
    answer: Callable[[StreamReader, StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """The port of a server that speaks as `answer` does, after sending a challenge."""

    async def greet(reader: StreamReader, writer: StreamWriter) -> None:
        nonce = bytes(NONCE_BYTES)
        writer.write(FIXED.pack(VERSION, Kind.CHALLENGE, 0, 0, len(nonce), 0, 0) + nonce)
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def connecting(port: int, patience: Patience = Patience()) -> AsyncIterator[FrameClient]:  # noqa: B008
    client = FrameClient("127.0.0.1", port, secret=SECRET, patience=patience)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def read_proof(reader: StreamReader) -> bytes:
    """The client's nonce and proof."""
    size = FIXED.unpack(await reader.readexactly(FIXED.size))[4]
    return await reader.readexactly(size)


async def test_server_must_prove_the_secret_too() -> None:
    async def mirror(reader: StreamReader, writer: StreamWriter) -> None:
        proof = (await read_proof(reader))[NONCE_BYTES:]
        writer.write(FIXED.pack(VERSION, Kind.WELCOME, 0, 0, len(proof), 0, 0) + proof)
        assert await reader.read() == b"", "a call was sent to an impostor"

    async with raw_server(mirror) as port, connecting(port) as client:
        with pytest.raises(faults.Unavailable):
            await client.wait_up(0.3)


HASTY = Patience(ping_s=0.1, silence_s_max=0.3)


async def welcome(reader: StreamReader, writer: StreamWriter) -> None:
    """Admit a client."""
    client_nonce = (await read_proof(reader))[:NONCE_BYTES]
    proof = prove(SECRET, Role.SERVER, bytes(NONCE_BYTES), client_nonce)
    writer.write(FIXED.pack(VERSION, Kind.WELCOME, 0, 0, len(proof), 0, 0) + proof)


async def test_silent_peer_is_given_up_long_before_the_deadline() -> None:
    async def fall_silent(reader: StreamReader, writer: StreamWriter) -> None:
        await welcome(reader, writer)
        while await reader.read(65536):
            pass

    async with raw_server(fall_silent) as port, connecting(port, HASTY) as client:
        await client.wait_up(5)
        async with asyncio.timeout(5):
            with pytest.raises(faults.Unavailable, match="lost"):
                await client.call(ECHO, b"", deadline_s=1000)


async def test_slow_handler_of_a_live_peer_is_waited_for() -> None:
    server = FrameServer(HANDLERS, secret=SECRET)
    async with connecting(await server.start("127.0.0.1", 0), HASTY) as client:
        await client.wait_up(5)
        assert (await client.call(SLOW, b"0.8", deadline_s=1000)).header == b"late"
    await server.stop()


async def test_lent_memory_of_a_cancelled_call_is_never_sent_afterwards() -> None:
    received = asyncio.get_running_loop().create_future()
    may_read = asyncio.Event()

    async def read_late(reader: StreamReader, writer: StreamWriter) -> None:
        await welcome(reader, writer)
        await may_read.wait()
        data = b""
        try:
            while piece := await reader.read(1 << 20):
                data += piece
        except ConnectionResetError:
            pass
        received.set_result(data)

    async with raw_server(read_late) as port, connecting(port) as client:
        await client.wait_up(5)
        filler = bytes(limits.FRAME_PAYLOAD_BYTES_MAX)
        lent = bytearray(b"a" * limits.FRAME_PAYLOAD_BYTES_MAX)
        before = [client.call(ECHO, b"", filler, deadline_s=1000) for _ in range(8)]
        call = client.call(ECHO, b"", memoryview(lent), deadline_s=1000)
        await asyncio.sleep(0)
        call.cancel()
        lent[:] = b"b" * len(lent)
        may_read.set()
        async with asyncio.timeout(10):
            data = await received
        results = await asyncio.gather(*before, return_exceptions=True)
    assert b"b" not in data[FIXED.size :]
    assert {type(result) for result in results} == {faults.Unavailable}, "the connection was cut"


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
            assert len(await reader.read()) == FIXED.size + NONCE_BYTES, "more than a challenge"
    except ConnectionResetError:
        pass
    writer.close()
    await server.stop()
