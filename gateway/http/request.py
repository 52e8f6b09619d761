"""What a request and a reply are inside the gateway: plain data, no aiohttp."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class BodySource(Protocol):
    """Bytes of a request body, pulled into the reader's own buffers."""

    size: int | None  # bytes that will come; None: not known before the end

    async def read_into(self, view: memoryview) -> int:
        """Copy what is there into `view`, waiting for at least one byte; 0 at the end.

        raises   S3Error (IncompleteBody, RequestTimeout) when the sender stops early
        """
        ...


@dataclass(slots=True)
class HttpRequest:
    """One request as it came: names in lower case, path and query still percent-encoded."""

    method: str
    raw_path: str
    raw_query: str
    headers: dict[str, str]
    body: BodySource
    peer: str
    is_tls: bool
    request_id: str
    host_id: str


class ReplyStream(Protocol):
    """A reply body that is made while it is sent."""

    def __aiter__(self) -> AsyncIterator[memoryview]: ...

    async def aclose(self) -> None:
        """Give buffers back; called exactly once, also after a broken connection."""
        ...


@dataclass(slots=True)
class HttpReply:
    """Status, headers (lower-case names) and a body of bytes, or a stream of known length."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | ReplyStream = b""
    body_bytes: int = 0  # of a stream
    close: bool = False  # end the connection after this reply
