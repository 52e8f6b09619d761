"""Small files under power loss: key ring, cluster.json, secret, a disk's identity.

Method: each is written and replaced several times; what is left must be the last one that was told,
or a newer one, and whole.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cli.folder import ClusterFolder
from common import faults
from common.keyring import KeyRing, change_file
from storagenode.store.files import SystemFiles
from storagenode.store.identity import Identity, load_identity, save_identity
from tests.powerloss.recorder import mark

ROTATIONS, SAVES = 3, 3


class SmallFilesWorkload:
    """A cluster's folder is made, its keys rotated, its identity changed, a disk named."""

    name = "small files"
    is_ordered = False

    def prepare(self, folder: Path) -> None:
        """Nothing is there."""

    def run(self, folder: Path) -> None:
        cluster = ClusterFolder(folder / "cluster")
        cluster.prepare()
        identity = cluster.create(6, "region", ["domain"])
        told = {"cluster": identity.cluster_id, "zones": 6, "keys": [], "disk": 0}
        told["secret"] = cluster.secret_file.read_bytes().hex()
        told["keys"] = keys_of(cluster.keyring_file)
        mark(json.dumps(told))
        for zones in range(7, 7 + SAVES):
            identity.zones = zones
            cluster.save(identity)
            told["zones"] = zones
            mark(json.dumps(told))
        for _ in range(ROTATIONS):
            change_file(cluster.keyring_file, turn)
            told["keys"] = keys_of(cluster.keyring_file)
            mark(json.dumps(told))
        files, disk = SystemFiles(), folder / "cluster" / "zone-1" / "disk"
        files.make_folder(disk)
        for number in range(1, 4):
            save_identity(files, disk, Identity(b"u" * 16, "cluster", number))
            told["disk"] = number
            mark(json.dumps(told))

    def recover(self, folder: Path, marks: Sequence[str]) -> object:
        cluster = ClusterFolder(folder / "cluster")
        told = json.loads(marks[-1]) if marks else {}
        if not told:  # the making of it was cut short: it can be made now
            cluster.prepare()
            with suppress(faults.NotFound):
                return cluster.load().cluster_id
            cluster.create(6, "region", ["domain"])
            return cluster.load().cluster_id
        identity = cluster.load()
        assert identity.cluster_id == told["cluster"]
        assert identity.zones >= told["zones"], "an older cluster.json"
        assert cluster.secret_file.read_bytes().hex() == told["secret"]
        keys = keys_of(cluster.keyring_file)
        assert keys[: len(told["keys"])] == told["keys"], "a key that data may need is gone"
        disk = load_identity(SystemFiles(), folder / "cluster" / "zone-1" / "disk")
        assert disk.disk_id >= told["disk"], "whose a disk is was forgotten"
        return [identity.zones, keys, disk.disk_id]


def turn(ring: KeyRing) -> None:
    """Give a ring a new active key; the old ones stay."""
    ring.rotate()


def keys_of(path: Path) -> list[str]:
    """Ids of the keys of a ring, the oldest first."""
    return [key_id.hex() for key_id in KeyRing.load(path)._keys]
