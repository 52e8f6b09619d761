"""Run scenarios: load, healthy time, fault, recovery, read everything back."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from benchmarks.faults.loader import LoaderPlan, LoaderResult, serve
from benchmarks.faults.measures import time_to_health
from benchmarks.faults.record import Health, LoadShape, Mark, ScenarioRecord
from benchmarks.faults.store import Scenario, Store
from benchmarks.s3.signing import Target
from common import faults

POLL_S = 0.25
PREPARE_S = 300.0
READ_BACK_S = 900.0
STEADY_S = 5.0  # of full health, before a scenario is over
BUCKET = "faults"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the parts of a scenario last.

    healthy_s    before the fault
    hold_s       the fault, where it is one that lasts
    after_s      at least so long after it
    patience_s   at most so long, waiting for full health
    """

    healthy_s: float = 10.0
    hold_s: float = 20.0
    after_s: float = 15.0
    patience_s: float = 120.0


class Loader:
    """The load's process, from outside."""

    def __init__(self, target: Target, shape: LoadShape) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        plan = LoaderPlan(target, BUCKET, shape)
        self._process = context.Process(target=serve, args=(plan, theirs), daemon=True)
        self._process.start()
        theirs.close()
        ready = self._told(PREPARE_S)
        if ready != "ready":
            raise faults.Unavailable(str(ready))

    def go(self) -> float:
        """Begin; returns when, on the monotonic clock."""
        self._pipe.send("go")
        return cast(float, self._told(PREPARE_S))

    def stop(self) -> None:
        """End the load; returns when the last request has ended."""
        self._pipe.send("stop")
        self._told(READ_BACK_S)

    def read_back(self) -> LoaderResult:
        """Read every acknowledged object; returns all that was measured."""
        self._pipe.send("read back")
        result = cast(LoaderResult, self._told(READ_BACK_S))
        self._process.join()
        return result

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _told(self, patience_s: float) -> object:
        try:
            if self._pipe.poll(patience_s):
                told: object = self._pipe.recv()
                return told
        except EOFError:
            raise faults.Unavailable("the load program ended") from None
        raise faults.Unavailable("the load program does not get on")


class Watch:
    """Asks the store how it is, again and again, on a thread."""

    def __init__(self, store: Store, began_s: float) -> None:
        self._store = store
        self._began_s = began_s
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[Health] = []
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._is_stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_stopping.wait(POLL_S):
            sample = self._store.health(time.monotonic() - self._began_s)
            if sample is None:
                return
            self.samples.append(sample)


class RunningStage:
    """The stage of one scenario while it runs."""

    def __init__(self, began_s: float, hold_s: float, say: Say) -> None:
        self._began_s = began_s
        self._hold_s = hold_s
        self._say = say
        self.fault_begin_s = self.fault_end_s = 0.0
        self.marks: list[Mark] = []

    def begin(self, words: str) -> None:
        self.fault_begin_s = self._note(words)

    def hold(self) -> None:
        time.sleep(self._hold_s)

    def mark(self, words: str) -> None:
        self._note(words)

    def _note(self, words: str) -> float:
        at_s = time.monotonic() - self._began_s
        self.marks.append(Mark(round(at_s, 3), words))
        if words:
            self._say(f"  {at_s:5.1f} s  {words}")
        return at_s

    def end(self, words: str) -> None:
        self.fault_end_s = self._note(words)


def run_scenario(
    store: Store, name: str, shape: LoadShape, timing: Timing, say: Say
) -> ScenarioRecord:
    """Run one scenario on a store that is brought up for it. raises Fault"""
    loader = None
    try:
        target = store.start()
        scenario = next(found for found in store.scenarios() if found.name == name)
        scenario.prepare()
        loader = Loader(target, shape)
        return _measure(store, scenario, loader, timing, say)
    finally:
        if loader is not None:
            loader.close()
        store.stop()


def _measure(
    store: Store, scenario: Scenario, loader: Loader, timing: Timing, say: Say
) -> ScenarioRecord:
    _wait_healthy(store, timing.patience_s)
    repaired_before = store.repair_bytes()
    began_s = loader.go()
    watch, stage = Watch(store, began_s), RunningStage(began_s, timing.hold_s, say)
    try:
        time.sleep(timing.healthy_s)
        scenario.act(stage)
        _wait_until_over(watch, stage, began_s, timing)
        end_s = time.monotonic() - began_s
        loader.stop()
    finally:
        watch.stop()
    repaired = store.repair_bytes()
    say("         reading everything back")
    result = loader.read_back()
    return ScenarioRecord(
        name=scenario.name,
        title=scenario.title,
        what=scenario.what,
        fault_begin_s=stage.fault_begin_s,
        fault_end_s=stage.fault_end_s,
        end_s=end_s,
        requests=result.requests,
        failed_tries=result.failed_tries,
        health=watch.samples,
        marks=stage.marks,
        read_back=result.read_back,
        repair_bytes=repaired - max(0, repaired_before) if repaired >= 0 else -1,
    )


def _wait_healthy(store: Store, patience_s: float) -> None:
    """A scenario begins in full health. raises Unavailable"""
    deadline_s = time.monotonic() + patience_s
    while (sample := store.health(0.0)) is not None and not sample.is_healthy:
        if time.monotonic() > deadline_s:
            words = ", ".join(sample.words) or sample.state
            raise faults.Unavailable(f"the store is not healthy at the begin: {words}")
        time.sleep(POLL_S)


def _wait_until_over(watch: Watch, stage: RunningStage, began_s: float, timing: Timing) -> None:
    """Go on until the store has been healthy for a while, within the bounds of `timing`."""
    while True:
        now_s = time.monotonic() - began_s
        since_s = now_s - stage.fault_end_s
        samples = list(watch.samples)
        healthy_s = time_to_health(samples, stage.fault_end_s)
        is_steady = not samples or (healthy_s is not None and since_s > healthy_s + STEADY_S)
        if since_s >= timing.after_s and (is_steady or since_s >= timing.patience_s):
            return
        time.sleep(POLL_S)
