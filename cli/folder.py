"""The folder of a local cluster: identity, ports, keys, what runs.

cluster.json       identity, format, geometry, ports       written once, ports kept up to date
keyring.json       master keys (0600)
secret             what the processes prove to one another (0600)
credentials.toml   the root key pair (0600), unless accounts came from a bootstrap file
config/*.toml      a configuration per process
run/state.json     what runs now; run/lock: held by the supervisor, with its pid in it
settings.toml      the user's own settings of processes, if there are any
logs/*.log         of each process
meta/, zone-N/     data
"""

import fcntl
import json
import os
import secrets
import shutil
import time
import tomllib
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from common import faults
from common.folders import make_durable_folder
from common.keyring import KeyRing, write_private
from common.limits import GIB, MIB

FORMAT = 1
EXTENT_BYTES = 256 * MIB
RESERVE_BYTES = 1 * GIB
DEFAULT_DIRECTORY = Path("ostraka-data")
OWN_NAMES = {
    "run", "logs", "config", "cluster.json", "keyring.json", "secret", "credentials.toml",
    "settings.toml", "lost+found",  # of a file system's own
}  # fmt: skip
LOCK_S = 0.5  # a look at the lock holds it for an instant; beyond this it is a supervisor
POLL_S = 0.02


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
    is_bootstrapped: bool = False  # accounts came from a file: no root account is made
    was_up: bool = False  # there is metadata that must not be made anew


class ClusterFolder:
    """One cluster's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def state_file(self) -> Path:
        return self.path / "run" / "state.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "run" / "lock"

    @property
    def meta(self) -> Path:
        return self.path / "meta"

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
        """Make the folder and its parts. raises Invalid if it is not for us, or cannot be written

        A folder that holds anything else is left as it is: data without its cluster.json too,
        since a new cluster could not read it.
        """
        if not str(self.path).isprintable():  # it is written into configuration files
            raise faults.Invalid("directory", ascii(str(self.path)), "has unprintable characters")
        try:
            make_durable_folder(self.path, mode=0o700)
            # A start that was cut short may have left a file before its renaming.
            names = {entry.name.removesuffix(".new") for entry in self.path.iterdir()}
            if names - OWN_NAMES and not self.exists():
                raise faults.Invalid(
                    "directory", str(self.path), "holds other files; choose an empty one"
                )
            for name in ("run", "logs", "config"):
                (self.path / name).mkdir(exist_ok=True)
            probe = self.path / "run" / "probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            reason = (error.strerror or "cannot be written").lower()
            raise faults.Invalid("directory", str(self.path), reason) from error

    def load(self) -> ClusterIdentity:
        """Read the identity. raises NotFound, Invalid"""
        try:
            document = json.loads((self.path / "cluster.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise faults.NotFound("cluster in", str(self.path)) from None
        except (OSError, ValueError) as error:
            raise faults.Invalid("directory", str(self.path), "is no cluster's") from error
        if not isinstance(document, dict) or not isinstance(document.get("format"), int):
            raise faults.Invalid("directory", str(self.path), "is no cluster's")
        if document["format"] > FORMAT:
            raise faults.Invalid("directory", str(self.path), "is of a newer Ostraka")
        try:
            return ClusterIdentity(**document)
        except TypeError as error:
            raise faults.Invalid("directory", str(self.path), "is no cluster's") from error

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
        make_secrets(self.keyring_file, self.secret_file)
        identity = ClusterIdentity(secrets.token_hex(16), region, domains, zones, 1, 0)
        self.save(identity)
        return identity

    def settings(self, roles: Collection[str]) -> dict[str, dict[str, Any]]:
        """What the user set for the processes of each role. raises Invalid"""
        file = self.path / "settings.toml"
        try:
            document = tomllib.loads(file.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise faults.Invalid("settings", str(file), str(error)) from error
        for name, section in document.items():
            if name not in roles or not isinstance(section, dict):
                known = ", ".join(f"[{role}]" for role in roles)
                raise faults.Invalid("settings", str(file), f"{name} is none of {known}")
        return document

    def check_whole(self, identity: ClusterIdentity) -> None:
        """Refuse to start without what cannot be made again. raises Invalid

        New metadata beside old disks would take all their fragments for garbage.
        """
        if not identity.was_up:
            return
        for path in (self.meta, self.keyring_file, self.secret_file):
            is_empty = path.is_dir() and not any(path.iterdir())
            if is_empty or not path.exists():
                how = "restore it from its backup"
                if path == self.meta:
                    how = "bring it back with `ostraka recover metadata`, or " + how
                raise faults.Invalid(path.name, str(path), f"is missing: {how}")

    def lock(self) -> BinaryIO:
        """Hold the folder; released when the process ends. raises Invalid"""
        file = os.fdopen(os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        deadline_s = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    file.close()
                    raise faults.Invalid(
                        "directory", str(self.path), "its cluster runs already"
                    ) from None
                time.sleep(POLL_S)
        file.truncate()
        file.write(str(os.getpid()).encode())
        file.flush()
        return file

    def supervisor(self) -> int | None:
        """The pid of the supervisor that holds the folder now."""
        try:
            file = self.lock_file.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
        return None

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the picture of what runs."""
        temporary = self.state_file.with_suffix(".new")
        temporary.write_text(json.dumps(state, indent=1))
        temporary.replace(self.state_file)

    def read_state(self) -> dict[str, Any]:
        """What ran last; empty: nothing ever did."""
        try:
            state = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}


def make_secrets(keyring_file: Path, secret_file: Path) -> None:
    """Make a cluster's key ring and secret, each unless it is there."""
    if not keyring_file.exists():
        KeyRing.make().save(keyring_file)
    if not secret_file.exists():
        write_private(secret_file, secrets.token_hex(32).encode())
