"""Load S3 endpoints and print one page: `python -m benchmarks.load [NAME=... ...]`.

Without endpoints a local cluster is made for the run, and removed afterwards. Endpoints are named
as `benchmarks.load.endpoint` says; all are measured in one interleaved run.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from benchmarks.faults.cluster import LocalCluster
from benchmarks.load.endpoint import Endpoint, parse_endpoint
from benchmarks.load.run import Options, Run
from benchmarks.load.table import Page, preface, say
from common import faults

ZONES = 6
GATEWAYS = 2


@contextmanager
def own_cluster(folder: Path | None) -> Iterator[Endpoint]:
    """A fresh local cluster."""
    with tempfile.TemporaryDirectory(prefix="ostraka-load-", dir=folder) as temporary:
        cluster = LocalCluster("ostraka", Path(temporary) / "cluster", ZONES, GATEWAYS)
        say("starting a local cluster")
        try:
            cluster.start()
            yield Endpoint(cluster.target(), cluster)
        finally:
            cluster.stop()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "endpoints", nargs="*", metavar="NAME=URL,KEY,SECRET[,PID+PID] or NAME=FOLDER"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="per scenario and round")
    parser.add_argument("--rounds", type=int, default=1, help="of every scenario, interleaved")
    parser.add_argument(
        "--list-keys", default="1000,100000", help="sizes of the buckets that are listed"
    )
    parser.add_argument(
        "--only",
        default="",
        help="scenarios whose title holds this pattern, or: list, zones down, memory",
    )
    parser.add_argument("--output", type=Path, help="also write the page to this file")
    parser.add_argument("--folder", type=Path, help="where a cluster of our own is made")
    return parser.parse_args()


def run(endpoints: list[Endpoint], arguments: argparse.Namespace) -> None:
    """Measure, print, save."""
    page = Page()
    preface(page, sys.argv[1:])
    pattern = re.compile(arguments.only)
    options = Options(
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        list_keys=[int(count) for count in arguments.list_keys.split(",") if count],
        only=lambda title: pattern.search(title) is not None,
    )
    try:
        uvloop.run(Run(endpoints, options, page).all())
    finally:
        if arguments.output is not None:
            page.save(arguments.output)


def main() -> int:
    """Returns the exit code."""
    arguments = parse()
    try:
        if arguments.endpoints:
            run([parse_endpoint(text) for text in arguments.endpoints], arguments)
        else:
            with own_cluster(arguments.folder) as endpoint:
                run([endpoint], arguments)
    except faults.Fault as fault:
        say(faults.in_words(fault))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
