"""What S3 promises of buckets, versions and uploads, as dictionaries: the model of the API test.

Version ids come from the server; everything else is decided here. Methods that may refuse return
the S3 error code, or None for success; they change the model only through the `apply_` methods.
"""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

NULL = "null"
PART_BYTES_MIN = 5 * 1024 * 1024


@lru_cache(maxsize=256)
def content(seed: int, size: int) -> bytes:
    """Bytes that differ for every seed."""
    return Random(seed).randbytes(size)


def md5(data: bytes) -> str:
    """A bare ETag of one piece."""
    return hashlib.md5(data).hexdigest()


@dataclass(slots=True)
class Version:
    """One version of a key, or a delete marker."""

    version_id: str
    body: bytes = b""
    etag: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    part_sizes: tuple[int, ...] = ()
    is_marker: bool = False


@dataclass(slots=True)
class Completed:
    """What a completed upload answers when it is asked again."""

    listed: list[tuple[int, str]]
    etag: str
    version_id: str | None


@dataclass(slots=True)
class Upload:
    """A multipart upload, open or completed."""

    upload_id: str
    key: str
    metadata: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)
    completed: Completed | None = None
    is_aborted: bool = False

    @property
    def is_open(self) -> bool:
        return self.completed is None and not self.is_aborted

    def refuse_list(self, listed: list[tuple[int, str]]) -> str | None:
        """The error of completing with a list of numbers and ETags."""
        if self.completed is not None:
            return None if listed == self.completed.listed else "NoSuchUpload"
        if self.is_aborted:
            return "NoSuchUpload"
        numbers = [number for number, _ in listed]
        for index, (number, etag) in enumerate(listed):
            if index and number <= numbers[index - 1]:
                return "InvalidPartOrder"
            if number not in self.parts or md5(self.parts[number]) != etag:
                return "InvalidPart"
        if any(len(self.parts[number]) < PART_BYTES_MIN for number in numbers[:-1]):
            return "EntityTooSmall"
        return None

    def whole(self, listed: list[tuple[int, str]]) -> Version:
        """The version that a list makes; its id is the server's to say."""
        pieces = [self.parts[number] for number, _ in listed]
        digests = b"".join(hashlib.md5(piece).digest() for piece in pieces)
        return Version(
            NULL,
            body=b"".join(pieces),
            etag=f"{hashlib.md5(digests).hexdigest()}-{len(pieces)}",
            metadata=self.metadata,
            part_sizes=tuple(len(piece) for piece in pieces),
        )


@dataclass(slots=True)
class Bucket:
    """Versions by key, newest first, and uploads by id."""

    versioning: str | None = None
    keys: dict[str, list[Version]] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)

    def current(self, key: str) -> Version | None:
        """The version that a plain GET reads."""
        versions = self.keys.get(key, [])
        return versions[0] if versions and not versions[0].is_marker else None

    def find(self, key: str, version_id: str | None) -> Version | str:
        """The version that a read names, or the error code."""
        if version_id is None:
            return self.current(key) or "NoSuchKey"
        for version in self.keys.get(key, []):
            if version.version_id == version_id:
                return "MethodNotAllowed" if version.is_marker else version
        return "NoSuchVersion"

    def refuse_write(self, key: str, if_match: str | None, is_new: bool) -> str | None:
        """The error of a conditional write."""
        current = self.current(key)
        if is_new and current is not None:
            return "PreconditionFailed"
        if if_match is not None:
            if current is None:
                return "NoSuchKey"
            if if_match not in ("*", current.etag):
                return "PreconditionFailed"
        return None

    def apply_put(self, key: str, version: Version, shown_id: str | None) -> None:
        """Make a version the newest; shown_id is what the server answered."""
        if self.versioning == "Enabled":
            assert shown_id not in (None, NULL), "an enabled bucket shows ids"
            version.version_id = shown_id or ""
        else:
            assert shown_id in (None, NULL), f"{shown_id} in a bucket that makes null versions"
            version.version_id = NULL
            self._drop(key, NULL)
        self.keys.setdefault(key, []).insert(0, version)

    def apply_delete(self, key: str, shown_id: str | None) -> None:
        """Hide a key, or remove it where there are no versions."""
        if self.versioning is None:
            self._drop(key, NULL)
        else:
            self.apply_put(key, Version("", is_marker=True), shown_id)

    def apply_delete_version(self, key: str, version_id: str) -> bool:
        """Remove a version; returns whether it was a delete marker."""
        was_marker = any(
            version.is_marker and version.version_id == version_id
            for version in self.keys.get(key, [])
        )
        self._drop(key, version_id)
        return was_marker

    def _drop(self, key: str, version_id: str) -> None:
        left = [v for v in self.keys.get(key, []) if v.version_id != version_id]
        if left:
            self.keys[key] = left
        else:
            self.keys.pop(key, None)

    # --- listings ---------------------------------------------------------------------------

    def visible(self) -> list[str]:
        """Keys with a current version, in the order of their UTF-8."""
        found = [key for key in self.keys if self.current(key) is not None]
        return sorted(found, key=str.encode)

    def all_versions(self) -> list[tuple[str, str, bool, bool]]:
        """(key, version id, is latest, is marker) of all versions in listing order."""
        return [
            (key, version.version_id, index == 0, version.is_marker)
            for key in sorted(self.keys, key=str.encode)
            for index, version in enumerate(self.keys[key])
        ]


def grouped(
    keys: list[str], prefix: str, delimiter: str, after: str
) -> tuple[list[str], list[str]]:
    """Contents and common prefixes of a listing; a marker in a common prefix hides all of it."""
    contents: list[str] = []
    prefixes: list[str] = []
    for key in keys:
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        common = key[: at + len(delimiter)]
        if at < 0:
            contents.append(key)
        elif common not in prefixes and not after.startswith(common):
            prefixes.append(common)
    return contents, prefixes
