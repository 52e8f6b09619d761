"""Settings of a storage node."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.limits import EXTENT_BYTES, GIB, MIB


@dataclass(frozen=True, slots=True)
class StorageNodeConfig:
    """One storage node: a process with disks, in one zone."""

    name: str  # unique in the cluster
    zone: str  # what may fail together
    disks: tuple[Path, ...]  # one folder per disk
    metaservice_host: str  # hot plane of the metadata service
    metaservice_port: int
    host: str = "127.0.0.1"  # hot plane
    port: int = 0  # hot plane; 0 chooses a free one
    advertise_host: str = ""  # where others reach us; default: host, if that is one address
    control_host: str = "127.0.0.1"  # gRPC
    control_port: int = 0
    admin_host: str = "127.0.0.1"  # health and metrics
    admin_port: int = 0
    extent_bytes: int = EXTENT_BYTES  # size of a preallocated extent file
    space_share: float = 1.0  # of the file system's free space that each disk may count on
    reserve_bytes: int = GIB  # kept free on the file system
    buffer_bytes: int = 64 * MIB  # memory for cells that is kept for reuse
    journal_chunk_bytes: int = 64 * MIB  # size of a preallocated file of the metadata's journal
    scrub_pass_days: float = 14.0  # every fragment is read and verified once in so long
    scrub_bytes_per_s_min: int = 2 * MIB  # of each disk: faster than the pass needs, on small disks
    scrub_bytes_per_s_max: int = 64 * MIB  # of each disk
    scrub_pause_s: float = 60.0  # between two passes
    secret_file: Path | None = None  # cluster secret that peers must prove
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    fault_points: tuple[str, ...] = ()  # for tests: where this process dies or fails

    def __post_init__(self) -> None:
        if self.scrub_pass_days <= 0 or self.scrub_bytes_per_s_max <= 0:
            raise ValueError("scrub_pass_days and scrub_bytes_per_s_max must be positive")
        if not self.advertise_host and self.host in ("", "0.0.0.0", "::"):  # noqa: S104
            raise ValueError("a node that listens on all addresses needs an advertise_host")
