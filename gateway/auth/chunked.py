"""aws-chunked bodies: payload in chunks, each signed or not, then trailers.

    size-in-hex[;chunk-signature=...] CRLF bytes CRLF ... 0[;chunk-signature=...] CRLF
    [name:value CRLF]* [x-amz-trailer-signature:... CRLF] CRLF

A signed chunk's signature covers the one before it, from the request's own on: chunks cannot be
cut, reordered or replaced. All is verified before the end is reported, so before any commit.
"""

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from common.limits import GIB, KIB
from gateway.auth.signature import Scope
from gateway.s3 import errors

LINE_BYTES_MAX = 8 * KIB
TRAILER_BYTES_MAX = 16 * KIB
CHUNK_BYTES_MAX = 5 * GIB
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
TRAILER_SIGNATURE = "x-amz-trailer-signature"


@dataclass(frozen=True, slots=True)
class ChunkSigner:
    """What chunk signatures are made with."""

    signing_key: bytes
    scope: Scope
    timestamp: str
    seed_signature: str

    def chunk(self, previous: str, digest: str) -> str:
        """The signature of a chunk."""
        text = "\n".join(
            (
                "AWS4-HMAC-SHA256-PAYLOAD",
                self.timestamp,
                self.scope.text,
                previous,
                EMPTY_SHA256,
                digest,
            )
        )
        return hmac.digest(self.signing_key, text.encode(), "sha256").hex()

    def trailer(self, previous: str, digest: str) -> str:
        """The signature of the trailers."""
        text = "\n".join(
            ("AWS4-HMAC-SHA256-TRAILER", self.timestamp, self.scope.text, previous, digest)
        )
        return hmac.digest(self.signing_key, text.encode(), "sha256").hex()


class _State(Enum):
    HEADER = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    DONE = auto()


class ChunkDecoder:
    """Decodes one body, pushed in pieces of any size; payload comes out as views of the input."""

    def __init__(
        self,
        decoded_bytes: int,
        signer: ChunkSigner | None,
        trailer_names: Collection[str] = (),
        *,
        has_trailer: bool = False,
    ) -> None:
        """
        decoded_bytes   x-amz-decoded-content-length
        signer          None: chunks are not signed
        trailer_names   lower-case names that may come (x-amz-trailer)
        """
        self._decoded_left = decoded_bytes
        self._signer = signer
        self._trailer_names = frozenset(trailer_names)
        self._has_trailer = has_trailer
        self._previous = signer.seed_signature if signer is not None else ""
        self._signature = ""
        self._digest = hashlib.sha256()
        self._state = _State.HEADER
        self._line = bytearray()
        self._chunk_left = 0
        self._is_last = False
        self._trailer_lines: list[bytes] = []
        self._trailer_bytes = 0
        self.trailers: dict[str, str] = {}

    @property
    def is_done(self) -> bool:
        """Whether the whole body has come and is proven."""
        return self._state is _State.DONE

    def feed(self, data: bytes) -> list[memoryview]:
        """Take a piece of the body; returns the payload in it.

        raises   S3Error: SignatureDoesNotMatch, InvalidChunkSizeError, IncompleteBody,
                 MalformedTrailerError
        """
        view, at, payload = memoryview(data), 0, []
        while at < len(view):
            if self._state is _State.DATA:
                piece = view[at : at + self._chunk_left]
                at += len(piece)
                self._chunk_left -= len(piece)
                if self._signer is not None:
                    self._digest.update(piece)
                payload.append(piece)
                if self._chunk_left == 0:
                    self._state = _State.DATA_END
            elif self._state is _State.DONE:
                raise errors.IncompleteBody("The request body goes on after its end.")
            else:
                at = self._take_line(data, at)
        return payload

    def finish(self) -> None:
        """The body has ended. raises IncompleteBody if it was cut"""
        if self._state is not _State.DONE:
            raise errors.IncompleteBody()

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        self._line += data[at:stop]
        if len(self._line) > LINE_BYTES_MAX:
            raise errors.InvalidChunkSizeError()
        if end >= 0:
            line, self._line = bytes(self._line), bytearray()
            if not line.endswith(b"\r\n"):
                if self._state is not _State.TRAILER:
                    raise errors.InvalidChunkSizeError()
                line = line[:-1] + b"\r\n"
            self._handle_line(line[:-2])
        return stop

    def _handle_line(self, line: bytes) -> None:
        if self._state is _State.HEADER:
            self._begin_chunk(line)
        elif self._state is _State.DATA_END:
            if line:
                raise errors.InvalidChunkSizeError()
            self._check_chunk()
            self._state = _State.HEADER
        elif line:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > TRAILER_BYTES_MAX:
                raise errors.MalformedTrailerError()
            self._trailer_lines.append(line)
        else:
            self._finish_trailers()
            self._state = _State.DONE

    def _begin_chunk(self, line: bytes) -> None:
        size_text, _, extension = line.partition(b";")
        try:
            size = int(size_text, 16)
        except ValueError:
            raise errors.InvalidChunkSizeError() from None
        if not 0 <= size <= CHUNK_BYTES_MAX or len(size_text) > 16:
            raise errors.InvalidChunkSizeError()
        if size > self._decoded_left:
            raise errors.IncompleteBody(
                "The chunks hold more bytes than x-amz-decoded-content-length says."
            )
        self._decoded_left -= size
        if self._signer is not None:
            name, _, value = extension.strip().partition(b"=")
            if name != b"chunk-signature":
                raise errors.SignatureDoesNotMatch()
            self._signature = value.decode("latin-1").strip()
        self._digest = hashlib.sha256()
        if size:
            self._chunk_left, self._state = size, _State.DATA
            return
        if self._decoded_left:
            raise errors.IncompleteBody()
        self._check_chunk()
        self._state = _State.TRAILER

    def _check_chunk(self) -> None:
        if self._signer is None:
            return
        expected = self._signer.chunk(self._previous, self._digest.hexdigest())
        if not hmac.compare_digest(expected.encode(), self._signature.encode()):
            raise errors.SignatureDoesNotMatch()
        self._previous = expected

    def _finish_trailers(self) -> None:
        signature = ""
        signed = bytearray()
        for line in self._trailer_lines:
            raw_name, separator, raw_value = line.partition(b":")
            name = raw_name.decode("latin-1").strip().lower()
            value = raw_value.decode("latin-1").strip()
            if not separator:
                raise errors.MalformedTrailerError()
            if name == TRAILER_SIGNATURE:
                signature = value
                continue
            if name not in self._trailer_names or name in self.trailers:
                raise errors.MalformedTrailerError()
            self.trailers[name] = value
            signed += f"{name}:{value}\n".encode("latin-1")
        if self._trailer_names - self.trailers.keys():
            raise errors.MalformedTrailerError()
        if self._signer is not None and self._has_trailer:
            expected = self._signer.trailer(self._previous, hashlib.sha256(signed).hexdigest())
            if not hmac.compare_digest(expected.encode(), signature.encode()):
                raise errors.SignatureDoesNotMatch()
