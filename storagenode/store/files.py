"""The only file calls of a storage node: replaceable, so that tests can fail, tear and crash them.

All calls block; they belong in a thread. Extents are preallocated and written past the page cache
(O_DIRECT) where the file system allows it: measured, buffered appends cost twenty times the kernel
time. Reads go through a second descriptor and the page cache; on Linux the two agree.
"""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from common import faults
from common.folders import make_durable_folder, sync_folder

PAGE = 4096
PROBE = "probe"


class ExtentFile(Protocol):
    """One open extent."""

    is_direct: bool
    size_bytes: int

    def write(self, pieces: Sequence[memoryview], offset: int) -> None:
        """Write pieces one after another; offset, addresses and lengths are whole pages."""
        ...

    def write_durable(self, pieces: Sequence[memoryview], offset: int) -> None:
        """The same; on disk when this returns, which says nothing of what was written before."""
        ...

    def read(self, offset: int, into: memoryview) -> None:
        """Fill `into`. raises Corrupt if the file ends before"""
        ...

    def read_now(self, offset: int, into: memoryview) -> bool:
        """Fill `into` if no disk has to be waited for; False: `read` it in a thread."""
        ...

    def read_medium(self, offset: int, into: memoryview) -> None:
        """Fill `into` past the page cache where that can be; all are whole pages, as in `write`.

        raises   Corrupt if the file ends before
        """
        ...

    def sync(self) -> None:
        """Put everything written on disk."""
        ...

    def close(self) -> None:
        """Close; every later call fails with OSError."""
        ...


class Files(Protocol):
    """A disk's folder."""

    def make_folder(self, path: Path) -> None:
        """Make a folder, with those above it, unless it is there; durable when this returns."""
        ...

    def create(self, path: Path, size_bytes: int) -> ExtentFile:
        """Make a preallocated extent; durable, with its folder entry, when this returns."""
        ...

    def open(self, path: Path) -> ExtentFile: ...

    def unlink(self, path: Path) -> None: ...

    def has_folder(self, folder: Path) -> bool: ...

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder with all that is in it."""
        ...

    def set_aside(self, folder: Path, name: str) -> None:
        """Give a folder another name beside it; durable when this returns."""
        ...

    def list(self, folder: Path, pattern: str) -> list[Path]: ...

    def read_file(self, path: Path) -> bytes | None:
        """A whole small file; None if there is none."""
        ...

    def replace_file(self, path: Path, data: bytes) -> None:
        """Write a whole small file; the old or the new one is there after any crash."""
        ...

    def probe(self, folder: Path) -> None:
        """Write, sync and read back a small file. raises OSError"""
        ...

    def space(self, folder: Path) -> tuple[int, int]:
        """Total and available bytes of the file system."""
        ...


class SystemExtentFile:
    """An extent in a real file."""

    def __init__(self, path: Path, size_bytes: int = 0) -> None:
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if size_bytes else 0)
        self._writer, self.is_direct = _open_direct(path, flags)
        try:
            if size_bytes:
                os.posix_fallocate(self._writer, 0, size_bytes)
                os.fsync(self._writer)
            self._reader = os.open(path, os.O_RDONLY)
        except OSError:
            os.close(self._writer)
            if size_bytes:
                path.unlink(missing_ok=True)
            raise
        self.size_bytes = os.fstat(self._reader).st_size

    def write(self, pieces: Sequence[memoryview], offset: int) -> None:
        self._write(pieces, offset, 0)

    def write_durable(self, pieces: Sequence[memoryview], offset: int) -> None:
        # One call of the kernel instead of two: the thread gives the GIL away, and gets it back,
        # once less, which costs more than the call.
        self._write(pieces, offset, os.RWF_DSYNC)

    def _write(self, pieces: Sequence[memoryview], offset: int, flags: int) -> None:
        wanted = sum(len(piece) for piece in pieces)
        written = os.pwritev(self._writer, pieces, offset, flags)
        if written != wanted:
            # A short write of preallocated space means the device failed underway.
            raise OSError(errno.EIO, f"wrote {written} of {wanted} bytes")

    def read(self, offset: int, into: memoryview) -> None:
        _read_all(self._reader, offset, into)

    def read_now(self, offset: int, into: memoryview) -> bool:
        try:
            return os.preadv(self._reader, [into], offset, os.RWF_NOWAIT) == len(into)
        except OSError:
            return False  # not cached, or a file system that cannot tell; a failure shows in `read`

    def read_medium(self, offset: int, into: memoryview) -> None:
        if not self.is_direct:  # let the cache forget it, as far as it does what it is told
            os.posix_fadvise(self._writer, offset, len(into), os.POSIX_FADV_DONTNEED)
        _read_all(self._writer, offset, into)

    def sync(self) -> None:
        os.fdatasync(self._writer)

    def close(self) -> None:
        # The numbers are given to other files: a late call must not reach those.
        writer, reader = self._writer, self._reader
        self._writer = self._reader = -1
        try:
            os.close(writer)
        finally:
            os.close(reader)


def _read_all(descriptor: int, offset: int, into: memoryview) -> None:
    done = 0
    while done < len(into):
        count = os.preadv(descriptor, [into[done:]], offset + done)
        if count == 0:
            raise faults.Corrupt("extent", str(descriptor), "ends early")
        done += count


class SystemFiles:
    """Real files."""

    def make_folder(self, path: Path) -> None:
        make_durable_folder(path)

    def create(self, path: Path, size_bytes: int) -> ExtentFile:
        file = SystemExtentFile(path, size_bytes)
        sync_folder(path.parent)
        return file

    def open(self, path: Path) -> ExtentFile:
        return SystemExtentFile(path)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)

    def has_folder(self, folder: Path) -> bool:
        return folder.is_dir()

    def remove_folder(self, folder: Path) -> None:
        shutil.rmtree(folder)

    def set_aside(self, folder: Path, name: str) -> None:
        folder.rename(folder.with_name(name))
        sync_folder(folder.parent)

    def list(self, folder: Path, pattern: str) -> list[Path]:
        return sorted(folder.glob(pattern))

    def read_file(self, path: Path) -> bytes | None:
        return path.read_bytes() if path.exists() else None

    def replace_file(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(path.name + ".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)

    def probe(self, folder: Path) -> None:
        path = folder / PROBE
        self.replace_file(path, bytes(PAGE))
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, PAGE, os.POSIX_FADV_DONTNEED)
            if os.pread(descriptor, PAGE, 0) != bytes(PAGE):
                raise OSError(errno.EIO, "what was written is not what is read")
        finally:
            os.close(descriptor)
        path.unlink()

    def space(self, folder: Path) -> tuple[int, int]:
        found = os.statvfs(folder)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _open_direct(path: Path, flags: int) -> tuple[int, bool]:
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600), True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        path_exists = path.exists()
        if flags & os.O_EXCL and path_exists:  # tmpfs of old kernels creates, then refuses
            path.unlink()
        return os.open(path, flags, 0o600), False


def align(size: int) -> int:
    """Round up to whole pages."""
    return -(-size // PAGE) * PAGE
