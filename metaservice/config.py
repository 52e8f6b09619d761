"""Settings of the metadata service."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common import limits
from common.limits import MIB


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    """Geometry of a storage class: any m of the k + m fragments of a blob may be lost."""

    name: str  # storage class
    k: int  # data fragments
    m: int  # parity fragments


@dataclass(frozen=True, slots=True)
class MetaServiceConfig:
    """One metadata service."""

    directory: Path  # where the embedded engine keeps its files
    keyring_file: Path  # master keys, mode 600
    cluster_id: str = ""  # of the cluster; empty: made up for a new store, then kept
    host: str = "127.0.0.1"  # hot plane
    port: int = 0  # hot plane; 0 chooses a free one
    control_host: str = "127.0.0.1"  # gRPC
    control_port: int = 0
    admin_host: str = "127.0.0.1"  # health and metrics
    admin_port: int = 0
    region: str = "us-east-1"  # S3 region of the cluster
    engine: Literal["rocksdb", "memory"] = "rocksdb"  # memory: for tests, loses everything
    zone: str = ""  # what the service's machine fails with; empty: with none of the nodes' zones
    journal: Literal["on", "off"] = "on"  # commits on storage nodes too, see metadata-journal.md
    journal_copies_min: int = 1  # with fewer copies commits wait; 0: they go on, on one disk
    journal_patience_s: float = 1.0  # a journal node silent so long, or 8 times the usual, goes
    journal_checkpoint_bytes: int = 256 * MIB  # of commits, after which a checkpoint is stored
    journal_keep_s: float = 0.0  # older states that can be restored; costs space on the nodes
    must_exist: bool = False  # refuse to start on an empty directory: metadata was lost
    reserve_bytes: int = 256 * limits.MIB  # kept free on the engine's disk: nothing new below it
    garbage_grace_s: float = limits.GARBAGE_GRACE_S  # deleted data stays so long; reads take less
    secret_file: Path | None = None  # cluster secret that peers must prove; none: not asked for
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    fault_points: tuple[str, ...] = ()  # for tests: where this process dies or fails
    profiles: tuple[ProfileConfig, ...] = field(
        default=(ProfileConfig("STANDARD", 4, 2),)
    )  # used when the cluster is new
