"""What clients saw, and whether it can be true."""

import hashlib
import random
from dataclasses import dataclass, field

from tests.simulation.plan import KEYS, VERSIONED
from tests.support.linearizability import (
    Kind,
    Operation,
    Register,
    Value,
    Verdict,
    VersionStack,
    check,
)

Place = tuple[str, str]  # bucket, key


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be."""

    kind: str
    detail: str
    place: Place | None = None

    def __str__(self) -> str:
        where = "" if self.place is None else f" {self.place[0]}/{self.place[1]!r}"
        return f"{self.kind}{where}: {self.detail}"


@dataclass(slots=True)
class History:
    """All operations by key, what was ever written, and what is known of it."""

    operations: dict[Place, list[Operation]] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    contents: dict[int, bytes] = field(default_factory=dict)
    etags: dict[str, int] = field(default_factory=dict)
    last_seen: dict[Place, int] = field(default_factory=dict)
    versions: dict[Place, dict[str, Value]] = field(default_factory=dict)  # by version id

    def content_of(self, value: int, size_bytes: int) -> bytes:
        """Make what a write will write: of itself, and unlike anything else."""
        content = random.Random(value).randbytes(size_bytes)
        self.contents[value] = content
        return content

    def note_etag(self, value: int, part_sizes: list[int] | None = None) -> str:
        """Remember the ETag that a value will have, of so many parts."""
        content = self.contents[value]
        etag = hashlib.md5(content).hexdigest()
        if part_sizes is not None:
            digests, at = [], 0
            for size in part_sizes:
                digests.append(hashlib.md5(content[at : at + size]).digest())
                at += size
            etag = f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(part_sizes)}"
        self.etags[etag] = value
        return etag

    def etag_of(self, value: int) -> str:
        """The ETag under which a value was written."""
        return next(etag for etag, known in self.etags.items() if known == value)

    def add(self, place: Place, operation: Operation) -> None:
        """Record an operation's end, or that it has none."""
        self.operations.setdefault(place, []).append(operation)
        if operation.is_known and isinstance(operation.value, int) and not operation.is_refused:
            self.last_seen[place] = operation.value

    def violate(self, kind: str, detail: str, place: Place | None = None) -> None:
        """Record what must never be."""
        self.violations.append(Violation(kind, detail, place))

    def check_content(self, place: Place, value: int, begin: int, data: bytes) -> None:
        """Compare bytes that were read with those that were written."""
        wanted = self.contents.get(value)
        if wanted is None:
            self.violate("unknown value", f"{value} was read and never written", place)
        elif data != wanted[begin : begin + len(data)]:
            self.violate("wrong bytes", f"value {value}, {len(data)} bytes at {begin}", place)

    def add_page(
        self,
        bucket: str,
        shown: dict[str, str],
        after: str,
        last: str | None,
        times: tuple[float, float],
    ) -> None:
        """A page of a listing reads every key of its range: (after, last], or to the end."""
        for key in KEYS:
            place = (bucket, key)
            if key <= after or (last is not None and key > last):
                continue
            value: Value = None
            if key in shown:
                value = self.etags.get(shown[key])
                if value is None:
                    self.violate("unknown value", f"ETag {shown[key]} was listed", place)
                    continue
            self.add(place, Operation(Kind.READ, *times, value=value, label="listing"))

    def check_linearizable(self) -> None:
        """Look for an order that explains each key's history."""
        for place, operations in sorted(self.operations.items()):
            verdict = _verdict(place, operations)
            if verdict.is_linearizable is None:
                self.violate("undecided", f"gave up after {verdict.steps} steps", place)
            elif not verdict:
                self.violate("not linearizable", f"no place for {verdict.stuck_at}", place)


def _verdict(place: Place, operations: list[Operation]) -> Verdict:
    if place[0] == VERSIONED:
        return check(operations, VersionStack())
    return check(operations, Register())
