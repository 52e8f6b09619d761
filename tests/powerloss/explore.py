"""Every state that a power loss can leave of a recorded workload, recovered by the real code.

At each operation of a recording: all subsets of what is un-synced where they are few, else none,
all, each prefix, each one missing, each one alone and some by chance; writes torn at sectors and
pages; sizes without data. Each state is written into a folder, opened, judged by what had been
acknowledged, written to, opened again. Some recoveries are recorded themselves and cut too.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from tests.powerloss import recorder
from tests.powerloss.medium import (
    KEPT,
    TORN,
    ZEROS,
    Change,
    Fates,
    Medium,
    Naming,
    digest,
    is_log,
    read_image,
    write_image,
)
from tests.powerloss.recorder import Kind, Operation

EXHAUSTIVE_MAX = 5  # un-synced operations of which every subset is built
CHOSEN_MAX = 48  # states of one moment with more
TORN_OF_EACH = 2
CUT_ALWAYS = 10  # the number of a state whose recovery is cut too in any case


class Workload(Protocol):
    """What is done, and how what is left of it is judged. All in one folder."""

    name: str
    is_ordered: bool  # names reach the medium in order, as on every journaling file system

    def prepare(self, folder: Path) -> None:
        """What is there, durably, before the recording."""

    def run(self, folder: Path) -> None:
        """Do it, with marks."""

    def recover(self, folder: Path, marks: Sequence[str]) -> object:
        """Open what is left and close it; what it holds now. raises AssertionError if that is wrong

        marks   what had been told by then
        """


@dataclass(slots=True)
class Limits:
    """How far to go."""

    seed: int
    states_max: int = 0  # 0: all
    recoveries_share: float = 0.02  # of states whose recovery is cut too
    cuts_max: int = 25  # states of one such recovery
    failures_max: int = 5


@dataclass(slots=True)
class Result:
    """What came of it."""

    operations: int = 0
    moments: int = 0
    states_found: int = 0
    states: int = 0
    recoveries: int = 0
    cuts: int = 0
    seconds: float = 0.0
    fates: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def choices(pending: Sequence[Change | Naming], chance: Random) -> Iterator[Fates]:
    """What may become of the un-synced operations of one moment."""
    numbers = [each.number for each in pending]
    if len(numbers) <= EXHAUSTIVE_MAX:
        for bits in range(1 << len(numbers)):
            yield {n: KEPT for at, n in enumerate(numbers) if bits >> at & 1}
    else:
        yield from _chosen(numbers, chance)
    everything = dict.fromkeys(numbers, KEPT)
    for change in pending:
        if not isinstance(change, Change) or change.kind != Kind.WRITE:
            continue
        for _ in range(TORN_OF_EACH):
            some = {n: KEPT for n in numbers if chance.random() < 0.5}
            yield everything | {change.number: TORN + chance.randrange(1 << 30)}
            yield some | {change.number: TORN + chance.randrange(1 << 30)}
        yield everything | {change.number: ZEROS}


def _chosen(numbers: Sequence[int], chance: Random) -> Iterator[Fates]:
    found: list[Fates] = [dict.fromkeys(numbers[:end], KEPT) for end in range(len(numbers) + 1)]
    found += [{n: KEPT for n in numbers if n != left_out} for left_out in numbers]
    found += [{n: KEPT} for n in numbers]
    found += [
        {n: KEPT for n in numbers if chance.random() < share}
        for share in (0.1, 0.3, 0.5, 0.5, 0.7, 0.9)
    ]
    always = [found[0], found[len(numbers)]]
    yield from always
    yield from chance.sample(found, min(len(found), CHOSEN_MAX))


def in_order(pending: Sequence[Change | Naming], fates: Fates) -> Fates:
    """The same, but of names only those before the first lost one."""
    kept, is_lost = dict(fates), False
    for each in pending:
        if isinstance(each, Naming):
            is_lost = is_lost or each.number not in fates
            if is_lost:
                kept.pop(each.number, None)
    return kept


class Explorer:
    """Explores one workload in a scratch folder."""

    def __init__(self, workload: Workload, scratch: Path, limits: Limits) -> None:
        self._workload, self._scratch, self._limits = workload, scratch, limits
        self._chance = Random(f"{workload.name} {limits.seed}")
        self.result = Result()

    def explore(self) -> Result:
        """Record the workload and judge its states."""
        begun_s = time.monotonic()
        folder = self._scratch / "world"
        folder.mkdir(parents=True)
        self._workload.prepare(folder)
        image = read_image(folder)
        operations = self._record(folder, lambda: self._workload.run(folder))
        self._check_recording(folder, image, operations)
        self.result.operations = len(operations)
        planned = self._plan(folder, image, operations)
        self.result.states_found = sum(len(fates) for fates in planned.values())
        for moment, state, marks in self._states(folder, image, operations, planned):
            self._judge(moment, state, marks)
            if len(self.result.failures) >= self._limits.failures_max:
                break
        self.result.seconds = time.monotonic() - begun_s
        return self.result

    def _record(self, folder: Path, work: Callable[[], object]) -> list[Operation]:
        log = self._scratch / "recording"
        with recorder.recording(folder, log):
            work()
        return recorder.load(log)

    def _check_recording(
        self, folder: Path, image: Mapping[str, bytes], operations: Sequence[Operation]
    ) -> None:
        """What was recorded must lead to what is there."""
        medium = Medium(folder, image)
        for number, operation in enumerate(operations):
            medium.play(number, operation)
        replayed = medium.image({each.number: KEPT for each in medium.pending})
        found = read_image(folder)
        replayed = {name: data for name, data in replayed.items() if not is_log(name)}
        differing = {n for n in found | replayed if found.get(n) != replayed.get(n)}
        assert not differing, f"the recording is incomplete: {sorted(differing)}"

    def _plan(
        self, folder: Path, image: Mapping[str, bytes], operations: Sequence[Operation]
    ) -> dict[int, list[Fates]]:
        """Fates by moment: after which operation the power fails."""
        medium, limits = Medium(folder, image), self._limits
        found: list[tuple[int, Fates]] = [(-1, {})]
        for number, operation in enumerate(operations):
            if not medium.play(number, operation):
                continue
            self.result.moments += 1
            pending = medium.pending
            # A state without the newest operation was there at the moment before, unless
            # something has been told or synced since.
            is_newest_only = bool(pending) and pending[-1].number == number
            seen = set[tuple[tuple[int, int], ...]]()
            for fates in choices(pending, self._chance):
                if self._workload.is_ordered:
                    fates = in_order(pending, fates)
                key = tuple(sorted(fates.items()))
                if key in seen or (is_newest_only and number not in fates):
                    continue
                seen.add(key)
                found.append((number, fates))
        if limits.states_max and len(found) > limits.states_max:
            found = self._chance.sample(found, limits.states_max)
        planned: dict[int, list[Fates]] = {}
        for number, fates in sorted(found, key=lambda each: each[0]):
            planned.setdefault(number, []).append(fates)
        return planned

    def _states(
        self,
        folder: Path,
        image: Mapping[str, bytes],
        operations: Sequence[Operation],
        planned: Mapping[int, Sequence[Fates]],
    ) -> Iterator[tuple[str, dict[str, bytes], list[str]]]:
        """States in order, each once with the marks of its time."""
        medium = Medium(folder, image)
        seen: set[tuple[bytes, int]] = set()
        for number in range(-1, len(operations)):
            if number >= 0:
                medium.play(number, operations[number])
            for fates in planned.get(number, ()):
                state = medium.image(fates)
                key = (digest(state), len(medium.marks))
                if key in seen:
                    continue
                seen.add(key)
                self.result.fates["torn"] += any(fate >= TORN for fate in fates.values())
                self.result.fates["size without data"] += ZEROS in fates.values()
                self.result.fates["lost in part"] += 0 < len(fates) < len(medium.pending)
                yield describe(medium, number, operations, fates), state, list(medium.marks)

    def _judge(self, moment: str, state: Mapping[str, bytes], marks: list[str]) -> None:
        self.result.states += 1
        is_cut_too = self._chance.random() < self._limits.recoveries_share
        is_cut_too = is_cut_too or self.result.states == CUT_ALWAYS
        folder = self._fresh(state)
        try:
            outcome: list[object] = []
            recover = lambda: outcome.append(self._workload.recover(folder, marks))  # noqa: E731
            operations = self._record(folder, recover) if is_cut_too else recover()
            again = self._workload.recover(folder, marks)
            assert again == outcome[0], "opened again, it holds something else"
            if operations:
                self._cut_recovery(state, marks, operations)
        except Exception as error:
            self.result.failures.append(f"{moment}: {type(error).__name__}: {error}")

    def _cut_recovery(
        self, state: Mapping[str, bytes], marks: list[str], operations: Sequence[Operation]
    ) -> None:
        """Let the power fail in a recovery, and recover again."""
        self.result.recoveries += 1
        folder = self._scratch / "state"
        inner = Explorer(self._workload, self._scratch, self._limits)
        inner._chance = self._chance
        planned = inner._plan(folder, state, operations)
        pairs = [(number, fates) for number, many in planned.items() for fates in many]
        chosen = self._chance.sample(pairs, min(len(pairs), self._limits.cuts_max))
        planned = {}
        for number, fates in sorted(chosen, key=lambda each: each[0]):
            planned.setdefault(number, []).append(fates)
        for moment, left, told in inner._states(folder, state, operations, planned):
            self.result.cuts += 1
            fresh = self._fresh(left)
            everything = [*marks, *told]
            try:
                first = self._workload.recover(fresh, everything)
                assert self._workload.recover(fresh, everything) == first, "not the same twice"
            except Exception as error:
                raise AssertionError(f"recovery cut {moment}: {error}") from error

    def _fresh(self, state: Mapping[str, bytes]) -> Path:
        folder = self._scratch / "state"
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        folder.mkdir()
        write_image(folder, state)
        return folder


def describe(medium: Medium, number: int, operations: Sequence[Operation], fates: Fates) -> str:
    """A state in words."""
    if number < 0:
        return "before anything"
    operation = operations[number]
    words = {TORN: "torn", ZEROS: "zeros", KEPT: "kept"}
    parts = []
    for each in medium.pending:
        fate = words[min(fates[each.number], TORN)] if each.number in fates else "lost"
        parts.append(f"{each.number}:{_name(operations[each.number])}:{fate}")
    last = f", last told {medium.marks[-1]!r}" if medium.marks else ""
    return f"after {number} {_name(operation)}{last} [{' '.join(parts[-12:])}]"


def _name(operation: Operation) -> str:
    path = operation.data.split(b"\0")[-1].decode() if operation.kind in NAMED else ""
    place = f"@{operation.first}" if operation.kind == Kind.WRITE else ""
    return f"{operation.kind.name.lower()}{place}{' ' * bool(path)}{path.rpartition('/')[2]}"


NAMED = (Kind.OPEN, Kind.RENAME, Kind.UNLINK, Kind.RMDIR, Kind.MKDIR, Kind.MARK)
