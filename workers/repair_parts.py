"""The parts of repair, wired together: for the workers process and for simulations of it."""

from dataclasses import dataclass

from common.buffers import BufferPool
from common.clock import Clock
from common.erasure.code import Codes
from common.limits import MIB
from common.supervisor import Supervisor
from metaservice.client import MetaClient
from workers.nodes import WorkerNodes
from workers.pace import Pace
from workers.placement_scan import PlacementScan
from workers.rebuild import Rebuilder, make_threads
from workers.repair import RepairWorker
from workers.strays import StrayKeeper

WATCH_S = 1.0  # pace is adjusted so often
SCAN_S = REPAIR_S = 0.5  # a loss is noticed and worked on within two of these
SWEEP_S = 10.0
WALK_S = 5.0
THREADS = 2


@dataclass(frozen=True, slots=True)
class RepairLimits:
    """How much repair may take. name: of the process; unique in the cluster."""

    name: str
    bytes_per_s_max: int = 256 * MIB
    bytes_per_s_min: int = 24 * MIB
    blobs_in_flight: int = 8
    buffer_bytes: int = 96 * MIB


class Repair:
    """All loops of repair."""

    def __init__(
        self,
        meta: MetaClient,
        nodes: WorkerNodes,
        clock: Clock,
        codes: Codes,
        limits: RepairLimits,
    ) -> None:
        pace = Pace(clock, limits.bytes_per_s_max, limits.bytes_per_s_min)
        self.rebuilder = Rebuilder(
            nodes, codes, BufferPool(limits.buffer_bytes), make_threads(THREADS), pace
        )
        self.worker = RepairWorker(
            meta, nodes, self.rebuilder, pace, clock, limits.name, limits.blobs_in_flight
        )
        self.scan = PlacementScan(meta, nodes, clock, limits.name)
        self.strays = StrayKeeper(meta, nodes, limits.name)

    def add_to(self, supervisor: Supervisor) -> None:
        """Register all loops; before the supervisor starts."""
        supervisor.add("repair_watch", WATCH_S, self.worker.watch)
        supervisor.add("repair_scan", SCAN_S, self.scan.run_once)
        supervisor.add("repair", REPAIR_S, self.worker.run_once)
        supervisor.add("repair_sweep", SWEEP_S, self.strays.sweep)
        supervisor.add("repair_walk", WALK_S, self.strays.walk)
