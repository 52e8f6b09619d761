"""A small HTTP client that costs as little as it can, so that a benchmark measures the server.

One connection, requests one after another; bodies and heads are made before the clock starts.
"""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

RECEIVE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """An S3 endpoint with keys."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


class _UnsignedPayload(S3SigV4Auth):  # type: ignore[misc]
    """Signs without hashing the body, as SDKs do over TLS."""

    def payload(self, request: AWSRequest) -> str:
        return "UNSIGNED-PAYLOAD"


def signed_head(target: Target, method: str, path: str, body: bytes, *, unsigned: bool) -> bytes:
    """The head of a signed request, ready to be sent."""
    request = AWSRequest(method=method, url=f"{target.endpoint}{path}", data=body or None)
    kind = _UnsignedPayload if unsigned else S3SigV4Auth
    kind(Credentials(target.access_key, target.secret_key), "s3", target.region).add_auth(request)
    host = urlsplit(target.endpoint).netloc
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Connection:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, target: Target) -> "Connection":
        """Connect."""
        address = urlsplit(target.endpoint)
        reader, writer = await asyncio.open_connection(
            address.hostname, address.port, limit=RECEIVE_BYTES
        )
        return cls(reader, writer)

    async def exchange(self, head: bytes, body: bytes) -> tuple[int, int]:
        """Send a request and read its answer; returns status and body bytes."""
        if len(body) < RECEIVE_BYTES:
            self._writer.write(head + body)
        else:
            self._writer.write(head)
            self._writer.write(body)
        await self._writer.drain()
        answer = await self._reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        left = _content_length(answer)
        size = left
        while left:
            piece = await self._reader.read(min(left, RECEIVE_BYTES))
            if not piece:
                raise ConnectionResetError("the answer was cut")
            left -= len(piece)
        return status, size

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at < 0:
        return 0
    return int(lower[at + 15 : lower.index(b"\r", at)])
