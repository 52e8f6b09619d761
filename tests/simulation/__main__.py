"""Run seeds of the simulation: `python -m tests.simulation --seeds 1-100`.

Prints every seed that fails, and how much was simulated. `--replay SEED` runs one seed with its
trace; `--shortest` looks for the shortest plan that still fails and prints what happened in it.
"""

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.many import make_pool, run_seeds
from tests.simulation.plan import Plan, draw
from tests.simulation.shortest import shorten
from tests.simulation.world import Outcome, run

PROGRESS_SEEDS = 50
TRACED = ("'trouble'", "'over'", "'crash'", "'start'", "'idle'", "'flipped'", "'misdirected'",
          "'lost'", "'poisoned'", "'begin'", "'answer'", "'at'")  # fmt: skip


def main() -> int:
    """Run what the arguments say; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument(
        "--seeds", default="1-100", metavar="A-B", help="seeds to run, both ends in"
    )
    parser.add_argument("--replay", type=int, metavar="SEED", help="one seed, with its trace")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="run N seeds at once")
    parser.add_argument("--shortest", action="store_true", help="make failing plans shorter")
    arguments = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())
    if arguments.replay is not None:
        return _replay(arguments.replay, is_shortened=arguments.shortest)
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    with make_pool(arguments.processes) as pool:
        return _run_all(pool, seeds, is_shortened=arguments.shortest)


def _run_all(pool: ProcessPoolExecutor, seeds: range, *, is_shortened: bool) -> int:
    begun_s, cpu_s, simulated_s, failed = time.perf_counter(), 0.0, 0.0, []
    seen: Counter[str] = Counter()
    for each in run_seeds(pool, seeds):
        simulated_s += each.simulated_s
        cpu_s += each.cpu_s
        seen += each.seen
        if each.violations:
            failed.append(each.seed)
            _show_violations(draw(each.seed), each.violations)
            if is_shortened:
                _show_history(shorten(run(draw(each.seed)), run))
        if (each.seed - seeds.start + 1) % PROGRESS_SEEDS == 0:
            print(f"... {each.seed}, {len(failed)} failed", flush=True)
    took_s = time.perf_counter() - begun_s
    print(f"{len(seeds)} seeds, {len(failed)} failed: {failed}")
    print(
        f"{simulated_s / 3600:.1f} simulated hours in {took_s:.1f} s, {cpu_s:.1f} s of CPU: "
        f"{simulated_s / took_s:.0f} simulated hours per hour"
    )
    for what, count in sorted(seen.items()):
        print(f"{count:9d} {what}")
    return 1 if failed else 0


def _replay(seed: int, *, is_shortened: bool) -> int:
    outcome = run(draw(seed), keeps_trace=True)
    _show_violations(outcome.plan, outcome.violations)
    if outcome.violations and is_shortened:
        outcome = run(shorten(outcome, run).plan, keeps_trace=True)
    _show_history(outcome)
    for line in outcome.trace:
        if any(word in line for word in TRACED):
            print(line)
    print(f"digest {outcome.digest}, {outcome.events} events")
    return 1 if outcome.violations else 0


def _show_violations(plan: Plan, violations: Sequence[object]) -> None:
    print(f"seed {plan.seed}, mode {plan.mode}: {len(violations)} wrong")
    for violation in violations:
        print(f"  {violation}")
    sys.stdout.flush()


def _show_history(outcome: Outcome) -> None:
    """The plan, and what clients saw of the keys that are wrong."""
    plan = outcome.plan
    print(f"plan of seed {plan.seed}, variant {plan.variant}, damaged {plan.damaged_zones}")
    for violation in outcome.violations:
        print(f"  wrong: {violation}")
    for trouble in plan.troubles:
        print(f"  {trouble}")
    for request in plan.requests:
        print(f"  {request}")
    for place in sorted({each.place for each in outcome.violations if each.place is not None}):
        print(f"history of {place}:")
        for operation in sorted(outcome.history.operations[place], key=lambda each: each.begin_s):
            print(f"  {operation}")


if __name__ == "__main__":
    sys.exit(main())
