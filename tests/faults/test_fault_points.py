"""Every process dies at every fault point, once, under load: nothing acknowledged is lost or mixed.

Method: one real cluster started for tests; each point is armed in the process it belongs to, by its
admin port; clients write until that process has died and is back. What was acknowledged is read
back byte for byte; what was not is old or new, whole. Points of the collector are reached by moving
the metadata service's clock beyond the grace: old blobs and what dead gateways left are due.
"""

import hashlib
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from cli.folder import ClusterFolder
from cli.status import collect
from common.fault_points import POINTS
from tests.faults.shim import Shim
from tests.support.cluster import Cluster, wait_for

BUCKET = "bucket"
BACK_S = 60.0
PROCESSES = {"gateway": "gateway-1", "metadata service": "metaservice", "storage node": "node-2",
             "workers": "workers"}  # fmt: skip
SIZES = (300, 200_000, 200_000, 5_000_000)
KEYS = 6  # of each writer: overwritten again and again
COLLECTOR = ("garbage.after_fragments", "orphans.after_fragments")
PAIRS = (
    ("journal.before_sync", "repair.after_claim"),
    ("journal.after_sync", "repair.before_commit"),
    ("fragment.before_write", "repair.after_commit"),
)
# A disk is read again only after a pause: tests/contract/test_scrub.py ends a pass there instead.
ELSEWHERE = ("scrub.after_verify",)
ORDINARY = [point for point in POINTS if point not in {*COLLECTOR, *ELSEWHERE, *sum(PAIRS, ())}]
WRONG_MD5 = "AAAAAAAAAAAAAAAAAAAAAA=="
SEED = int(os.environ.get("FAULTS_SEED", "1"))


class Writer:
    """Overwrites its own keys; knows what each may hold."""

    def __init__(self, s3: Any, name: str, random: Random) -> None:
        self._s3, self._name, self._random = s3, name, random
        self.may_be: dict[str, set[str]] = {}

    def step(self, number: int) -> None:
        """Write once, in one piece or in parts."""
        key = f"{self._name}/{number % KEYS}"
        data = self._random.randbytes(self._random.choice(SIZES))
        digest = hashlib.sha256(data).hexdigest()
        known = self.may_be.setdefault(key, {""})
        known.add(digest)
        try:
            if number % 4 == 3:
                self._multipart(key, data)
            elif number % 4 == 2:  # stored, then refused and given up: fragments are deleted
                known.discard(digest)
                self._s3.put_object(Bucket=BUCKET, Key=key, Body=data, ContentMD5=WRONG_MD5)
            else:
                self._s3.put_object(Bucket=BUCKET, Key=key, Body=data)
        except (ClientError, BotoCoreError):
            return  # old or new
        self.may_be[key] = {digest}

    def _multipart(self, key: str, data: bytes) -> None:
        where = {"Bucket": BUCKET, "Key": key}
        upload = {**where, "UploadId": self._s3.create_multipart_upload(**where)["UploadId"]}
        part = self._s3.upload_part(**upload, PartNumber=1, Body=data)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        self._s3.complete_multipart_upload(**upload, MultipartUpload=parts)

    def check(self) -> None:
        """Everything is what it may be."""
        for key, digests in self.may_be.items():
            try:
                data = self._s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            except self._s3.exceptions.NoSuchKey:
                found = ""
            else:
                found = hashlib.sha256(data).hexdigest()
            assert found in digests, f"{key}: {found[:8]}, not {[d[:8] for d in digests]}"


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim | None:
    try:
        return Shim(tmp_path_factory.mktemp("shim"), PROCESSES.values())
    except FileNotFoundError:
        return None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, shim: Shim | None) -> Iterator[Cluster]:
    extra = {"OSTRAKA_FAULT_POINTS": "listen"} | (shim.environment if shim else {})
    started = Cluster(tmp_path_factory.mktemp("points"), extra=extra)
    try:
        started.start()
        started.s3().create_bucket(Bucket=BUCKET)
        yield started
    finally:
        started.stop()
    shutil.rmtree(started.data)


def post(cluster: Cluster, process: str, body: str) -> str:
    """Arm points of a process."""
    port = ClusterFolder(cluster.data).load().ports[f"{process}-admin"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/fault-points", data=body.encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return str(reply.read().decode())


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def journal_node(cluster: Cluster) -> str:
    """A node that takes the metadata's journal now."""
    folder = ClusterFolder(cluster.data)
    wait_for(lambda: collect(folder)["metadata_journal"]["nodes"], "the journal's nodes", BACK_S)
    return str(collect(folder)["metadata_journal"]["nodes"][0])


def load_until(cluster: Cluster, pids: dict[str, int]) -> list[Writer]:
    """Write until processes have died and are back."""
    print(f"seed {SEED}")
    stop = threading.Event()
    run = "-".join(map(str, pids.values()))
    writers = [
        Writer(cluster.s3(), f"{run}-{number}", Random(SEED + number)) for number in range(3)
    ]

    def work(writer: Writer) -> None:
        number = 0
        while not stop.is_set():
            writer.step(number)
            number += 1

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        for name, pid in pids.items():
            wait_for(partial(is_gone, pid), f"the end of {name}", BACK_S)
        for name, pid in pids.items():
            wait_for(partial(cluster.is_back, name, pid), f"{name}'s return", BACK_S)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return writers


@pytest.mark.parametrize("point", ORDINARY)
def test_killed_at(cluster: Cluster, point: str) -> None:
    kill_at(cluster, point)


@pytest.mark.parametrize(("point", "ahead_s"), list(zip(COLLECTOR, (2000.0, 4000.0), strict=True)))
def test_collector_killed_at(
    cluster: Cluster, shim: Shim | None, point: str, ahead_s: float
) -> None:
    if shim is None:
        pytest.skip("no C compiler: the metadata service's clock cannot be moved")
    cluster.restart("gateway-1")  # its session ends
    shim.set("metaservice", replace(shim.levers("metaservice"), clock_offset_s=ahead_s))
    kill_at(cluster, point)


def kill_at(cluster: Cluster, point: str) -> None:
    """Let a process die at a point under load; then judge what the load left."""
    name = PROCESSES[POINTS[point].partition(":")[0]]
    pid = cluster.pid_of(name)
    nth = 1 if point in COLLECTOR else 4
    assert post(cluster, name, f"{point}=kill@{nth}") == f"{point}=kill\n"
    for writer in load_until(cluster, {name: pid}):
        writer.check()


@pytest.mark.parametrize(("of_node", "of_workers"), PAIRS)
def test_killed_at_both(cluster: Cluster, of_node: str, of_workers: str) -> None:
    """A storage node dies; what is written meanwhile misses a fragment, and repair dies as well."""
    node = journal_node(cluster) if of_node.startswith("journal.") else "node-2"
    pids = {name: cluster.pid_of(name) for name in (node, "workers")}
    assert post(cluster, "workers", f"{of_workers}=kill") == f"{of_workers}=kill\n"
    assert post(cluster, node, f"{of_node}=kill") == f"{of_node}=kill\n"
    for writer in load_until(cluster, pids):
        writer.check()


def test_a_commit_whose_reply_is_lost_happens_once(cluster: Cluster) -> None:
    s3 = cluster.s3()
    s3.create_bucket(Bucket="versions")
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    post(cluster, "metaservice", "reply.before_send=raise")
    written = s3.put_object(Bucket="versions", Key="once", Body=b"content")
    post(cluster, "metaservice", "")
    listed = s3.list_object_versions(Bucket="versions", Prefix="once")["Versions"]
    assert [version["VersionId"] for version in listed] == [written["VersionId"]]


def test_a_disk_that_fails_a_sync_is_used_again_by_itself(cluster: Cluster) -> None:
    """What the disk was to sync is on others; status says why it failed; nobody restarts it."""
    pid, folder = cluster.pid_of("node-2"), ClusterFolder(cluster.data)
    writer = Writer(cluster.s3(), "synced", Random(SEED))
    numbers = count()
    post(cluster, "node-2", "fragment.before_sync=eio@2")

    def is_failed() -> bool:
        problems = collect(folder)["problems"]
        return any("node-2 disk" in each and "has failed (" in each for each in problems)

    def is_failed_under_load() -> bool:
        writer.step(next(numbers))
        return is_failed()

    wait_for(is_failed_under_load, "status to say that the disk has failed", BACK_S)
    wait_for(lambda: not is_failed(), "the disk to be opened again", BACK_S)
    for _ in range(8):
        writer.step(next(numbers))
    assert not is_failed()
    assert cluster.pid_of("node-2") == pid
    writer.check()


def test_what_is_no_point_is_refused(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(cluster, "workers", "nowhere=kill")
