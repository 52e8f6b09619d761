"""Fragments of one blob made anew: stripe by stripe from k others, or copied from where they lie.

What is read is verified by its CRCs, a cell that is bad, missing or late is replaced by another
fragment's, and what is written is verified and synced by its node before it answers. Only the
fragments that are asked for are computed.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from common import faults
from common.buffers import Buffer, BufferPool, Reservation
from common.checksum import crc32c_blocks
from common.concurrency import run_blocking, wait_out
from common.erasure.code import Codes, ErasureCode
from common.erasure.layout import BLOCK_BYTES, BlobLayout, Stripe, layout_of_blob
from common.frames import Reply
from proto import records_pb2, scrub_pb2, storage_pb2
from workers.nodes import WorkerNodes
from workers.pace import Pace
from workers.salvage import mend_blocks_blocking

READ_DEADLINE_S = 5.0
WRITE_DEADLINE_S = 20.0
STRIPES_AHEAD = 2
IN_LOOP_BYTES_MAX = 128 * 1024  # smaller stripes cost less here than the hop to a thread


@dataclass(slots=True)
class Sources:
    """Where fragments of a blob can be read, by index; those that turn out bad are taken out.

    damaged   some blocks of these are bad; given only where too few others are right: then what is
              wanted is put together block by block
    """

    disks: dict[int, int]
    damaged: dict[int, int] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)

    def refuse(self, index: int, reason: str) -> None:
        """Read no more of a fragment."""
        self.disks.pop(index, None)
        self.bad[index] = reason


@dataclass(slots=True)
class _Cells:
    """Cells of one stripe in one buffer, each in its index's place."""

    stripe: Stripe
    reservation: Reservation
    buffer: Buffer
    identity: bytes = b""
    have: set[int] = field(default_factory=set)
    tables: dict[int, bytes] = field(default_factory=dict)

    def place(self, index: int) -> memoryview:
        """The memory of a cell."""
        size = self.stripe.cell_bytes
        return self.buffer.view[index * size : (index + 1) * size]


class Rebuilder:
    """Reads, recreates, writes and checks fragments."""

    def __init__(
        self,
        nodes: WorkerNodes,
        codes: Codes,
        pool: BufferPool,
        threads: ThreadPoolExecutor,
        pace: Pace,
    ) -> None:
        self._nodes = nodes
        self._codes = codes
        self._pool = pool
        self._threads = threads
        self._pace = pace
        self.bytes_read = 0
        self.bytes_written = 0

    async def rebuild(
        self,
        blob: records_pb2.BlobRef,
        sources: Sources,
        targets: Mapping[int, int],
        token: int,
    ) -> None:
        """Write fragments by index to disks; on disk when this returns.

        token    of the claim: what is late is refused by nodes that saw a later one
        raises   Unavailable (too few sources, a target does not take it), Full, AlreadyExists;
                 Corrupt: a block is right in fewer than k fragments, though all were read
        """
        layout = layout_of_blob(blob)
        ahead: deque[asyncio.Task[_Cells]] = deque()
        behind: deque[tuple[list[asyncio.Future[Reply]], _Cells]] = deque()
        loop = asyncio.get_running_loop()
        next_stripe, identity = 0, b""
        try:
            for _ in range(layout.stripe_count):
                while next_stripe < layout.stripe_count and len(ahead) < STRIPES_AHEAD:
                    stripe = layout.stripe(next_stripe)
                    fetch = self._fetch_blocks if sources.damaged else self._fetch
                    work = fetch(blob, stripe, sources, frozenset(targets))
                    ahead.append(loop.create_task(work))
                    next_stripe += 1
                cells = await ahead[0]
                ahead.popleft()
                identity = identity or cells.identity
                behind.append((self._send(blob, layout, cells, targets, (identity, token)), cells))
                while len(behind) >= STRIPES_AHEAD or (behind and cells.stripe.is_last):
                    await self._settle(behind)
        except BaseException:
            await _abandon(ahead, behind)
            raise

    async def verify(self, blob: records_pb2.BlobRef, index: int, disk_id: int) -> bool:
        """Read a whole fragment; whether it is there and right. raises Unavailable if it is away"""
        layout = layout_of_blob(blob)
        sources = Sources({index: disk_id})
        for number in range(layout.stripe_count):
            try:
                cells = await self._fetch(
                    blob, layout.stripe(number), sources, frozenset({index}), with_others=False
                )
            except faults.Unavailable:
                if sources.bad.get(index) in ("missing", "bad_block"):
                    return False
                raise
            cells.reservation.release()
            if number == 0 and not _is_identity_of(cells.identity, blob.blob_id, index):
                return False
        return True

    async def is_whole(self, blob: records_pb2.BlobRef, index: int, disk_id: int) -> bool:
        """Whether a fragment is right, and what its disk keeps beside its blocks too.

        raises   Unavailable if it is away
        """
        if not await self.verify(blob, index, disk_id):
            return False
        client = self._nodes.client_of(disk_id)
        if client is None:
            raise faults.Unavailable(f"disk {disk_id} does not answer")
        name = storage_pb2.FragmentId(blob_id=blob.blob_id, index=index, disk_id=disk_id)
        reply = await client.verify_fragments(scrub_pb2.VerifyFragments(fragments=[name]))
        return not any(verdict.fault for verdict in reply.verdicts)

    async def _fetch(
        self,
        blob: records_pb2.BlobRef,
        stripe: Stripe,
        sources: Sources,
        wanted: frozenset[int],
        *,
        with_others: bool = True,
    ) -> _Cells:
        """Have the wanted cells of a stripe, read or recreated."""
        reservation = await self._pool.reserve((blob.k + blob.m) * stripe.cell_bytes)
        cells = _Cells(stripe, reservation, reservation.take((blob.k + blob.m) * stripe.cell_bytes))
        code = self._codes.get(blob.k, blob.m)
        try:
            while True:
                chosen = _choose(blob, sources, wanted, cells.have, with_others)
                if not chosen:
                    break
                await self._pace.take(len(chosen) * stripe.cell_bytes)
                came = await self._read(blob, cells, sources, chosen)
                self.bytes_read += len(came) * stripe.cell_bytes
                work = (code, cells, came, wanted)
                if stripe.cell_bytes * blob.k <= IN_LOOP_BYTES_MAX:
                    bad = _finish_blocking(*work)
                else:
                    bad = await run_blocking(self._threads, _finish_blocking, *work)
                for index in bad:
                    sources.refuse(index, "bad_block")
        except BaseException:
            reservation.release()
            raise
        return cells

    async def _fetch_blocks(
        self,
        blob: records_pb2.BlobRef,
        stripe: Stripe,
        sources: Sources,
        wanted: frozenset[int],
    ) -> _Cells:
        """The same from the good blocks of all fragments. raises Corrupt, Unavailable"""
        everything = Sources({**sources.disks, **sources.damaged})
        count, size = len(everything.disks), stripe.cell_bytes
        reservation = await self._pool.reserve((blob.k + blob.m) * size)
        buffer = reservation.take((blob.k + blob.m) * size)
        cells = _Cells(stripe, reservation, buffer)
        try:
            await self._pace.take(count * size)
            chosen = [*sorted(sources.disks), *sorted(sources.damaged)]
            came = await self._read(blob, cells, everything, chosen)
            self.bytes_read += len(came) * size
            if len(came) < blob.k or "away" in everything.bad.values():
                raise faults.Unavailable("too few fragments can be read")
            code = self._codes.get(blob.k, blob.m)
            work = (code, (buffer.view, buffer.address), size, came, wanted)
            cells.tables.update(await run_blocking(self._threads, mend_blocks_blocking, *work))
        except BaseException:
            reservation.release()
            raise
        return cells

    async def _read(
        self,
        blob: records_pb2.BlobRef,
        cells: _Cells,
        sources: Sources,
        chosen: Sequence[int],
    ) -> dict[int, bytes]:
        """Read cells into their places; returns the checksums of those that came, by index."""
        calls: dict[int, asyncio.Future[Reply]] = {}
        stripe = cells.stripe
        for index in chosen:
            disk_id = sources.disks.get(index)
            if disk_id is None:  # another stripe found it bad since it was chosen
                continue
            client = self._nodes.client_of(disk_id)
            if client is None:
                sources.refuse(index, "away")
                continue
            request = storage_pb2.ReadFragment(
                blob_id=blob.blob_id,
                index=index,
                disk_id=disk_id,
                with_identity=stripe.index == 0 and not calls,
            )
            request.ranges.add(offset=stripe.fragment_offset, length=stripe.cell_bytes)
            calls[index] = client.read_fragment(request, cells.place(index), READ_DEADLINE_S)
        try:
            await wait_out(calls.values())
        except asyncio.CancelledError:
            for call in calls.values():
                call.cancel()
            raise
        came: dict[int, bytes] = {}
        for index, call in calls.items():
            failure = call.exception()
            if failure is None:
                reply = storage_pb2.ReadFragmentReply.FromString(call.result().header)
                came[index] = reply.block_checksums
                cells.identity = cells.identity or reply.identity
            elif isinstance(failure, (faults.NotFound, faults.Corrupt, faults.Invalid)):
                sources.refuse(index, "missing")
            elif isinstance(failure, faults.Fault):
                sources.refuse(index, "away")
            else:
                raise failure
        return came

    def _send(
        self,
        blob: records_pb2.BlobRef,
        layout: BlobLayout,
        cells: _Cells,
        targets: Mapping[int, int],
        writing: tuple[bytes, int],
    ) -> "list[asyncio.Future[Reply]]":
        """Send the cells of a stripe to their disks, behind those of the stripe before."""
        identity, token = writing
        stripe = cells.stripe
        calls: list[asyncio.Future[Reply]] = []
        for index, disk_id in targets.items():
            client = self._nodes.client_of(disk_id)
            if client is None:
                raise faults.Unavailable(f"disk {disk_id} does not answer")
            request = storage_pb2.PutCell(
                blob_id=blob.blob_id,
                index=index,
                disk_id=disk_id,
                cell_index=stripe.index,
                last=stripe.is_last,
                fragment_bytes=layout.fragment_bytes,
                cell_bytes=layout.stripe(0).cell_bytes,
                block_bytes=BLOCK_BYTES,
                block_checksums=cells.tables[index],
                fence=token,
            )
            if stripe.index == 0:
                request.identity = _identity_for(identity, index)
            calls.append(client.put_cell(request, cells.place(index), WRITE_DEADLINE_S))
        self.bytes_written += len(calls) * stripe.cell_bytes
        return calls

    async def _settle(self, behind: "deque[tuple[list[asyncio.Future[Reply]], _Cells]]") -> None:
        """Wait for the answers to the oldest stripe that was sent, and free its memory."""
        calls, cells = behind[0]
        await wait_out(calls)
        behind.popleft()
        cells.reservation.release()
        for call in calls:
            call.result()


def make_threads(count: int) -> ThreadPoolExecutor:
    """Threads for checksums and the code."""
    return ThreadPoolExecutor(count, "rebuild")


async def _abandon(
    ahead: "deque[asyncio.Task[_Cells]]",
    behind: "deque[tuple[list[asyncio.Future[Reply]], _Cells]]",
) -> None:
    """Stop, and give all memory back once nothing uses it any more."""
    for task in ahead:
        task.cancel()
    for calls, _ in behind:
        for call in calls:
            call.cancel()
    try:
        await wait_out([*ahead, *[call for calls, _ in behind for call in calls]])
    finally:
        for task in ahead:
            if not task.cancelled() and task.exception() is None:
                task.result().reservation.release()
        for calls, cells in behind:
            cells.reservation.release()
            for call in calls:
                if not call.cancelled():
                    call.exception()  # seen: the first failure is the one that is raised


def _choose(
    blob: records_pb2.BlobRef,
    sources: Sources,
    wanted: frozenset[int],
    have: set[int],
    with_others: bool,
) -> list[int]:
    """What to read next: the wanted cells where they lie, else any k; nothing: all is there.

    raises   Unavailable if too few are left
    """
    if wanted <= have or len(have) >= blob.k:
        return []
    rest = wanted - have
    if rest <= sources.disks.keys():
        return sorted(rest)
    # Each blob begins elsewhere, so that no disk serves more than its share.
    count = blob.k + blob.m
    first = blob.blob_id[-1] % count
    order = sorted(sources.disks.keys() - have, key=lambda index: (index - first) % count)
    missing = blob.k - len(have)
    if not with_others or len(order) < missing:
        raise faults.Unavailable("too few fragments can be read")
    return order[:missing]


def _finish_blocking(
    code: ErasureCode, cells: _Cells, came: Mapping[int, bytes], wanted: frozenset[int]
) -> list[int]:
    """Verify what came; recreate what is wanted if there is enough. Returns the bad ones."""
    bad = []
    for index, checksums in came.items():
        if crc32c_blocks(cells.place(index), BLOCK_BYTES) == checksums:
            cells.have.add(index)
            cells.tables[index] = checksums
        else:
            bad.append(index)
    lost = wanted - cells.have
    if lost and len(cells.have) >= code.k:
        size, address = cells.stripe.cell_bytes, cells.buffer.address
        code.reconstruct(
            {index: address + index * size for index in cells.have},
            {index: address + index * size for index in lost},
            size,
        )
        for index in lost:
            cells.tables[index] = crc32c_blocks(cells.place(index), BLOCK_BYTES)
    return bad


def _identity_for(identity: bytes, index: int) -> bytes:
    """The identity of another fragment of the same blob."""
    record = storage_pb2.FragmentIdentity.FromString(identity)
    record.index = index
    return record.SerializeToString()


def _is_identity_of(identity: bytes, blob_id: bytes, index: int) -> bool:
    record = storage_pb2.FragmentIdentity.FromString(identity)
    return (record.blob_id, record.index) == (blob_id, index)
