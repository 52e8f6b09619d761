"""What one run measured: raw samples, kept as JSON so that any two runs can be compared later.

Times are seconds since the begin of a scenario's load, by one monotonic clock of the machine that
loader and injector share.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common import faults

FORMAT = 1
READ, WRITE = "read", "write"
KINDS = (READ, WRITE)


@dataclass(slots=True)
class Requests:
    """One column per property, one row per request as a client's program sees it.

    begin_ms     when it was due
    latency_us   until its answer was complete, ordinary retries included
    kind         index in KINDS
    tries        attempts that were made
    status       of the last attempt; 0: no answer; -1: 200 with wrong bytes
    """

    begin_ms: list[int] = field(default_factory=list)
    latency_us: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    tries: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)

    def add(self, begin_s: float, latency_s: float, kind: int, tries: int, status: int) -> None:
        """Append a row."""
        self.begin_ms.append(int(begin_s * 1e3))
        self.latency_us.append(int(latency_s * 1e6))
        self.kind.append(kind)
        self.tries.append(tries)
        self.status.append(status)

    def __len__(self) -> int:
        return len(self.begin_ms)


@dataclass(frozen=True, slots=True)
class FailedTry:
    """An attempt that failed, whether or not a later one succeeded."""

    at_s: float
    kind: int
    reason: str  # a status, or what happened to the connection


@dataclass(frozen=True, slots=True)
class Health:
    """What the store said of itself at one moment."""

    at_s: float
    is_healthy: bool
    state: str
    degraded: int  # pieces of data with less than full redundancy; -1: not told
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was done to the store."""

    at_s: float
    words: str


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Every acknowledged object read again at the end."""

    objects: int = 0
    lost_objects: int = 0
    lost_bytes: int = 0
    wrong_objects: int = 0


@dataclass(slots=True)
class ScenarioRecord:
    """One scenario of one run."""

    name: str
    title: str
    what: str
    fault_begin_s: float
    fault_end_s: float
    end_s: float
    requests: Requests = field(default_factory=Requests)
    failed_tries: list[FailedTry] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    read_back: ReadBack = field(default_factory=ReadBack)
    repair_bytes: int = -1  # moved by repair; -1: not told


@dataclass(frozen=True, slots=True)
class LoadShape:
    """The load of all scenarios of a run."""

    clients: int = 16
    size_bytes: int = 64 * 1024
    read_share: float = 0.7
    rate: float = 0.0  # requests per second of all clients together; 0: as fast as answers come
    objects: int = 512
    try_timeout_s: float = 60.0
    seed: int = 1


@dataclass(slots=True)
class RunRecord:
    """All scenarios of one run against one store."""

    store: str
    started: str  # ISO 8601, UTC
    commit: str
    machine: str
    calibration: str
    load: LoadShape
    scenarios: list[ScenarioRecord] = field(default_factory=list)
    format: int = FORMAT

    def save(self, path: Path) -> None:
        """Write the raw samples."""
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(json.dumps(asdict(self), separators=(",", ":")), encoding="utf-8")
        temporary.replace(path)


def load_run(path: Path) -> RunRecord:
    """Read a run. raises Invalid"""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise faults.Invalid("run", str(path), "is of another version")
        document["load"] = LoadShape(**document["load"])
        document["scenarios"] = [_scenario(entry) for entry in document["scenarios"]]
        return RunRecord(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise faults.Invalid("run", str(path), "is no run of this benchmark") from error


def _scenario(entry: dict[str, Any]) -> ScenarioRecord:
    entry["requests"] = Requests(**entry["requests"])
    entry["failed_tries"] = [FailedTry(**row) for row in entry["failed_tries"]]
    entry["health"] = [Health(**{**row, "words": tuple(row["words"])}) for row in entry["health"]]
    entry["marks"] = [Mark(**row) for row in entry["marks"]]
    entry["read_back"] = ReadBack(**entry["read_back"])
    return ScenarioRecord(**entry)
