"""The cluster of a campaign, and what can be done to its processes, files and network."""

import errno
import json
import os
import re
import shutil
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from cli.folder import ClusterFolder
from cli.status import collect
from cli.target import Target
from common import faults
from proto.admin_pb2 import ClusterStatusRequest
from proto.records_pb2 import Disk
from tests.faults.network import Link, Map, Network
from tests.faults.shim import Shim
from tests.support.cluster import Cluster, wait_for

HEALTHY_S = 120.0
MENDED_S = 300.0
POLL_S = 0.3
METADATA_S = 20.0
FSCK_S = 300.0
FSCK_PAUSE_S = 5.0
ADMIN_S = 2.0
PAGE = 4096
TRIES = 500  # pages that are looked at for one that holds something
HELD = re.compile(r"^ostraka_disk_dead_bytes\{[^}]*\} (\S+)", re.MULTILINE)
FIRST_HOST = 20  # 127.0.20.1 and so on are the sources' addresses at the proxy
DISK_ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}


class Victim(Cluster):
    """One local cluster that is to be hurt. Zones are numbered from 1."""

    def __init__(self, folder: Path, zones: int = 6, gateways: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, zones, gateways)
        self.nodes = [f"node-{number}" for number in range(1, zones + 1)]
        self.gateway_names = [f"gateway-{number}" for number in range(1, gateways + 1)]
        self.names = ["metaservice", "workers", *self.gateway_names, *self.nodes]
        self.cluster_folder = ClusterFolder(self.data)
        self.ended: Counter[str] = Counter()  # how often a process was made to end
        self.shim: Shim | None = None
        self.network: Network | None = None
        self._frozen: set[int] = set()
        self._ending: set[int] = set()  # processes that were told to end
        self._armed: set[str] = set()
        self.settings = ""  # settings.toml of a cluster that is not there yet
        self.copies: dict[str, Path] = {}  # of disks, by node
        self.extra["OSTRAKA_FAULT_POINTS"] = "listen"
        self._ports: dict[str, int] = {}
        try:
            self.shim = Shim(folder / "shim", self.names)
            self.extra |= self.shim.environment
        except FileNotFoundError as missing:
            print(missing, flush=True)

    def begin(self) -> None:
        """Start it, and lay the network between its processes."""
        if self.settings:
            self.data.mkdir()
            (self.data / "settings.toml").write_text(self.settings)
        self.start()
        if self.shim is not None:
            self._lay_network()
        self.wait_healthy()

    def _lay_network(self) -> None:
        assert self.shim is not None
        ports = self._ports = self.cluster_folder.load().ports
        targets = {name: ports[name] for name in ("metaservice", *self.nodes)}
        sources = {name: FIRST_HOST + number for number, name in enumerate(self.names)}
        callers = ("workers", *self.gateway_names)
        links = [Link(source, target) for source in callers for target in targets]
        links += [Link(node, "metaservice") for node in self.nodes]
        self.network = Network(Map(sources, targets, tuple(links)))
        for name in self.names:
            if name != "metaservice":
                self.shim.route(name, sources[name], list(targets.values()))
                self.kill(name)  # its connections are still direct ones

    def end(self) -> None:
        """Undo everything and stop in order."""
        self.heal()
        if (self.data / "run" / "state.json").exists():
            self.command("down", "--directory", str(self.data))
        if self.network is not None:
            self.network.stop()
            self.network = None

    # --- what it says of itself ------------------------------------------------------------------

    def picture(self) -> dict[str, Any]:
        """`ostraka status`, without a process of its own."""
        try:
            return collect(self.cluster_folder)
        except (faults.Fault, OSError) as error:
            return {"state": "unavailable", "problems": [str(error)], "processes": []}

    def troubles(self) -> list[str]:
        """What is not as it should be; blobs that wait for repair are not counted."""
        picture = self.picture()
        waiting = ("blobs miss", "repair")
        words = [w for w in picture["problems"] if not any(kind in w for kind in waiting)]
        words += [
            f"{process['name']} is {process['state']}"
            for process in picture["processes"]
            if process["state"] != "running"
        ]
        if picture["state"] in ("unavailable", "stopped"):
            words.append(picture["state"])
        return words

    def wait_healthy(self, timeout_s: float = HEALTHY_S) -> list[str]:
        """Wait until every process answers; returns what still does not."""
        deadline_s = time.monotonic() + timeout_s
        while words := self.troubles():
            if time.monotonic() > deadline_s:
                return words
            time.sleep(POLL_S)
        return []

    def wait_mended(
        self, since_ns: int = 0, nodes: Iterable[str] = (), timeout_s: float = MENDED_S
    ) -> list[str]:
        """Wait until nothing is missing or damaged, and some nodes' disks were read since a time.

        returns  what there still is to mend
        """
        scrubbed_ns = dict.fromkeys(nodes, since_ns)
        is_second: set[str] = set()  # the pass that ran at the time may have been past the damage
        deadline_s = time.monotonic() + timeout_s
        while True:
            for disk in self.disks():
                name = disk.node_name
                if disk.scrub_finished_ns > scrubbed_ns.get(name, disk.scrub_finished_ns):
                    if name in is_second:
                        del scrubbed_ns[name]
                    else:
                        is_second.add(name)
                        scrubbed_ns[name] = disk.scrub_finished_ns
            words = [f"{name} has not read its disk" for name in scrubbed_ns]
            picture = self.picture()
            words += picture["problems"]
            if picture["state"] not in ("healthy", "degraded") or picture.get("degraded_blobs"):
                words.append(f"{picture['state']}, {picture.get('degraded_blobs')} degraded blobs")
            if words and all("damaged fragments" in word for word in words) and self._is_whole():
                return []
            if not words or time.monotonic() > deadline_s:
                return words
            time.sleep(POLL_S)

    def _is_whole(self) -> bool:
        """Whether what is damaged belongs to nothing any more, and only waits to be deleted."""
        done = self.command(
            "fsck", "--data", "--directory", str(self.data), "--json", timeout_s=FSCK_S
        )
        if done.returncode:
            time.sleep(FSCK_PAUSE_S)
        return done.returncode == 0

    def disks(self) -> list[Any]:
        """Disks that are in use, as the metadata service knows them; none if it does not answer."""
        try:
            reply = Target(self.data, None).ask("ClusterStatus", ClusterStatusRequest())
        except (faults.Fault, OSError):
            return []
        out = (Disk.REMOVED, Disk.FAILED)
        return [disk for disk in reply.topology.disks if disk.state not in out]

    def disk_id_of(self, node: str) -> int | None:
        """The number of a node's only disk."""
        return next((disk.disk_id for disk in self.disks() if disk.node_name == node), None)

    def set_disk(self, disk_id: int, verb: str) -> bool:
        """Drain a disk, return it, or remove it; False if that was refused."""
        where = ("--directory", str(self.data))
        return self.command("admin", "disk", verb, str(disk_id), *where).returncode == 0

    def surely_set_disk(self, disk_id: int, verb: str) -> None:
        """The same, until it is done."""
        wait_for(lambda: self.set_disk(disk_id, verb), f"{verb} of disk {disk_id}", HEALTHY_S)

    def wait_drained(self, disk_id: int, timeout_s: float) -> None:
        """Wait until nothing is named on a disk. raises AssertionError"""

        def is_empty() -> bool:
            done = self.command("admin", "disk", "list", "--directory", str(self.data))
            disks = json.loads(done.stdout) if done.returncode == 0 else []
            return any(
                entry["disk_id"] == disk_id and entry["fragments_named"] == 0 for entry in disks
            )

        wait_for(is_empty, f"emptiness of disk {disk_id}", timeout_s)

    def pids(self) -> dict[str, int]:
        """Pids by name, of what runs."""
        processes = self.cluster_folder.read_state().get("processes", [])
        return {process["name"]: process["pid"] for process in processes if process["pid"]}

    def admin_port(self, name: str) -> int:
        """Where a process tells its metrics."""
        return self.cluster_folder.load().ports[f"{name}-admin"]

    # --- processes -------------------------------------------------------------------------------

    def kill(self, *names: str, number: int = signal.SIGKILL) -> None:
        """Signal processes to end."""
        for name, pid in self.pids().items():
            if name in names and _signal(pid, number):
                self.ended[name] += 1
                self._ending.add(pid)

    def wait_ended(self, name: str) -> None:
        """Wait until a process that was killed is gone."""
        pid = self.pids().get(name)
        wait_for(lambda: pid is None or _is_gone(pid), f"the end of {name}")

    def freeze(self, *names: str) -> None:
        """Stop processes where they are."""
        for name, pid in self.pids().items():
            if name in names and _signal(pid, signal.SIGSTOP):
                self._frozen.add(pid)

    def freeze_supervisor(self) -> None:
        """Nobody starts again what ends from now on."""
        supervisor = self.cluster_folder.supervisor()
        if supervisor is not None and _signal(supervisor, signal.SIGSTOP):
            self._frozen.add(supervisor)

    def kill_supervisor(self) -> None:
        """kill -9 of the supervisor; its processes stop with it."""
        supervisor = self.cluster_folder.supervisor()
        if supervisor is not None:
            _signal(supervisor, signal.SIGKILL)
            wait_for(lambda: self.cluster_folder.supervisor() is None, "the supervisor's end")

    def heal(self) -> None:
        """Undo all that can be undone, and start what does not run."""
        for pid in self._frozen:
            _signal(pid, signal.SIGCONT)
        self._frozen.clear()
        self._disarm()
        if self.shim is not None:
            self.shim.heal()
        if self.network is not None:
            self.network.heal()
        self._wait_ended()
        if (self.data / "cluster.json").exists() and self.cluster_folder.supervisor() is None:
            self.start()
            if self.network is not None and self._ports != self.cluster_folder.load().ports:
                self.network.stop()
                self._lay_network()

    def _wait_ended(self) -> None:
        """Wait for those that still drain: they answer, and their end belongs to its cause."""
        deadline_s = time.monotonic() + HEALTHY_S
        while any(not _is_gone(pid) for pid in self._ending) and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        self._ending.clear()

    def expect_end(self, name: str) -> None:
        """A process may end once more without anybody's signal."""
        self.ended[name] += 1

    def arm(self, name: str, text: str) -> None:
        """Arm a fault point of a process that may die of it; if it runs, that is."""
        self.expect_end(name)
        self._armed.add(name)
        self._post_points(name, text)

    def _disarm(self) -> None:
        for name in self._armed:
            self._post_points(name, "")
        self._armed.clear()

    def _post_points(self, name: str, text: str) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin_port(name)}/fault-points", text.encode(), method="POST"
        )
        try:
            urllib.request.urlopen(request, timeout=ADMIN_S).close()
        except OSError:
            return  # it does not run, or is frozen: a new one has nothing armed

    def held_bytes(self) -> int | None:
        """Dead bytes in all extents; None if not every node tells.

        What is live and not named is found by `ostraka fsck`; what is named, the campaign keeps.
        """
        total = 0.0
        for node in self.nodes:
            url = f"http://127.0.0.1:{self.admin_port(node)}/metrics"
            try:
                with urllib.request.urlopen(url, timeout=ADMIN_S) as reply:
                    text: str = reply.read().decode()
            except OSError:
                return None
            total += sum(float(value) for value in HELD.findall(text))
        return int(total)

    # --- metadata ---------------------------------------------------------------------------------

    @property
    def metadata_folder(self) -> Path:
        """The metadata engine's files."""
        return self.data / "meta"

    def survives_without_metadata(self) -> bool:
        """Whether the metadata could be brought back from the nodes now."""
        return "own disk" in self.picture().get("metadata_survives", "")

    def mend_metadata(self) -> str:
        """As an operator does: if the service does not run well, bring its metadata back.

        returns  what was done, in words
        """
        self.wait_healthy(METADATA_S)
        self.command("fsck", "--directory", str(self.data), timeout_s=FSCK_S)  # reads every row
        troubles = [w for w in self.troubles() if "metadata" in w or "metaservice" in w]
        if not troubles:
            return "nothing that is read was damaged"
        self.stop()
        shutil.rmtree(self.metadata_folder)
        done = self.command("recover", "metadata", "--directory", str(self.data), timeout_s=FSCK_S)
        assert done.returncode == 0 and "lost:" not in done.stdout, done.stdout + done.stderr
        self.start()
        self.heal()
        return f"recovered, because: {'; '.join(troubles)}"

    # --- disks -----------------------------------------------------------------------------------

    def disk_of(self, node: str) -> Path:
        """The folder of a node's only disk."""
        return self.data / f"zone-{node.removeprefix('node-')}"

    def spoil_files(self, name: str, **errors: float | str) -> None:
        """Let a process's file calls fail or take long; see Levers."""
        assert self.shim is not None
        self.shim.set(name, replace(self.shim.levers(name), **errors))  # type: ignore[arg-type]

    def wipe(self, node: str) -> None:
        """Replace a node's disk by an empty one; the node is killed before."""
        self.freeze_supervisor()
        self.kill(node)
        self.wait_ended(node)
        shutil.rmtree(self.disk_of(node))

    def flip(self, node: str, pattern: str, count: int, random: Random) -> list["Flip"]:
        """Flip single bits of a node's disk at random places that hold something."""
        return self.flip_in(self.disk_of(node), pattern, count, random)

    def flip_in(self, folder: Path, pattern: str, count: int, random: Random) -> list["Flip"]:
        """The same, of files below a folder."""
        files = [path for path in folder.rglob(pattern) if path.stat().st_size]
        flips = []
        for path in random.choices(sorted(files), k=count) if files else []:
            flip = _flip_somewhere(path, random)
            if flip is not None:
                flips.append(flip)
        return flips


class Flip:
    """One bit of a file that was changed."""

    def __init__(self, path: Path, offset: int, mask: int) -> None:
        self._path, self._offset, self._mask = path, offset, mask
        self._now = -1

    def apply(self) -> None:
        """Change it. raises OSError"""
        with self._path.open("r+b", buffering=0) as file:
            self._now = self._read(file) ^ self._mask
            file.seek(self._offset)
            file.write(bytes([self._now]))

    def undo(self) -> None:
        """Change it back, if it is still what we made of it."""
        try:
            with self._path.open("r+b", buffering=0) as file:
                if self._read(file) == self._now:
                    file.seek(self._offset)
                    file.write(bytes([self._now ^ self._mask]))
        except (OSError, IndexError):
            return  # the file is gone, or was cut

    def _read(self, file: Any) -> int:
        file.seek(self._offset)
        byte: bytes = file.read(1)
        return byte[0]


def _flip_somewhere(path: Path, random: Random) -> Flip | None:
    """Extents are preallocated: only what was written is looked at."""
    try:
        with path.open("rb") as file:
            for page in random.choices(_written_pages(file.fileno()) or [0], k=TRIES):
                file.seek(page * PAGE)
                used = len(file.read(PAGE).rstrip(b"\0"))
                if used:
                    offset = page * PAGE + random.randrange(used)
                    flip = Flip(path, offset, 1 << random.randrange(8))
                    flip.apply()
                    return flip
    except OSError:
        pass  # it was compacted away
    return None


def _written_pages(descriptor: int) -> list[int]:
    """Numbers of pages that are no hole and not only allocated; pages that were read may be."""
    pages: list[int] = []
    end = os.fstat(descriptor).st_size
    at = 0
    while at < end:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only holes follow
                break
            raise
        at = os.lseek(descriptor, begin, os.SEEK_HOLE)
        pages += range(begin // PAGE, -(-at // PAGE))
    return pages


def _is_gone(pid: int) -> bool:
    """A process that nobody waited for yet holds no files any more either."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
