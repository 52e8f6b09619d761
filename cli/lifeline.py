"""Processes that must not outlive the one that started them, and finding those that still do."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
POLL_S = 0.05


def end_with(parent: int) -> None:
    """Have this process told to stop when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before we could ask
        sys.exit(f"started by process {parent}, which has ended")


def processes_of(config_folder: Path) -> list[int]:
    """Pids of processes that run with a configuration of this folder."""
    start = f"{config_folder}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended, or is none of ours
        options = zip(arguments, arguments[1:], strict=False)
        if any(name == b"--config" and value.startswith(start) for name, value in options):
            found.append(int(entry.name))
    return found


def end_all(find: Callable[[], list[int]], patience_s: float) -> int:
    """End the processes that are found: politely, after `patience_s` not. Returns how many."""
    asked: set[int] = set()
    deadline_s = time.monotonic() + patience_s
    while pids := find():
        is_late = time.monotonic() > deadline_s
        for pid in pids:
            if pid not in asked or is_late:
                send(pid, signal.SIGKILL if is_late else signal.SIGTERM)
                send(pid, signal.SIGCONT)  # one that was frozen would never hear it
                asked.add(pid)
        time.sleep(POLL_S)
    return len(asked)


def send(pid: int, number: int) -> None:
    """Send a signal; nothing happens if the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
