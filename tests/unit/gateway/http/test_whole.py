"""Small whole answers, byte for byte as HTTP wants them."""

import asyncio
from collections.abc import Mapping
from http.client import HTTPResponse
from io import BytesIO
from typing import Any

import pytest

from gateway.http.request import HttpReply
from gateway.http.whole import BODY_BYTES_MAX, whole

DATE = "Wed, 25 Nov 2026 09:00:00 GMT"


class Transport:
    def __init__(self) -> None:
        self.written = b""
        self.is_gone = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_gone


class Request:
    def __init__(self) -> None:
        self.transport: Transport | None = Transport()


class Socket:
    """What http.client reads from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._data)


def written(reply: HttpReply, method: str = "PUT", *, keeps_alive: bool = True) -> bytes:
    response = whole(reply, method, DATE, keeps_alive=keeps_alive)
    assert response is not None
    request: Any = Request()
    asyncio.run(response.prepare(request))
    asyncio.run(response.write_eof())
    assert response.keep_alive is keeps_alive
    data: bytes = request.transport.written
    return data


def parsed(data: bytes, method: str) -> tuple[int, Mapping[str, str], bytes]:
    response = HTTPResponse(Socket(data), method=method)  # type: ignore[arg-type]
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    assert len(headers) == len(response.getheaders()), "each header once"
    return response.status, headers, response.read()


def test_an_answer_without_a_body() -> None:
    data = written(HttpReply(200, {"etag": '"e"'}))
    expected = {"etag": '"e"', "content-length": "0", "date": DATE, "server": "Ostraka"}
    assert parsed(data, "PUT") == (200, expected, b"")
    assert data.endswith(b"\r\n\r\n") and data.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_body_has_its_length_and_a_type() -> None:
    status, headers, body = parsed(written(HttpReply(404, {}, b"<Error/>"), "GET"), "GET")
    assert (status, body) == (404, b"<Error/>")
    assert headers["content-length"] == "8"
    assert headers["content-type"] == "application/octet-stream"
    typed = HttpReply(404, {"content-type": "application/xml"}, b"<Error/>")
    assert parsed(written(typed, "GET"), "GET")[1]["content-type"] == "application/xml"


@pytest.mark.parametrize("named", [{}, {"content-length": "1000"}])
def test_a_head_names_the_length_and_sends_nothing(named: dict[str, str]) -> None:
    data = written(HttpReply(200, named, b"12345678" if not named else b""), "HEAD")
    status, headers, body = parsed(data, "HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == (named.get("content-length") or "8")
    assert data.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_never_have_a_body_name_no_length(status: int) -> None:
    _, headers, body = parsed(written(HttpReply(status, {}), "GET"), "GET")
    assert "content-length" not in headers and body == b""


def test_the_last_answer_of_a_connection_says_so() -> None:
    assert b"\r\nconnection: close\r\n" in written(HttpReply(200, {}), keeps_alive=False)
    assert b"connection" not in written(HttpReply(200, {}))


def test_text_beyond_ascii_is_utf_8() -> None:
    assert "x-amz-meta-a: ü\r\n".encode() in written(HttpReply(200, {"x-amz-meta-a": "ü"}))


@pytest.mark.parametrize("value", ["a\r\nset-cookie: b", "a\nb", "a\rb", "a\0b"])
def test_a_header_cannot_end_its_line(value: str) -> None:
    reply = HttpReply(200, {"content-disposition": value})
    assert whole(reply, "GET", DATE, keeps_alive=True) is None
    named = HttpReply(200, {f"x-amz-meta-{value}": "v"})
    assert whole(named, "GET", DATE, keeps_alive=True) is None


def test_what_is_large_or_unknown_goes_another_way() -> None:
    assert whole(HttpReply(200, {}, bytes(BODY_BYTES_MAX)), "GET", DATE, keeps_alive=True)
    large = HttpReply(200, {}, bytes(BODY_BYTES_MAX + 1))
    assert whole(large, "GET", DATE, keeps_alive=True) is None
    assert whole(HttpReply(299, {}), "GET", DATE, keeps_alive=True) is None


def test_a_client_that_left_is_told_of() -> None:
    response = whole(HttpReply(200, {}), "GET", DATE, keeps_alive=True)
    assert response is not None
    request: Any = Request()
    request.transport.is_gone = True
    with pytest.raises(ConnectionError):
        asyncio.run(response.prepare(request))
    request.transport = None
    with pytest.raises(ConnectionError):
        asyncio.run(response.prepare(request))
