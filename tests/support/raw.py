"""Requests that no client library would send: raw sockets, signatures over anything.

Everything is bounded in time; an answer is what came until the server closed or fell silent.
"""

import hashlib
import hmac
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from tests.support.cluster import ACCESS_KEY, REGION, SECRET_KEY, Cluster

TIMEOUT_S = 20.0
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    data: bytes

    @property
    def status(self) -> int:
        """0: nothing came, the connection was just closed."""
        return int(self.data[9:12]) if self.data.startswith(b"HTTP/1.") else 0

    @property
    def code(self) -> str:
        """The S3 error's code; empty if there is none."""
        _, found, rest = self.data.partition(b"<Code>")
        return rest.partition(b"</Code>")[0].decode() if found else ""

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


def connect(cluster: Cluster) -> socket.socket:
    return socket.create_connection(("127.0.0.1", cluster.port), TIMEOUT_S)


def read_all(connection: socket.socket) -> Answer:
    """What comes until the server closes. raises TimeoutError"""
    data = b""
    try:
        while piece := connection.recv(65_536):
            data += piece
    except ConnectionResetError:
        pass
    return Answer(data)


def exchange(cluster: Cluster, data: bytes, *, is_cut: bool = False) -> Answer:
    """Send bytes (and end, if cut); read until the server closes."""
    with connect(cluster) as connection:
        try:
            connection.sendall(data)
            if is_cut:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has answered before it had everything
        return read_all(connection)


@dataclass(frozen=True)
class Signed:
    """A request's head, and what further signatures of its body are made with."""

    head: bytes
    signature: str
    stamp: str

    def chunk_signature(self, previous: str, chunk: bytes) -> str:
        """As an honest client signs a chunk."""
        text = "\n".join(
            ("AWS4-HMAC-SHA256-PAYLOAD", self.stamp, _scope(self.stamp), previous,
             hashlib.sha256(b"").hexdigest(), hashlib.sha256(chunk).hexdigest())
        )  # fmt: skip
        return hmac.digest(_key(self.stamp), text.encode(), "sha256").hex()

    def chunks(self, pieces: Sequence[bytes]) -> list[bytes]:
        """An aws-chunked body in its chunks, the empty last one too."""
        encoded, previous = [], self.signature
        for piece in [*pieces, b""]:
            previous = self.chunk_signature(previous, piece)
            line = f"{len(piece):x};chunk-signature={previous}\r\n".encode()
            encoded.append(line + piece + b"\r\n")
        return encoded


def sign(
    cluster: Cluster,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    payload_hash: str = UNSIGNED,
) -> Signed:
    """A head signed in its header; `target` goes out as it is, query included."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    given = [
        ("host", f"127.0.0.1:{cluster.port}"),
        ("x-amz-content-sha256", payload_hash),
        ("x-amz-date", stamp),
        *headers,
    ]
    names = sorted({name.lower() for name, _ in given})
    joined = {n: ",".join(v.strip() for name, v in given if name.lower() == n) for n in names}
    path, _, query = target.partition("?")
    pairs = sorted((part + "=").split("=")[:2] for part in query.split("&") if part)
    canonical = "\n".join(
        (method, quote(_unquoted(path), safe="/-._~"), "&".join(f"{n}={v}" for n, v in pairs),
         *[f"{name}:{joined[name]}" for name in names], "", ";".join(names), payload_hash)
    )  # fmt: skip
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{_scope(stamp)}\n{digest}"
    signature = hmac.digest(_key(stamp), text.encode(), "sha256").hex()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{_scope(stamp)}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    lines = [f"{name}: {value}\r\n" for name, value in [*given, ("authorization", authorization)]]
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(lines) + "\r\n"
    return Signed(head.encode("utf-8", "surrogateescape"), signature, stamp)


def call(
    cluster: Cluster,
    method: str,
    target: str,
    body: bytes = b"",
    headers: Iterable[tuple[str, str]] = (),
) -> Answer:
    """A whole signed request; its answer ends the connection."""
    extra = [("content-length", str(len(body))), ("connection", "close"), *headers]
    return exchange(cluster, sign(cluster, method, target, extra).head + body)


def resident_bytes(pid: int) -> int:
    """The memory that a process holds now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has ended")


def _unquoted(path: str) -> bytes:
    data, out, at = path.encode("utf-8", "surrogateescape"), bytearray(), 0
    while at < len(data):
        if data[at] == ord("%"):
            out.append(int(data[at + 1 : at + 3], 16))
            at += 3
        else:
            out.append(data[at])
            at += 1
    return bytes(out)


def _scope(stamp: str) -> str:
    return f"{stamp[:8]}/{REGION}/s3/aws4_request"


def _key(stamp: str) -> bytes:
    key = f"AWS4{SECRET_KEY}".encode()
    for part in _scope(stamp).split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
