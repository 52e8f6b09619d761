"""Child processes of a local cluster: their configurations, starting, restarting, stopping."""

import ctypes
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cli.folder import EXTENT_BYTES, RESERVE_BYTES, ClusterFolder, ClusterIdentity, free_port

RESTART_S_MIN = 0.2
RESTART_S_MAX = 10.0
STOP_S = 35.0
PR_SET_PDEATHSIG = 1
PROFILES = {1: (1, 0), 2: (1, 1), 3: (1, 2), 4: (2, 2), 5: (3, 2)}
SIX_ZONES = (4, 2)
_libc = ctypes.CDLL(None)


def profile_of(zones: int) -> tuple[int, int]:
    """The geometry for so many zones: survives two lost zones from three zones on."""
    return PROFILES.get(zones, SIX_ZONES)


@dataclass(slots=True)
class Child:
    """One process of the cluster."""

    role: str
    name: str
    zone: str
    address: str
    config_file: Path
    log_file: Path
    process: "subprocess.Popen[bytes] | None" = None
    log: BinaryIO | None = None
    failures: int = 0
    restart_at_s: float = 0.0
    started_s: float = field(default=0.0)

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; it dies with us."""
        if self.log is None:
            self.log = self.log_file.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", self.role, "--config", str(self.config_file)],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl, no locks taken
        )
        self.started_s = time.monotonic()

    def describe(self) -> dict[str, Any]:
        """What `ostraka status` shows of it."""
        return {
            "role": self.role,
            "name": self.name,
            "zone": self.zone,
            "pid": self.process.pid if self.is_running and self.process is not None else None,
            "address": self.address,
            "state": "running" if self.is_running else "stopped",
        }


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Plan:
    """The processes of a cluster, with configurations written."""

    def __init__(self, folder: ClusterFolder, identity: ClusterIdentity) -> None:
        self._folder = folder
        self._identity = identity
        self.meta_port = self._port("metaservice")
        self.control_port = self._port("metaservice-control")
        self.metaservice = self._metaservice()
        self.nodes = [self._node(number) for number in range(1, identity.zones + 1)]
        self.gateways = [self._gateway(number) for number in range(1, identity.gateways + 1)]
        self.workers = self._workers()
        folder.save(identity)

    @property
    def children(self) -> list[Child]:
        """All, in the order of starting."""
        return [self.metaservice, *self.nodes, self.workers, *self.gateways]

    def _port(self, name: str) -> int:
        others = {port for other, port in self._identity.ports.items() if other != name}
        port = free_port(self._identity.ports.get(name, 0), {*others, self._identity.port})
        self._identity.ports[name] = port
        return port

    def _child(
        self, role: str, name: str, zone: str, address: str, config: dict[str, Any]
    ) -> Child:
        file = self._folder.path / "config" / f"{name}.toml"
        file.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in config.items()))
        return Child(role, name, zone, address, file, self._folder.path / "logs" / f"{name}.log")

    def _metaservice(self) -> Child:
        k, m = profile_of(self._identity.zones)
        return self._child(
            "metaservice", "metaservice", "", f"127.0.0.1:{self.meta_port}",
            {
                "directory": self._folder.path / "meta",
                "keyring_file": self._folder.keyring_file,
                "secret_file": self._folder.secret_file,
                "cluster_id": self._identity.cluster_id,
                "region": self._identity.region,
                "port": self.meta_port,
                "control_port": self.control_port,
                "admin_port": self._port("metaservice-admin"),
                "profiles": [{"name": "STANDARD", "k": k, "m": m}],
            },
        )  # fmt: skip

    def _node(self, number: int) -> Child:
        name, zone = f"node-{number}", f"zone-{number}"
        port = self._port(name)
        return self._child(
            "storagenode", name, zone, f"127.0.0.1:{port}",
            {
                "name": name,
                "zone": zone,
                "disks": [self._folder.path / zone],
                "metaservice_host": "127.0.0.1",
                "metaservice_port": self.meta_port,
                "secret_file": self._folder.secret_file,
                "port": port,
                "control_port": self._port(f"{name}-control"),
                "admin_port": self._port(f"{name}-admin"),
                "extent_bytes": EXTENT_BYTES,
                "space_share": 1.0 / self._identity.zones,
                "reserve_bytes": RESERVE_BYTES,
            },
        )  # fmt: skip

    def _gateway(self, number: int) -> Child:
        name = f"gateway-{number}"
        return self._child(
            "gateway", name, "", f"127.0.0.1:{self._identity.port}",
            {
                "name": name,
                "metaservice_host": "127.0.0.1",
                "metaservice_port": self.meta_port,
                "keyring_file": self._folder.keyring_file,
                "secret_file": self._folder.secret_file,
                "region": self._identity.region,
                "domains": self._identity.domains,
                "port": self._identity.port,
                "admin_port": self._port(f"{name}-admin"),
            },
        )  # fmt: skip

    def _workers(self) -> Child:
        port = self._port("workers-admin")
        return self._child(
            "workers", "workers", "", f"127.0.0.1:{port}",
            {
                "metaservice_host": "127.0.0.1",
                "metaservice_port": self.meta_port,
                "secret_file": self._folder.secret_file,
                "admin_port": port,
            },
        )  # fmt: skip


def _toml(value: Any) -> str:
    if isinstance(value, Path):
        return json.dumps(str(value))
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def watch(children: list[Child]) -> list[str]:
    """Restart what has died, waiting longer each time; returns lines to tell the user."""
    lines = []
    now_s = time.monotonic()
    for child in children:
        if child.is_running:
            if child.failures and now_s - child.started_s > RESTART_S_MAX * 2:
                child.failures = 0
            continue
        if child.restart_at_s == 0.0:
            delay_s = min(RESTART_S_MIN * 2**child.failures, RESTART_S_MAX)
            child.restart_at_s = now_s + delay_s
            child.failures += 1
            code = child.process.returncode if child.process is not None else None
            lines.append(f"{child.name} ended ({code}), starting it again; see {child.log_file}")
        elif now_s >= child.restart_at_s:
            child.restart_at_s = 0.0
            child.start()
    return lines


def stop(children: list[Child]) -> None:
    """Stop processes in reverse order of starting; what does not end in time is killed."""
    groups: dict[str, list[Child]] = {}
    for child in children:
        groups.setdefault(child.role, []).append(child)
    for role in ("gateway", "workers", "storagenode", "metaservice"):
        running = [child for child in groups.get(role, []) if child.is_running]
        for child in running:
            assert child.process is not None
            child.process.terminate()
        deadline_s = time.monotonic() + STOP_S
        for child in running:
            assert child.process is not None
            try:
                child.process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
