"""While real tools work, two storage nodes are killed, again and again: no tool notices.

Method: flows of tools.py on one cluster; SIGKILL of two nodes whenever they are there; then both
come back, two others go for good, and what was written meanwhile is read.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.faults.test_processes_killed import assert_all_there, put_some
from tests.faults.tools import KillAgain, run_together
from tests.integration import test_clients as clients
from tests.support.cluster import Cluster, wait_for

HEALTH_S = 90.0
AWAY, LATER = ("node-2", "node-5"), ("node-1", "node-4")


def pid_of(cluster: Cluster, name: str) -> int | None:
    """From the supervisor's own notes: asking the cluster would take longer than a node lives."""
    state = json.loads((cluster.data / "run" / "state.json").read_text())
    pids: dict[str, int | None] = {p["name"]: p["pid"] for p in state["processes"]}
    return pids[name]


def away(cluster: Cluster) -> set[str]:
    problems = [p for p in cluster.status()["problems"] if "does not answer" in p]
    return {name for name in (*AWAY, *LATER) if any(name in problem for problem in problems)}


@pytest.mark.slow
@pytest.mark.timeout(3600 if clients.IS_LONG else 400)
def test_tools_do_not_notice_two_nodes_killed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not clients.IS_LONG:
        monkeypatch.setattr(clients, "FILES", 40)
        monkeypatch.setattr(clients, "ONE_BY_ONE_FILES", 40)
        monkeypatch.setattr(clients, "LARGE_MIB", 24)
        monkeypatch.setattr(clients, "SILENCE_S", 240)
    killer = KillAgain(lambda name: pid_of(cluster, name), *AWAY)
    seen: list[dict[str, object]] = []

    def disturb() -> None:
        killer.start()
        wait_for(lambda: away(cluster) == set(AWAY), "words about them", 60)
        seen.append(cluster.status())

    folder = tmp_path / "flows"
    folder.mkdir()
    try:
        ends = run_together(cluster, folder, disturb)
        s3 = cluster.s3()
        s3.create_bucket(Bucket="degraded")
        written = put_some(s3, "degraded", "during")
    finally:
        if killer.kills:
            killer.stop()
    assert ends == dict.fromkeys(ends, "")
    assert seen[0]["state"] == "degraded" and killer.kills >= 2

    wait_for(lambda: not away(cluster), "their return", 60)
    after: dict[str, str] = {}

    def used_again() -> bool:
        """Whether what is written now is spread over all six: nothing more lies degraded."""
        before = cluster.status()["degraded_blobs"]
        after.clear()
        after.update(put_some(s3, "degraded", "after"))
        return bool(cluster.status()["degraded_blobs"] <= before)

    wait_for(used_again, "writes to them", 20)
    # Repair may have made up for what was written beside them just before: then some of it still
    # lies on four zones, and two more may not be away yet.
    wait_for(lambda: not cluster.status()["degraded_blobs"], "full health", HEALTH_S)
    for name in LATER:  # frozen, so that nobody starts them again
        os.kill(cluster.pid_of(name), signal.SIGSTOP)
    wait_for(lambda: away(cluster) == set(LATER), "words about the others", 60)
    assert_all_there(s3, "degraded", after)
    put_some(s3, "degraded", "later")
    for name in LATER:
        os.kill(cluster.pid_of(name), signal.SIGCONT)
    wait_for(lambda: not away(cluster), "their return", 60)
    assert_all_there(s3, "degraded", written)
