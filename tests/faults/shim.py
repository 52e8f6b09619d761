"""Faults inside the cluster's processes: a library loaded before the C library, and its levers.

Each process has a small file of settings that both sides map; a change holds from the next call
on. Needs a C compiler; without one there are no faults of files, clocks and networks.
"""

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
PORTS_MAX, PATH_BYTES = 32, 64
LAYOUT = struct.Struct(f"=qq6i{PORTS_MAX}i{PATH_BYTES}s")
BUILD_S = 60.0


@dataclass(frozen=True, slots=True)
class Levers:
    """What goes wrong in one process. Errors are errno values; 0: none."""

    clock_offset_s: float = 0.0
    delay_s: float = 0.0  # before every call on a file that is meant
    sync_error: int = 0
    write_error: int = 0
    read_error: int = 0
    space_error: int = 0  # of allocations
    tear: bool = False  # the next write is half done, and the process dies
    path: str = ""  # part of the paths that are meant
    host: int = 0  # third number of the loopback address that connections are sent to
    ports: tuple[int, ...] = ()  # which connections

    def pack(self) -> bytes:
        """The bytes that shim.c reads."""
        ports = (*self.ports, *[0] * (PORTS_MAX - len(self.ports)))
        return LAYOUT.pack(
            int(self.clock_offset_s * 1e9), int(self.delay_s * 1e6),
            self.sync_error, self.write_error, self.read_error, self.space_error, self.tear,
            self.host,
            *ports, self.path.encode(),
        )  # fmt: skip

    def healthy(self) -> "Levers":
        """The same without faults; connections go where they went."""
        return Levers(host=self.host, ports=self.ports)


class Shim:
    """The built library and the levers of processes by name."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        """Compile it. raises FileNotFoundError without a compiler"""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise FileNotFoundError("no C compiler: faults of files, clocks, networks are left out")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._library = folder / "shim.so"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(self._library),
             str(SOURCE), "-ldl"],
            check=True, timeout=BUILD_S,
        )  # fmt: skip
        self._levers: dict[str, Levers] = {}
        self._mapped: dict[str, mmap.mmap] = {}
        for name in names:
            self._make(name)

    @property
    def environment(self) -> dict[str, str]:
        """For the processes that shall have it."""
        return {"LD_PRELOAD": str(self._library), "FAULTS_FOLDER": str(self._folder)}

    def levers(self, name: str) -> Levers:
        """How a process is treated now."""
        return self._levers[name]

    def set(self, name: str, levers: Levers) -> None:
        """Treat a process so from now on."""
        self._levers[name] = levers
        self._mapped[name][: LAYOUT.size] = levers.pack()

    def route(self, name: str, host: int, ports: Sequence[int]) -> None:
        """Send new connections of a process to these ports another way."""
        self.set(name, replace(self._levers[name], host=host, ports=tuple(ports)))

    def heal(self) -> None:
        """End all faults; ways of connections stay."""
        for name, levers in self._levers.items():
            self.set(name, levers.healthy())

    def _make(self, name: str) -> None:
        path = self._folder / f"{name}.control"
        path.write_bytes(bytes(mmap.PAGESIZE))
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._mapped[name] = mmap.mmap(descriptor, mmap.PAGESIZE)
        finally:
            os.close(descriptor)
        self._levers[name] = Levers()
