"""Which processes a local cluster has, and a configuration file for each."""

import json
from pathlib import Path
from typing import Any

from cli.folder import EXTENT_BYTES, RESERVE_BYTES, ClusterFolder, ClusterIdentity
from cli.ports import LOOPBACK, free_port
from cli.processes import Child
from common.limits import MIB

PROFILES = {1: (1, 0), 2: (1, 1), 3: (1, 2), 4: (2, 2), 5: (3, 2)}
SIX_ZONES = (4, 2)
ROLES = ("gateway", "metaservice", "storagenode", "workers")
JOURNAL_CHUNK_BYTES = 16 * MIB


def profile_of(zones: int) -> tuple[int, int]:
    """The geometry for so many zones: survives two lost zones from three zones on."""
    return PROFILES.get(zones, SIX_ZONES)


class Plan:
    """The processes of a cluster, with configurations written."""

    def __init__(self, folder: ClusterFolder, identity: ClusterIdentity) -> None:
        self._folder = folder
        self._identity = identity
        self._promised = {identity.port}
        self._settings = folder.settings(ROLES)
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
        port = free_port(self._identity.ports.get(name, 0), self._promised)
        self._identity.ports[name] = port
        self._promised.add(port)
        return port

    def _child(self, role: str, name: str, zone: str, port: int, config: dict[str, Any]) -> Child:
        file = self._folder.path / "config" / f"{name}.toml"
        config |= self._settings.get(role, {})
        text = "".join(f"{key} = {toml(value)}\n" for key, value in config.items())
        file.write_text(text, encoding="utf-8")
        log_file = self._folder.path / "logs" / f"{name}.log"
        return Child(role, name, zone, f"{LOOPBACK}:{port}", file, log_file)

    def note_up(self) -> None:
        """The cluster is up: its metadata, should it be lost, must not be made anew."""
        self._identity.was_up = True
        self._folder.save(self._identity)
        file = self.metaservice.config_file
        assert file is not None, "written by us"
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("must_exist = false\n", "must_exist = true\n"), "utf-8")

    def _metaservice(self) -> Child:
        k, m = profile_of(self._identity.zones)
        return self._child(
            "metaservice", "metaservice", "", self.meta_port,
            {
                "directory": self._folder.meta,
                "keyring_file": self._folder.keyring_file,
                "secret_file": self._folder.secret_file,
                "cluster_id": self._identity.cluster_id,
                "region": self._identity.region,
                "port": self.meta_port,
                "control_port": self.control_port,
                "admin_port": self._port("metaservice-admin"),
                "must_exist": self._identity.was_up,
                "profiles": [{"name": "STANDARD", "k": k, "m": m}],
            },
        )  # fmt: skip

    def _node(self, number: int) -> Child:
        name, zone = f"node-{number}", f"zone-{number}"
        port = self._port(name)
        return self._child(
            "storagenode", name, zone, port,
            {
                "name": name,
                "zone": zone,
                "disks": [self._folder.path / zone],
                "metaservice_host": LOOPBACK,
                "metaservice_port": self.meta_port,
                "secret_file": self._folder.secret_file,
                "port": port,
                "control_port": self._port(f"{name}-control"),
                "admin_port": self._port(f"{name}-admin"),
                "extent_bytes": EXTENT_BYTES,
                "journal_chunk_bytes": JOURNAL_CHUNK_BYTES,
                "space_share": 1.0 / self._identity.zones,
                "reserve_bytes": RESERVE_BYTES,
            },
        )  # fmt: skip

    def _gateway(self, number: int) -> Child:
        name = f"gateway-{number}"
        return self._child(
            "gateway", name, "", self._identity.port,
            {
                "name": name,
                "metaservice_host": LOOPBACK,
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
            "workers", "workers", "", port,
            {
                "metaservice_host": LOOPBACK,
                "metaservice_port": self.meta_port,
                "secret_file": self._folder.secret_file,
                "admin_port": port,
            },
        )  # fmt: skip


def toml(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, Path):
        return toml(str(value))
    if isinstance(value, str):
        # As JSON, but DEL must be escaped, and surrogate pairs must not be used.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
