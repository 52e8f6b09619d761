"""Recordings of every file operation of this process below a folder, by recorder.c.

The library must be there before the C library: `run` starts a module of ours with it.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from struct import Struct

SOURCE = Path(__file__).with_name("recorder.c")
ENTRY = Struct("=IiQQQ")  # kind, file descriptor, two numbers, size of what follows
BUILD_S = 60.0


class Kind(IntEnum):
    """What happened."""

    OPEN = 1  # flags, existed; path
    CLOSE = 2
    WRITE = 3  # offset; data
    TRUNCATE = 4  # size
    ALLOCATE = 5  # offset, size
    SYNC = 6  # of all, or (offset, size) of what one write has put there
    RENAME = 7  # two paths, a zero byte between them
    UNLINK = 8
    RMDIR = 9
    MKDIR = 10
    MARK = 11  # text: what somebody outside has been told


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of a recording."""

    kind: Kind
    file: int
    first: int
    second: int
    data: bytes

    @property
    def text(self) -> str:
        """A path, or a mark."""
        return self.data.decode()


def build(folder: Path) -> Path:
    """Compile the library. raises FileNotFoundError without a compiler"""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("no C compiler: file operations cannot be recorded")
    library = folder / "recorder.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library),
         str(SOURCE), "-ldl", "-pthread"],
        check=True, timeout=BUILD_S,
    )  # fmt: skip
    return library


def run(library: Path, arguments: Sequence[str], timeout_s: float) -> int:
    """Run a Python module with the library; returns its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=os.environ | {"LD_PRELOAD": str(library)}, timeout=timeout_s, check=False,
    )  # fmt: skip
    return done.returncode


def is_here() -> bool:
    """Whether this process was started with the library."""
    return hasattr(ctypes.CDLL(None), "recorder_begin")


@contextmanager
def recording(folder: Path, into: Path) -> Iterator[None]:
    """Record all that happens below a folder."""
    library = ctypes.CDLL(None)
    log = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    library.recorder_begin(str(folder).encode(), log)
    try:
        yield
    finally:
        library.recorder_end()
        os.close(log)


def mark(text: str) -> None:
    """Note that somebody was told something: from here on it must hold."""
    ctypes.CDLL(None).recorder_mark(text.encode())


def load(path: Path) -> list[Operation]:
    """Read a recording."""
    data, at = path.read_bytes(), 0
    found: list[Operation] = []
    while at < len(data):
        kind, file, first, second, size = ENTRY.unpack_from(data, at)
        at += ENTRY.size
        found.append(Operation(Kind(kind), file, first, second, data[at : at + size]))
        at += size
    return found
