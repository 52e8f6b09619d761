"""A real local cluster for tests: processes on loopback, free ports, a temporary folder.

Everything is bounded in time and nothing is left running. On a failure the ends of the logs are
printed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from cli.folder import ClusterFolder
from cli.ports import free_port
from cli.status import collect

START_S = 90.0
WAIT_S = 30.0
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "OSTKTESTROOT00000001", "test-root-secret-key"
OTHER_ACCESS_KEY, OTHER_SECRET_KEY = "OSTKTESTOTHER0000001", "test-other-secret-key"
BOOTSTRAP = f"""
region = "{REGION}"
domains = ["s3.localhost", "eu.s3.localhost", "objects.test"]
[[accounts]]
id = "111111111111"
name = "root"
[[accounts.keys]]
access_key = "{ACCESS_KEY}"
secret_key = "{SECRET_KEY}"
[[accounts]]
id = "222222222222"
name = "other"
[[accounts.keys]]
access_key = "{OTHER_ACCESS_KEY}"
secret_key = "{OTHER_SECRET_KEY}"
"""


class Cluster:
    """One cluster under test."""

    def __init__(
        self,
        folder: Path,
        zones: int = 6,
        gateways: int = 1,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """extra: environment of the cluster's processes"""
        self.folder = folder
        self.extra = dict(extra or {})
        self.data = folder / "cluster"
        self.zones, self.gateways = zones, gateways
        self.port = free_port()
        (folder / "bootstrap.toml").write_text(BOOTSTRAP)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """For command-line clients."""
        inherited = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
        return {
            **inherited,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "HOME": str(self.folder),
        }

    def command(
        self, *arguments: str, timeout_s: float = START_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run `ostraka` and return what it said."""
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=os.environ | self.extra,
        )

    def start(self) -> None:
        """Start, or start again on the same data."""
        done = self.command(
            "up", "--directory", str(self.data), "--port", str(self.port),
            "--bootstrap", str(self.folder / "bootstrap.toml"), "--detach",
            "--zones", str(self.zones), "--gateways", str(self.gateways),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + self.logs()

    def stop(self) -> None:
        """Stop in order."""
        done = self.command("down", "--directory", str(self.data))
        assert done.returncode == 0, done.stderr

    def kill_everything(self) -> None:
        """kill -9 of the supervisor and of every process."""
        state = json.loads((self.data / "run" / "state.json").read_text())
        pids = [state["supervisor"]] + [p["pid"] for p in state["processes"] if p["pid"]]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the end")

    def pid_of(self, name: str) -> int:
        """The pid of a process by its name."""
        processes = self.status()["processes"]
        pid: int = next(process["pid"] for process in processes if process["name"] == name)
        return pid

    def is_back(self, name: str, other_than: int) -> bool:
        """Whether a process runs again, as another one."""
        return any(
            process["name"] == name
            and process["state"] == "running"
            and process["pid"] != other_than
            for process in self.status()["processes"]
        )

    def restart(self, name: str) -> None:
        """Stop a process in order and wait until it runs again."""
        pid = self.pid_of(name)
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: self.is_back(name, pid), f"{name}'s return", START_S)

    def status(self) -> dict[str, Any]:
        """What `ostraka status --json` prints, without a process of its own: tests poll it."""
        # In a thread, as tests may have a running loop.
        with ThreadPoolExecutor(1) as thread:
            found = thread.submit(collect, ClusterFolder(self.data)).result()
        picture: dict[str, Any] = json.loads(json.dumps(found))
        return picture

    def s3(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY, **options: Any) -> Any:
        """A boto3 client."""
        config = Config(**{"retries": {"max_attempts": 5, "mode": "standard"}, **options})
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=config,
        )

    def other(self) -> Any:
        """A boto3 client of another account."""
        return self.s3(OTHER_ACCESS_KEY, OTHER_SECRET_KEY)

    def logs(self, lines: int = 15) -> str:
        """The ends of all logs."""
        ends = []
        for path in sorted((self.data / "logs").glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            ends.append("\n".join([f"--- {path.name}", *tail]))
        return "\n".join(ends)


@contextmanager
def running(
    folder: Path, zones: int = 6, gateways: int = 1, settings: str = ""
) -> Iterator[Cluster]:
    """A started cluster, gone afterwards with its data, unless the test fails.

    settings: its settings.toml
    """
    cluster = Cluster(folder, zones, gateways)
    if settings:
        cluster.data.mkdir()
        (cluster.data / "settings.toml").write_text(settings)
    try:
        cluster.start()
        yield cluster
    finally:
        if (cluster.data / "run" / "state.json").exists():
            cluster.stop()
    # A module's cluster would fill the disk until the session's end.
    shutil.rmtree(cluster.data)


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Poll until a condition holds. raises AssertionError"""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not come within {timeout_s} s"
        time.sleep(0.02)
