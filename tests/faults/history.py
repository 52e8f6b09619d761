"""What the clients of a campaign saw: kept per key, written to a file, judged after each round.

Thread-safe. A key is judged by tests/support/linearizability.py: a bucket without versions as a
register, one with versions as a stack of them. A listing is one read of every key it could show.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from tests.support.linearizability import (
    UNKNOWN_END_S,
    Kind,
    Marker,
    Operation,
    Register,
    Value,
    Verdict,
    VersionStack,
    check,
)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A key of a bucket."""

    bucket: str
    key: str


class History:
    """Operations by key, names of contents by ETag, versions by id, and what must never be."""

    def __init__(self, path: Path, versioned_bucket: str) -> None:
        self._lock = threading.Lock()
        self._file = path.open("w", encoding="utf-8")
        self._versioned_bucket = versioned_bucket
        self._operations: dict[Place, list[Operation]] = {}
        self._etags: dict[str, str] = {}
        self._versions: dict[Place, dict[str, Hashable]] = {}
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.began_s = time.monotonic()

    def now_s(self) -> float:
        """Seconds since the history began."""
        return time.monotonic() - self.began_s

    def add(self, place: Place, *operations: Operation) -> None:
        """Note operations on a key."""
        with self._lock:
            self._operations.setdefault(place, []).extend(operations)
            for operation in operations:
                known = "" if operation.is_known else " unknown"
                refused = " refused" if operation.is_refused else ""
                self.counts[f"{operation.kind.name.lower()}{refused}{known}"] += 1
                self._file.write(json.dumps(_as_line(place, operation)) + "\n")

    def count(self, what: str) -> None:
        """Count something that is no operation on a key."""
        with self._lock:
            self.counts[what] += 1

    def violate(self, what: str) -> None:
        """Note what must never be."""
        with self._lock:
            self.violations.append(f"{self.now_s():.1f} s: {what}")
            print(f"VIOLATION {self.violations[-1]}", flush=True)

    def name_etag(self, etag: str, value: str) -> None:
        """Note which contents an ETag stands for; before they are sent."""
        with self._lock:
            self._etags[etag] = value

    def value_of(self, etag: str) -> str | None:
        """The contents of an ETag."""
        with self._lock:
            return self._etags.get(etag)

    def name_version(self, place: Place, version_id: str | None, value: Hashable) -> None:
        """Note which contents, or which marker, a version id stands for."""
        if version_id is None:
            return
        with self._lock:
            self._versions.setdefault(place, {})[version_id] = value

    def versions(self, place: Place) -> dict[str, Hashable]:
        """Values by version id, as far as known."""
        with self._lock:
            return dict(self._versions.get(place, {}))

    def places(self, prefix: str) -> list[Place]:
        """Keys below a prefix that were touched."""
        with self._lock:
            return sorted(place for place in self._operations if place.key.startswith(prefix))

    def judge(self, place: Place) -> Verdict:
        """Whether a key's history has an explanation; notes a violation if not."""
        with self._lock:
            operations = list(self._operations[place])
        if place.bucket == self._versioned_bucket:
            verdict = check(operations, VersionStack())
        else:
            verdict = check(operations, Register())
        if not verdict:
            words = "could not be judged" if verdict.is_linearizable is None else "is impossible"
            self.violate(f"the history of {place.bucket}/{place.key} {words}: {verdict.stuck_at}")
        return verdict

    def forget(self, place: Place) -> None:
        """Drop a key that was judged for good."""
        with self._lock:
            self._operations.pop(place, None)
            self._versions.pop(place, None)

    def close(self) -> None:
        """End the file."""
        with self._lock:
            self._file.close()


def observe(
    value: Value, begin_s: float, end_s: float, version: Value = None, label: str = ""
) -> Operation:
    """A read that was answered."""
    kind = Kind.READ if version is None else Kind.READ_VERSION
    return Operation(kind, begin_s, end_s, value, version, label=label)


def unknown(operation_kind: Kind, begin_s: float, value: Value, expected: Value) -> Operation:
    """A write without an answer."""
    return Operation(operation_kind, begin_s, UNKNOWN_END_S, value, expected)


def _as_line(place: Place, operation: Operation) -> dict[str, object]:
    return {
        "bucket": place.bucket,
        "key": place.key,
        "kind": operation.kind.name,
        "begin_s": round(operation.begin_s, 6),
        "end_s": round(operation.end_s, 6) if operation.is_known else None,
        "value": _as_text(operation.value),
        "expected": _as_text(operation.expected),
        "is_refused": operation.is_refused,
        "label": operation.label,
    }


def _as_text(value: Hashable) -> str | None:
    if value is None:
        return None
    return f"marker {value.name}" if isinstance(value, Marker) else str(value)
