"""Many seeds, side by side: each in one of a few processes that know nothing of one another."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.simulation.bugs import BUGS
from tests.simulation.plan import draw
from tests.simulation.world import Outcome, run

PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Summary:
    """What is kept of a run of a seed; violations in words."""

    seed: int
    violations: tuple[str, ...]
    simulated_s: float
    cpu_s: float
    seen: Counter[str]


def make_pool(processes: int = PROCESSES) -> ProcessPoolExecutor:
    """Processes for `run_seeds`; begun afresh, so that nothing of ours is in them."""
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))


def run_seed(seed: int) -> Summary:
    """Run a seed in this process."""
    begun_s = time.process_time()
    outcome = run(draw(seed))
    return Summary(
        seed,
        _words(outcome),
        outcome.simulated_s,
        time.process_time() - begun_s,
        outcome.seen,
    )


def run_seeds(pool: ProcessPoolExecutor, seeds: Iterable[int]) -> Iterator[Summary]:
    """Run seeds in a pool's processes; in the order of the seeds."""
    return pool.map(run_seed, seeds)


@dataclass(frozen=True, slots=True)
class Hunt:
    """The first seed that shows a planted bug, or the last that was tried.

    violations, without   with the bug and without it, in words
    """

    seed: int
    violations: tuple[str, ...]
    without: tuple[str, ...]


def hunt(name: str) -> Hunt:
    """Look for a planted bug in this process."""
    bug = next(each for each in BUGS if each.name == name)
    for seed in range(1, bug.seeds_max + 1):
        plan = bug.plan(seed)
        with bug.plant():
            outcome = run(plan)
        if outcome.violations:
            break
    return Hunt(seed, _words(outcome), _words(run(plan)) if outcome.violations else ())


def _words(outcome: Outcome) -> tuple[str, ...]:
    return tuple(str(violation) for violation in outcome.violations)
