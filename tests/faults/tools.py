"""Real tools at work together while something is done to the cluster.

Each flow is one of the client tests: it moves files up and down and compares every byte. Retries
are the tools' own. Against a cluster that runs elsewhere, with a command that disturbs it midway:

    [TEST_CLIENTS=long] python -m tests.faults.tools ENDPOINT CREDENTIALS.TOML 'COMMAND'
"""

import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration import test_clients as clients
from tests.integration import test_clients_sdk as clients_sdk
from tests.support import cluster as support
from tests.support.cluster import Cluster, wait_for

Flow = Callable[[Cluster, str, Path], None]
FLOWS: dict[str, Flow] = {
    "aws-sync": clients.test_aws_cli_sync,
    "aws-cp": clients.test_aws_cli_copies_a_large_file,
    "boto3": lambda cluster, bucket, folder: clients.test_boto3_transfers_in_parallel_parts(
        cluster.s3(), bucket, folder
    ),
    "rclone": clients.test_rclone_sync_and_check,
    "restic": clients.test_restic_backup_and_restore,
    "s3cmd": clients.test_s3cmd_round_trip,
    "parquet": clients.test_pandas_reads_parquet_by_ranges,
    "sdk-javascript": clients_sdk.test_javascript_sdk,
    "sdk-go": clients_sdk.test_go_sdk,
}
BEGIN_S = 120.0


def run_together(cluster: Cluster, folder: Path, disturb: Callable[[], Any]) -> dict[str, str]:
    """Run all flows at once, disturb once they are at work; how each ended, "" being well."""
    s3 = cluster.s3()
    for name in FLOWS:
        s3.create_bucket(Bucket=name)
        (folder / name).mkdir()
    with ThreadPoolExecutor(len(FLOWS)) as pool:
        running = {name: pool.submit(_run, cluster, name, folder / name) for name in FLOWS}
        wait_for(lambda: _at_work(s3) >= len(FLOWS) // 2, "tools at work", BEGIN_S)
        disturb()
        return {name: future.result() for name, future in running.items()}


def _run(cluster: Cluster, name: str, folder: Path) -> str:
    begun_s = time.monotonic()
    try:
        FLOWS[name](cluster, name, folder)
    except pytest.skip.Exception as skipped:
        return str(skipped.msg) if "not installed" not in str(skipped.msg) else ""
    except Exception as error:  # whatever a tool says is the finding
        return f"{type(error).__name__}: {error}"
    finally:
        print(f"{name}: {time.monotonic() - begun_s:.0f} s", flush=True)
    return ""


def _at_work(s3: Any) -> int:
    return sum(
        "Contents" in s3.list_objects_v2(Bucket=name, MaxKeys=1)
        or "Uploads" in s3.list_multipart_uploads(Bucket=name)
        for name in FLOWS
    )


class KillAgain:
    """Kills processes of a local cluster whenever its supervisor has started them again."""

    def __init__(self, pid_of: Callable[[str], int | None], *names: str) -> None:
        self._pid_of = pid_of
        self._names = names
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.kills = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._is_over.wait(0.05):
            for name in self._names:
                pid = self._pid_of(name)
                if pid is not None:
                    subprocess.run(["kill", "-9", str(pid)], check=False, capture_output=True)
                    self.kills += 1


class Elsewhere(Cluster):
    """A cluster that was not started here."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        super().__init__(folder)
        self.port = int(endpoint.rpartition(":")[2])


def main(endpoint: str, credentials: str, command: str) -> int:
    key = tomllib.loads(Path(credentials).read_text())["accounts"][0]["keys"][0]
    for module in (support, clients):
        module.ACCESS_KEY, module.SECRET_KEY = key["access_key"], key["secret_key"]
    Cluster.s3.__defaults__ = (key["access_key"], key["secret_key"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ends = run_together(
            Elsewhere(folder, endpoint), folder, lambda: subprocess.run(command, shell=True)
        )
    for name, words in ends.items():
        print(f"{name}: {words or 'well'}")
    return any(ends.values())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
