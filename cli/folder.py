"""The folder of a local cluster: identity, ports, keys, what runs.

cluster.json       identity, format, geometry, ports       written once, ports kept up to date
keyring.json       master keys (0600)
secret             what the processes prove to one another (0600)
credentials.toml   the root key pair (0600), unless accounts came from a bootstrap file
config/*.toml      a configuration per process
run/state.json     what runs now; run/lock: held by the supervisor
logs/*.log         of each process
meta/, zone-N/     data
"""

import fcntl
import json
import os
import random
import secrets
import shutil
import socket
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from common import faults
from common.keyring import KeyRing, write_private
from common.limits import GIB, MIB

FORMAT = 1
EXTENT_BYTES = 256 * MIB
RESERVE_BYTES = 1 * GIB
PORTS = range(15_000, 30_000)
PORT_TRIES = 200
DEFAULT_DIRECTORY = Path("ostraka-data")


@dataclass(slots=True)
class ClusterIdentity:
    """What stays the same over restarts."""

    cluster_id: str
    region: str
    domains: list[str]
    zones: int
    gateways: int
    port: int
    ports: dict[str, int] = field(default_factory=dict)
    format: int = FORMAT


class ClusterFolder:
    """One cluster's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def state_file(self) -> Path:
        return self.path / "run" / "state.json"

    @property
    def keyring_file(self) -> Path:
        return self.path / "keyring.json"

    @property
    def secret_file(self) -> Path:
        return self.path / "secret"

    @property
    def credentials_file(self) -> Path:
        return self.path / "credentials.toml"

    def exists(self) -> bool:
        """Whether a cluster was ever made here."""
        return (self.path / "cluster.json").exists()

    def prepare(self) -> None:
        """Make the folder and its parts. raises Invalid if it cannot be written"""
        try:
            for name in ("run", "logs", "config"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            probe = self.path / "run" / "probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise faults.Invalid("directory", str(self.path), error.strerror or "") from error
        foreign = [entry for entry in self.path.iterdir() if entry.name not in OWN_NAMES]
        if foreign and not self.exists() and not any(e.name.startswith("zone-") for e in foreign):
            raise faults.Invalid(
                "directory", str(self.path), "holds other files; choose an empty one"
            )

    def load(self) -> ClusterIdentity:
        """Read the identity. raises NotFound, Invalid"""
        try:
            document = json.loads((self.path / "cluster.json").read_text())
        except FileNotFoundError:
            raise faults.NotFound("cluster in", str(self.path)) from None
        except (OSError, ValueError) as error:
            raise faults.Invalid("directory", str(self.path), "is no cluster's") from error
        if document.get("format", FORMAT + 1) > FORMAT:
            raise faults.Invalid("directory", str(self.path), "is of a newer Ostraka")
        return ClusterIdentity(**document)

    def save(self, identity: ClusterIdentity) -> None:
        """Write the identity."""
        write_private(self.path / "cluster.json", json.dumps(asdict(identity), indent=1).encode())

    def create(self, zones: int, region: str, domains: list[str]) -> ClusterIdentity:
        """Make a new cluster's identity, keys and secret. raises Full"""
        free = shutil.disk_usage(self.path).free
        needed = zones * EXTENT_BYTES + RESERVE_BYTES
        if free < needed:
            raise faults.Full(
                f"the disk is nearly full: {free // MIB} MiB free, {needed // MIB} MiB needed"
            )
        if not self.keyring_file.exists():
            KeyRing.make().save(self.keyring_file)
        if not self.secret_file.exists():
            write_private(self.secret_file, secrets.token_hex(32).encode())
        identity = ClusterIdentity(secrets.token_hex(16), region, domains, zones, 1, 0)
        self.save(identity)
        return identity

    def lock(self) -> BinaryIO:
        """Hold the folder; released when the process ends. raises AlreadyExists"""
        file = (self.path / "run" / "lock").open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise faults.Invalid("directory", str(self.path), "its cluster runs already") from None
        return file

    def is_locked(self) -> bool:
        """Whether a supervisor runs."""
        path = self.path / "run" / "lock"
        if not path.exists():
            return False
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the picture of what runs."""
        temporary = self.state_file.with_suffix(".new")
        temporary.write_text(json.dumps(state, indent=1))
        temporary.replace(self.state_file)

    def read_state(self) -> dict[str, Any] | None:
        """What ran last; None: nothing ever did."""
        try:
            state: dict[str, Any] = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return None
        return state


OWN_NAMES = {"run", "logs", "config", "cluster.json", "keyring.json", "secret", "meta",
             "credentials.toml"}  # fmt: skip


def free_port(wanted: int = 0, taken: Collection[int] = ()) -> int:
    """A free port on loopback: the wanted one if it is.

    Chosen below the range that the kernel gives to outgoing connections: one of those could take
    the port between our choice and the listener that it is for.
    """
    candidates = [wanted] if wanted else []
    candidates += random.sample(PORTS, PORT_TRIES)
    for port in candidates:
        if port not in taken and is_port_free(port):
            return port
    raise faults.Unavailable("no free port on loopback")


def is_port_free(port: int) -> bool:
    """Whether a listener could have this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_alive(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
