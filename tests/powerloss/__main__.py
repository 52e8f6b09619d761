"""Enumerate power losses: python -m tests.powerloss [--seed S] [--states N] [--only NAME].

Without --states all states of all workloads; prints counts, and fails if any state fails.
"""

import argparse
import json
import logging
import shutil
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

from tests.powerloss import recorder
from tests.powerloss.engine import EngineWorkload
from tests.powerloss.explore import Explorer, Limits, Result, Workload
from tests.powerloss.metadata import LostMetadataWorkload, MetadataWorkload
from tests.powerloss.plants import PLANTS
from tests.powerloss.small import SmallFilesWorkload
from tests.powerloss.store import RebuildWorkload, StoreWorkload

WORKLOADS = {
    made.name: made
    for made in (
        StoreWorkload,
        RebuildWorkload,
        EngineWorkload,
        SmallFilesWorkload,
        MetadataWorkload,
        LostMetadataWorkload,
    )
}
MEMORY = Path("/dev/shm")  # states are many, and need no real disk
TIMEOUT_S = 6 * 3600.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.powerloss", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--states", type=int, default=0, help="of each workload; 0: all")
    parser.add_argument("--cut", type=float, default=0.02, help="share of recoveries cut too")
    parser.add_argument("--cuts", type=int, default=25, help="ways to cut one of them")
    parser.add_argument("--only", choices=sorted(WORKLOADS), action="append")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="a mistake that must be seen")
    parser.add_argument("--json", type=Path, help="write counts and failures there")
    chosen = parser.parse_args(arguments)
    if not recorder.is_here():
        with tempfile.TemporaryDirectory() as folder:
            library = recorder.build(Path(folder))
            return recorder.run(library, ["tests.powerloss", *arguments], TIMEOUT_S)
    logging.disable(logging.CRITICAL)  # recoveries say much, and it is meant
    names = chosen.only or sorted(WORKLOADS)
    if chosen.plant:
        names = [PLANTS[chosen.plant][0]]
    results = {name: explore(name, chosen) for name in names}
    if chosen.json:
        chosen.json.write_text(json.dumps(results))
    return 1 if any(result["failures"] for result in results.values()) else 0


def explore(name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """One workload; its result printed, and returned as a document."""
    limits = Limits(chosen.seed, chosen.states, chosen.cut, chosen.cuts)
    if chosen.plant:
        limits.failures_max = 1
    workload: Workload = WORKLOADS[name]()
    base = MEMORY if MEMORY.is_dir() else None
    scratch = Path(tempfile.mkdtemp(prefix="powerloss-", dir=base))
    planted = PLANTS[chosen.plant][1]() if chosen.plant else nullcontext()
    try:
        with planted:
            result = Explorer(workload, scratch, limits).explore()
    finally:
        shutil.rmtree(scratch)
    print(
        f"{name}: seed {chosen.seed}, {result.operations} operations, {result.moments} moments,"
        f" {result.states_found} states found, {result.states} different ones recovered twice,"
        f" {result.recoveries} recoveries cut in {result.cuts} ways, {dict(result.fates)},"
        f" {result.seconds:.0f} s, {len(result.failures)} failures",
        flush=True,
    )
    for failure in result.failures:
        print(f"  {failure}", flush=True)
    return document(result)


def document(result: Result) -> dict[str, Any]:
    """A result as JSON takes it."""
    found = {each.name: getattr(result, each.name) for each in fields(result)}
    return {**found, "fates": dict(result.fates)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
