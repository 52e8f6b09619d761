"""What is measured: an S3 endpoint, and the processes behind it as far as they are known.

An endpoint is named on the command line as one of

    NAME=URL,ACCESS_KEY,SECRET_KEY            any S3 store
    NAME=URL,ACCESS_KEY,SECRET_KEY,PID+PID    and the processes that serve it, on this machine
    NAME=FOLDER                               a running local cluster of `ostraka up`
"""

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.cluster import LocalCluster
from benchmarks.s3.signing import Target
from cli.folder import ClusterFolder
from common import faults

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
RESET_PEAK = "5"  # source  proc(5), clear_refs
CLIENT = "client"
SERVER = "server"


@dataclass(frozen=True, slots=True)
class Process:
    """One process of an endpoint."""

    name: str
    role: str
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds since it started, all threads, user and system; 0.0 if it has ended."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return 0.0
        fields = text.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def peak_bytes(self) -> int:
        """The most memory it has had resident since it started, or since `reset_peak`."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        for line in text.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def reset_peak(self) -> None:
        """Let the peak be what is resident now, where the kernel allows it."""
        try:
            Path(f"/proc/{self.pid}/clear_refs").write_text(RESET_PEAK)
        except OSError:
            return  # the figure is then of the whole life of the process


class Endpoint:
    """One store under test."""

    def __init__(
        self, target: Target, cluster: LocalCluster | None = None, pids: tuple[int, ...] = ()
    ) -> None:
        self.target = target
        self.cluster = cluster
        self._pids = pids

    @property
    def name(self) -> str:
        """As the table shows it."""
        return self.target.name

    def processes(self) -> list[Process]:
        """The processes behind it now, and our own."""
        ours = Process(CLIENT, CLIENT, os.getpid())
        if self.cluster is not None:
            known = self.cluster.pids().items()
            return [*[Process(name, role, pid) for name, (role, pid) in known], ours]
        return [*[Process(f"{SERVER} {pid}", SERVER, pid) for pid in self._pids], ours]

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by role."""
        used: dict[str, float] = {}
        for process in self.processes():
            used[process.role] = used.get(process.role, 0.0) + process.cpu_s()
        return used


def parse_endpoint(text: str) -> Endpoint:
    """Read one endpoint of the command line. raises Invalid, NotFound"""
    name, separator, rest = text.partition("=")
    if not separator or not name or not rest:
        raise faults.Invalid("endpoint", text, "is not NAME=URL,ACCESS_KEY,SECRET_KEY")
    if not rest.startswith("http"):
        folder = ClusterFolder(Path(rest))
        identity = folder.load()
        cluster = LocalCluster(name, folder.path, identity.zones, identity.gateways)
        return Endpoint(cluster.target(), cluster)
    url, *keys = rest.split(",")
    if len(keys) not in (2, 3) or url.startswith("https"):
        raise faults.Invalid("endpoint", text, "is not NAME=http://HOST:PORT,ACCESS_KEY,SECRET_KEY")
    try:
        pids = tuple(int(pid) for pid in keys[2].split("+")) if len(keys) == 3 else ()
    except ValueError as error:
        raise faults.Invalid("endpoint", text, "names processes by numbers: PID+PID") from error
    return Endpoint(Target(name, url.rstrip("/"), keys[0], keys[1]), pids=pids)
