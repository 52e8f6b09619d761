"""The workers process: builds every part and wires them."""

import logging
import os

from common import fault_points
from common.admin_server import AdminServer
from common.clock import SystemClock
from common.erasure.code import load_codes
from common.frames import FrameClient
from common.process import Stopper
from common.process import run as run_process
from common.supervisor import Supervisor
from common.telemetry import configure_logging
from metaservice.client import MetaClient
from workers.config import WorkersConfig
from workers.garbage import GarbageCollector
from workers.master_keys import KeyPassWorker
from workers.nodes import WorkerNodes
from workers.repair_parts import Repair, RepairLimits
from workers.scrub import ComparisonScrub

log = logging.getLogger(__name__)

KEYS_S = 2.0


class WorkersApp:
    """All parts of the workers process."""

    def __init__(self, config: WorkersConfig) -> None:
        fault_points.configure(config.fault_points)
        self._config = config
        secret = config.secret_file.read_bytes() if config.secret_file is not None else b""
        self._frames = FrameClient(config.metaservice_host, config.metaservice_port, secret)
        self._meta = MetaClient(self._frames)
        clock = SystemClock()
        self._nodes = WorkerNodes(self._meta, clock, secret, config.repair_grace_s)
        self._collector = GarbageCollector(self._meta, self._nodes, config.name)
        limits = RepairLimits(
            config.name,
            config.repair_bytes_per_s,
            config.repair_bytes_per_s_min,
            config.repair_blobs_in_flight,
            config.repair_buffer_bytes,
        )
        self._repair = Repair(self._meta, self._nodes, clock, load_codes(), limits)
        self._admin = AdminServer(lambda: self._meta.is_up)
        self._scrub = ComparisonScrub(
            self._meta, self._nodes, config.name, clock, config.comparison_pause_s
        )
        self._keys = KeyPassWorker(self._meta, clock, config.name, config.rewrap_rows_per_s)
        self._supervisor = Supervisor(clock)

    async def start(self) -> None:
        """Begin working; the metadata service may come later."""
        config = self._config
        await self._admin.start(config.admin_host, config.admin_port)
        await self._frames.start()
        self._supervisor.add("garbage", config.garbage_interval_s, self._collector.run_once)
        self._supervisor.add("comparison", config.comparison_interval_s, self._scrub.step)
        self._supervisor.add("master_keys", KEYS_S, self._keys.run_once)
        self._repair.add_to(self._supervisor)
        await self._supervisor.start()
        log.info("workers are up")

    async def stop(self) -> None:
        """Stop between two steps; leases end by themselves."""
        await self._supervisor.stop()
        await self._nodes.stop()
        await self._frames.stop()
        await self._admin.stop()


def run(config: WorkersConfig) -> int:
    """Run the workers until they are told to stop; returns the exit code."""
    configure_logging(config.name, config.log_level)
    os.nice(max(config.niceness, 0))  # clients wait for the others, nobody for this one

    def make(stopper: Stopper) -> WorkersApp:
        return WorkersApp(config)

    return run_process(make)
