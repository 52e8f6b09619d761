"""What the processes of a cluster under test do besides answering: errors in their logs, ends that
nobody caused, memory, descriptors and disk over time."""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.victim import Victim

ENDED = re.compile(r"^(\S+) (was killed by signal \d+|ended .*): starting it again$")
CRITICAL = ("critical",)
STARTS_AGAIN = "the service starts again with them"  # commits of a life before, in its journal
# Caches fill, and pools of buffers grow by steps of several MiB when more is in flight than ever
# before: a process is judged after its first minutes, if it lives long enough to tell a slope.
WARM_S = 480.0
SAMPLES_MIN = 20
RSS_GROWTH_KIB_PER_HOUR_MAX = 96 * 1024
RSS_STEP_KIB = 16 * 1024
RSS_KIB_MAX = {"gateway": 900 * 1024, "metaservice": 900 * 1024}
RSS_KIB_DEFAULT_MAX = 600 * 1024
DESCRIPTORS_MAX = 400
DESCRIPTORS_GROWTH_PER_HOUR_MAX = 40
DESCRIPTORS_STEP = 16  # connections of one more burst are no leak
DISK_WARM_S = 900.0  # deleted data stays for the grace, then leaves with compaction
DISK_GROWTH_MIB_PER_HOUR_MAX = 512
KINDS = ("extents", "journal", "index", "tombstones", "meta", "logs")  # folders that are told apart
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    at_s: float
    rss_kib: int
    descriptors: int


@dataclass(slots=True)
class Inspection:
    """Reads logs and samples as the campaign goes on."""

    victim: Victim
    tracebacks: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    criticals: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)
    disk_mib: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    _offsets: dict[Path, int] = field(default_factory=dict)
    _samples: dict[tuple[str, int], list[Sample]] = field(default_factory=dict)
    _began_s: float = field(default_factory=time.monotonic)

    # --- logs -----------------------------------------------------------------------------------

    def read_logs(self, excused: Collection[str] = ()) -> None:
        """Read what is new. excused: processes whose own files were made to fail meanwhile."""
        ends: dict[str, list[str]] = {}
        for path in sorted((self.victim.data / "logs").glob("*.log")):
            for line in self._new_lines(path):
                if path.stem != "supervisor":
                    self._judge_line(path.stem, line, path.stem in excused)
                elif found := ENDED.match(line):
                    ends.setdefault(found[1], []).append(line)
        self._judge_ends(ends, excused)

    def _new_lines(self, path: Path) -> list[str]:
        offset = self._offsets.get(path, 0)
        if path.stat().st_size < offset:  # it was rolled
            offset = 0
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[path] = offset + len(whole)
        return whole.decode(errors="replace").splitlines()

    def _judge_line(self, process: str, line: str, is_excused: bool) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"exception": line} if line.startswith("Traceback") else {}
        if not isinstance(entry, dict):
            return
        if entry.get("level") in CRITICAL:
            self.criticals[f"{process}: {entry.get('message')}"] += 1
            self.victim.ended[process] += STARTS_AGAIN in str(entry.get("message"))
        if exception := entry.get("exception"):
            words = _last_of(str(exception))
            counter = self.excused if is_excused else self.tracebacks
            counter[f"{process}: {entry.get('message', '')}: {words}"] += 1

    def _judge_ends(self, ends: dict[str, list[str]], excused: Collection[str]) -> None:
        """Nobody ends more often than it was made to since the logs were read last."""
        for name, lines in ends.items():
            self.ends[name] += len(lines)
            if len(lines) > self.victim.ended[name] and name not in excused:
                self.unexplained += lines[self.victim.ended[name] :]
        self.victim.ended.clear()

    # --- samples --------------------------------------------------------------------------------

    def sample(self) -> None:
        """Note memory, descriptors and disk."""
        now_s = time.monotonic() - self._began_s
        for name, pid in self.victim.pids().items():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            except OSError:
                continue  # it has just ended
            found = re.search(r"VmRSS:\s+(\d+) kB", status)
            if found:
                sample = Sample(now_s, int(found[1]), descriptors)
                self._samples.setdefault((name, pid), []).append(sample)
        held = self.victim.held_bytes()
        if held is not None:  # in extents, which are preallocated: what was handed out counts
            disk_mib = allocated_mib(self.victim.data) | {"extents": held // MIB}
            self.disk_mib.append((now_s, disk_mib))

    def leaks(self) -> list[str]:
        """Processes that hold too much, or more and more."""
        words = []
        for (name, pid), samples in self._samples.items():
            role = name.rpartition("-")[0] or name
            most_kib = max(sample.rss_kib for sample in samples)
            if most_kib > RSS_KIB_MAX.get(role, RSS_KIB_DEFAULT_MAX):
                words.append(f"{name} ({pid}) held {most_kib // 1024} MiB")
            most = max(sample.descriptors for sample in samples)
            if most > DESCRIPTORS_MAX:
                words.append(f"{name} ({pid}) held {most} descriptors")
            warm = [sample for sample in samples if sample.at_s - samples[0].at_s >= WARM_S]
            if len(warm) >= SAMPLES_MIN:
                slope = _slope_per_hour([(s.at_s, float(s.rss_kib)) for s in warm])
                grown_kib = slope * (warm[-1].at_s - warm[0].at_s) / 3600
                if slope > RSS_GROWTH_KIB_PER_HOUR_MAX and grown_kib > RSS_STEP_KIB:
                    words.append(f"{name} ({pid}) grows by {slope / 1024:.0f} MiB an hour")
                slope = _slope_per_hour([(s.at_s, float(s.descriptors)) for s in warm])
                grown = slope * (warm[-1].at_s - warm[0].at_s) / 3600
                if slope > DESCRIPTORS_GROWTH_PER_HOUR_MAX and grown > DESCRIPTORS_STEP:
                    words.append(f"{name} ({pid}) opens {slope:.0f} descriptors more an hour")
        sums = [(at_s, float(sum(mib.values()))) for at_s, mib in self.disk_mib]
        late = [point for point in sums if point[0] >= DISK_WARM_S]
        if len(late) >= SAMPLES_MIN and (slope := _slope_per_hour(late)) > (
            DISK_GROWTH_MIB_PER_HOUR_MAX
        ):
            words.append(f"the disks fill by {slope:.0f} MiB an hour")
        return words

    def figures(self) -> list[str]:
        """Most memory and descriptors of each process."""
        most: dict[str, tuple[int, int]] = {}
        for (name, _), samples in self._samples.items():
            rss, descriptors = most.get(name, (0, 0))
            most[name] = (
                max(rss, *[sample.rss_kib for sample in samples]),
                max(descriptors, *[sample.descriptors for sample in samples]),
            )
        return [
            f"{name}: at most {rss // 1024} MiB, {descriptors} descriptors"
            for name, (rss, descriptors) in sorted(most.items())
        ]


def _last_of(exception: str) -> str:
    """Where an exception was raised, and its last line."""
    lines = [line.strip() for line in exception.strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    return f"{places[-1] if places else ''} {lines[-1] if lines else ''}".strip()


def allocated_mib(folder: Path) -> dict[str, int]:
    """MiB by kind of folder, preallocated ones too."""
    total: Counter[str] = Counter()
    for root, _, names in os.walk(folder):
        parts = set(Path(root).parts)
        kind = next((name for name in KINDS if name in parts), "others")
        for name in names:
            try:
                total[kind] += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118
            except OSError:
                continue  # it has just been removed
    return {kind: count // MIB for kind, count in sorted(total.items())}


def _slope_per_hour(points: list[tuple[float, float]]) -> float:
    """Least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread * 3600 if spread else 0.0
