"""The metadata with its journal and checkpoints under power loss, of everything at once.

Method: the real service of the journal with its engine, and three nodes with real journals and
disks, all below one folder. Commits alone and in groups, checkpoints, a node away and back, old
segments and checkpoints given up, a second life. What is left is opened in two ways: the service
starts again on its own folder; or that folder is destroyed with one zone, and the metadata brought
back from the other two. Either way every commit that was told is there, and none by half.
"""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from unittest.mock import patch

from cli.recover_metadata import new_engine
from common.buffers import BufferPool
from common.clock import SystemClock
from common.frames import Answer, Call, Handler, Reply
from common.limits import KIB, MIB
from common.rocks import RocksDatabase
from metaservice.journal import service as journal_service
from metaservice.journal.blobs import BlobKeeper
from metaservice.journal.recovery import Recovery
from metaservice.kv.interface import CommitOutcome, Mutation
from proto import storage_pb2
from storagenode.client import Method
from storagenode.journal.handlers import JournalHandlers
from storagenode.journal.journal import JournalSettings, NodeJournal
from storagenode.server import NodeServer
from storagenode.store.disk import Disk
from storagenode.store.files import SystemFiles
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.settings import DiskSettings
from tests.powerloss.engine import CACHE_BYTES, COUNT, WRITE_BUFFER_BYTES, model, rows_of
from tests.powerloss.recorder import mark
from tests.support.journal import FakeNode, FakeNodes
from tests.support.journal_service import CODES, RING, Service

CLUSTER = "cluster"
NODES, K, M = 3, 1, 2
CHUNK_BYTES, EXTENT_BYTES = 64 * KIB, 512 * KIB
PATIENCE_S = 10.0  # nobody is slow here but the machine
LIVES_MAX = 3
COMMITTED, SURVIVES = "commit", "survives"
OWN_ROWS = (b"W", b"C", b"z")  # the journal's, the cluster's id, those written after a recovery
PROBE = b"zprobe"
ROWS_MAX = 100_000


class PowerNode(FakeNode):
    """A node with real files."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder / name
        super().__init__(name)

    def start(self) -> None:
        pool, clock, files = BufferPool(16 * MIB), SystemClock(), SystemFiles()
        journal = JournalSettings(self.folder / "journal", CHUNK_BYTES, 0)
        self.journal = NodeJournal(journal, files, pool)
        disk = Disk(DiskSettings(self.folder / "disk", EXTENT_BYTES, 1.0, 0), files, clock, pool)
        disk.adopt(CLUSTER, int(self.name.rpartition("-")[2]))
        self.store = FragmentStore([disk], clock, pool)
        self._handlers: dict[int, Handler] = {
            **JournalHandlers(self.journal, self.name, self.name).handlers(),
            **NodeServer(self.store, self.name, self.name, 1).handlers(),
        }
        self.is_up = True

    async def stop(self) -> None:
        """End this life."""
        await self.journal.close()
        await self.store.close()

    async def replace(self) -> None:
        """An empty disk in the place of this one."""
        await self.stop()
        shutil.rmtree(self.folder)
        self.start()

    def put_cell(
        self, request: storage_pb2.PutCell, cell: memoryview, deadline_s: float
    ) -> "asyncio.Future[Reply]":
        async def put() -> Reply:
            await self.store.put_cell(request, bytes(cell), None)
            return Reply(b"", b"")

        return self._begin(put, deadline_s)

    def read_fragment(
        self, request: storage_pb2.ReadFragment, into: memoryview, deadline_s: float
    ) -> "asyncio.Future[Reply]":
        async def read() -> Reply:
            answer = await self._ask(Method.READ_FRAGMENT, request.SerializeToString())
            assert answer.release is not None
            into[:] = b"".join(bytes(piece) for piece in answer.pieces)
            answer.release()
            return Reply(answer.header, b"")

        return self._begin(read, deadline_s)

    async def list_fragments(
        self, request: storage_pb2.ListFragments
    ) -> storage_pb2.ListFragmentsReply:
        return self.store.list(request)

    async def delete_fragments(
        self, request: storage_pb2.DeleteFragments
    ) -> storage_pb2.DeleteFragmentsReply:
        return await self.store.delete(request)

    async def _ask(self, method: Method, header: bytes) -> Answer:
        return cast(Answer, await self._handlers[method](Call(method, header, b"", 1.0)))


class World:
    """All that has a folder, in one life."""

    def __init__(self, folder: Path) -> None:
        self.meta = folder / "meta"
        self.nodes = FakeNodes(NODES, K, M, lambda name: PowerNode(name, folder))
        self.service: Service | None = None

    @property
    def power_nodes(self) -> list[PowerNode]:
        return cast(list[PowerNode], list(self.nodes.all.values()))

    async def start(self) -> Service:
        """Start the service; again where it asks for that. raises AssertionError if it cannot"""
        for _ in range(LIVES_MAX):
            service = Service(
                self.meta, self.nodes, open_database=_open_database, patience_s=PATIENCE_S
            )
            self.service = service
            await service.start()
            if not service.failures:
                return service
            await self._stop_service()
        raise AssertionError("the service does not start")

    async def _stop_service(self) -> None:
        if self.service is not None:
            await self.service.stop()
            self.service = None

    async def stop(self) -> None:
        await self._stop_service()
        for node in self.power_nodes:
            await node.stop()


def _open_database(folder: Path) -> RocksDatabase:
    return RocksDatabase(folder, CACHE_BYTES, WRITE_BUFFER_BYTES)


async def commit(service: Service, number: int) -> None:
    """Commit; told when it is on the service's disk and on the nodes."""
    outcome = await service.store.commit(Mutation(puts=rows_of(number)))
    assert outcome is CommitOutcome.APPLIED
    mark(f"{COMMITTED} {number}")


async def work(folder: Path) -> None:
    """Two lives."""
    world = World(folder)
    service = await world.start()
    mark(SURVIVES)
    for number in range(1, 6):
        await commit(service, number)
    await asyncio.gather(*(commit(service, number) for number in range(6, 12)))
    await service.journal._checkpoint()
    for number in range(12, 15):
        await commit(service, number)
    away = world.nodes.all[service.journal.writer.segment.nodes[0]]
    away.is_up = False
    for number in range(15, 18):
        await commit(service, number)
    away.is_up = True
    await service.journal.step()
    await service.journal._checkpoint()  # the segments of before go
    await asyncio.gather(*(commit(service, number) for number in range(18, 21)))
    await world.stop()
    world = World(folder)
    service = await world.start()
    for number in range(21, 24):
        await commit(service, number)
    await service.journal._checkpoint()
    await commit(service, 24)
    await world.stop()


@contextmanager
def quickly() -> Iterator[None]:
    """Without waiting for zones that might still come."""
    with patch.object(journal_service, "SETTLE_S", 0.0):
        yield


def judge(rows: Sequence[tuple[bytes, bytes]], told: Sequence[str]) -> int:
    """How many commits are there. raises AssertionError"""
    found = {key: row for key, row in rows if not key.startswith(OWN_ROWS)}
    count = int(found.get(COUNT, b"0"))
    numbers = [int(text.split()[1]) for text in told if text.startswith(COMMITTED)]
    assert count >= max(numbers, default=0), f"commit {max(numbers)} was told, {count} is here"
    assert found == model(count), f"not the rows of {count} commits"
    return count


async def use(world: World, told: Sequence[str]) -> int:
    """Start the service and write; how many commits it has."""
    service = await world.start()
    count = judge(service.store.scan(b"", b"\xff", ROWS_MAX), told)
    assert await service.store.commit(Mutation(puts={PROBE: b""})) is CommitOutcome.APPLIED
    return count


class MetadataWorkload:
    """The service starts again on its folder."""

    name = "metadata"
    is_ordered = True

    def prepare(self, folder: Path) -> None:
        """Nothing is there."""

    def run(self, folder: Path) -> None:
        with quickly():
            asyncio.run(work(folder))

    def recover(self, folder: Path, marks: Sequence[str]) -> object:
        with quickly():
            return asyncio.run(self._in_world(folder, marks))

    async def _in_world(self, folder: Path, told: Sequence[str]) -> object:
        world = World(folder)
        try:
            return await self._recover(world, told)
        finally:
            await world.stop()

    async def _recover(self, world: World, told: Sequence[str]) -> object:
        return await use(world, told)


class LostMetadataWorkload(MetadataWorkload):
    """The service's folder and a zone are gone; the metadata comes from the other nodes."""

    name = "metadata lost"

    async def _recover(self, world: World, told: Sequence[str]) -> object:
        if SURVIVES not in told:
            return None  # nothing was promised yet
        shutil.rmtree(world.meta, ignore_errors=True)
        await world.power_nodes[len(told) % NODES].replace()
        keeper = BlobKeeper(world.nodes, CODES, BufferPool(16 * MIB))
        recovery = Recovery(world.nodes, RING, keeper, SystemClock(), CLUSTER)
        await recovery.take_over(sorted(world.nodes.all))
        with new_engine(world.meta) as database:
            await recovery.restore(database)
            assert not recovery.report.losses, recovery.report.losses
            recovery.finish(database)
            count = judge(database.scan(b"", b"\xff", ROWS_MAX), told)
        await recovery.announce()
        assert await use(world, told) == count, "the service has something else"
        return count
