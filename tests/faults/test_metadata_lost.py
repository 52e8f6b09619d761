"""The metadata's folder and a zone are destroyed under load, and brought back from the nodes.

Goal: nothing acknowledged is lost, and histories over the loss and the recovery are linearizable;
the old metadata, started again, acknowledges nothing. Method: writers and readers through S3 on
keys of their own and on contended ones; kill -9 of the metadata service, its folder and a zone's
disk removed; `ostraka recover metadata`, `ostraka up`; everything read back.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from cli.ports import free_port
from common.rocks import RocksDatabase
from tests.support.cluster import Cluster, wait_for
from tests.support.linearizability import Kind, Operation, Register, check

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]

BUCKET = "kept"
WRITERS = 4
CONTENDED = ("x", "y")
LARGE_BYTES = 100_000


class Load:
    """Clients that write until told to stop, and what they saw."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self.acknowledged: dict[str, bytes] = {}
        self.history: dict[str, list[Operation]] = {key: [] for key in CONTENDED}
        self._pool = ThreadPoolExecutor(WRITERS)
        self._running = [self._pool.submit(self._work, number) for number in range(WRITERS)]

    def stop(self) -> None:
        """Let every client finish its request."""
        self._stop.set()
        self._pool.shutdown()
        for done in self._running:
            done.result()

    def _work(self, writer: int) -> None:
        s3 = self._cluster.s3(
            retries={"max_attempts": 1, "mode": "standard"}, connect_timeout=1, read_timeout=3
        )
        while not self._stop.is_set():
            number = next(self._numbers)
            self._put_own(s3, f"own/{writer}/{number}", number)
            key = CONTENDED[number % len(CONTENDED)]
            if number % 3:
                self._write(s3, key, number)
            else:
                self.read(s3, key)

    def _put_own(self, s3: Any, key: str, number: int) -> None:
        size = LARGE_BYTES if number % 5 == 0 else 500
        body = f"{number} ".encode() * (size // 8)
        try:
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        except (ClientError, BotoCoreError):
            return
        with self._lock:
            self.acknowledged[key] = body

    def _write(self, s3: Any, key: str, number: int) -> None:
        begin_s = time.monotonic()
        try:
            s3.put_object(Bucket=BUCKET, Key=key, Body=str(number).encode())
        except (ClientError, BotoCoreError):
            operation = Operation(Kind.PUT, begin_s, value=str(number))
        else:
            operation = Operation(Kind.PUT, begin_s, time.monotonic(), str(number))
        with self._lock:
            self.history[key].append(operation)

    def read(self, s3: Any, key: str) -> None:
        """One look at a contended key."""
        begin_s = time.monotonic()
        value: str | None = None
        try:
            value = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                return
        except BotoCoreError:
            return
        with self._lock:
            self.history[key].append(Operation(Kind.READ, begin_s, time.monotonic(), value))


def test_metadata_and_a_zone_destroyed_under_load(cluster: Cluster) -> None:
    s3 = cluster.s3()
    s3.create_bucket(Bucket=BUCKET)
    wait_for(lambda: "own disk" in cluster.status()["metadata_survives"], "the journal")
    load = Load(cluster)
    try:
        wait_for(lambda: len(load.acknowledged) > 100, "some load")
        old = cluster.folder / "old"
        os.kill(cluster.pid_of("metaservice"), signal.SIGKILL)
        shutil.copytree(cluster.data / "meta", old)  # what a machine that was cut off still has
        shutil.rmtree(cluster.data / "meta", ignore_errors=True)
        os.kill(cluster.pid_of("node-2"), signal.SIGKILL)
        shutil.rmtree(cluster.data / "zone-2", ignore_errors=True)
    finally:
        load.stop()
    acknowledged = dict(load.acknowledged)
    cluster.stop()

    refused = cluster.command("up", "--directory", str(cluster.data), "--detach")
    assert refused.returncode == 1 and "ostraka recover metadata" in refused.stderr
    done = cluster.command("recover", "metadata", "--directory", str(cluster.data))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost:" not in done.stdout

    cluster.start()
    s3 = cluster.s3()
    for key, body in acknowledged.items():
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body, key
    for key in CONTENDED:
        load.read(s3, key)
        verdict = check(load.history[key], Register())
        assert verdict, f"{key}: {verdict}"
    s3.put_object(Bucket=BUCKET, Key="after", Body=b"it goes on")

    assert_zombie_is_fenced(cluster)
    assert s3.get_object(Bucket=BUCKET, Key="after")["Body"].read() == b"it goes on"
    wait_for(lambda: "own disk" in cluster.status()["metadata_survives"], "the journal again")


def test_a_frozen_service_that_was_taken_over_acknowledges_nothing(cluster: Cluster) -> None:
    s3 = cluster.s3(retries={"max_attempts": 1}, read_timeout=4)
    s3.create_bucket(Bucket=BUCKET)
    wait_for(lambda: "own disk" in cluster.status()["metadata_survives"], "the journal")
    for number in range(20):
        s3.put_object(Bucket=BUCKET, Key=f"before/{number}", Body=b"acknowledged")
    picture = cluster.status()
    addresses = [p["address"] for p in picture["processes"] if p["role"] == "storagenode"]
    zombie = cluster.pid_of("metaservice")
    os.kill(zombie, signal.SIGSTOP)
    target = cluster.folder / "taken-over"
    done = cluster.command(
        "recover", "metadata", "--secret", str(cluster.data / "secret"),
        "--keyring", str(cluster.data / "keyring.json"), "--target", str(target),
        *[f"--nodes={address}" for address in addresses],
    )  # fmt: skip
    os.kill(zombie, signal.SIGCONT)
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.raises((ClientError, BotoCoreError)):
        s3.put_object(Bucket=BUCKET, Key="late", Body=b"1")
    wait_for(lambda: not os.path.exists(f"/proc/{zombie}"), "the zombie's end")  # noqa: PTH110
    with pytest.raises((ClientError, BotoCoreError)):  # started again by its supervisor
        s3.put_object(Bucket=BUCKET, Key="later", Body=b"1")

    database = RocksDatabase(target)
    try:
        heads = database.scan(b"h", b"i", 1000)
    finally:
        database.close()
    names = {key[9:].decode() for key, _ in heads}
    assert names == {f"before/{number}" for number in range(20)}


def assert_zombie_is_fenced(cluster: Cluster) -> None:
    """The old folder, started again beside the new service, ends by itself."""
    text = (cluster.data / "config" / "metaservice.toml").read_text()
    config = cluster.folder / "zombie.toml"
    lines = [line for line in text.splitlines() if not line.startswith(("directory", "port"))]
    lines = [line for line in lines if not line.startswith(("control_port", "admin_port"))]
    folder = json.dumps(str(cluster.folder / "old"))
    config.write_text("\n".join([f"directory = {folder}", f"port = {free_port()}", *lines]))
    zombie = subprocess.run(
        [sys.executable, "-m", "cli.main", "metaservice", "--config", str(config)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert zombie.returncode != 0
    assert "newer journal" in zombie.stdout + zombie.stderr
