"""Reading versions: any range, touching only the blocks it needs, a few stripes ahead.

A version's data is inline, blobs, or parts that are each inline or blobs. A stream first lists
what to read, stripe by stripe, then fetches ahead while earlier stripes are sent. Once bytes have
been sent a failure can only cut the connection: never a short answer that looks whole.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import Counter

from common import limits
from common.buffers import Reservation
from common.concurrency import run_blocking, wait_out
from common.erasure.layout import StripeRead, layout_of_blob
from gateway.objects.encryption import BlobCipher, DataKey
from gateway.objects.nodes import Nodes
from gateway.objects.parts import spans
from gateway.objects.stored import ByteSource
from gateway.objects.stripe_reader import StripeReader
from gateway.objects.stripes import CellSet, open_checked_blocking
from gateway.objects.writer import BytesSource, Kernels
from proto import meta_pb2, records_pb2

STRIPES_AHEAD = 3
# Whole stripes, and several ahead, while so much of the memory is free; else small pieces, so that
# no number of slow readers can hold all of it.
PLENTY_SHARE = 0.55
SCARCE_SHARE = 0.7
PIECE_BYTES = 512 * limits.KIB
PIECE_BYTES_MIN = 128 * limits.KIB
IN_LOOP_BYTES_MAX = 128 * limits.KIB
PARTS_PER_CALL = 50
REPORTS_MAX = 1000

DEGRADED_READS = Counter("ostraka_degraded_reads", "Stripes decoded around missing fragments")


class PartCalls(Protocol):
    """The calls of the metadata client that readers make."""

    async def get_parts(self, request: meta_pb2.GetParts) -> meta_pb2.GetPartsReply: ...


@dataclass(slots=True)
class _Job:
    """One stripe, or inline bytes, in object order."""

    key: DataKey
    blob: records_pb2.BlobRef | None = None
    number: int = 0  # of the blob in its object or part
    read: StripeRead | None = None
    inline: bytes = b""


class ObjectReader:
    """Reads stored versions."""

    def __init__(self, meta: PartCalls, nodes: Nodes, kernels: Kernels) -> None:
        self._meta = meta
        self._nodes = nodes
        self._kernels = kernels
        self.reports: deque[tuple[records_pb2.BlobRef, int, str]] = deque(maxlen=REPORTS_MAX)

    def read(
        self, version: records_pb2.Version, data: bytes, begin: int, end: int
    ) -> "bytes | ObjectStream":
        """Plaintext [begin, end) of a version: bytes if they are inline, else a stream.

        data     sealed bytes of an inline version
        raises   Corrupt
        """
        if begin >= end:
            return b""
        if version.is_inline:
            key = DataKey.unwrap(version.encryption, self._kernels.ring)
            return key.open_inline(data)[begin:end]
        return ObjectStream(self._jobs(version, begin, end), self._fetch, self._ahead_max)

    async def open(
        self, version: records_pb2.Version, data: bytes, begin: int, end: int
    ) -> "bytes | ObjectStream":
        """The same with the first piece at hand: what cannot be read now fails before it is begun.

        raises   Corrupt, Unavailable
        """
        found = self.read(version, data, begin, end)
        if isinstance(found, ObjectStream):
            try:
                await found.begin()
            except BaseException:
                await found.aclose()
                raise
        return found

    @asynccontextmanager
    async def source(
        self, version: records_pb2.Version, data: bytes, begin: int, end: int
    ) -> AsyncIterator[ByteSource]:
        """Plaintext [begin, end) as the writer takes it."""
        found = self.read(version, data, begin, end)
        if isinstance(found, bytes):
            yield BytesSource(found)
            return
        try:
            yield _StreamSource(found)
        finally:
            await found.aclose()

    async def _jobs(
        self, version: records_pb2.Version, begin: int, end: int
    ) -> AsyncIterator[_Job]:
        if not version.HasField("parts"):
            key = DataKey.unwrap(version.encryption, self._kernels.ring)
            for job in _blob_jobs(key, version.blobs, (begin, end), self._piece_bytes):
                yield job
            return
        wanted = list(spans(version.parts, begin, end))
        for at in range(0, len(wanted), PARTS_PER_CALL):
            page = wanted[at : at + PARTS_PER_CALL]
            request = meta_pb2.GetParts(
                upload_id=version.parts.upload_id, numbers=[span.number for span in page]
            )
            reply = await self._meta.get_parts(request)
            for span, part in zip(page, reply.parts, strict=True):
                key = DataKey.unwrap(part.encryption, self._kernels.ring)
                if part.blobs:
                    for job in _blob_jobs(
                        key, part.blobs, (span.begin, span.end), self._piece_bytes
                    ):
                        yield job
                elif span.begin < span.end:
                    plain = key.open_inline(part.inline_data)
                    yield _Job(key, inline=plain[span.begin : span.end])

    def _piece_bytes(self) -> int:
        """How much of a stripe to read at once: a reader keeps a piece for as long as it wants."""
        used = self._kernels.pool.bytes_in_flight / self._kernels.pool.budget_bytes
        if used < PLENTY_SHARE:
            return limits.BLOB_BYTES_MAX
        return PIECE_BYTES if used < SCARCE_SHARE else PIECE_BYTES_MIN

    def _ahead_max(self) -> int:
        """How many pieces to fetch before they are asked for."""
        pool = self._kernels.pool
        is_plenty = pool.bytes_in_flight < PLENTY_SHARE * pool.budget_bytes
        return STRIPES_AHEAD if is_plenty and not pool.is_contended else 1

    async def _fetch(self, job: _Job) -> tuple[Reservation | None, memoryview]:
        """Get one stripe's plaintext; the reservation holds its memory."""
        if job.blob is None or job.read is None:
            return None, memoryview(job.inline)
        read, blob = job.read, job.blob
        stripe, pool = read.stripe, self._kernels.pool
        packages = read.end_package - read.first_package
        plain_bytes = min(
            packages * limits.PACKAGE_BYTES,
            stripe.plain_bytes - read.first_package * limits.PACKAGE_BYTES,
        )
        window = read.window
        cell_bytes = (blob.k + blob.m) * (window[1] - window[0])
        reservation = await pool.reserve(cell_bytes + plain_bytes)
        try:
            buffer = reservation.take(cell_bytes)
            cells = CellSet(self._kernels.codes.get(blob.k, blob.m), stripe, buffer, window)
            wanted = {index: span for index, span in enumerate(read.cells) if span[1]}
            stripes = StripeReader(self._nodes, blob, cells, self._report)
            if await stripes.fetch(wanted):
                DEGRADED_READS.inc()
            plain = reservation.take(plain_bytes)
            layout = layout_of_blob(blob)
            cipher = job.key.sealer(
                blob.blob_id, job.number, -(-layout.plain_bytes // limits.PACKAGE_BYTES)
            )
            if bad := await self._open(cells, cipher, read, plain.view):
                DEGRADED_READS.inc()
                await stripes.fetch_without(bad, wanted)
                await self._open(cells, cipher, read, plain.view)
            reservation.give_back(buffer)
        except BaseException:
            reservation.release()
            raise
        return reservation, plain.view[read.plain_skip : read.plain_skip + read.plain_bytes]

    async def _open(
        self, cells: CellSet, cipher: BlobCipher, read: StripeRead, plain: memoryview
    ) -> list[int]:
        work = (cells, cipher, read, plain)
        if len(plain) <= IN_LOOP_BYTES_MAX:
            return open_checked_blocking(*work)
        return await run_blocking(self._kernels.threads.coding, open_checked_blocking, *work)

    def _report(self, blob: records_pb2.BlobRef, index: int, reason: str) -> None:
        self.reports.append((blob, index, reason))


def _blob_jobs(
    key: DataKey,
    blobs: Sequence[records_pb2.BlobRef],
    span: tuple[int, int],
    piece_bytes: Callable[[], int],
) -> Iterator[_Job]:
    """The stripes of a span of plaintext, or parts of them; cut when their turn comes."""
    offset = 0
    for number, blob in enumerate(blobs):
        at, last = max(span[0] - offset, 0), min(span[1] - offset, blob.plain_bytes)
        layout = layout_of_blob(blob)
        while at < last:
            whole = (at // layout.stripe_plain_bytes + 1) * layout.stripe_plain_bytes
            piece = at // limits.PACKAGE_BYTES * limits.PACKAGE_BYTES + piece_bytes()
            end = min(whole, piece, last)
            yield _Job(key, blob, number, next(layout.locate(at, end)))
            at = end
        offset += blob.plain_bytes


Piece = tuple[Reservation | None, memoryview]
Fetch = Callable[[_Job], Coroutine[Any, Any, Piece]]


class ObjectStream:
    """Plaintext of a version, piece by piece; a piece is valid until the next is asked for."""

    def __init__(
        self, jobs: AsyncIterator[_Job], fetch: Fetch, ahead_max: Callable[[], int]
    ) -> None:
        self._jobs = jobs
        self._fetch = fetch
        self._ahead_max = ahead_max
        self._ahead: deque[asyncio.Task[Piece]] = deque()
        self._held: Reservation | None = None
        self._is_exhausted = False

    def __aiter__(self) -> "ObjectStream":
        return self

    async def __anext__(self) -> memoryview:
        self._release_held()
        await self._look_ahead()
        if not self._ahead:
            raise StopAsyncIteration
        # It leaves the queue only with its result in hand: else a cancellation would lose memory.
        self._held, piece = await self._ahead[0]
        self._ahead.popleft()
        await self._look_ahead()
        return piece

    async def begin(self) -> None:
        """Wait for the first piece. raises what fetching it raises"""
        await self._look_ahead()
        if self._ahead:
            await asyncio.shield(self._ahead[0])

    async def aclose(self) -> None:
        """Stop fetching and give all memory back."""
        for task in self._ahead:
            task.cancel()
        try:
            await wait_out(self._ahead)
        finally:
            for task in self._ahead:
                if not task.cancelled() and task.exception() is None:
                    reservation = task.result()[0]
                    if reservation is not None:
                        reservation.release()
            self._ahead.clear()
            self._release_held()
        close = getattr(self._jobs, "aclose", None)
        if close is not None:
            await close()

    async def _look_ahead(self) -> None:
        while len(self._ahead) < self._ahead_max() and not self._is_exhausted:
            try:
                job = await anext(self._jobs)
            except StopAsyncIteration:
                self._is_exhausted = True
                return
            loop = asyncio.get_running_loop()
            self._ahead.append(loop.create_task(self._fetch(job)))

    def _release_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.release()


class _StreamSource:
    def __init__(self, stream: ObjectStream) -> None:
        self._stream = stream
        self._piece = memoryview(b"")

    async def read_into(self, view: memoryview) -> int:
        while not self._piece:
            piece = await anext(self._stream, None)
            if piece is None:
                return 0
            self._piece = piece
        size = min(len(view), len(self._piece))
        view[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size
