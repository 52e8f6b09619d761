"""Settings of a gateway."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common import limits
from common.limits import MIB


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one client may cost the others. Whoever is slower is answered RequestTimeout."""

    count_max: int = limits.CONNECTIONS_MAX  # open S3 connections; beyond: 503 SlowDown
    keep_alive_s: float = limits.KEEP_ALIVE_S  # without a request: closed
    head_s: float = limits.HEADER_TIMEOUT_S  # from the first byte of a head to its last
    body_idle_s: float = limits.BODY_IDLE_TIMEOUT_S  # without a byte of a body, either way
    body_rate_grace_s: float = limits.BODY_RATE_GRACE_S  # after it an upload's rate is judged
    body_bytes_per_s_min: int = limits.BODY_RATE_BYTES_PER_S_MIN  # on average


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """One gateway process. Several may share an address: the kernel spreads connections."""

    metaservice_host: str  # hot plane of the metadata service
    metaservice_port: int
    keyring_file: Path  # master keys, mode 600
    name: str = "gateway"  # in logs and as holder of writer sessions
    host: str = "127.0.0.1"  # S3
    port: int = 9000  # S3
    tls_host: str = ""  # S3 over TLS; default: host
    tls_port: int = 0  # S3 over TLS; 0: none
    tls_certificate_file: Path | None = None  # PEM, with its chain
    tls_key_file: Path | None = None  # PEM
    admin_host: str = "127.0.0.1"  # health and metrics
    admin_port: int = 0
    region: str = "us-east-1"  # S3 region that signatures must name
    domains: tuple[str, ...] = ()  # of virtual-hosted buckets: bucket.<domain>
    buffer_bytes: int = 160 * MIB  # memory for object data in flight; more uploads wait
    threads: int = 2  # for hashing, and again for encryption and coding
    secret_file: Path | None = None  # cluster secret proven to the other services
    connections: ConnectionLimits = ConnectionLimits()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    fault_points: tuple[str, ...] = ()  # for tests: where this process dies or fails
