"""The benchmark's own signer and HTTP client.

Method: signatures against the gateway's sibling oracle, botocore; the client against a server
that sends its answer in pieces cut anywhere.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks.s3.connection import Broken, Connection
from benchmarks.s3.signing import Target, signed_head

TARGET = Target("x", "http://127.0.0.1:9000", "ACCESS", "secret/key+", "eu-west-1")


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("PUT", "/bucket/a key/with ünicode+~", {}, b"content"),
        ("GET", "/bucket", {"list-type": "2", "prefix": "a/b c", "delimiter": "/"}, b""),
        ("DELETE", "/bucket/key", {}, b""),
    ],
)
def test_signature_is_botocores(method: str, path: str, query: dict[str, str], body: bytes) -> None:
    head = signed_head(TARGET, method, path, body, query=query).decode()
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    url = TARGET.endpoint + first.split()[1]
    request = AWSRequest(method=method, url=url, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    for name in ("x-amz-date", "x-amz-content-sha256"):
        request.headers[name] = headers[name]
    oracle = S3SigV4Auth(Credentials("ACCESS", "secret/key+"), "s3", "eu-west-1")
    canonical = oracle.canonical_request(request)
    to_sign = oracle.string_to_sign(request, canonical)
    expected = oracle.signature(to_sign, request)
    assert headers["Authorization"].endswith(f"Signature={expected}")
    assert headers["Content-Length"] == str(len(body))


def test_unsigned_payload_is_named_so() -> None:
    head = signed_head(TARGET, "PUT", "/b/k", b"content", unsigned=True).decode()
    assert "x-amz-content-sha256: UNSIGNED-PAYLOAD" in head
    assert datetime.now(UTC).strftime("%Y%m%d") in head


@asynccontextmanager
async def answering(answer: bytes, random: Random) -> AsyncIterator[Target]:
    """A server that answers every request with these bytes, cut at random places."""

    ended = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                at = 0
                while at < len(answer):
                    end = at + random.randrange(1, max(2, len(answer) // 3))
                    writer.write(answer[at:end])
                    await writer.drain()
                    await asyncio.sleep(0)
                    at = end
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            ended.release()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Target("x", f"http://127.0.0.1:{port}", "A", "S")
        await ended.acquire()  # each test makes one connection, and closes it


GET = b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
async def test_a_body_lands_where_it_shall(size: int) -> None:
    random = Random(size)
    body = random.randbytes(size)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body
    async with answering(answer, random) as target:
        connection = await Connection.open(target)
        for _ in range(20):
            memory = bytearray(size)
            found = await connection.exchange(GET, into=memory)
            assert (found.status, found.size_bytes) == (200, size)
            assert memory == body
        connection.close()


async def test_a_body_longer_than_its_memory_is_counted() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + bytes(5000)
    async with answering(answer, Random(1)) as target:
        connection = await Connection.open(target)
        assert (await connection.exchange(GET, into=bytearray(100))).size_bytes == 5000
        assert (await connection.exchange(GET)).size_bytes == 5000
        connection.close()


async def test_a_chunked_answer_ends_with_its_last_chunk() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    async with answering(answer, Random(1)) as target:
        connection = await Connection.open(target)
        for _ in range(5):
            memory = bytearray(100)
            await connection.exchange(GET, into=memory)
            assert b"hello" in memory
        connection.close()


async def test_answers_without_a_body() -> None:
    for method, head in ((b"HEAD", b"200 OK\r\nContent-Length: 99"), (b"GET", b"204 No Content")):
        async with answering(b"HTTP/1.1 " + head + b"\r\n\r\n", Random(1)) as target:
            connection = await Connection.open(target)
            found = await connection.exchange(method + b" / HTTP/1.1\r\n\r\n")
            assert found.size_bytes == 0
            connection.close()


async def test_what_is_not_http_breaks() -> None:
    async with answering(b"SSH-2.0 hello\r\n\r\n", Random(1)) as target:
        connection = await Connection.open(target)
        with pytest.raises(Broken):
            await connection.exchange(GET)
        await asyncio.sleep(0)
        assert not connection.is_open


async def test_a_cut_answer_breaks() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connection = await Connection.open(Target("x", f"http://127.0.0.1:{port}", "A", "S"))
        with pytest.raises(Broken):
            await connection.exchange(GET)
