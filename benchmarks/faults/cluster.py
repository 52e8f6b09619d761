"""A local cluster to be hurt: a fresh one per scenario, made by `ostraka up`, gone afterwards.

Nothing here reaches into processes: they are signalled, their configuration files are edited,
their disks' bytes are changed. What shall stay dead is kept dead by pausing the supervisor.
"""

import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults.proxy import Proxy, Route, Weather
from benchmarks.faults.record import Health
from benchmarks.s3.signing import Target
from cli.bootstrap import root_account
from cli.folder import ClusterFolder
from cli.plan import toml
from cli.ports import LOOPBACK, free_port
from cli.processes import ROOT, ostraka
from cli.status import collect
from common import faults

COMMAND_S = 120.0
READY_S = 60.0
POLL_S = 0.05
SCRAPE_S = 2.0
PAGE, PIECE = 4096, 1 << 20
PROXY_HOSTS = ("127.0.0.2", "127.0.0.3")  # in front of a node, and of what it calls
REPAIR_METRIC = re.compile(rb"^ostraka_repair\w*_bytes(?:_total)?(?:\{[^}]*\})? ([0-9.e+]+)$", re.M)


class LocalCluster:
    """One cluster in a folder of its own. Create it once per scenario."""

    def __init__(self, name: str, directory: Path, zones: int, gateways: int) -> None:
        self.name = name
        self._folder = ClusterFolder(directory)
        self._zones, self._gateways = zones, gateways
        self._proxy: Proxy | None = None
        self._is_supervisor_paused = False
        self._frozen: set[int] = set()
        self._killed: dict[str, int] = {}

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> Target:
        directory = self._folder.path
        if directory.exists() and any(directory.iterdir()):
            raise faults.Invalid("directory", str(directory), "is not empty")
        port = free_port()
        self._command(
            "up", f"--directory={directory}", f"--port={port}", f"--zones={self._zones}",
            f"--gateways={self._gateways}", "--detach",
        )  # fmt: skip
        return self.target()

    def target(self) -> Target:
        """Endpoint and root keys of the cluster in the folder. raises NotFound"""
        identity = self._folder.load()
        key = root_account(self._folder.credentials_file).keys[0]
        endpoint = f"http://{LOOPBACK}:{identity.port}"
        return Target(self.name, endpoint, key.access_key, key.secret_key, identity.region)

    def stop(self) -> None:
        """Undo faults, stop the cluster, delete its folder."""
        for pid in list(self._frozen):
            self._signal(pid, signal.SIGCONT)
        self.resume_supervisor()
        if self._folder.exists():
            self._command("down", f"--directory={self._folder.path}")
        if self._proxy is not None:
            self._proxy.stop()
            self._proxy = None
        shutil.rmtree(self._folder.path, ignore_errors=True)

    def _command(self, *arguments: str) -> None:
        done = subprocess.run(
            ostraka(*arguments), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=COMMAND_S,
        )  # fmt: skip
        if done.returncode:
            raise faults.Unavailable(done.stderr.strip() or f"{arguments[0]} failed")

    # --- what it says of itself ----------------------------------------------------------------

    def health(self, at_s: float) -> Health | None:
        began_s = time.monotonic()
        picture = collect(self._folder)
        words = list(picture["problems"])
        words += [f"{p['name']} is {p['state']}" for p in picture["processes"]
                  if p["state"] != "running"]  # fmt: skip
        is_healthy = picture["state"] == "healthy" and not words
        degraded = int(picture["degraded_blobs"])
        answered_s = at_s + time.monotonic() - began_s
        return Health(answered_s, is_healthy, picture["state"], degraded, tuple(words))

    def repair_bytes(self) -> int:
        found = -1
        for name, port in self._folder.load().ports.items():
            if name.endswith("-admin"):
                for match in REPAIR_METRIC.finditer(_scrape(port)):
                    found = max(found, 0) + int(float(match[1]))
        return found

    # --- what can be done to it ----------------------------------------------------------------

    @property
    def nodes(self) -> list[str]:
        """Names of storage nodes, one per zone."""
        return [f"node-{number}" for number in range(1, self._zones + 1)]

    def process_names(self) -> list[str]:
        """All processes, storage nodes first."""
        names = [process["name"] for process in self._processes()]
        return sorted(names, key=lambda name: (not name.startswith("node-"), name))

    def kill(self, *names: str, stay_dead: bool = False) -> None:
        """kill -9; with stay_dead the supervisor is paused, so that nobody starts them again."""
        pids = {name: self._pid_of(name) for name in names}
        if stay_dead:
            self._pause_supervisor()
        for pid in pids.values():
            self._signal(pid, signal.SIGKILL)
        self._killed |= pids

    def resume_supervisor(self) -> None:
        """It starts again what is dead."""
        supervisor = self._folder.supervisor()
        if self._is_supervisor_paused and supervisor is not None:
            self._signal(supervisor, signal.SIGCONT)
        self._is_supervisor_paused = False

    def freeze(self, name: str) -> None:
        """SIGSTOP: the process is there, its connections too, but it does not answer."""
        pid = self._pid_of(name)
        self._signal(pid, signal.SIGSTOP)
        self._frozen.add(pid)

    def thaw(self) -> None:
        """SIGCONT for all that were frozen."""
        for pid in self._frozen:
            self._signal(pid, signal.SIGCONT)
        self._frozen.clear()

    def restart(self, name: str) -> None:
        """Stop a process in order and wait until the supervisor has it ready again."""
        before = self._pid_of(name)
        self._signal(before, signal.SIGTERM)
        self._wait(partial(self._is_ready, name, before), f"{name}'s return")

    def wait_ready(self, *names: str) -> None:
        """Wait until processes that were killed are ready again. raises Unavailable"""
        for name in names:
            self._wait(partial(self._is_ready, name, self._killed[name]), f"{name}'s return")

    @property
    def folder(self) -> ClusterFolder:
        """Where it lives."""
        return self._folder

    def pids(self) -> dict[str, tuple[str, int]]:
        """Role and process id by name, of all processes that run."""
        return {
            process["name"]: (process["role"], process["pid"])
            for process in self._processes()
            if process["pid"]
        }

    def disk_of(self, node: str) -> Path:
        """The folder of a node's only disk."""
        return self._folder.path / f"zone-{node.removeprefix('node-')}"

    def wipe(self, node: str) -> None:
        """Empty the disk of a node that does not run."""
        shutil.rmtree(self.disk_of(node))

    def configure(self, node: str, changes: Mapping[str, Any]) -> None:
        """Change settings of a node; they hold from its next start on."""
        self.replace_settings(node, self.settings(node) | dict(changes))

    def replace_settings(self, node: str, settings: Mapping[str, Any]) -> None:
        """Give a node other settings altogether; they hold from its next start on."""
        text = "".join(f"{key} = {toml(value)}\n" for key, value in settings.items())
        self._config_file(node).write_text(text, encoding="utf-8")

    def settings(self, node: str) -> dict[str, Any]:
        """A node's configuration file."""
        return tomllib.loads(self._config_file(node).read_text(encoding="utf-8"))

    def _config_file(self, node: str) -> Path:
        return self._folder.path / "config" / f"{node}.toml"

    def put_behind_proxy(self, node: str) -> None:
        """Route a node's calls, both ways, through a proxy from its next start on."""
        ports = self._folder.load().ports
        before_node, before_others = PROXY_HOSTS
        self._proxy = Proxy(
            [
                Route((before_node, ports[node]), (LOOPBACK, ports[node])),
                Route((before_others, ports["metaservice"]), (LOOPBACK, ports["metaservice"])),
            ]
        )
        self.configure(node, {"advertise_host": before_node, "metaservice_host": before_others})

    def set_weather(self, weather: Weather) -> None:
        """Change the network of the node behind the proxy."""
        assert self._proxy is not None, "nobody is behind a proxy"
        self._proxy.set(weather)

    def flip_bits(self, node: str, pages: int, random: Random) -> int:
        """Flip one bit in each of so many random pages that hold something; returns how many."""
        extents = [path for path in self.disk_of(node).rglob("*.extent") if path.stat().st_size]
        used = [(path, page) for path in extents for page in _used_pages(path)]
        chosen = random.sample(used, min(pages, len(used)))
        for path, page in chosen:
            _flip(path, page * PAGE + random.randrange(PAGE), 1 << random.randrange(8))
        return len(chosen)

    # --- details --------------------------------------------------------------------------------

    def _processes(self) -> list[dict[str, Any]]:
        processes: list[dict[str, Any]] = self._folder.read_state().get("processes", [])
        return processes

    def _pid_of(self, name: str) -> int:
        for process in self._processes():
            if process["name"] == name and process["pid"]:
                return int(process["pid"])
        raise faults.Unavailable(f"{name} does not run")

    def _is_ready(self, name: str, other_than: int) -> bool:
        for process in collect(self._folder)["processes"]:
            if process["name"] == name:
                return bool(process["state"] == "running" and process["pid"] != other_than)
        return False

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + READY_S
        while not condition():
            if time.monotonic() > deadline_s:
                raise faults.Unavailable(f"{what} did not come within {READY_S:.0f} s")
            time.sleep(POLL_S)

    def _pause_supervisor(self) -> None:
        supervisor = self._folder.supervisor()
        assert supervisor is not None, "the cluster runs"
        self._signal(supervisor, signal.SIGSTOP)
        self._is_supervisor_paused = True

    def _signal(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # it has ended already


def _scrape(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=SCRAPE_S) as reply:
            body: bytes = reply.read()
            return body
    except OSError:
        return b""  # of a process that is dead just now


def _used_pages(path: Path) -> Iterable[int]:
    """Numbers of the pages that hold anything but zeros; extents are mostly empty."""
    zeros = bytes(PIECE)
    with path.open("rb") as file:
        for first in count(0, PIECE // PAGE):
            piece = file.read(PIECE)
            if not piece:
                return
            if piece == zeros:
                continue
            for offset in range(0, len(piece), PAGE):
                if piece[offset : offset + PAGE] != zeros[:PAGE]:
                    yield first + offset // PAGE


def _flip(path: Path, offset: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        if byte:
            file.seek(offset)
            file.write(bytes([byte[0] ^ bit]))


def describe_machine() -> str:
    """Cores, memory and kernel in one line."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    gib = int(memory[1]) / 1024**2 if memory else 0
    system = os.uname()
    kernel = f"{system.sysname} {system.release}, {system.machine}"
    return f"{os.cpu_count()} cores, {gib:.0f} GiB, {kernel}"
