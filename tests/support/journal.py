"""Storage nodes in memory for tests of the metadata's journal: real journals and fragment stores on
simulated disks, behind calls that can be cut, frozen or made to fail.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.message import Message

from common import faults
from common.buffers import BufferPool
from common.clock import SystemClock
from common.frames import Call, Reply
from common.limits import KIB, MIB
from common.placement.topology import Topology
from metaservice.journal.nodes import Place
from proto import records_pb2, storage_pb2
from storagenode.client import Method
from storagenode.journal.handlers import JournalHandlers
from storagenode.journal.journal import JournalSettings, NodeJournal
from tests.simulation.disk import Medium, SimulatedFiles
from tests.simulation.loop import Process


class FakeNode:
    """One node. `peer` of the directory hands it out while it is up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.medium = Medium(name, Random(name), Counter())
        self.is_up = True
        self.is_frozen = False
        self.drops_answers = False
        self.refuses_reads = False
        self.calls: list[Method] = []
        self.fragments: dict[tuple[bytes, int], tuple[bytearray, bytearray]] = {}
        self.damaged: set[tuple[bytes, int]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.start()

    def start(self) -> None:
        """A new life on the same disk."""
        files = SimulatedFiles(self.medium, Process(self.name))
        settings = JournalSettings(Path("/", self.name, "journal"), 64 * KIB, 0)
        self.journal = NodeJournal(settings, files, BufferPool(8 * MIB))
        self._handlers = JournalHandlers(self.journal, self.name, self.name).handlers()
        self.is_up = True

    def wipe(self) -> None:
        """An empty disk in the place of this one, and a new life."""
        self.medium.wipe()
        self.fragments.clear()
        self.start()

    def journal_call(
        self, method: Method, request: Message, payload: bytes = b"", *, deadline_s: float
    ) -> "asyncio.Future[Reply]":
        self.calls.append(method)
        call = Call(method, request.SerializeToString(), payload, deadline_s)
        return self._begin(lambda: self._answer(call), deadline_s)

    async def _answer(self, call: Call) -> Reply:
        made: Any = self._handlers[call.method](call)
        answer = await made
        return Reply(answer.header, b"".join(bytes(piece) for piece in answer.pieces))

    def _begin(
        self, work: Callable[[], Awaitable[Reply]], deadline_s: float
    ) -> "asyncio.Future[Reply]":
        async def call() -> Reply:
            try:
                async with asyncio.timeout(deadline_s):
                    while self.is_frozen:  # noqa: ASYNC110 - thawed by the test
                        await asyncio.sleep(0.005)
                    if not self.is_up:
                        raise faults.Unavailable("connection lost")
                    if self.refuses_reads and self.calls[-1] is Method.JOURNAL_READ:
                        raise faults.Unavailable("not now")
                    reply = await work()
                    if self.drops_answers:
                        raise faults.Unavailable("connection lost")
                    return reply
            except TimeoutError:
                raise faults.Unavailable("late") from None

        task = asyncio.get_running_loop().create_task(call())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- fragments ------------------------------------------------------------------------------

    def put_cell(
        self,
        request: storage_pb2.PutCell,
        cell: memoryview,
        deadline_s: float,
        may_wait: bool = False,
    ) -> "asyncio.Future[Reply]":
        data = bytes(cell)

        async def put() -> Reply:
            kept = self.fragments.setdefault(
                (request.blob_id, request.index), (bytearray(), bytearray())
            )
            kept[0].extend(data)
            kept[1].extend(request.block_checksums)
            return Reply(b"", b"")

        return self._begin(put, deadline_s)

    def read_fragment(
        self, request: storage_pb2.ReadFragment, into: memoryview, deadline_s: float
    ) -> "asyncio.Future[Reply]":
        async def read() -> Reply:
            kept = self.fragments.get((request.blob_id, request.index))
            if kept is None:
                raise faults.NotFound("fragment", request.blob_id.hex())
            wanted = request.ranges[0]
            into[:] = kept[0][wanted.offset : wanted.offset + wanted.length]
            first = 4 * -(-wanted.offset // 65_552)
            size = 4 * -(-wanted.length // 65_552)
            reply = storage_pb2.ReadFragmentReply(
                block_checksums=bytes(kept[1][first : first + size])
            )
            return Reply(reply.SerializeToString(), b"")

        return self._begin(read, deadline_s)

    async def list_fragments(
        self, request: storage_pb2.ListFragments
    ) -> storage_pb2.ListFragmentsReply:
        fragments = [
            storage_pb2.FragmentInfo(blob_id=blob_id, index=index)
            for blob_id, index in sorted(self.fragments)
        ]
        return storage_pb2.ListFragmentsReply(fragments=fragments)

    async def stat_fragments(
        self, request: storage_pb2.StatFragments
    ) -> storage_pb2.StatFragmentsReply:
        reply = storage_pb2.StatFragmentsReply()
        for each in request.fragments:
            if (each.blob_id, each.index) in self.fragments:
                is_damaged = (each.blob_id, each.index) in self.damaged
                reply.fragments.add(blob_id=each.blob_id, index=each.index, damaged=is_damaged)
        return reply

    async def delete_fragments(
        self, request: storage_pb2.DeleteFragments
    ) -> storage_pb2.DeleteFragmentsReply:
        for each in request.fragments:
            self.fragments.pop((each.blob_id, each.index), None)
        return storage_pb2.DeleteFragmentsReply(deleted=len(request.fragments))


class FakeNodes:
    """A directory of nodes, each a zone with one disk; also what a recovery sees of them."""

    def __init__(
        self,
        count: int = 6,
        k: int = 4,
        m: int = 2,
        make: Callable[[str], FakeNode] = FakeNode,
    ) -> None:
        self.all = {f"node-{number}": make(f"node-{number}") for number in range(1, count + 1)}
        self.places = {name: Place(name, name, f"{name}:1") for name in self.all}
        disks = [
            records_pb2.Disk(
                disk_id=number, disk_uuid=bytes([number]) * 16, node_name=name, zone=name,
                capacity_bytes=1 << 30, free_bytes=1 << 30,
            )
            for number, name in enumerate(self.all, 1)
        ]  # fmt: skip
        nodes = [records_pb2.Node(name=name, zone=name, address=f"{name}:1") for name in self.all]
        profiles = [records_pb2.Profile(name="STANDARD", k=k, m=m)]
        record = records_pb2.Topology(epoch=1, nodes=nodes, disks=disks, profiles=profiles)
        self.topology = Topology(record)
        self.clock = SystemClock()

    async def refresh(self) -> None:
        return

    def peer(self, name: str) -> Any:
        node = self.all.get(name)
        return node if node is not None and node.is_up else None

    def client_of(self, disk_id: int) -> Any:
        return self.peer(f"node-{disk_id}")

    @property
    def down(self) -> set[str]:
        return {name for name, node in self.all.items() if not node.is_up}

    @property
    def live_zones(self) -> dict[str, list[Place]]:
        return {place.zone: [place] for name, place in self.places.items() if self.all[name].is_up}

    async def stop(self) -> None:
        return
