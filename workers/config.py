"""Settings of the workers process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.limits import MIB


@dataclass(frozen=True, slots=True)
class WorkersConfig:
    """Background workers; several processes share the work by leases."""

    metaservice_host: str  # hot plane of the metadata service
    metaservice_port: int
    name: str = "workers"  # holder of leases; unique in the cluster
    admin_host: str = "127.0.0.1"  # health and metrics
    admin_port: int = 0
    garbage_interval_s: float = 5.0  # between rounds of the collector
    comparison_interval_s: float = 1.0  # between two pages of the comparison of metadata and disks
    comparison_pause_s: float = 3600.0  # between two passes of it
    repair_grace_s: float = 30.0  # a disk whose node is silent for longer is taken for lost
    repair_bytes_per_s: int = 256 * MIB  # most that repair reads of what is left
    repair_bytes_per_s_min: int = 24 * MIB  # even while clients are slowed down
    repair_blobs_in_flight: int = 8  # repaired at the same time
    repair_buffer_bytes: int = 96 * MIB  # memory for fragments in flight
    niceness: int = 5  # how much the process gives way to others on its machine; 0: not at all
    rewrap_rows_per_s: int = 2000  # rows looked at after a rotation of master keys
    secret_file: Path | None = None  # cluster secret proven to the other services
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    fault_points: tuple[str, ...] = ()  # for tests: where this process dies or fails
