"""A file system in a file, mounted through a loop device, whose power can be cut by an ioctl.

The ioctl (XFS_IOC_GOINGDOWN, which ext4 answers too) stops all writing at once, as a power loss
does: what the journal has not got is gone. Needs root, loop devices and the file system's tools.
"""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path
from random import Random
from struct import Struct

SHUTDOWN = 0x8004587D
FLAGS = Struct("=I")
WAYS = {2: "nothing flushed", 1: "journal flushed", 0: "all flushed"}  # by the ioctl's flags
WEIGHTS = (6, 2, 1)
CHECKS = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}
COMMAND_S = 120.0
UNMOUNT_S = 30.0
IMAGE_BYTES = 6 << 30  # sparse


def missing(filesystem: str) -> str:
    """Why this machine cannot do it, in words; empty: it can."""
    if filesystem not in CHECKS:
        return f"only {' and '.join(CHECKS)} are known here"
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    for tool in (f"mkfs.{filesystem}", CHECKS[filesystem][0], "mount", "umount"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    known = Path("/proc/filesystems").read_text().split()
    return "" if filesystem in known else f"the kernel has no {filesystem}"


class Image:
    """One file system."""

    def __init__(self, filesystem: str, folder: Path) -> None:
        self.filesystem = filesystem
        self.file = folder / f"{filesystem}.image"
        self.mounted = folder / filesystem
        self.mounted.mkdir()
        with self.file.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        force = "-F" if filesystem == "ext4" else "-f"
        run(f"mkfs.{filesystem}", "-q", force, str(self.file))

    def mount(self) -> None:
        """Mount it; the file system's own journal is replayed."""
        run("mount", "-o", "loop", str(self.file), str(self.mounted))

    def cut_power(self, chance: Random) -> str:
        """Stop the file system now; in which way."""
        (flags,) = chance.choices(list(WAYS), WEIGHTS)
        folder = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, FLAGS.pack(flags))
        finally:
            os.close(folder)
        return WAYS[flags]

    def unmount(self) -> None:
        """Unmount, when the last process that used it has ended."""
        deadline_s = time.monotonic() + UNMOUNT_S
        while self._is_mounted():
            done = subprocess.run(["umount", str(self.mounted)], capture_output=True, check=False)
            if done.returncode and time.monotonic() > deadline_s:
                raise RuntimeError(done.stderr.decode())
            if done.returncode:
                time.sleep(0.1)

    def _is_mounted(self) -> bool:
        # Not by a look at the folder: a file system without power answers nothing.
        mounts = Path("/proc/mounts").read_text().splitlines()
        return any(line.split()[1] == str(self.mounted) for line in mounts)

    def check(self) -> None:
        """Let the file system's own checker look, once its journal was replayed."""
        run(*CHECKS[self.filesystem], str(self.file))


def run(*command: str) -> None:
    """Run a tool. raises RuntimeError with what it said"""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode} {done.stdout}{done.stderr}")
