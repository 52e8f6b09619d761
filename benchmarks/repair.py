"""Lose one zone of six and watch it being rebuilt: `python -m benchmarks.repair`.

Twice, on a fresh local cluster each: idle, and under a foreground load at half of its maximum. The
node is killed and its disk emptied, so that repair begins at once. Printed are the bytes of
surviving data read per second by repair, and the foreground's 99th percentiles: healthy is before
and after together, so that a machine that others use is as noisy for both.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

from benchmarks.faults.cluster import LocalCluster
from benchmarks.s3.connection import Connection
from benchmarks.s3.signing import Target, signed_head
from common import faults
from common.limits import KIB, MIB

ZONES, GATEWAYS = 6, 2
VICTIM = "node-3"
OBJECT_BYTES = 32 * MIB
SMALL_BYTES = 64 * KIB
CONNECTIONS = 8
HEALTHY_S_MAX = 240.0
POLL_S = 0.25
MAXIMUM_S, HEALTHY_S = 5.0, 12.0
LOADED_SHARE = 0.5  # of the objects: repair goes slower there


class Foreground:
    """PUT and GET of 64 KiB in turn on several connections, at most so many a second."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._body = os.urandom(SMALL_BYTES)
        self._next_s = 0.0

    async def run(self, per_s: float, until: Callable[[], bool]) -> list[float]:
        """Latencies in seconds. per_s: 0 for as fast as it goes"""
        latencies: list[float] = []
        self._next_s = time.monotonic()
        await asyncio.gather(
            *[self._one(number, per_s, until, latencies) for number in range(CONNECTIONS)]
        )
        return latencies

    async def for_a_while(self, per_s: float, seconds: float) -> list[float]:
        """The same for so long."""
        end_s = time.monotonic() + seconds
        return await self.run(per_s, lambda: time.monotonic() > end_s)

    async def _one(
        self, number: int, per_s: float, until: Callable[[], bool], latencies: list[float]
    ) -> None:
        connection = await Connection.open(self._target)
        turn = 0
        while not until():
            if per_s:
                self._next_s = max(self._next_s + 1 / per_s, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, self._next_s - time.monotonic()))
            path, body = f"/bucket/small-{number}-{turn // 2 % 50}", b""
            method = "GET" if turn % 2 else "PUT"
            if method == "PUT":
                body = self._body
            begun_s = time.monotonic()
            answer = await connection.exchange(signed_head(self._target, method, path, body), body)
            latencies.append(time.monotonic() - begun_s)
            if answer.status != 200:
                raise faults.Unavailable(f"{method} answered {answer.status}")
            turn += 1
        connection.close()


async def fill(target: Target, count: int) -> None:
    """A bucket of large objects."""
    connection = await Connection.open(target)
    await connection.exchange(signed_head(target, "PUT", "/bucket"))
    body = os.urandom(OBJECT_BYTES)
    for number in range(count):
        head = signed_head(target, "PUT", f"/bucket/large-{number}", body, unsigned=True)
        answer = await connection.exchange(head, body)
        if answer.status != 200:
            raise faults.Unavailable(f"PUT answered {answer.status}")
    connection.close()


async def lose_and_watch(cluster: LocalCluster) -> tuple[float, float, int]:
    """Seconds from the loss to the first and the last repaired byte; bytes moved."""
    begun_s = time.monotonic()
    first_s = last_s = 0.0
    moved = 0
    await asyncio.to_thread(cluster.freeze, VICTIM)
    cluster.wipe(VICTIM)
    await asyncio.to_thread(cluster.kill, VICTIM)
    while True:
        await asyncio.sleep(POLL_S)
        passed_s = time.monotonic() - begun_s
        now = await asyncio.to_thread(cluster.repair_bytes)
        if now > moved:
            moved, last_s, first_s = now, passed_s, first_s or passed_s
        health = await asyncio.to_thread(cluster.health, passed_s)
        if moved and health is not None and health.is_healthy:
            return first_s, last_s, moved
        if passed_s > HEALTHY_S_MAX:
            raise faults.Unavailable("no full health in time")


async def idle(cluster: LocalCluster, target: Target) -> str:
    """The table's row without load."""
    first_s, whole_s, moved = await lose_and_watch(cluster)
    return row("idle", (first_s, whole_s, moved), [], [])


async def loaded(cluster: LocalCluster, target: Target) -> str:
    """The table's row at half load."""
    load = Foreground(target)
    maximum = len(await load.for_a_while(0, MAXIMUM_S)) / MAXIMUM_S
    healthy = await load.for_a_while(maximum / 2, HEALTHY_S)
    watching = asyncio.ensure_future(lose_and_watch(cluster))
    during = await load.run(maximum / 2, watching.done)
    seen = await watching
    healthy += await load.for_a_while(maximum / 2, HEALTHY_S)
    return row(f"half load ({maximum / 2:.0f} requests/s)", seen, healthy, during)


def row(
    name: str, seen: tuple[float, float, int], healthy: list[float], during: list[float]
) -> str:
    """One line of the table. Of the bytes moved four fifths are read, a fifth is written."""
    first_s, whole_s, moved = seen
    rate = moved * 0.8 / max(whole_s - first_s, POLL_S) / 1e6
    latencies = "| | |"
    if healthy and during:
        was, now = percentile(healthy), percentile(during)
        latencies = f"| {was * 1e3:.1f} | {now * 1e3:.1f} | {now / was:.2f}"
    return (
        f"| {name} | {moved / 1e6:,.0f} | {first_s:.1f} | {whole_s:.1f} | {rate:.0f} {latencies} |"
    )


def percentile(latencies: list[float], share: float = 0.99) -> float:
    """A percentile in seconds."""
    return sorted(latencies)[int(share * (len(latencies) - 1))]


Case = Callable[[LocalCluster, Target], Coroutine[None, None, str]]


def main() -> int:
    """Run both cases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repair", description=__doc__)
    parser.add_argument("--objects", type=int, default=48, help="of 32 MiB")
    parser.add_argument("--only", choices=["idle", "loaded"])
    options = parser.parse_args()
    cases: dict[str, Case] = {"idle": idle, "loaded": loaded}
    print(
        "| case | MB moved | first byte s | whole s | MB/s read "
        "| p99 ms healthy | meanwhile | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, case in cases.items():
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory(prefix="ostraka-repair-") as folder:
            cluster = LocalCluster("ostraka", Path(folder) / "cluster", ZONES, GATEWAYS)
            try:
                target = cluster.start()
                share = LOADED_SHARE if name == "loaded" else 1.0
                asyncio.run(fill(target, max(1, int(options.objects * share))))
                print(asyncio.run(case(cluster, target)), flush=True)
            finally:
                cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
