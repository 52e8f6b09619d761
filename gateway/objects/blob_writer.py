"""One blob on its way to the disks: stripes through the kernels, cells to the nodes, in order."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from common import faults, limits
from common.buffers import BufferPool, Reservation
from common.concurrency import run_blocking, wait_out
from common.erasure.code import Codes
from common.erasure.layout import (
    BLOCK_BYTES,
    FULL_CELL_BYTES,
    LAYOUT_VERSION,
    BlobLayout,
    Stripe,
    layout_of,
)
from common.placement.choose import Placement
from gateway.objects.encryption import BlobCipher
from gateway.objects.nodes import Nodes
from gateway.objects.quorum import Quorum
from gateway.objects.stored import ByteSource
from gateway.objects.stripes import encode_blocking
from proto import records_pb2, storage_pb2

STRIPES_IN_FLIGHT_MAX = 3
IN_LOOP_BYTES_MAX = 128 * limits.KIB  # smaller stripes cost less here than the hop to a thread
CELL_DEADLINE_S = 10.0
CONTENDED_STRIPE_S = 10.0  # to receive one stripe in, while other requests wait for memory

MakeCipher = Callable[[bytes, int, int], BlobCipher]
BlobName = tuple[bytes, int, int]  # blob id, number in its object or part, plaintext bytes


@dataclass(slots=True)
class Threads:
    """Where big kernels run: hashing beside coding, never in line with it."""

    hashing: ThreadPoolExecutor
    coding: ThreadPoolExecutor


@dataclass(slots=True)
class _Turn:
    """A stripe's place in its blob: its hashing, the sending before it, and its own."""

    hashed: "asyncio.Future[None]"
    after: "asyncio.Future[None] | None"
    sent: "asyncio.Future[None]"


class BlobWriter:
    """Writes one blob, once."""

    def __init__(  # noqa: PLR0913 - wired in one place
        self,
        nodes: Nodes,
        codes: Codes,
        pool: BufferPool,
        threads: Threads,
        placement: Placement,
        make_cipher: MakeCipher,
    ) -> None:
        profile = nodes.topology.profiles["STANDARD"]
        self._k, self._m = profile.k, profile.m
        self._nodes = nodes
        self._code = codes.get(profile.k, profile.m)
        self._pool = pool
        self._threads = threads
        self._placement = placement
        self._make_cipher = make_cipher
        self._loop = asyncio.get_running_loop()
        self._failures: dict[int, BaseException] = {}
        self._late: set[int] = set()  # failed with an unknown outcome: they may yet arrive
        self._quorum = profile.k + min(1, profile.m)
        self._blob_id = b""
        self._layout: BlobLayout | None = None

    async def write(
        self,
        source: ByteSource,
        name: BlobName,
        update_hashes: Callable[[memoryview], None],
        identity: storage_pb2.FragmentIdentity,
    ) -> records_pb2.BlobRef:
        """Store a blob; on k + 1 disks when this returns.

        raises   Unavailable, Full; what the source raises
        """
        self._blob_id, number, plain_bytes = name
        layout = self._layout = layout_of(self._k, self._m, plain_bytes, FULL_CELL_BYTES)
        cipher = self._make_cipher(self._blob_id, number, -(-plain_bytes // limits.PACKAGE_BYTES))
        self._complete(identity, layout)
        if layout.stripe_count == 1:
            await self._write_alone(source, layout.first_stripe, cipher, update_hashes, identity)
        else:
            await self._write_stripes(source, layout, cipher, update_hashes, identity)
        return self._finished(plain_bytes)

    async def _write_alone(
        self,
        source: ByteSource,
        stripe: Stripe,
        cipher: BlobCipher,
        update_hashes: Callable[[memoryview], None],
        identity: storage_pb2.FragmentIdentity,
    ) -> None:
        """Write a blob of one stripe: nothing goes on beside it, so no task is made."""
        held = await self._receive(source, stripe)
        hashed = self._hash(held[1], None, update_hashes)
        turn = _Turn(hashed, None, self._loop.create_future())
        await self._send(stripe, held, cipher, turn, identity)

    async def _write_stripes(
        self,
        source: ByteSource,
        layout: BlobLayout,
        cipher: BlobCipher,
        update_hashes: Callable[[memoryview], None],
        identity: storage_pb2.FragmentIdentity,
    ) -> None:
        in_flight: list[tuple[asyncio.Task[None], Reservation]] = []
        sent: asyncio.Future[None] | None = None
        hashed: asyncio.Future[None] | None = None
        try:
            for index in range(layout.stripe_count):
                if len(in_flight) == STRIPES_IN_FLIGHT_MAX:
                    await in_flight.pop(0)[0]
                stripe = layout.stripe(index)
                held = await self._receive(source, stripe)
                hashed = self._hash(held[1], hashed, update_hashes)
                turn = _Turn(hashed, sent, self._loop.create_future())
                sent = turn.sent
                work = self._send(stripe, held, cipher, turn, identity)
                in_flight.append((self._loop.create_task(work), held[0]))
            for task, _ in in_flight:
                await task
        except BaseException:
            await self._abandon(in_flight, hashed)
            raise

    async def _abandon(
        self,
        in_flight: list[tuple[asyncio.Task[None], Reservation]],
        hashed: "asyncio.Future[None] | None",
    ) -> None:
        """Stop, and give all memory back once nothing uses it any more."""
        for task, _ in in_flight:
            task.cancel()
        tasks: list[asyncio.Future[None]] = [task for task, _ in in_flight]
        try:
            await wait_out([*tasks, hashed] if hashed is not None else tasks)
        finally:
            for task, reservation in in_flight:
                if not task.cancelled():
                    task.exception()  # seen: the first failure is the one that is raised
                if not reservation.is_released:
                    reservation.release()  # cancelled before its first step

    def placed(self) -> list[records_pb2.BlobRef]:
        """Where fragments may have been written, for deleting them."""
        disk_ids = [disk.disk_id for disk in self._placement.disks]
        return [records_pb2.BlobRef(blob_id=self._blob_id, disk_ids=disk_ids)]

    def _complete(self, identity: storage_pb2.FragmentIdentity, layout: BlobLayout) -> None:
        identity.blob_id = self._blob_id
        identity.k, identity.m = self._k, self._m
        identity.cell_bytes = layout.cell_bytes
        identity.plain_bytes = layout.plain_bytes
        identity.layout = LAYOUT_VERSION

    async def _receive(
        self, source: ByteSource, stripe: Stripe
    ) -> tuple[Reservation, memoryview, int]:
        """Fill a buffer with a stripe's plaintext."""
        coded_bytes = (self._k + self._m) * stripe.cell_bytes
        reservation = await self._pool.reserve(stripe.plain_bytes + coded_bytes)
        try:
            plain = reservation.take(stripe.plain_bytes).view
            await self._fill_promptly(source, plain)
        except BaseException:
            reservation.release()
            raise
        return reservation, plain, coded_bytes

    async def _fill_promptly(self, source: ByteSource, view: memoryview) -> None:
        """Fill a stripe; who sends it too slowly may not keep its memory while others wait.

        raises   Invalid("size"), Busy
        """
        begun_s, done = self._loop.time(), 0
        while done < len(view):
            count = await source.read_into(view[done:])
            if count == 0:
                raise faults.Invalid("size", str(done), "IncompleteBody")
            done += count
            if self._pool.is_contended and self._loop.time() - begun_s > CONTENDED_STRIPE_S:
                raise faults.Busy("a slow upload made room for others")

    def _hash(
        self,
        plain: memoryview,
        previous: "asyncio.Future[None] | None",
        update: Callable[[memoryview], None],
    ) -> "asyncio.Future[None]":
        """Hash a stripe after the one before it, beside everything else."""
        if previous is None and len(plain) <= IN_LOOP_BYTES_MAX:
            update(plain)
            done: asyncio.Future[None] = self._loop.create_future()
            done.set_result(None)
            return done

        async def in_order() -> None:
            if previous is not None:
                await previous
            await self._loop.run_in_executor(self._threads.hashing, update, plain)

        return self._loop.create_task(in_order())

    async def _send(
        self,
        stripe: Stripe,
        held: tuple[Reservation, memoryview, int],
        cipher: BlobCipher,
        turn: "_Turn",
        identity: storage_pb2.FragmentIdentity,
    ) -> None:
        """Code a stripe, send its cells behind those of the stripe before, wait for the answers."""
        reservation, plain, coded_bytes = held
        try:
            coded = reservation.take(coded_bytes)
            work = (self._code, cipher, stripe, plain, coded)
            if len(plain) <= IN_LOOP_BYTES_MAX:
                tables = encode_blocking(*work)
            else:
                tables = await run_blocking(self._threads.coding, encode_blocking, *work)
            if turn.after is not None and not turn.after.done():
                await asyncio.wait([turn.after])
            quorum = self._send_cells(stripe, coded.view, tables, identity)
            turn.sent.set_result(None)
            await quorum.done
            if len(self._placement.disks) - len(self._failures) < self._quorum:
                raise self._cause()
            await turn.hashed
        finally:
            if not turn.sent.done():
                turn.sent.cancel()
            try:
                if not turn.hashed.done():
                    await wait_out([turn.hashed])  # the thread still reads this memory
            finally:
                reservation.release()

    def _send_cells(
        self,
        stripe: Stripe,
        coded: memoryview,
        tables: list[bytes],
        identity: storage_pb2.FragmentIdentity,
    ) -> Quorum:
        quorum = Quorum(self._loop, self._quorum, self._fail, self._nodes.stragglers)
        size, request = stripe.cell_bytes, self._request(stripe)
        may_wait = self._nodes.gathering.may_wait(size)
        for index, disk in enumerate(self._placement.disks):
            if index in self._failures:
                continue
            client = self._nodes.client_of(disk.disk_id)
            if client is None:
                self._failures[index] = faults.Unavailable(f"{disk.node_name} is down")
                continue
            request.index, request.disk_id = index, disk.disk_id
            request.block_checksums = tables[index]
            if stripe.index == 0:
                identity.index = index
                request.identity = identity.SerializeToString()
            cell = coded[index * size : (index + 1) * size]
            call = client.put_cell(request, cell, CELL_DEADLINE_S, may_wait)
            quorum.add(index, disk.disk_id, call)
        quorum.close()
        return quorum

    def _request(self, stripe: Stripe) -> storage_pb2.PutCell:
        """What the cells of a stripe have in common: one message, changed from cell to cell."""
        layout = self._layout
        assert layout is not None, "called by write"
        return storage_pb2.PutCell(
            blob_id=self._blob_id,
            cell_index=stripe.index,
            last=stripe.is_last,
            fragment_bytes=layout.fragment_bytes,
            cell_bytes=layout.first_stripe.cell_bytes,
            block_bytes=BLOCK_BYTES,
        )

    def _fail(self, index: int, failure: BaseException) -> None:
        self._failures.setdefault(index, failure)
        if isinstance(failure, faults.Unavailable):
            self._late.add(index)
            self._nodes.was_late(self._placement.disks[index].disk_id)

    def _cause(self) -> BaseException:
        """Why the blob could not be stored, as the caller should see it."""
        failures = list(self._failures.values())
        if any(isinstance(failure, faults.Full) for failure in failures):
            return faults.Full("too few disks have room")
        return faults.Unavailable("too few storage nodes took their fragment")

    def _finished(self, plain_bytes: int) -> records_pb2.BlobRef:
        disks = self._placement.disks
        return records_pb2.BlobRef(
            blob_id=self._blob_id,
            plain_bytes=plain_bytes,
            k=self._k,
            m=self._m,
            cell_bytes=FULL_CELL_BYTES,
            disk_ids=[
                0 if index in self._failures else disk.disk_id for index, disk in enumerate(disks)
            ],
            degraded=self._placement.is_degraded or bool(self._failures),
            layout=LAYOUT_VERSION,
            late_disk_ids=[
                disk.disk_id if index in self._late else 0 for index, disk in enumerate(disks)
            ]
            if self._late
            else (),
        )


async def fill(source: ByteSource, view: memoryview) -> None:
    """Read until the view is full. raises Invalid("size") if the source ends before"""
    done = 0
    while done < len(view):
        count = await source.read_into(view[done:])
        if count == 0:
            raise faults.Invalid("size", str(done), "IncompleteBody")
        done += count
