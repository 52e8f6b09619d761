"""Bits flip in the metadata's files of a running cluster: nothing wrong is said, and it comes back.

Method: real processes; bytes changed in every table file, in the log, and the service killed; then
what clients hear, what status and metrics tell, and the way back that the messages name.
"""

import os
import shutil
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from cli.folder import ClusterFolder
from tests.support.cluster import Cluster, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]
OBJECTS = 60
SPACING_BYTES = 1500  # between two changed bytes of a file: every block of rows has one
ANSWERS_S = 5.0


def spoil(path: Path, begin: int = 0) -> None:
    """Change bytes all over a file, its footer left alone so that it can be opened."""
    with path.open("r+b") as file:
        for at in range(begin, max(begin + 1, path.stat().st_size - 2000), SPACING_BYTES):
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 0x10]))


def restart_service(cluster: Cluster, spoiled: str) -> None:
    """Spoil files of the running service, and kill it; its supervisor starts it again."""
    paths = list((cluster.data / "meta").glob(spoiled))
    assert paths
    pid = cluster.pid_of("metaservice")
    for path in paths:
        spoil(path, 100)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid_of_service(cluster) not in (None, pid), "another process", 60)


def pid_of_service(cluster: Cluster) -> int | None:
    processes = ClusterFolder(cluster.data).read_state()["processes"]
    return next(process["pid"] for process in processes if process["name"] == "metaservice")


def metric(cluster: Cluster, process: str, name: str) -> float:
    port = ClusterFolder(cluster.data).load().ports[f"{process}-admin"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        lines = reply.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def hear(s3: Any, bodies: dict[str, bytes]) -> int:
    """Ask for everything; only right answers and plain failures are allowed. Returns failures."""
    failures = 0
    for key, body in bodies.items():
        try:
            answer = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500, (key, error)
            failures += 1
        except BotoCoreError:
            failures += 1
        else:
            assert answer == body, key
        if failures > 3:
            break
    return failures


def recovered(cluster: Cluster, bodies: dict[str, bytes]) -> None:
    """The way back that the messages name; everything is there afterwards."""
    cluster.stop()
    shutil.rmtree(cluster.data / "meta")
    done = cluster.command("recover", "metadata", "--directory", str(cluster.data))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost:" not in done.stdout
    cluster.start()
    s3 = cluster.s3()
    for key, body in bodies.items():
        assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == body, key


def test_spoiled_metadata_is_never_served_and_comes_back(cluster: Cluster) -> None:
    s3 = cluster.s3()
    s3.create_bucket(Bucket="bucket")
    wait_for(lambda: "own disk" in cluster.status()["metadata_survives"], "the journal")
    bodies = {f"key-{n}": os.urandom(20_000 if n % 10 == 0 else 600) for n in range(OBJECTS)}
    for key, body in bodies.items():
        s3.put_object(Bucket="bucket", Key=key, Body=body)
    pid = cluster.pid_of("metaservice")
    os.kill(pid, signal.SIGKILL)  # the next one writes its log into a table file
    wait_for(lambda: cluster.is_back("metaservice", pid), "the service's return", 60)

    once = cluster.s3(retries={"max_attempts": 1}, read_timeout=ANSWERS_S)
    restart_service(cluster, "*.sst")
    wait_for(lambda: hear(once, bodies) > 0, "somebody who finds it", 60)
    if cluster.is_back("metaservice", pid):  # its files could be opened: rows could not be read
        assert any("metadata" in problem for problem in cluster.status()["problems"])
        assert metric(cluster, "metaservice", "ostraka_meta_unreadable_total") > 0
    recovered(cluster, bodies)

    bodies["late"] = b"acknowledged"
    cluster.s3().put_object(Bucket="bucket", Key="late", Body=bodies["late"])
    wait_for(lambda: "own disk" in cluster.status()["metadata_survives"], "the journal again", 60)
    restart_service(cluster, "*.log")
    begun_s = time.monotonic()
    wait_for(
        lambda: "recover metadata" in log_of(cluster) or time.monotonic() > begun_s + ANSWERS_S,
        "the message",
    )
    assert hear(once, bodies) > 0, "what was in the log is not served"
    assert "recover metadata" in log_of(cluster)
    recovered(cluster, bodies)


def log_of(cluster: Cluster) -> str:
    return (cluster.data / "logs" / "metaservice.log").read_text()
