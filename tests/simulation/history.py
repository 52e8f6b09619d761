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
    written: dict[Place, list[int]] = field(default_factory=dict)
    sources: dict[int, Place] = field(default_factory=dict)  # of copies
    part_sizes: dict[int, list[int]] = field(default_factory=dict)  # of uploads
    last_seen: dict[Place, int] = field(default_factory=dict)
    versions: dict[Place, dict[str, Value]] = field(default_factory=dict)  # by version id

    def content_of(self, value: int, place: Place, size_bytes: int) -> bytes:
        """Make what a write will write: of itself, and unlike anything else."""
        content = random.Random(value).randbytes(size_bytes)
        self.contents[value] = content
        self.written.setdefault(place, []).append(value)
        return content

    def note_copy(self, value: int, source: Place, place: Place) -> None:
        """A copy writes whatever its source holds when it is read."""
        self.sources[value] = source
        self.written.setdefault(place, []).append(value)

    def note_parts(self, value: int, part_sizes: list[int]) -> None:
        """A value is uploaded in parts, which its ETag shows."""
        self.part_sizes[value] = part_sizes

    def etag_of(self, value: int) -> str | None:
        """The ETag under which a value was written; None while that is not known of a copy."""
        content = self.contents.get(value)
        return None if content is None else _etag(content, self.part_sizes.get(value))

    def writers(self, place: Place, etag: str) -> list[int]:
        """The values of a key that may have an ETag."""
        return [
            value
            for value in self.written.get(place, ())
            if any(
                _etag(content, self.part_sizes.get(value)) == etag
                for content in self._possible(value, set())
            )
        ]

    def holders(self, place: Place, digest: str) -> dict[int, bytes]:
        """The values of a key whose content may have an MD5, with that content."""
        return {
            value: content
            for value in self.written.get(place, ())
            for content in self._possible(value, set())
            if _etag(content, None) == digest
        }

    def _possible(self, value: int, passed: set[int]) -> list[bytes]:
        """All that a value may contain; more than one only for a copy that nobody has read."""
        content = self.contents.get(value)
        if content is not None:
            return [content]
        if value in passed or value not in self.sources:
            return []
        passed.add(value)
        written = self.written.get(self.sources[value], ())
        return [each for source in written for each in self._possible(source, passed)]

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
        known = self._possible(value, set())
        if not known:
            self.violate("unknown value", f"{value} was read and never written", place)
            return
        matching = [each for each in known if each[begin : begin + len(data)] == data]
        if not matching:
            self.violate("wrong bytes", f"value {value}, {len(data)} bytes at {begin}", place)
        elif len(matching) == 1:
            self.contents[value] = matching[0]

    def add_page(
        self,
        bucket: str,
        shown: dict[str, str],
        after: str,
        last: str | None,
        times: tuple[float, float],
        delimiter: str = "",
    ) -> None:
        """A page of a listing reads every key of its range: (after, last], or to the end."""
        for key in KEYS:
            place = (bucket, key)
            if key <= after or (last is not None and key > last):
                continue
            if delimiter and delimiter in key:
                continue
            if key not in shown:
                self.add(place, Operation(Kind.READ, *times, label="listing"))
                continue
            values = self.writers(place, shown[key])
            if not values:
                self.violate("unknown value", f"ETag {shown[key]} was listed", place)
            elif len(values) == 1:
                self.add(place, Operation(Kind.READ, *times, value=values[0], label="listing"))

    def add_absent(self, bucket: str, prefix: str, times: tuple[float, float]) -> None:
        """A listing showed nothing under a prefix."""
        for key in KEYS:
            if key.startswith(prefix):
                self.add((bucket, key), Operation(Kind.READ, *times, label="listing"))

    def check_linearizable(self) -> None:
        """Look for an order that explains each key's history."""
        for place, operations in sorted(self.operations.items()):
            verdict = _verdict(place, operations)
            if verdict.is_linearizable is None:
                self.violate("undecided", f"gave up after {verdict.steps} steps", place)
            elif not verdict:
                self.violate("not linearizable", f"no place for {verdict.stuck_at}", place)


def _etag(content: bytes, part_sizes: list[int] | None) -> str:
    if part_sizes is None:
        return hashlib.md5(content).hexdigest()
    digests, at = [], 0
    for size in part_sizes:
        digests.append(hashlib.md5(content[at : at + size]).digest())
        at += size
    return f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(part_sizes)}"


def _verdict(place: Place, operations: list[Operation]) -> Verdict:
    if place[0] == VERSIONED:
        return check(operations, VersionStack())
    return check(operations, Register())
