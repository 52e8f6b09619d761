"""Processes die at bad moments; acknowledged objects must be there, and whole.

Method: real processes, SIGKILL, boto3 with its ordinary retries.
"""

import hashlib
import io
import json
import os
import shutil
import signal
import threading
from random import Random
from typing import Any

import pytest
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from common.erasure.layout import FULL_CELL_BYTES, layout_of
from tests.support.cluster import Cluster, wait_for
from tests.support.s3 import node_bytes_read

SIZES = [100, 20_000, 300_000, 5_000_000]
LOAD_SIZES = [*SIZES, 17_000_000]
TRIES = 4
PARTS = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=5 << 20, max_concurrency=3)


def put_some(s3: Any, bucket: str, prefix: str, count: int = 12) -> dict[str, str]:
    """Put objects; returns the SHA-256 of each acknowledged one."""
    acknowledged = {}
    for number in range(count):
        data = os.urandom(SIZES[number % len(SIZES)])
        key = f"{prefix}/{number}"
        s3.put_object(Bucket=bucket, Key=key, Body=data)
        acknowledged[key] = hashlib.sha256(data).hexdigest()
    return acknowledged


def assert_all_there(s3: Any, bucket: str, acknowledged: dict[str, str]) -> None:
    for key, digest in acknowledged.items():
        data = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert hashlib.sha256(data).hexdigest() == digest, key


def test_two_storage_nodes_killed(cluster: Cluster) -> None:
    s3 = cluster.s3()
    s3.create_bucket(Bucket="bucket")
    acknowledged = put_some(s3, "bucket", "before")
    for name in ("node-2", "node-5"):
        # Frozen first, so that the supervisor does not start it again while the test runs.
        os.kill(cluster.pid_of(name), signal.SIGSTOP)
    wait_for(lambda: cluster.status()["state"] == "degraded", "degraded")
    assert_all_there(s3, "bucket", acknowledged)
    acknowledged |= put_some(s3, "bucket", "during")
    assert_all_there(s3, "bucket", acknowledged)
    status = cluster.status()
    assert any("node-2" in problem for problem in status["problems"])
    for name in ("node-2", "node-5"):
        os.kill(cluster.pid_of(name), signal.SIGKILL)
    wait_for(lambda: _all_alive(cluster), "the nodes' return", 60)
    acknowledged |= put_some(s3, "bucket", "after")
    assert_all_there(s3, "bucket", acknowledged)


def _all_alive(cluster: Cluster) -> bool:
    return not any("does not answer" in problem for problem in cluster.status()["problems"])


def test_ranges_with_two_zones_killed_read_only_what_they_need(cluster: Cluster) -> None:
    """What is on dead disks is computed from the same blocks of k others, and of no more.

    Method: the nodes' counters around a read. Others (workers, a spare read beside a slow one) may
    read meanwhile, so that one of some tries must be as small as it can be.
    """
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    random, s3 = Random(seed), cluster.s3()
    s3.create_bucket(Bucket="bucket")
    size = 9_000_000  # two full stripes and a short one
    bodies = {str(number): os.urandom(size) for number in range(4)}
    for key, body in bodies.items():
        s3.put_object(Bucket="bucket", Key=key, Body=body)
    killed = {"node-2", "node-5"}
    pids = [cluster.pid_of(name) for name in killed]
    supervisor = json.loads((cluster.data / "run" / "state.json").read_text())["supervisor"]
    os.kill(supervisor, signal.SIGSTOP)  # nobody starts them again
    try:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        healthy_bytes = read_bytes = 0
        for key, body in bodies.items():
            for begin in random.sample(range(size), 3):
                end = min(size, begin + random.choice((1, 70_000, 300_000)))
                needed, most = _blocks_of(begin, end, size)
                for _ in range(TRIES):
                    before = node_bytes_read(cluster, killed)
                    got = s3.get_object(Bucket="bucket", Key=key, Range=f"bytes={begin}-{end - 1}")
                    assert got["Body"].read() == body[begin:end], (key, begin, end)
                    read = node_bytes_read(cluster, killed) - before
                    if read <= most:
                        break
                assert 0 < read <= most, (key, begin, end)
                healthy_bytes, read_bytes = healthy_bytes + needed, read_bytes + read
            assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == body
        assert read_bytes > healthy_bytes, "some cells were computed"
    finally:
        os.kill(supervisor, signal.SIGCONT)


def _blocks_of(begin: int, end: int, size: int) -> tuple[int, int]:
    """Bytes of the blocks that hold a range, and those of k cells that any of it is made from."""
    needed = most = 0
    layout = layout_of(4, 2, size, FULL_CELL_BYTES)
    for read in layout.locate(begin, end):
        spans = [span for span in read.cells if span[1]]
        needed += sum(last - first for first, last in spans)
        most += 4 * (max(last for _, last in spans) - min(first for first, _ in spans))
    return needed, most


def test_three_zones_away_answer_unavailable_then_everything_is_there(cluster: Cluster) -> None:
    once = cluster.s3(retries={"total_max_attempts": 1})
    once.create_bucket(Bucket="bucket")
    acknowledged = put_some(once, "bucket", "before")
    names = ("node-1", "node-3", "node-6")
    for name in names:
        os.kill(cluster.pid_of(name), signal.SIGSTOP)
    wait_for(lambda: cluster.status()["state"] == "unavailable", "unavailable")
    with pytest.raises(ClientError) as refused:  # an answer, not a body that breaks off
        once.get_object(Bucket="bucket", Key="before/3")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    for name in names:
        os.kill(cluster.pid_of(name), signal.SIGKILL)
    wait_for(lambda: _all_alive(cluster), "the nodes' return", 60)
    assert_all_there(cluster.s3(), "bucket", acknowledged)


def test_everything_killed_under_load(cluster: Cluster) -> None:
    s3 = cluster.s3()
    s3.create_bucket(Bucket="bucket")
    acknowledged: dict[str, str] = {}
    attempted: dict[str, set[str]] = {}
    stop = threading.Event()

    def load(worker: int) -> None:
        client, number = cluster.s3(), 0
        while not stop.is_set():
            number += 1
            data = os.urandom(LOAD_SIZES[number % len(LOAD_SIZES)])
            key, digest = f"{worker}/{number % 20}", hashlib.sha256(data).hexdigest()
            attempted.setdefault(key, set()).add(digest)
            try:
                # From PARTS on in parts, several at once; smaller ones in one PUT.
                client.upload_fileobj(io.BytesIO(data), "bucket", key, Config=PARTS)
            except (ClientError, BotoCoreError, Boto3Error):
                acknowledged.pop(key, None)
                return
            acknowledged[key] = digest

    threads = [threading.Thread(target=load, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(acknowledged) > 30, "some load", 60)
    cluster.kill_everything()
    stop.set()
    for thread in threads:
        thread.join()
    cluster.start()
    assert_all_there(s3, "bucket", acknowledged)
    assert any(size_of(s3, key) > PARTS.multipart_threshold for key in acknowledged)
    listed = s3.list_objects_v2(Bucket="bucket").get("Contents", [])
    for entry in listed:
        data = s3.get_object(Bucket="bucket", Key=entry["Key"])["Body"].read()
        assert hashlib.sha256(data).hexdigest() in attempted[entry["Key"]]


def size_of(s3: Any, key: str) -> int:
    size: int = s3.head_object(Bucket="bucket", Key=key)["ContentLength"]
    return size


def test_metadata_service_killed(cluster: Cluster) -> None:
    s3 = cluster.s3()
    s3.create_bucket(Bucket="bucket")
    acknowledged = put_some(s3, "bucket", "before")
    os.kill(cluster.pid_of("metaservice"), signal.SIGKILL)
    acknowledged |= put_some(s3, "bucket", "after")
    assert_all_there(s3, "bucket", acknowledged)


def test_commits_that_only_the_journal_has_come_back_while_all_starts(cluster: Cluster) -> None:
    """The metadata service starts twice then; `ostraka up` takes that for no failure."""
    s3 = cluster.s3()
    s3.create_bucket(Bucket="bucket")
    wait_for(lambda: cluster.status()["metadata_journal"]["checkpoint_time"] > 0, "a checkpoint")
    metadata, log = cluster.data / "meta", cluster.data / "logs" / "metaservice.log"
    older, pid = cluster.folder / "older", cluster.pid_of("metaservice")
    os.kill(pid, signal.SIGSTOP)  # so that the copy is of one moment
    shutil.copytree(metadata, older)
    os.kill(pid, signal.SIGCONT)
    acknowledged = put_some(s3, "bucket", "late")
    cluster.kill_everything()
    shutil.rmtree(metadata)
    older.rename(metadata)
    cluster.start()
    assert "came back from the journal's nodes" in log.read_text()
    assert_all_there(s3, "bucket", acknowledged)
    assert cluster.status()["problems"] == []
