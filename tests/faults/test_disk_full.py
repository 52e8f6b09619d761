"""The disk fills up: 507 before anything breaks, deletes go on, space comes back, nothing is lost.

Method: a whole cluster on a small tmpfs of its own (needs root), as one disk that everything is
on; short grace of garbage by configuration; boto3.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cluster import Cluster, wait_for

MIB = 1 << 20
SETTINGS = f"""
[metaservice]
garbage_grace_s = 1.0
reserve_bytes = {24 * MIB}
[storagenode]
extent_bytes = {16 * MIB}
reserve_bytes = {96 * MIB}
journal_chunk_bytes = {2 * MIB}
[workers]
garbage_interval_s = 0.5
"""
ROOM = "3g"  # what a new cluster wants to see
SMALL_MIB = 900
OBJECT_BYTES = 3 * MIB


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={ROOM}", "none", str(folder))
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def full(disk: Path) -> Iterator[Cluster]:
    cluster = Cluster(disk)
    cluster.data.mkdir()
    (cluster.data / "settings.toml").write_text(SETTINGS)
    try:
        cluster.start()
        mount("-o", f"remount,size={SMALL_MIB}m", "none", str(disk))
        yield cluster
    finally:
        cluster.command("down", "--directory", str(cluster.data))


def code_of(error: ClientError) -> tuple[int, str]:
    response: dict[str, Any] = error.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def fill(s3: Any, prefix: str, size: int, count_max: int) -> tuple[dict[str, str], Any]:
    """Put objects until one is refused; returns the digests of those acknowledged, and why."""
    kept: dict[str, str] = {}
    for number in range(count_max):
        data = os.urandom(size)
        try:
            s3.put_object(Bucket="bucket", Key=f"{prefix}{number}", Body=data)
        except ClientError as error:
            return kept, code_of(error)
        kept[f"{prefix}{number}"] = hashlib.sha256(data).hexdigest()
    raise AssertionError(f"{count_max} objects of {size} bytes fit")


def assert_whole(s3: Any, kept: dict[str, str]) -> None:
    for key, digest in kept.items():
        data = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
        assert hashlib.sha256(data).hexdigest() == digest, key


def listed(s3: Any) -> set[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="bucket")
    return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


@pytest.mark.timeout(300)
def test_a_full_disk_refuses_in_time_and_recovers(full: Cluster) -> None:
    s3 = full.s3()
    s3.create_bucket(Bucket="bucket")
    kept, why = fill(s3, "data-", OBJECT_BYTES, 400)
    assert why == (507, "InsufficientStorage")
    assert len(kept) > 20
    assert listed(s3) == set(kept)

    # Parts of uploads too; what was begun can be ended.
    upload = s3.create_multipart_upload(Bucket="bucket", Key="parts")
    names = {"Bucket": "bucket", "Key": "parts", "UploadId": upload["UploadId"]}
    with pytest.raises(ClientError) as refused:
        for number in range(1, 50):
            s3.upload_part(**names, PartNumber=number, Body=bytes(6 * MIB))
    assert code_of(refused.value) == (507, "InsufficientStorage")
    s3.abort_multipart_upload(**names)

    # Everything acknowledged is there, every process runs, and a restart changes nothing.
    assert_whole(s3, kept)
    assert {process["state"] for process in full.status()["processes"]} == {"running"}
    full.kill_everything()
    full.start()
    assert_whole(s3, kept)

    gone = [key for number, key in enumerate(kept) if number % 4]
    for begin in range(0, len(gone), 1000):
        entries = [{"Key": key} for key in gone[begin : begin + 1000]]
        done = s3.delete_objects(Bucket="bucket", Delete={"Objects": entries})
        assert "Errors" not in done
    for key in gone:
        del kept[key]

    again: dict[str, str] = {}

    def has_room() -> bool:
        more, why = fill(s3, f"more-{len(again)}-", OBJECT_BYTES, len(gone))
        assert why == (507, "InsufficientStorage")
        again.update(more)
        return len(again) > len(gone) // 4

    wait_for(has_room, "a quarter of the space", 120)
    assert_whole(s3, kept | again)
    assert listed(s3) == set(kept | again)


@pytest.mark.timeout(300)
def test_metadata_keeps_room_to_delete(full: Cluster, disk: Path) -> None:
    """Something else fills the disk: inline objects are refused too, and nothing dies of it."""
    s3 = full.s3()
    s3.create_bucket(Bucket="bucket")
    data = {f"small-{n}": os.urandom(1000) for n in range(50)}
    for key, body in data.items():
        s3.put_object(Bucket="bucket", Key=key, Body=body)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - 12 * MIB)

    def refused() -> bool:
        try:
            s3.put_object(Bucket="bucket", Key="late", Body=b"x")
        except ClientError as error:
            assert code_of(error) == (507, "InsufficientStorage")
            return True
        return False

    wait_for(refused, "507")
    for key, body in data.items():
        assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == body
    for key in list(data)[:25]:
        s3.delete_object(Bucket="bucket", Key=key)
    assert {process["state"] for process in full.status()["processes"]} == {"running"}
    filler.unlink()
    wait_for(lambda: not refused(), "room")
    assert listed(s3) == set(list(data)[25:]) | {"late"}


def test_a_new_cluster_on_a_nearly_full_disk_says_so(disk: Path) -> None:
    mount("-o", "remount,size=500m", "none", str(disk))
    cluster = Cluster(disk)
    done = cluster.command(
        "up", "--directory", str(cluster.data), "--port", str(cluster.port), "--detach"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("ostraka: the disk is nearly full: ")
    assert done.stderr.count("\n") == 1
    assert not (cluster.data / "cluster.json").exists()
