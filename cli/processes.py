"""Child processes of a local cluster: starting, restarting, stopping."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cli.lifeline import send
from common import exit_codes
from common.limits import MIB

RESTART_S_MIN = 0.2
RESTART_S_MAX = 10.0
STOP_S = 35.0
LOG_BYTES_MAX = 32 * MIB
LAST_WORDS_BYTES = 16 * 1024
STOP_ORDER = ("gateway", "workers", "storagenode", "metaservice")
ROOT = Path(__file__).parent.parent


def ostraka(*arguments: str) -> list[str]:
    """The command line of another process of this same installation; to be run in ROOT.

    In any other folder a package there called `common` or `cli` would be taken for ours.
    """
    return [sys.executable, "-m", "cli.main", *arguments]


@dataclass(slots=True)
class Child:
    """One process of the cluster."""

    role: str
    name: str
    zone: str
    address: str
    config_file: Path | None
    log_file: Path | None  # none: it writes where we write
    program: tuple[str, ...] = ()  # other than the usual
    process: "subprocess.Popen[bytes] | None" = None
    failures: int = 0
    restart_at_s: float = 0.0
    started_s: float = field(default=0.0)

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def is_ended(self) -> bool:
        """Whether it was started, and is there no more."""
        return self.process is not None and self.process.poll() is not None

    @property
    def wants_again(self) -> bool:
        """Whether it has ended only to be started again."""
        return self.process is not None and self.process.poll() == exit_codes.AGAIN

    def start(self) -> None:
        """Start the process; it ends when we do."""
        command = list(self.program) or ostraka(
            self.role, "--config", str(self.config_file), "--parent", str(os.getpid())
        )
        with self._open_log() as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started_s = time.monotonic()

    def _open_log(self) -> AbstractContextManager[BinaryIO | None]:
        if self.log_file is None:
            return nullcontext()
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_BYTES_MAX:
            self.log_file.replace(self.log_file.with_suffix(".old"))
        return self.log_file.open("ab")

    def last_words(self) -> str:
        """The last error in its log, in one line; empty if there is none."""
        if self.log_file is None:
            return ""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(0, self.log_file.stat().st_size - LAST_WORDS_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        for line in reversed(lines):
            try:
                entry = json.loads(line)
            except ValueError:
                # Of before logging began, or the end of a traceback.
                return line.strip()
            if isinstance(entry, dict) and entry.get("level") in ("error", "critical"):
                return str(entry.get("message", ""))
        return ""

    def describe(self) -> dict[str, Any]:
        """What `ostraka status` shows of it."""
        return {
            "role": self.role,
            "name": self.name,
            "zone": self.zone,
            "pid": self.process.pid if self.is_running and self.process is not None else None,
            "address": self.address,
            "state": "running" if self.is_running else "stopped",
        }


def watch(children: Iterable[Child]) -> list[str]:
    """Restart what has died, waiting longer each time; returns lines to tell the user."""
    lines = []
    now_s = time.monotonic()
    for child in children:
        if child.is_running:
            if child.failures and now_s - child.started_s > RESTART_S_MAX * 2:
                child.failures = 0
            continue
        if child.restart_at_s == 0.0:
            delay_s = min(RESTART_S_MIN * 2**child.failures, RESTART_S_MAX)
            child.restart_at_s = now_s + delay_s
            child.failures += 1
            lines.append(f"{child.name} {how_it_ended(child)}: starting it again")
        elif now_s >= child.restart_at_s:
            child.restart_at_s = 0.0
            child.start()
    return lines


def how_it_ended(child: Child) -> str:
    """In words, with what it said last unless it was killed."""
    code = child.process.returncode if child.process is not None else None
    if code is not None and code < 0:
        return f"was killed by signal {-code}"
    if words := child.last_words():
        return f"ended ({words})"
    return f"ended with code {code}" + (f", see {child.log_file}" if child.log_file else "")


def stop(children: Iterable[Child], patience_s: float = STOP_S) -> list[str]:
    """Stop processes: gateways first, the metadata service last.

    returns  names of those that did not end within `patience_s` and were killed
    """
    killed = []
    everyone = list(children)
    for role in STOP_ORDER:
        running = [child for child in everyone if child.role == role and child.is_running]
        for child in running:
            assert child.process is not None
            child.process.terminate()
            send(child.process.pid, signal.SIGCONT)  # one that is frozen would not hear it
        deadline_s = time.monotonic() + patience_s
        for child in running:
            assert child.process is not None
            try:
                child.process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
                killed.append(child.name)
    return killed
