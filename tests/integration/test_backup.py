"""Backups of the metadata: made while it is written to, kept in a folder and in a bucket, restored
whole and to a chosen moment.

Goal: a backup is one moment, opens only with the key ring, and is refused when damaged; a restored
cluster has what it had then, and goes on. Method: real clusters and commands.
"""

import datetime
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.keyring import KeyRing
from common.rocks import RocksDatabase
from tests.support.cluster import Cluster, running, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]

BUCKET = "kept"
SETTINGS = "[metaservice]\njournal_keep_s = 3600.0\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    data = tmp_path / "cluster"
    data.mkdir()
    (data / "settings.toml").write_text(SETTINGS)
    with running(tmp_path) as started:
        yield started


def put(s3: Any, prefix: str) -> None:
    for number in range(10):
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{number}", Body=f"{prefix}{number}".encode())
    s3.put_object(Bucket=BUCKET, Key=f"{prefix}/large", Body=prefix.encode() * 100_000)


def prefixes(s3: Any) -> list[str]:
    """First letters of all keys, each of which can be read."""
    found = set()
    for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
        assert s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        found.add(entry["Key"][0])
    return sorted(found)


def next_second() -> str:
    """Wait until another second has begun; its name, UTC."""
    begun = int(time.time())
    wait_for(lambda: int(time.time()) > begun, "the next second")
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def backup(cluster: Cluster, *arguments: str) -> Any:
    """Run `ostraka backup`, with keys in the environment for s3 places."""
    environment = cluster.environment
    keys = [
        f"--endpoint={cluster.endpoint}",
        f"--access-key={environment['AWS_ACCESS_KEY_ID']}",
        f"--secret-key={environment['AWS_SECRET_ACCESS_KEY']}",
    ]
    return cluster.command("backup", *arguments, *keys)


def test_restored_whole_and_to_a_moment(cluster: Cluster) -> None:
    directory = ("--directory", str(cluster.data))
    folder, bucket = str(cluster.folder / "backups"), "s3://backups/of/metadata"
    s3 = cluster.s3()
    for name in (BUCKET, "backups"):
        s3.create_bucket(Bucket=name)
    wait_for(lambda: "own disk" in cluster.status()["metadata_survives"], "the journal")
    put(s3, "a")
    for place in (folder, bucket):
        done = backup(cluster, "create", place, *directory)
        assert done.returncode == 0, done.stderr
    put(s3, "b")
    moment = next_second()  # moments are told in whole seconds
    next_second()
    put(s3, "c")
    in_bucket = json.loads(backup(cluster, "list", bucket, "--json").stdout)
    in_folder = json.loads(backup(cluster, "list", folder, "--json").stdout)
    assert len(in_bucket) == len(in_folder) == 1
    assert in_bucket[0]["row_count"] >= in_folder[0]["row_count"] > 20

    stored = cluster.s3().list_objects_v2(Bucket="backups")["Contents"]
    for entry in stored:  # restored below from the folder; the bucket's copy must be as good
        body = s3.get_object(Bucket="backups", Key=entry["Key"])["Body"].read()
        path = cluster.folder / "from-bucket" / entry["Key"].removeprefix("of/metadata/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        assert b"a/large" not in body, "sealed"
    assert_opens(cluster, cluster.folder / "from-bucket")

    cluster.stop()
    done = backup(cluster, "restore", folder, *directory)
    assert done.returncode == 1 and "not empty" in done.stderr
    shutil.rmtree(cluster.data / "meta")
    done = backup(cluster, "restore", folder, *directory, "--until", moment)
    assert done.returncode == 0, done.stderr
    cluster.start()
    assert prefixes(cluster.s3()) == ["a", "b"]

    cluster.stop()
    shutil.rmtree(cluster.data / "meta")
    done = backup(cluster, "restore", folder, *directory)
    assert done.returncode == 0, done.stderr
    cluster.start()
    assert prefixes(cluster.s3()) == ["a"]
    put(cluster.s3(), "d")
    assert prefixes(cluster.s3()) == ["a", "d"]


def assert_opens(cluster: Cluster, place: Path) -> None:
    """A copy alone becomes a folder of metadata, with the right key ring and only undamaged."""
    target, ring = cluster.folder / "alone", cluster.folder / "ring.json"
    arguments = ("restore", str(place), "--target", str(target), "--keyring")
    KeyRing.make().save(ring)
    done = cluster.command("backup", *arguments, str(ring))
    assert done.returncode == 1 and "master key" in done.stderr and not target.exists()
    done = cluster.command("backup", *arguments, str(cluster.data / "keyring.json"))
    assert done.returncode == 0, done.stderr
    database = RocksDatabase(target)
    assert database.get(b"B" + BUCKET.encode()) is not None
    database.close()
    shutil.rmtree(target)
    part = next(place.rglob("part-*"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = cluster.command("backup", *arguments, str(cluster.data / "keyring.json"))
    assert done.returncode == 1 and "damaged" in done.stderr and not target.exists()
