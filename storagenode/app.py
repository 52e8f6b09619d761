"""The storage node process: builds every part and wires them."""

import logging
from functools import partial

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from common import exit_codes, fault_points, faults
from common.admin_server import AdminServer
from common.buffers import BufferPool
from common.clock import SystemClock
from common.frames import FrameClient, FrameServer
from common.process import Stopper
from common.process import run as run_process
from common.rpc import RpcServer
from common.supervisor import Supervisor
from common.telemetry import configure_logging
from metaservice.client import MetaClient
from proto import admin_pb2_grpc, meta_pb2, records_pb2
from storagenode.config import StorageNodeConfig
from storagenode.journal.handlers import JournalHandlers
from storagenode.journal.journal import SCRUB_S, JournalSettings, NodeJournal
from storagenode.journal.reopen import JournalReopener
from storagenode.reporter import Reporter
from storagenode.server import NodeServer, PoolSlots, disk_status
from storagenode.service import SERVICE, NodeControl
from storagenode.store.compact import compact_all
from storagenode.store.disk import Disk
from storagenode.store.files import SystemFiles
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.rebuild import rebuild
from storagenode.store.reopen import Reopener
from storagenode.store.scrub import STEP_S, Scrubber, ScrubSettings
from storagenode.store.settings import DiskSettings
from storagenode.trials import STEP_S as TRIAL_S

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
UPKEEP_S = 30.0
JOURNAL_RESERVE_SHARE = 0.125  # of the reserve is kept free by the journal too
COMPACT_S = 5.0  # an extent of each disk at most; a full disk waits for it
HEALTH_S = REPORTS_S = REBUILD_S = 1.0
DAY_S = 86_400.0
STATES = {
    "up": records_pb2.Disk.UP,
    "read_only": records_pb2.Disk.READ_ONLY,
    "failed": records_pb2.Disk.FAILED,
}


class StorageNodeApp:
    """All parts of a storage node."""

    def __init__(self, config: StorageNodeConfig, stopper: Stopper) -> None:
        fault_points.configure(config.fault_points)
        self._config = config
        self._stopper = stopper
        self._clock = SystemClock()
        self._incarnation = self._clock.now_ns()
        self._pool = BufferPool(config.buffer_bytes)
        files = SystemFiles()
        disks = [
            Disk(
                DiskSettings(
                    folder,
                    config.extent_bytes,
                    config.space_share,
                    config.reserve_bytes,
                    rebuilds_later=True,
                ),  # fmt: skip
                files,
                self._clock,
                self._pool,
            )
            for folder in config.disks
        ]
        self._store = FragmentStore(disks, self._clock, self._pool)
        self._scrubbers = {
            disk: Scrubber(disk, files, self._clock, _scrub_settings(config)) for disk in disks
        }
        self._server = NodeServer(
            self._store, config.name, config.zone, self._incarnation, self._scrubbers
        )
        secret = config.secret_file.read_bytes() if config.secret_file is not None else b""
        self._journal = NodeJournal(
            JournalSettings(
                config.disks[0] / "journal",
                config.journal_chunk_bytes,
                # Full disks must not stop commits: without them nothing could be deleted.
                int(config.reserve_bytes * JOURNAL_RESERVE_SHARE),
            ),
            files,
            self._pool,
        )
        journal = JournalHandlers(self._journal, config.name, config.zone)
        self._frames = FrameServer(
            {**self._server.handlers(), **journal.handlers()},
            secret=secret,
            slots=PoolSlots(self._pool),
        )
        self._meta_frames = FrameClient(
            config.metaservice_host, config.metaservice_port, secret=secret
        )
        self._meta = MetaClient(self._meta_frames, deadline_s=HEARTBEAT_S)
        self._reporter = Reporter(self._store, self._meta)
        control = NodeControl(self._server, self._store, self._pool)
        self._rpc = RpcServer(
            {SERVICE: partial(admin_pb2_grpc.add_NodeControlServicer_to_server, control)}
        )
        self._admin = AdminServer(lambda: all(disk.identity.disk_id for disk in disks))
        self._supervisor = Supervisor(self._clock)
        self._address = self._control_address = ""

    async def start(self) -> None:
        """Listen, then register."""
        config = self._config
        host = config.advertise_host or config.host
        self._address = f"{host}:{await self._frames.start(config.host, config.port)}"
        control_port = await self._rpc.start(f"{config.control_host}:{config.control_port}")
        self._control_address = f"{host}:{control_port}"
        await self._admin.start(config.admin_host, config.admin_port)
        await self._meta_frames.start()
        REGISTRY.register(DiskMetrics(self._store))
        self._supervisor.add("heartbeat", HEARTBEAT_S, self._heartbeat)
        self._supervisor.add("upkeep", UPKEEP_S, self._upkeep)
        self._supervisor.add("compact", COMPACT_S, self._compact)
        self._supervisor.add("health", HEALTH_S, self._watch)
        self._supervisor.add("reports", REPORTS_S, self._reporter.send)
        for number, (disk, scrubber) in enumerate(self._scrubbers.items(), 1):
            self._supervisor.add(f"scrub-{number}", STEP_S, scrubber.step)
            self._supervisor.add(f"rebuild-{number}", REBUILD_S, partial(self._rebuild, disk))
            again = Reopener(disk, self._store, scrubber, self._clock)
            self._supervisor.add(f"reopen-{number}", TRIAL_S, again.step)
        self._supervisor.add("journal_scrub", SCRUB_S, self._journal.scrub)
        anew = JournalReopener(self._journal, self._clock)
        self._supervisor.add("journal_reopen", TRIAL_S, anew.step)
        await self._supervisor.start()
        log.info("storage node is up", extra={"address": self._address})

    async def stop(self) -> None:
        """Finish calls, close disks cleanly."""
        await self._supervisor.stop()
        for scrubber in self._scrubbers.values():
            await scrubber.save()
        await self._frames.stop()
        await self._rpc.stop()
        await self._meta_frames.stop()
        await self._store.close()
        await self._journal.close()
        await self._admin.stop()

    async def _heartbeat(self) -> None:
        config, disks = self._config, self._store.disks
        cluster_id = disks[0].identity.cluster_id
        request = meta_pb2.Heartbeat(
            node=records_pb2.Node(
                name=config.name,
                zone=config.zone,
                address=self._address,
                control_address=self._control_address,
                incarnation=self._incarnation,
            ),
            disks=[self._record(disk) for disk in disks],
            cluster_id=cluster_id,
        )
        try:
            reply = await self._meta.heartbeat(request)
        except faults.Invalid as refused:
            log.critical("refused by the metadata service: %s", faults.in_words(refused))
            self._stopper.stop(exit_codes.FAILED)
            return
        except faults.Unavailable:
            return  # it will be back; fragments are served all the same
        by_uuid = {disk.disk_uuid: disk.disk_id for disk in reply.disks}
        for disk in disks:
            disk.adopt(reply.cluster_id, by_uuid[disk.identity.disk_uuid])

    def _record(self, disk: Disk) -> records_pb2.Disk:
        status = disk_status(disk, self._scrubbers[disk])
        return records_pb2.Disk(
            disk_id=status.disk_id,
            disk_uuid=status.disk_uuid,
            capacity_bytes=status.capacity_bytes,
            free_bytes=status.free_bytes,
            used_bytes=status.used_bytes,
            state=STATES[disk.state],
            fragment_count=status.fragment_count,
            condition=status.condition,
            damaged_fragments=status.damaged_fragments,
            scrub_finished_ns=status.scrub_finished_ns,
            scrub_share=status.scrub_share,
            read_errors=status.read_errors,
            failure=status.failure,
            next_trial_ns=status.next_trial_ns,
        )

    async def _watch(self) -> None:
        for disk in self._store.disks:
            disk.health.tick()

    async def _rebuild(self, disk: Disk) -> None:
        if disk.is_rebuilding:
            await rebuild(disk, self._clock)

    async def _compact(self) -> None:
        await compact_all(self._store.disks, self._pool)

    async def _upkeep(self) -> None:
        self._store.give_up_idle()
        for disk in self._store.disks:
            await disk.trim()


class DiskMetrics(Collector):
    """Gauges of all disks, read when scraped."""

    def __init__(self, store: FragmentStore) -> None:
        self._store = store

    def collect(self) -> list[GaugeMetricFamily]:
        """One family per figure, one sample per disk."""
        families = []
        for name in (
            "capacity_bytes", "free_bytes", "used_bytes", "dead_bytes", "fragment_count",
            "bytes_read", "bytes_written", "damaged_fragments", "read_errors", "mean_call_us",
        ):  # fmt: skip
            family = GaugeMetricFamily(
                f"ostraka_disk_{name}", name.replace("_", " "), labels=["disk"]
            )
            for disk in self._store.disks:
                family.add_metric([str(disk.identity.disk_id)], getattr(disk_status(disk), name))
            families.append(family)
        return families


def _scrub_settings(config: StorageNodeConfig) -> ScrubSettings:
    return ScrubSettings(
        config.scrub_pass_days * DAY_S,
        config.scrub_bytes_per_s_min,
        config.scrub_bytes_per_s_max,
        config.scrub_pause_s,
    )


def run(config: StorageNodeConfig) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    configure_logging(config.name, config.log_level)
    return run_process(lambda stopper: StorageNodeApp(config, stopper))
