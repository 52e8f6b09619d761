"""Settings of the metadata service."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


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
    secret_file: Path | None = None  # cluster secret that peers must prove; none: not asked for
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    fault_points: tuple[str, ...] = ()  # for tests: where this process dies or fails
    profiles: tuple[ProfileConfig, ...] = field(
        default=(ProfileConfig("STANDARD", 4, 2),)
    )  # used when the cluster is new
