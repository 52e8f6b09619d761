"""A fault campaign: a real cluster, clients on few keys, a nemesis, and everything judged.

  python -m tests.faults.campaign --minutes 60 [--seed N] [--faults a,b,c] [--directory D]

In rounds, each with fresh keys: clients work on them while faults come and go; then every key is
read once more, its history must be linearizable, and most keys are deleted. At the end what was
kept is there byte for byte, what was deleted is not, `ostraka fsck` finds nothing, nobody has
crashed, leaked, or logged a traceback. Exit code 0: nothing found; 1: found, and the folder with
history and logs stays.
"""

import argparse
import json
import secrets
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from cli.main import COMMANDS
from tests.faults.clients import (
    KEYS,
    PLAIN,
    VERSIONED,
    Client,
    Refused,
    Round,
    Unknown,
    Unsent,
    prefix_of,
)
from tests.faults.history import History, Place
from tests.faults.inspection import Inspection
from tests.faults.lasting import LASTING, SETTINGS
from tests.faults.nemesis import ALL, ORDINARY, Nemesis, Pace
from tests.faults.victim import Victim

CLIENTS = 8
CONNECT_S, READ_S = 3, 15
PATIENCE_S = 150.0  # for one final read
FSCK_S = 600.0
RETRY_S = 0.3
BACKOFF_S = 1.0  # as clients do; writes of unknown outcome make histories hard to judge
KEPT_SHARE = 0.25
SAMPLE_S = 30.0
SOME_DELETED = 200  # looked at again at the end


@dataclass(frozen=True, slots=True)
class Options:
    """What kind of campaign."""

    seconds: float
    seed: int
    faults: list[str]
    directory: Path
    requests_per_s: float = 20.0
    round_s: float = 60.0
    pace: Pace = Pace()


@dataclass(slots=True)
class Report:
    """What came out."""

    seed: int
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Campaign:
    """One campaign on a cluster of its own."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._random = Random(options.seed)
        self._victim = Victim(options.directory)
        if LASTING.keys() & set(options.faults):
            self._victim.settings = SETTINGS
        self.history = History(options.directory / "history.jsonl", VERSIONED)
        self._round = Round()
        self._ending = threading.Event()
        self._kept: list[Place] = []
        self._deleted: list[Place] = []
        self._judged = 0
        self._inspection = Inspection(self._victim)
        self._nemesis = Nemesis(
            self._victim, self._inspection, self._known_faults(), options.seed, options.pace
        )
        self._auditor = self._client("auditor")

    def _known_faults(self) -> list[str]:
        """Those asked for that this machine can do."""
        without = ORDINARY | LASTING
        names = [name for name in self._options.faults if self._victim.shim or name in without]
        return sorted(names)

    def _client(self, name: str) -> Client:
        s3 = self._victim.s3(
            connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"total_max_attempts": 1}
        )
        return Client(name, s3, self.history, Random(self._random.random()))

    def run(self) -> Report:
        """All of it; the cluster is gone afterwards."""
        clients = [self._client(f"c{number}") for number in range(1, CLIENTS + 1)]
        threads = [threading.Thread(target=self._work, args=(client,)) for client in clients]
        try:
            self._victim.begin()
            self._make_buckets()
            self._inspection.read_logs(self._victim.names)
            for thread in (*threads, self._nemesis):
                thread.start()
            self._go_on()
            self._nemesis.stop()
            self._ending.set()
            for thread in threads:
                thread.join()
            self._audit(self._round.next())
            self._look_back()
            self._check_whole()
            self._inspection.sample()
        finally:
            self._ending.set()
            self._victim.end()
            self.history.close()
        return self._report()

    def _make_buckets(self) -> None:
        s3 = self._victim.s3()
        for bucket in (PLAIN, VERSIONED):
            s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})

    def _work(self, client: Client) -> None:
        pause = Random(self._options.seed)
        while not self._ending.is_set():
            number = self._round.enter()
            is_answered = True
            try:
                is_answered = client.step(number)
            except Exception as error:
                self.history.violate(f"an answer that no client understands: {error!r}")
                raise
            finally:
                self._round.leave(number)
            wait_s = pause.expovariate(self._options.requests_per_s / CLIENTS)
            self._ending.wait(wait_s if is_answered else BACKOFF_S)

    def _go_on(self) -> None:
        """Rounds until the time is over."""
        end_s = time.monotonic() + self._options.seconds
        sample_s = 0.0
        while (left_s := end_s - time.monotonic()) > 0:
            round_end_s = time.monotonic() + min(self._options.round_s, left_s)
            while (now_s := time.monotonic()) < round_end_s:
                if now_s > sample_s:
                    self._inspection.sample()
                    sample_s = now_s + SAMPLE_S
                time.sleep(min(1.0, max(0.0, round_end_s - now_s)))
            if end_s - time.monotonic() > self._options.round_s / 2:
                self._audit(self._round.next())

    # --- judging --------------------------------------------------------------------------------

    def _audit(self, number: int) -> None:
        """Read a round's keys, judge them, delete most."""
        while not self._round.is_over(number):
            time.sleep(0.1)
        places = self.history.places(prefix_of(number))
        for place in places:
            self._surely(self._auditor.get, place)
            self._surely(self._auditor.list_versions, place)
        good = sum(bool(self.history.judge(place)) for place in places)
        self._judged += len(places)
        print(f"round {number}: {good} of {len(places)} keys are linearizable", flush=True)
        for place in places:
            if self._random.random() < KEPT_SHARE:
                self._kept.append(place)
                continue
            self._delete(place)
            if self._random.random() < SOME_DELETED / max(SOME_DELETED, self._judged):
                self._deleted.append(place)
            else:
                self.history.forget(place)

    def _delete(self, place: Place) -> None:
        self._surely(self._auditor.delete, place)
        if place.bucket == VERSIONED:
            for version_id, value in self.history.versions(place).items():
                self._surely(self._auditor.erase_version, place, version_id, value)
        elif self._random.random() < 0.5:
            self._surely(self._auditor.get, place)

    def _surely(self, operation: Any, *arguments: Any) -> None:
        """Repeat an operation until it is answered."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                operation(*arguments)
            except (Unknown, Unsent, Refused) as reason:
                words = f"{operation.__name__} of {arguments}: {reason!r} from {reason.__cause__}"
            else:
                return
            if time.monotonic() > deadline_s:
                self.history.violate(f"for {PATIENCE_S:.0f} s: {words}")
                return
            time.sleep(RETRY_S)

    def _look_back(self) -> None:
        """What was kept is there, what was deleted is not: both belong to their histories."""
        self._victim.wait_healthy()
        for place in (*self._kept, *self._deleted):
            self._surely(self._auditor.get, place)
            self._surely(self._auditor.list_versions, place)
            self.history.judge(place)
        print(
            f"looked back at {len(self._kept)} kept and {len(self._deleted)} deleted keys",
            flush=True,
        )

    def _check_whole(self) -> None:
        """`ostraka fsck` of this installation, if it has one."""
        if "fsck" not in COMMANDS:
            print("this installation has no fsck: left out", flush=True)
            return
        if troubles := self._victim.wait_mended():
            self.history.violate(f"at the end there is damage: {troubles}")
        done = self._victim.command(
            "fsck", "--data", "--json", "--directory", str(self._victim.data), timeout_s=FSCK_S
        )
        if done.returncode:
            self.history.violate(f"fsck: {done.stdout[-4000:]} {done.stderr[-2000:]}")

    # --- telling --------------------------------------------------------------------------------

    def _report(self) -> Report:
        inspection, nemesis = self._inspection, self._nemesis
        inspection.read_logs(self._victim.names)
        report = Report(self._options.seed)
        report.violations = [
            *self.history.violations,
            *nemesis.violations,
            *[f"ended by itself: {line}" for line in inspection.unexplained],
            *[f"leak: {line}" for line in inspection.leaks()],
            *[f"traceback ({n} times): {line}" for line, n in inspection.tracebacks.items()],
        ]
        recoveries = sorted(nemesis.recoveries_s) or [0.0]
        report.notes = [
            f"{nemesis.episodes} episodes, {len(nemesis.events)} events; healthy again after "
            f"{recoveries[len(recoveries) // 2]:.1f} s (median), {recoveries[-1]:.1f} s (most)",
            f"{self._judged} keys judged, {len(self._kept)} kept, {KEYS} of each bucket a round",
            *[f"{what}: {count}" for what, count in sorted(self.history.counts.items())],
            *inspection.figures(),
            *[f"disk, MiB at {at:.0f} s: {mib}" for at, mib in _few(inspection)],
            *[f"of a file fault ({n} times): {line}" for line, n in inspection.excused.items()],
            *[f"critical ({n} times): {line}" for line, n in inspection.criticals.items()],
        ]
        return report


def _few(inspection: Inspection) -> list[tuple[float, dict[str, int]]]:
    """Ten figures are enough for the eye."""
    points = inspection.disk_mib
    return points[:: max(1, len(points) // 10)]


def run(options: Options) -> Report:
    """One campaign; prints seed, events and figures."""
    print(f"seed {options.seed}, {options.seconds:.0f} s, folder {options.directory}", flush=True)
    report = Campaign(options).run()
    for note in report.notes:
        print(f"  {note}")
    for violation in report.violations:
        print(f"FOUND {violation}")
    print(f"seed {options.seed}: {len(report.violations)} findings", flush=True)
    (options.directory / "report.json").write_text(
        json.dumps({"seed": report.seed, "found": report.violations, "notes": report.notes})
    )
    return report


def main() -> int:
    """The command line."""
    usual = sorted(ALL)
    parser = argparse.ArgumentParser(description="Hurt a local cluster and judge it.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31))
    parser.add_argument("--faults", default=",".join(usual), help=f"of {', '.join(sorted(ALL))}")
    parser.add_argument("--directory", type=Path, help="new; kept if something is found")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    arguments = parser.parse_args()
    names = arguments.faults.split(",")
    if strange := set(names) - set(ALL):
        parser.error(f"no such fault: {', '.join(sorted(strange))}")
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="ostraka-campaign-"))
    report = run(Options(arguments.minutes * 60, arguments.seed, names, directory, arguments.rate))
    if report.violations:
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
