"""Bytes flip on disks of a running cluster: no client gets a wrong byte, every flip is found.

Method: real processes with a fast scrub; flips in headers, data and trailers of fragments on two
zones, in their files, while a client reads; then what status, the scrub and fsck say.
"""

import hashlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storagenode.store.record import MAGIC
from tests.support.cluster import Cluster, running, wait_for

SETTINGS = """
[storagenode]
scrub_bytes_per_s_min = 1073741824
scrub_bytes_per_s_max = 1073741824
scrub_pause_s = 1.0
"""
SIZES = (20_000, 70_000, 400_000, 6_000_000)
FLIPS_PER_ZONE = 6


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running(tmp_path, settings=SETTINGS) as started:
        yield started


def records_of(zone: Path) -> list[tuple[Path, int]]:
    """Extent and offset of every fragment of a zone, found by their magic."""
    found = []
    for path in sorted((zone / "extents").glob("*.extent")):
        data = path.read_bytes()
        at = data.find(MAGIC)
        while at >= 0:
            if at % 4096 == 0:
                found.append((path, at))
            at = data.find(MAGIC, at + 1)
    return found


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def fsck(cluster: Cluster, *options: str) -> dict[str, Any]:
    done = cluster.command(
        "fsck", "--data", "--json", *options, "--directory", str(cluster.data), timeout_s=180
    )
    assert done.returncode in (0, 4), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_flipped_bytes_are_found_and_never_served(cluster: Cluster) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, s3 = random.Random(seed), cluster.s3()
    s3.create_bucket(Bucket="bucket")
    digests = {}
    for number in range(32):
        body = os.urandom(SIZES[number % len(SIZES)])
        s3.put_object(Bucket="bucket", Key=str(number), Body=body)
        digests[str(number)] = hashlib.sha256(body).hexdigest()
    damaged = set()
    for zone in ("zone-2", "zone-5"):
        records = records_of(cluster.data / zone)
        assert len(records) >= len(digests)
        for count, (path, at) in enumerate(chance.sample(records, FLIPS_PER_ZONE)):
            # In the header's fields, or in what follows the first page: data, or a trailer.
            flip(path, at + (chance.randrange(8, 80) if count % 2 else 700 + count))
            damaged.add((zone, path.name, at))
    for _ in range(3):
        for key, digest in digests.items():
            body = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
            assert hashlib.sha256(body).hexdigest() == digest, f"object {key}"
    found = fsck(cluster)
    lost = [finding for finding in found["findings"] if finding["kind"] not in ("damaged", "away")]
    assert not lost, lost
    wait_for(lambda: _is_known_or_mended(cluster), "every flip found by scrub", 60)


def _is_known_or_mended(cluster: Cluster) -> bool:
    """Nothing is damaged that status does not tell of."""
    document = fsck(cluster)
    if document["clean"]:
        return True
    status = cluster.status()
    return status["degraded_blobs"] >= document["counts"].get("damaged", 0) and any(
        "damaged" in problem or "blobs" in problem for problem in status["problems"]
    )
