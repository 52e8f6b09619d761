"""What the tests of the repair worker run on: a metadata service in memory, disks that are
dictionaries of fragments with nodes' rules (tombstones, fences), a clock that the test moves.
"""

import asyncio
import ctypes
from collections.abc import Callable
from typing import Any

from common import faults, limits
from common.buffers import BufferPool
from common.checksum import crc32c_blocks
from common.erasure.code import load_codes
from common.erasure.layout import BLOCK_BYTES, FULL_CELL_BYTES, LAYOUT_VERSION, layout_of_blob
from common.frames import Reply
from common.placement.repair import DiskView
from common.placement.topology import PlacedDisk
from metaservice.table import Method
from proto import meta_pb2, records_pb2, scrub_pb2, storage_pb2
from tests.support.meta import MetaBench
from workers.pace import Pace
from workers.rebuild import Rebuilder, make_threads
from workers.repair import CLAIM_S, RepairWorker
from workers.strays import StrayKeeper

Disk = records_pb2.Disk
CODES = load_codes()
GIB = 1 << 30
PLAIN_BYTES = 5_000_000
Name = tuple[bytes, int]


class FakeNode:
    """One disk: finished fragments, those being written, tombstones."""

    def __init__(self, disk_id: int) -> None:
        self.disk_id = disk_id
        self.fragments: dict[Name, bytearray] = {}
        self.identities: dict[Name, bytes] = {}
        self.open: dict[Name, bytearray] = {}
        self.tombstones: dict[Name, tuple[bool, int]] = {}
        self.written: dict[Name, int] = {}
        self.clock = 0
        self.is_away = False
        self.before_put: Callable[[], None] | None = None
        self.cells_read = 0
        self.faults_beside: dict[Name, str] = {}  # found by the node alone: headers, trailers

    def put_cell(
        self, request: storage_pb2.PutCell, cell: memoryview, deadline_s: float
    ) -> "asyncio.Future[Reply]":
        return _future(lambda: self._put(request, bytes(cell)))

    def _put(self, request: storage_pb2.PutCell, cell: bytes) -> Reply:
        if self.before_put is not None:
            self.before_put()
        self._check()
        name = (request.blob_id, request.index)
        if crc32c_blocks(memoryview(cell), BLOCK_BYTES) != request.block_checksums:
            raise faults.Corrupt("cell")
        if request.cell_index == 0:
            may_return, fence = self.tombstones.get(name, (True, 0))
            if not may_return or (fence and request.fence <= fence):
                raise faults.Fenced("fragment", "")
            if name in self.fragments or name in self.open:
                raise faults.AlreadyExists("fragment", "")
            self.open[name] = bytearray()
            self.identities[name] = request.identity
        self.open[name] += cell
        if request.last:
            self.clock += 1
            self.fragments[name], self.written[name] = self.open.pop(name), self.clock
        return Reply(b"", b"")

    def read_fragment(
        self, request: storage_pb2.ReadFragment, into: memoryview, deadline_s: float
    ) -> "asyncio.Future[Reply]":
        return _future(lambda: self._read(request, into))

    def _read(self, request: storage_pb2.ReadFragment, into: memoryview) -> Reply:
        self._check()
        name = (request.blob_id, request.index)
        if name not in self.fragments:
            raise faults.NotFound("fragment", "")
        (span,) = request.ranges
        data = bytes(self.fragments[name][span.offset : span.offset + span.length])
        into[:] = data
        self.cells_read += 1
        right = TRUTH[name][span.offset : span.offset + span.length]
        reply = storage_pb2.ReadFragmentReply(
            block_checksums=crc32c_blocks(memoryview(right), BLOCK_BYTES),
            identity=self.identities[name],
        )
        return Reply(reply.SerializeToString(), b"")

    async def stat_fragments(self, request: Any) -> storage_pb2.StatFragmentsReply:
        self._check()
        names = [(fragment.blob_id, fragment.index) for fragment in request.fragments]
        return storage_pb2.StatFragmentsReply(
            fragments=[
                storage_pb2.FragmentInfo(blob_id=n[0], index=n[1], written_ns=self.written[n])
                for n in names
                if n in self.fragments
            ]
        )

    async def verify_fragments(self, request: Any) -> scrub_pb2.VerifyFragmentsReply:
        self._check()
        names = [(fragment.blob_id, fragment.index) for fragment in request.fragments]
        verdicts = [scrub_pb2.Verdict(fault=self.faults_beside.get(name, "")) for name in names]
        return scrub_pb2.VerifyFragmentsReply(verdicts=verdicts)

    async def delete_fragments(self, request: Any) -> storage_pb2.DeleteFragmentsReply:
        self._check()
        for fragment in request.fragments:
            name = (fragment.blob_id, fragment.index)
            before = request.written_before_ns
            if name in self.fragments and 0 < before <= self.written[name]:
                continue
            self.fragments.pop(name, None)
            self.faults_beside.pop(name, None)
            self.open.pop(name, None)
            self.tombstones[name] = (request.may_return, request.fence)
        return storage_pb2.DeleteFragmentsReply()

    async def list_fragments(self, request: Any) -> storage_pb2.ListFragmentsReply:
        found = [n for n in sorted(self.fragments) if n[0] + bytes([n[1]]) > request.after]
        infos = [storage_pb2.FragmentInfo(blob_id=n[0], index=n[1]) for n in found]
        return storage_pb2.ListFragmentsReply(fragments=infos)

    def _check(self) -> None:
        if self.is_away:
            raise faults.Unavailable("away")


TRUTH: dict[Name, bytes] = {}  # what every fragment must hold


def _future(work: Callable[[], Reply]) -> "asyncio.Future[Reply]":
    async def later() -> Reply:
        await asyncio.sleep(0)
        return work()

    return asyncio.ensure_future(later())


class FakeNodes:
    """A zone per disk."""

    def __init__(self, count: int = 6) -> None:
        self.nodes = {number: FakeNode(number) for number in range(1, count + 1)}
        self.gone: set[int] = set()
        self.was_lost: set[int] = set()
        self.foreground = meta_pb2.Foreground()
        self.lost_after_ms = 0
        self.after_view: Callable[[], None] | None = None

    async def refresh(self) -> None:
        return

    def client_of(self, disk_id: int) -> FakeNode | None:
        node = self.nodes.get(disk_id)
        return node if node is not None and not node.is_away else None

    def is_readable(self, disk_id: int) -> bool:
        return disk_id not in self.gone and self.client_of(disk_id) is not None

    is_settled = is_readable

    def lost(self) -> frozenset[int]:
        return frozenset(self.gone)

    def disk(self, disk_id: int) -> records_pb2.Disk:
        return Disk(disk_id=disk_id, was_lost=disk_id in self.was_lost)

    def disks(self) -> list[records_pb2.Disk]:
        return [self.disk(disk_id) for disk_id in self.nodes]

    def avoid(self, disk_id: int) -> None:
        return

    def view(self) -> DiskView:
        disks = {i: PlacedDisk(i, f"n{i}", f"z{i}", 1.0, i * 7919) for i in self.nodes}
        usable = frozenset(i for i in disks if self.is_readable(i))
        if self.after_view is not None:
            self.after_view()
        return DiskView(disks, self.lost(), frozenset(), usable)


class World:
    """A service, disks, and workers made on demand."""

    def __init__(self, bench: MetaBench, bucket: records_pb2.Bucket) -> None:
        self.bench, self.bucket = bench, bucket
        self.nodes = FakeNodes()

    def worker(self, name: str = "w1") -> RepairWorker:
        nodes: Any = self.nodes
        pace = Pace(self.bench.clock, GIB, GIB)
        rebuilder = Rebuilder(nodes, CODES, BufferPool(GIB), make_threads(1), pace)
        meta: Any = self.bench
        return RepairWorker(meta, nodes, rebuilder, pace, self.bench.clock, name)

    def keeper(self) -> StrayKeeper:
        nodes: Any = self.nodes
        meta: Any = self.bench
        return StrayKeeper(meta, nodes, "w1")

    async def store(
        self, number: int, *missing: int, may_arrive: bool = False
    ) -> records_pb2.BlobRef:
        """Commit a blob, its fragments on disks 1 to 6 but for some that were never written.

        may_arrive   they were sent, and may yet be written
        """
        disk_ids = [0 if index in missing else index + 1 for index in range(6)]
        blob = self.bench.blob(
            number, disk_ids=disk_ids, degraded=bool(missing), cell_bytes=FULL_CELL_BYTES,
            layout=LAYOUT_VERSION,
        )  # fmt: skip
        blob.plain_bytes = PLAIN_BYTES
        if may_arrive:
            blob.late_disk_ids[:] = [i + 1 if i in missing else 0 for i in range(6)]
        for index, data in enumerate(coded(blob)):
            TRUTH[blob.blob_id, index] = data
            if index not in missing:
                self.put(blob, index, index + 1)
        await self.bench.commit(self.bucket, b"key%d" % number, blobs=[blob])
        return blob

    def put(self, blob: records_pb2.BlobRef, index: int, disk_id: int) -> None:
        node, name = self.nodes.nodes[disk_id], (blob.blob_id, index)
        identity = storage_pb2.FragmentIdentity(blob_id=blob.blob_id, index=index)
        node.fragments[name] = bytearray(TRUTH[name])
        node.identities[name] = identity.SerializeToString()
        node.written[name] = 1

    async def named(self, number: int) -> records_pb2.BlobRef:
        request = meta_pb2.GetVersion(bucket="bucket", key=b"key%d" % number)
        reply, _ = await self.bench.call(Method.GET_VERSION, request)
        return records_pb2.Version.FromString(reply.version).blobs[0]

    async def assert_whole(self, number: int) -> None:
        blob = await self.named(number)
        assert len(set(blob.disk_ids)) == 6 and 0 not in blob.disk_ids
        for index, disk_id in enumerate(blob.disk_ids):
            name = (blob.blob_id, index)
            held = self.nodes.nodes[disk_id].fragments
            assert bytes(held[name]) == TRUTH[name], f"fragment {index} on disk {disk_id}"
            assert storage_pb2.FragmentIdentity.FromString(
                self.nodes.nodes[disk_id].identities[name]
            ).index == index  # fmt: skip

    async def pending(self) -> int:
        reply = await self.bench.call(Method.LIST_REPAIRS, meta_pb2.ListRepairs(limit=0))
        pending: int = reply.pending
        return pending

    def copies(self, blob_id: bytes) -> int:
        return sum(name[0] == blob_id for node in self.nodes.nodes.values()
                   for name in [*node.fragments, *node.open])  # fmt: skip

    def flip(self, blob: records_pb2.BlobRef, index: int, *offsets: int) -> None:
        """Let bytes of a fragment decay where it lies."""
        held = self.nodes.nodes[blob.disk_ids[index]].fragments[blob.blob_id, index]
        for offset in offsets:
            held[offset] ^= 1

    async def report(self, blob: records_pb2.BlobRef, *indexes: int) -> None:
        request = meta_pb2.ReportBad(blob=blob, indexes=indexes, reason="bad_block")
        await self.bench.call(Method.REPORT_BAD, request)

    async def settle(self) -> None:
        """Let every grace and claim pass, and delete what is due."""
        self.bench.clock.advance(limits.GARBAGE_GRACE_S + 2 * CLAIM_S + 61)
        await self.keeper().sweep()


def coded(blob: records_pb2.BlobRef) -> list[bytes]:
    """The fragments of a blob of made-up sealed bytes."""
    layout, code = layout_of_blob(blob), CODES.get(4, 2)
    fragments = [bytearray() for _ in range(6)]
    for number in range(layout.stripe_count):
        size = layout.stripe(number).cell_bytes
        pattern = bytes(range(251)) * (4 * size // 251 + 1)
        memory = ctypes.create_string_buffer(pattern[number : number + 4 * size], 6 * size)
        code.encode(ctypes.addressof(memory), size)
        for index in range(6):
            fragments[index] += memory.raw[index * size : (index + 1) * size]
    return [bytes(fragment) for fragment in fragments]
