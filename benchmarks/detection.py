"""How soon a loss is noticed and repair begins: `python -m benchmarks.detection`, about a minute.

Twice on one local cluster with its default settings. A storage node is killed and stays away: until
`status` says that it does not answer, and until the first byte is repaired, of which the grace is
what the operator has set. Then it comes back, and another is killed and starts on an empty disk:
until its process is ready, and from there to the first repaired byte.
"""

import argparse
import asyncio
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.cluster import LocalCluster
from benchmarks.repair import GATEWAYS, ZONES, fill
from common import faults
from workers.config import WorkersConfig

SILENT, REPLACED = "node-3", "node-5"
OBJECTS = 8
POLL_S = 0.05
PATIENCE_S = 120.0
SETTLED_S = 2.0  # of full health in a row


def wait(condition: Callable[[], bool], what: str) -> float:
    """Wait; the moment when it was seen. raises Unavailable"""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise faults.Unavailable(f"{what} did not come in time")
        time.sleep(POLL_S)
    return time.monotonic()


def wait_healthy(cluster: LocalCluster) -> None:
    """Full health for a while. raises Unavailable"""
    since_s = time.monotonic()

    def is_settled() -> bool:
        nonlocal since_s
        health = cluster.health(0.0)
        if health is None or not health.is_healthy:
            since_s = time.monotonic()
        return time.monotonic() - since_s > SETTLED_S

    wait(is_settled, "full health")


def grace_of(cluster: LocalCluster) -> float:
    """The grace that the workers run with."""
    file = cluster.folder.path / "config" / "workers.toml"
    settings = tomllib.loads(file.read_text(encoding="utf-8"))
    default = WorkersConfig.__dataclass_fields__["repair_grace_s"].default
    return float(settings.get("repair_grace_s", default))


def silent(cluster: LocalCluster) -> str:
    """A node is killed and stays away."""
    before, begun_s = cluster.repair_bytes(), time.monotonic()
    cluster.kill(SILENT, stay_dead=True)

    def is_noticed() -> bool:
        health = cluster.health(0.0)
        words = health.words if health is not None else ()
        return any(f"{SILENT} does not answer" in word for word in words)

    noticed_s = wait(is_noticed, "the notice") - begun_s
    first_s = wait(lambda: cluster.repair_bytes() > before, "the first byte") - begun_s
    cluster.resume_supervisor()
    grace_s = grace_of(cluster)
    return (
        f"| a node stays away | noticed after {noticed_s:.1f} s | grace {grace_s:.0f} s "
        f"| {first_s - grace_s:.1f} |"
    )


def replaced(cluster: LocalCluster) -> str:
    """A node is killed and starts on an empty disk."""
    before, begun_s = cluster.repair_bytes(), time.monotonic()
    cluster.freeze(REPLACED)
    cluster.wipe(REPLACED)
    cluster.kill(REPLACED)
    cluster.wait_ready(REPLACED)
    ready_s = time.monotonic() - begun_s
    first_s = wait(lambda: cluster.repair_bytes() > before, "the first byte") - begun_s
    return (
        f"| a disk is replaced | its node is ready after {ready_s:.1f} s | no grace "
        f"| {first_s - ready_s:.1f} |"
    )


def main() -> int:
    """Run both and print the table."""
    argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="ostraka-detection-") as folder:
        cluster = LocalCluster("ostraka", Path(folder) / "cluster", ZONES, GATEWAYS)
        try:
            asyncio.run(fill(cluster.start(), OBJECTS))
            wait_healthy(cluster)
            print("| case | | | seconds from then to the first repaired byte |")
            print("|---|---|---|---|")
            print(silent(cluster), flush=True)
            wait_healthy(cluster)
            print(replaced(cluster), flush=True)
        finally:
            cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
