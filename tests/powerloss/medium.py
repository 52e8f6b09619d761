"""A disk as it may be found after a power loss: what was synced, and any choice of what was not.

The model is the strictest that POSIX allows: a write is on the medium only after a sync of its
file, a name only after a sync of its folder, and what is un-synced may be kept or lost in any
order, a write also in part, or only as a longer file full of zeros. ext4 and xfs promise more.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.powerloss.recorder import Kind, Operation

SECTOR, PAGE = 512, 4096
LOST, KEPT, ZEROS, TORN = 0, 1, 2, 3  # what may become of an operation; TORN + n: torn by seed n

Fates = Mapping[int, int]  # by the operation's number; those not named are lost


@dataclass(slots=True, eq=False)
class File:
    """A file: bytes on the medium, and what was done to it since its last sync."""

    durable: bytearray = field(default_factory=bytearray)
    changes: list["Change"] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Folder:
    """A folder: names on the medium, and names as a process sees them."""

    durable: dict[str, "Node"] = field(default_factory=dict)
    seen: dict[str, "Node"] = field(default_factory=dict)


Node = File | Folder


@dataclass(frozen=True, slots=True)
class Change:
    """An un-synced change of a file's bytes, or of its size alone."""

    number: int
    kind: Kind
    begin: int
    end: int
    data: bytes

    def apply(self, content: bytearray, fate: int) -> None:
        """Make the change, as far as its fate allows."""
        if self.kind == Kind.TRUNCATE:
            del content[self.end :]
        if self.kind == Kind.ALLOCATE or fate != LOST:
            content.extend(bytes(max(0, self.end - len(content))))
        if self.kind != Kind.WRITE or fate == ZEROS:
            return
        if fate == KEPT:
            content[self.begin : self.end] = self.data
            return
        chance = Random(f"{self.number} {fate}")
        size = chance.choice((SECTOR, PAGE))
        for begin in range(self.begin - self.begin % size, self.end, size):
            if chance.random() < 0.5:
                first, last = max(begin, self.begin), min(begin + size, self.end)
                content[first:last] = self.data[first - self.begin : last - self.begin]


@dataclass(frozen=True, slots=True)
class Naming:
    """An un-synced change of names: `node` appears as `target`, or nothing any more as `source`."""

    number: int
    source: tuple[Folder, str] | None
    target: tuple[Folder, str] | None
    node: Node

    def apply(self, names: Mapping[Folder, dict[str, Node]]) -> None:
        """Make the change in some view of the names."""
        if self.source is not None and names[self.source[0]].get(self.source[1]) is self.node:
            del names[self.source[0]][self.source[1]]
        if self.target is not None:
            names[self.target[0]][self.target[1]] = self.node


class Medium:
    """One disk, played forward operation by operation."""

    def __init__(self, root: Path, image: Mapping[str, bytes]) -> None:
        """image: what is there, durably, by path below the root; folders end in a slash"""
        self._root = str(root)
        self.top = Folder()
        self.folders = [self.top]
        self.marks: list[str] = []
        self.namings: list[Naming] = []
        self._opened: dict[int, Node] = {}
        self._files: list[File] = []
        for path, content in sorted(image.items()):
            folder, name = self._place(path.rstrip("/"))
            node = self._make_folder() if path.endswith("/") else File(bytearray(content))
            folder.durable[name] = folder.seen[name] = node

    def _make_folder(self) -> Folder:
        self.folders.append(Folder())
        return self.folders[-1]

    def _relative(self, path: str) -> str:
        return path.removeprefix(self._root).strip("/")

    def _place(self, path: str) -> tuple[Folder, str]:
        folder: Node = self.top
        *parents, name = path.split("/")
        for parent in parents:
            assert isinstance(folder, Folder)
            folder = folder.seen[parent]
        assert isinstance(folder, Folder)
        return folder, name

    def _find(self, path: str) -> Node | None:
        if not path:
            return self.top
        folder, name = self._place(path)
        return folder.seen.get(name)

    # --- playing ------------------------------------------------------------------------------

    def play(self, number: int, operation: Operation) -> bool:
        """Do an operation; whether it could make a difference after a power loss."""
        kind = operation.kind
        if kind == Kind.OPEN:
            return self._open(number, operation)
        if kind == Kind.CLOSE:
            self._opened.pop(operation.file, None)
            return False
        if kind == Kind.MARK:
            self.marks.append(operation.text)
            return True
        if kind in (Kind.RENAME, Kind.UNLINK, Kind.RMDIR, Kind.MKDIR):
            return self._name(number, operation)
        node = self._opened[operation.file]
        if kind == Kind.SYNC:
            self._sync(node, operation.first, operation.second)
            return True
        assert isinstance(node, File)
        begin, size = operation.first, operation.second
        if kind == Kind.WRITE:
            size = len(operation.data)
        elif kind == Kind.TRUNCATE:
            begin, size = 0, operation.first
        node.changes.append(Change(number, kind, begin, begin + size, operation.data))
        return True

    def _open(self, number: int, operation: Operation) -> bool:
        path = self._relative(operation.text)
        node = self._find(path)
        flags, is_new = operation.first, node is None
        if node is None:
            if not flags & os.O_CREAT:
                return False  # something that is not recorded: RocksDB's own log
            node = File()
            self._note(Naming(number, None, self._place(path), node))
        elif flags & os.O_TRUNC and isinstance(node, File):
            node.changes.append(Change(number, Kind.TRUNCATE, 0, 0, b""))
            is_new = True
        self._opened[operation.file] = node
        return is_new

    def _name(self, number: int, operation: Operation) -> bool:
        first, _, second = operation.text.partition("\0")
        source = self._place(self._relative(first))
        if operation.kind == Kind.MKDIR:
            self._note(Naming(number, None, source, self._make_folder()))
            return True
        node = source[0].seen.get(source[1])
        if node is None:
            return False
        is_renamed = operation.kind == Kind.RENAME
        target = self._place(self._relative(second)) if is_renamed else None
        self._note(Naming(number, source, target, node))
        return True

    def _note(self, naming: Naming) -> None:
        self.namings.append(naming)
        naming.apply(_Seen())

    def _sync(self, node: Node, begin: int = 0, size: int = 0) -> None:
        """size 0: all of it; else what was written to these bytes, and nothing else"""
        if isinstance(node, File):
            changes, node.changes = node.changes, []
            for change in changes:
                if not size or (change.begin < begin + size and begin < change.end):
                    change.apply(node.durable, KEPT)
                else:
                    node.changes.append(change)
            return
        done = [
            naming
            for naming in self.namings
            if any(place and place[0] is node for place in (naming.source, naming.target))
        ]
        for naming in done:
            naming.apply(_Durable())
        self.namings = [naming for naming in self.namings if naming not in done]

    # --- what may be left ---------------------------------------------------------------------

    @property
    def pending(self) -> list[Change | Naming]:
        """What is not synced, in order."""
        found: list[Change | Naming] = list(self.namings)
        nodes = {id(node): node for node in self._all_files()}
        for file in nodes.values():
            found += file.changes
        return sorted(found, key=lambda each: each.number)

    def _all_files(self) -> Iterator[File]:
        for folder in self.folders:
            for node in (*folder.seen.values(), *folder.durable.values()):
                if isinstance(node, File):
                    yield node
        for naming in self.namings:
            if isinstance(naming.node, File):
                yield naming.node

    def image(self, fates: Fates) -> dict[str, bytes]:
        """What is found after a power loss now."""
        names = {folder: dict(folder.durable) for folder in self.folders}
        for naming in self.namings:
            if fates.get(naming.number, LOST) != LOST:
                naming.apply(names)
        found: dict[str, bytes] = {}
        self._collect(self.top, "", names, fates, found)
        return found

    def _collect(
        self,
        folder: Folder,
        prefix: str,
        names: Mapping[Folder, dict[str, Node]],
        fates: Fates,
        found: dict[str, bytes],
    ) -> None:
        for name, node in names[folder].items():
            if isinstance(node, Folder):
                found[f"{prefix}{name}/"] = b""
                self._collect(node, f"{prefix}{name}/", names, fates, found)
                continue
            content = node.durable
            kept = [(c, fates.get(c.number, LOST)) for c in node.changes]
            if any(fate != LOST for _, fate in kept):
                content = bytearray(content)
                for change, fate in kept:
                    if fate != LOST:
                        change.apply(content, fate)
            found[prefix + name] = bytes(content)


class _Seen(Mapping[Folder, dict[str, Node]]):
    """Names as a process sees them."""

    def __getitem__(self, folder: Folder) -> dict[str, Node]:
        return folder.seen

    def __iter__(self) -> Iterator[Folder]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Durable(_Seen):
    """Names on the medium."""

    def __getitem__(self, folder: Folder) -> dict[str, Node]:
        return folder.durable


def read_image(folder: Path) -> dict[str, bytes]:
    """A folder's files, as `Medium` takes them; without RocksDB's own log: it is not recorded."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[f"{name}/"] = b""
        elif not is_log(name):
            found[name] = path.read_bytes()
    return found


def is_log(name: str) -> bool:
    """Whether it is RocksDB's log of what it did, in words."""
    return name.rpartition("/")[2].split(".")[0] == "LOG"


def write_image(folder: Path, image: Mapping[str, bytes]) -> None:
    """Make a folder of it."""
    for name, content in sorted(image.items()):
        path = folder / name
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_bytes(content)
            path.chmod(0o600)  # as all files of ours are


def digest(image: Mapping[str, bytes]) -> bytes:
    """Equal for equal images."""
    made = hashlib.blake2b(digest_size=16)
    for name, content in sorted(image.items()):
        made.update(f"{len(name)} {name} {len(content)} ".encode())
        made.update(content)
    return made.digest()
