"""What was lost is made whole again by itself, and lies where it should.

Method: real processes; disks wiped under load, zones lost and returned empty; then every fragment
of every object is read.
"""

import hashlib
import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.cluster import Cluster, running, wait_for
from tests.support.wholeness import faults_of

SIZES = [100, 20_000, 300_000, 5_000_000]
HEALTHY_S = 90.0


class Load:
    """Writers that note what was acknowledged."""

    def __init__(self, cluster: Cluster, count: int = 2) -> None:
        self.acknowledged: dict[str, str] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(cluster.s3(), number))
            for number in range(count)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, s3: Any, worker: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            data = os.urandom(SIZES[number % len(SIZES)])
            key = f"load/{worker}/{number % 40}"
            self.acknowledged.pop(key, None)
            try:
                s3.put_object(Bucket="bucket", Key=key, Body=data)
            except (ClientError, BotoCoreError):
                continue
            self.acknowledged[key] = hashlib.sha256(data).hexdigest()


def assert_all_there(s3: Any, acknowledged: dict[str, str]) -> None:
    for key, digest in acknowledged.items():
        data = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
        assert hashlib.sha256(data).hexdigest() == digest, key


def freeze(cluster: Cluster, *numbers: int) -> dict[int, int]:
    """Stop nodes without the supervisor noticing; returns their pids."""
    pids = {number: cluster.pid_of(f"node-{number}") for number in numbers}
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    return pids


def wipe_and_kill(cluster: Cluster, pids: dict[int, int]) -> None:
    """Empty the nodes' disks; the supervisor starts the nodes again."""
    for number, pid in pids.items():
        shutil.rmtree(cluster.data / f"zone-{number}")
        os.kill(pid, signal.SIGKILL)


def is_whole(cluster: Cluster) -> bool:
    picture = cluster.status()
    return picture["state"] == "healthy" and picture["degraded_blobs"] == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_node_killed_and_its_disk_wiped_under_load(cluster: Cluster) -> None:
    s3 = cluster.s3()
    s3.create_bucket(Bucket="bucket")
    with Load(cluster) as load:
        wait_for(lambda: len(load.acknowledged) > 40, "some load", 60)
        wipe_and_kill(cluster, freeze(cluster, 3))
        wait_for(lambda: cluster.status()["repair"]["bytes_done"] > 0, "repair", 60)
    wait_for(lambda: is_whole(cluster), "full health", HEALTHY_S)
    assert_all_there(s3, load.acknowledged)
    assert await faults_of(cluster, s3, "bucket") == []


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_two_zones_lost_while_writing_return_empty(cluster: Cluster) -> None:
    s3 = cluster.s3()
    s3.create_bucket(Bucket="bucket")
    fixed = os.urandom(300_000)
    s3.put_object(Bucket="bucket", Key="fixed", Body=fixed)
    with Load(cluster) as load:
        wait_for(lambda: len(load.acknowledged) > 40, "some load", 60)
        pids = freeze(cluster, 2, 5)
        wait_for(lambda: cluster.status()["degraded_blobs"] > 10, "degraded writes", 60)
        assert s3.get_object(Bucket="bucket", Key="fixed")["Body"].read() == fixed
        wipe_and_kill(cluster, pids)
    wait_for(lambda: is_whole(cluster), "full health", HEALTHY_S)
    assert_all_there(s3, load.acknowledged)
    assert await faults_of(cluster, s3, "bucket") == []


def disks(cluster: Cluster) -> dict[int, dict[str, Any]]:
    done = cluster.command("admin", "disk", "list", "--directory", str(cluster.data))
    return {entry["disk_id"]: entry for entry in json.loads(done.stdout)}


def change(cluster: Cluster, verb: str, disk_id: int, *options: str) -> int:
    where = ["--directory", str(cluster.data)]
    return cluster.command("admin", "disk", verb, str(disk_id), *options, *where).returncode


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_disk_is_drained_under_load_and_removed(tmp_path: Path) -> None:
    with running(tmp_path, zones=7) as cluster:
        s3 = cluster.s3()
        s3.create_bucket(Bucket="bucket")
        with Load(cluster) as load:
            wait_for(lambda: len(load.acknowledged) > 40, "some load", 60)
            assert change(cluster, "remove", 4) == 1, "it is in use"
            assert change(cluster, "drain", 4) == 0
            wait_for(lambda: disks(cluster)[4]["fragments_named"] == 0, "the drain", 90)
        wait_for(lambda: change(cluster, "remove", 4) == 0, "the removal", 60)
        wait_for(lambda: is_whole(cluster), "full health", HEALTHY_S)
        assert_all_there(s3, load.acknowledged)
        assert await faults_of(cluster, s3, "bucket") == []
