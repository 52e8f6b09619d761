"""A request body as handlers see it: decoded of its chunks, with what it must hash to."""

from collections import deque
from collections.abc import Mapping

from gateway.auth.chunked import ChunkDecoder
from gateway.auth.payload import Expectations
from gateway.http.body import RequestBody


class PlainPayload:
    """A body that is the data itself."""

    def __init__(self, body: RequestBody, expected: Expectations) -> None:
        self._body = body
        self._expected = expected
        self.size = body.size

    @property
    def algorithms(self) -> frozenset[str]:
        return self._expected.algorithms

    async def read_into(self, view: memoryview) -> int:
        return await self._body.read_into(view)

    def verify(self, digests: Mapping[str, bytes]) -> None:
        self._expected.verify(digests)

    @property
    def checksum_algorithm(self) -> str | None:
        return self._expected.algorithm


class ChunkedPayload(PlainPayload):
    """A body in aws-chunked form: signatures are checked as it comes, trailers at its end."""

    def __init__(
        self, body: RequestBody, expected: Expectations, decoder: ChunkDecoder, size: int
    ) -> None:
        super().__init__(body, expected)
        self._decoder = decoder
        self._pieces: deque[memoryview] = deque()
        self.size = size

    async def read_into(self, view: memoryview) -> int:
        while not self._pieces:
            chunk = await self._body.read_chunk()
            if not chunk:
                self._decoder.finish()
                self._expected.take_trailers(self._decoder.trailers)
                return 0
            self._pieces.extend(self._decoder.feed(chunk))
        piece = self._pieces[0]
        size = min(len(view), len(piece))
        view[:size] = piece[:size]
        if size == len(piece):
            self._pieces.popleft()
        else:
            self._pieces[0] = piece[size:]
        return size
