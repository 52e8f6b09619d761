"""What the scrub costs clients: `python -m benchmarks.scrub`, about two minutes.

One local cluster, filled so that no pass ends within the run. Its nodes are restarted in turn with
the scrub as it is by default and nearly switched off, round by round; in each round clients PUT and
GET 64 KiB as fast as they can. Printed are requests per second with and without, and the CPU time
of all storage nodes per request, which a noisy machine does not change.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.faults.cluster import LocalCluster
from benchmarks.load.endpoint import Endpoint
from benchmarks.repair import GATEWAYS, ZONES, Foreground, fill
from benchmarks.s3.signing import Target

OFF = {"scrub_bytes_per_s_min": 1, "scrub_pass_days": 1e6}
OBJECTS = 24
WARM_S = 2.0
SETTLE_S = 2.0  # until gateways have found restarted nodes again


def switch(cluster: LocalCluster, *, is_on: bool) -> None:
    """Restart all nodes with the default pace, or almost none."""
    for node in cluster.nodes:
        settings = cluster.settings(node)
        kept = {name: value for name, value in settings.items() if name not in OFF}
        cluster.replace_settings(node, kept if is_on else kept | OFF)
        cluster.restart(node)
    time.sleep(SETTLE_S)


async def measure(endpoint: Endpoint, target: Target, seconds: float) -> tuple[float, float]:
    """Requests per second, CPU microseconds of the storage nodes per request."""
    load = Foreground(target)
    await load.for_a_while(0, WARM_S)
    before_s = endpoint.cpu_s()["storagenode"]
    count = len(await load.for_a_while(0, seconds))
    used_s = endpoint.cpu_s()["storagenode"] - before_s
    return count / seconds, used_s / count * 1e6


def main() -> int:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scrub", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each, interleaved")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured in a round")
    options = parser.parse_args()
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory(prefix="ostraka-scrub-") as folder:
        cluster = LocalCluster("ostraka", Path(folder) / "cluster", ZONES, GATEWAYS)
        try:
            target = cluster.start()
            asyncio.run(fill(target, OBJECTS))
            endpoint = Endpoint(target, cluster)
            for number in range(options.rounds):
                for is_on in (True, False) if number % 2 else (False, True):
                    switch(cluster, is_on=is_on)
                    found[is_on].append(asyncio.run(measure(endpoint, target, options.seconds)))
        finally:
            cluster.stop()
    print("| scrub | requests/s | node CPU us per request |")
    print("|---|---|---|")
    middle = {
        is_on: tuple(map(median, zip(*rounds, strict=True))) for is_on, rounds in found.items()
    }
    for is_on, name in ((False, "off"), (True, "default")):
        print(f"| {name} | {middle[is_on][0]:.0f} | {middle[is_on][1]:.0f} |")
    rate, cpu = (middle[True][n] / middle[False][n] for n in (0, 1))
    print(f"| ratio | {rate:.3f} | {cpu:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
