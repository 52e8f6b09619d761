"""The cluster of a simulation: the product's parts, wired as its apps wire them.

Left out are the HTTP and gRPC servers and the metrics page; requests enter at the handlers. Each
process can be killed at any moment and started again on what its disk kept.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from common import faults, limits
from common.buffers import BufferPool
from common.erasure.code import Codes
from common.frames import FrameClient, FrameServer
from common.keyring import KeyRing
from common.supervisor import Supervisor
from gateway.handlers.bucket import BucketHandlers
from gateway.handlers.delete import DeleteHandlers
from gateway.handlers.listing import ListingHandlers
from gateway.handlers.multipart import MultipartHandlers
from gateway.handlers.object_read import ObjectReadHandlers
from gateway.handlers.object_write import ObjectWriteHandlers
from gateway.handlers.registry import Handler, collect
from gateway.handlers.source import Sources
from gateway.objects.blob_writer import Threads
from gateway.objects.buckets import BucketCache
from gateway.objects.doubts import PROBE_S
from gateway.objects.nodes import Nodes
from gateway.objects.reader import ObjectReader
from gateway.objects.writer import Kernels, ObjectWriter
from metaservice import keys
from metaservice.client import MetaClient, Method, WriterSession
from metaservice.journal.nodes import JournalNodes
from metaservice.journal.service import JournalOptions, MetadataJournal
from metaservice.kv.rocks import RocksStore
from metaservice.operations.nodes import CLUSTER_ID, EPOCH, REGION, NodeRegistry
from metaservice.operations.upkeep import BucketSweeper, TransactionTrimmer, UploadTrimmer
from metaservice.server import MetaServer
from metaservice.transaction import Transaction
from proto import admin_pb2, meta_pb2, records_pb2
from storagenode.client import NodeClient
from storagenode.journal.handlers import JournalHandlers
from storagenode.journal.journal import JournalSettings, NodeJournal
from storagenode.journal.reopen import JournalReopener
from storagenode.reporter import Reporter
from storagenode.server import NodeServer, PoolSlots, disk_status
from storagenode.store.compact import compact_all
from storagenode.store.disk import Disk
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.reopen import Reopener
from storagenode.store.scrub import STEP_S, Scrubber, ScrubSettings
from storagenode.store.settings import DiskSettings
from storagenode.trials import STEP_S as TRIAL_S
from tests.simulation.disk import Medium, SimulatedDatabase, SimulatedFiles
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.network import NOBODY
from workers.garbage import GarbageCollector
from workers.nodes import WorkerNodes
from workers.repair_parts import Repair, RepairLimits
from workers.scrub import ComparisonScrub

log = logging.getLogger(__name__)

PORT = 1
SECRET = b"simulated secret"
EPOCH_NS = 1_800_000_000 * 10**9  # the wall clock when a simulation begins
EXTENT_BYTES = 2 * limits.MIB
BUFFER_BYTES = 64 * limits.MIB
META = "meta"
ROWS = Path("/meta/rows")
# How often background loops run.
HEARTBEAT_S = TOPOLOGY_S = REPORTS_S = 1.0
NODE_UPKEEP_S = 30.0
META_UPKEEP_S = 10.0
JOURNAL_S = 2.0
JOURNAL_CHUNK_BYTES = 512 * limits.KIB
JOURNAL = JournalOptions(copies_min=1, patience_s=1.0, checkpoint_bytes=limits.MIB, keep_s=0.0)
GARBAGE_S = COMPARISON_S = 5.0
COMPARISON_PAGES, COMPARISON_PAUSE_S = 10, 300.0
SCRUB = ScrubSettings(14 * 86_400.0, 4 * limits.MIB, 64 * limits.MIB, 300.0)
STATES = {
    "up": records_pb2.Disk.UP,
    "read_only": records_pb2.Disk.READ_ONLY,
    "failed": records_pb2.Disk.FAILED,
}

ResultT = TypeVar("ResultT")


class SimulatedClock:
    """The clocks of one process: the loop's time, and a wall clock that may be wrong.

    Pauses are longer while the world is idle: background loops then make fewer rounds.
    """

    def __init__(self, loop: SimulatedLoop, process: Process) -> None:
        self._loop, self._process = loop, process

    def now_ns(self) -> int:
        days_ns = self._loop.days_skipped * 86_400 * 10**9
        return EPOCH_NS + int(self._loop.now_s * 1e9) + days_ns + self._process.clock_skew_ns

    def monotonic_s(self) -> float:
        return self._loop.now_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Member:
    """A process of the cluster with a disk, in its successive lives."""

    def __init__(self, loop: SimulatedLoop, name: str) -> None:
        self.loop, self.name = loop, name
        self.medium = Medium(name, loop.random, loop.seen)
        self.process = Process(name)
        self.process.is_dead = True

    @property
    def is_up(self) -> bool:
        """Whether the process lives."""
        return not self.process.is_dead

    def begin(self) -> "Process":
        """A new life."""
        assert self.process.is_dead, f"{self.name} runs already"
        skew_ns, self.process = self.process.clock_skew_ns, Process(self.name)
        self.process.clock_skew_ns = skew_ns
        return self.process

    @property
    def clock(self) -> SimulatedClock:
        """The clocks of this life."""
        return SimulatedClock(self.loop, self.process)

    async def run(self) -> None:
        """Build and start all parts, in the process."""
        raise NotImplementedError


class MetaMember(Member):
    """The metadata service."""

    store: RocksStore
    registry: NodeRegistry | None = None
    journal: type[MetadataJournal] = MetadataJournal

    def __init__(self, loop: SimulatedLoop, name: str, ring: KeyRing, codes: Codes) -> None:
        super().__init__(loop, name)
        self._ring, self._codes = ring, codes
        self.end: Callable[[Process], None] = lambda process: None

    async def run(self) -> None:
        process, clock = self.process, self.clock
        self.registry = None

        def open_database(folder: Path) -> Any:
            return SimulatedDatabase(self.medium, process, folder)

        self.store = RocksStore(ROWS, self._poisoned, open_database)
        server = MetaServer(self.store, clock)
        await server.transactor.write(_identify, meta_pb2.FinishGarbageReply)
        nodes = JournalNodes(
            self.store,
            server.registry,
            lambda name, host, port: NodeClient(name, host, port, SECRET),
            "",
        )
        self.metadata_journal = self.journal(
            self.store, nodes, self._ring, clock, self._codes, JOURNAL
        )
        await self.metadata_journal.start()
        self._supervisor = Supervisor(clock)
        self._supervisor.add("journal", JOURNAL_S, self.metadata_journal.step)
        self._supervisor.add("checkpoint", JOURNAL_S, self.metadata_journal.checkpoint_step)
        for name, upkeep in (
            ("trim_transactions", TransactionTrimmer()),
            ("trim_uploads", UploadTrimmer()),
            ("sweep_buckets", BucketSweeper()),
        ):
            step = partial(server.transactor.write, upkeep.step, meta_pb2.FinishGarbageReply)
            self._supervisor.add(name, META_UPKEEP_S, step)
        await self._supervisor.start()
        await FrameServer(server.handlers(), SECRET).start(self.name, PORT)
        self.registry = server.nodes._registry  # heard of heartbeats in idle times
        self._server = server

    async def remove_disks(self, disk_ids: list[int]) -> None:
        """What an operator does about disks that are gone for good; again is no harm."""
        for disk_id in disk_ids:
            request = admin_pb2.SetDiskStateRequest(disk_id=disk_id, state=records_pb2.Disk.REMOVED)
            await self._server.transactor.write(
                partial(self._server.nodes.set_disk_state, request=request),
                admin_pb2.SetDiskStateReply,
            )

    def _poisoned(self, exit_code: int) -> None:
        """The process ends, and whatever runs the processes starts it again."""
        self.loop.log("poisoned", self.name, exit_code)
        self.loop.seen["engine given up"] += 1
        self.loop.call_soon(self.end, self.process, context=NOBODY)


async def _identify(transaction: Transaction) -> meta_pb2.FinishGarbageReply:
    """Make a new store a cluster's."""
    if await transaction.get(CLUSTER_ID) is None:
        transaction.put(CLUSTER_ID, b"simulated")
        transaction.put(REGION, b"us-east-1")
        transaction.put(EPOCH, keys.uint64(1))
        profile = records_pb2.Profile(name="STANDARD", k=4, m=2)
        transaction.put(keys.profile("STANDARD"), profile.SerializeToString())
    return meta_pb2.FinishGarbageReply()


class NodeMember(Member):
    """A storage node with one disk, a zone of its own."""

    files: type[SimulatedFiles] = SimulatedFiles
    store: FragmentStore

    async def run(self) -> None:
        clock, pool = self.clock, BufferPool(BUFFER_BYTES)
        settings = DiskSettings(Path("/", self.name), EXTENT_BYTES, 1.0, 0)
        files = self.files(self.medium, self.process)
        disk = Disk(settings, files, clock, pool)
        self._pool = pool
        self.store = FragmentStore([disk], clock, pool)
        self._incarnation = clock.now_ns()
        server = NodeServer(self.store, self.name, self.name, self._incarnation)
        place = JournalSettings(Path("/", self.name, "journal"), JOURNAL_CHUNK_BYTES, 0)
        self.journal = NodeJournal(place, files, pool)
        journal = JournalHandlers(self.journal, self.name, self.name).handlers()
        frames = FrameServer({**server.handlers(), **journal}, SECRET, slots=PoolSlots(pool))
        await frames.start(self.name, PORT)
        meta = FrameClient(META, PORT, SECRET)
        await meta.start()
        self._meta = MetaClient(meta, deadline_s=1.0)
        supervisor = Supervisor(clock)
        supervisor.add("heartbeat", HEARTBEAT_S, self._heartbeat)
        supervisor.add("upkeep", NODE_UPKEEP_S, self._upkeep)
        scrubber = Scrubber(disk, files, clock, SCRUB)
        supervisor.add("scrub", STEP_S, scrubber.step)
        reopener = Reopener(disk, self.store, scrubber, clock)
        supervisor.add("reopen", TRIAL_S, reopener.step)
        supervisor.add("journal", TRIAL_S, JournalReopener(self.journal, clock).step)
        supervisor.add("reports", REPORTS_S, Reporter(self.store, self._meta).send)
        await supervisor.start()

    async def _heartbeat(self) -> None:
        disk = self.store.disks[0]
        status = disk_status(disk)
        record = records_pb2.Disk(
            disk_id=status.disk_id,
            disk_uuid=status.disk_uuid,
            capacity_bytes=status.capacity_bytes,
            free_bytes=status.free_bytes,
            used_bytes=status.used_bytes,
            state=STATES[disk.state],
            fragment_count=status.fragment_count,
        )
        node = records_pb2.Node(
            name=self.name,
            zone=self.name,
            address=f"{self.name}:{PORT}",
            incarnation=self._incarnation,
        )
        request = meta_pb2.Heartbeat(node=node, disks=[record], cluster_id=disk.identity.cluster_id)
        try:
            reply = await self._meta.heartbeat(request)
        except faults.Unavailable:
            return
        disk.adopt(reply.cluster_id, reply.disks[0].disk_id)

    async def _upkeep(self) -> None:
        self.store.give_up_idle()
        await compact_all(self.store.disks, self._pool)
        await self.store.disks[0].trim()


class GatewayMember(Member):
    """A gateway without its HTTP server: requests enter at the handlers."""

    handlers: dict[str, Handler]
    buckets: BucketCache

    def __init__(self, loop: SimulatedLoop, name: str, ring: KeyRing, codes: Codes) -> None:
        super().__init__(loop, name)
        self._ring, self._codes = ring, codes

    async def run(self) -> None:
        clock = self.clock
        frames = FrameClient(META, PORT, SECRET)
        self.meta = meta = MetaClient(frames)
        self._nodes = Nodes(
            meta, lambda name, host, port: NodeClient(name, host, port, SECRET), clock
        )
        self._session = session = WriterSession(meta, clock, self.name)
        threads = Threads(ThreadPoolExecutor(2), ThreadPoolExecutor(2))
        kernels = Kernels(self._codes, self._ring, BufferPool(BUFFER_BYTES), threads)
        self._reader = ObjectReader(meta, self._nodes, kernels)
        writer = ObjectWriter(self._nodes, kernels, session)
        self.buckets = BucketCache(meta)
        sources = Sources(meta, self._reader)
        handlers = collect(
            [
                BucketHandlers(meta, self.buckets, session),
                ListingHandlers(meta),
                ObjectReadHandlers(meta, self._reader),
                ObjectWriteHandlers(meta, writer, session, sources),
                DeleteHandlers(meta, session),
                MultipartHandlers(meta, writer, session, sources),
            ]
        )
        await frames.start()
        await self._reach(lambda: frames.wait_up(20.0))
        await self._reach(session.start)
        await self._reach(self._nodes.refresh)
        self._supervisor = Supervisor(clock)
        self._supervisor.add("topology", TOPOLOGY_S, self._nodes.refresh)
        self._supervisor.add("probes", PROBE_S, self._nodes.probe)
        self._supervisor.add("reports", REPORTS_S, self._send_reports)
        await self._supervisor.start()
        self.handlers = handlers

    async def _reach(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """A real gateway ends when it cannot start, and is started again."""
        while True:
            try:
                return await call()
            except faults.Unavailable:
                await self.clock.sleep(0.5)

    async def end_session(self) -> None:
        """Close the writer session, as a gateway that stops does."""
        await self._supervisor.stop()
        await self._session.stop()

    async def _send_reports(self) -> None:
        reports = self._reader.reports
        while reports:
            blob, index, reason = reports[0]
            request = meta_pb2.ReportBad(blob=blob, indexes=[index], reason=reason)
            await self.meta.call(Method.REPORT_BAD, request)
            reports.popleft()


class WorkersMember(Member):
    """The background workers."""

    def __init__(self, loop: SimulatedLoop, name: str, codes: Codes) -> None:
        super().__init__(loop, name)
        self._codes = codes

    async def run(self) -> None:
        frames = FrameClient(META, PORT, SECRET)
        meta = MetaClient(frames)
        await frames.start()
        nodes = WorkerNodes(meta, self.clock, SECRET)
        self.collector = GarbageCollector(meta, nodes, self.name)
        supervisor = Supervisor(self.clock)
        supervisor.add("garbage", GARBAGE_S, self.collector.run_once)
        settings = RepairLimits(self.name, buffer_bytes=BUFFER_BYTES)
        self.repair = Repair(meta, nodes, self.clock, self._codes, settings)
        self.repair.add_to(supervisor)
        self._comparison = ComparisonScrub(meta, nodes, self.name, self.clock, COMPARISON_PAUSE_S)
        supervisor.add("comparison", COMPARISON_S, self._compare)
        await supervisor.start()

    async def _compare(self) -> None:
        """Some pages: of so few rows a pass is hardly more."""
        for _ in range(COMPARISON_PAGES):
            await self._comparison.step()
