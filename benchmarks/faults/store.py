"""The store under test, as a campaign sees it, and one that is steered by commands.

A store that is no local Ostraka cluster is described by a TOML file:

    name = "Another store"
    endpoint = "http://127.0.0.1:9100"
    access_key = "..."
    secret_key = "..."
    health = "command"            # optional; exit code 0: healthy
    [faults.node-killed]
    prepare = "command"           # optional, before the load
    begin = "docker kill store-3"
    end = "docker start store-3"  # optional
"""

import subprocess
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.faults.record import Health
from benchmarks.s3.signing import Target
from common import faults

COMMAND_TIMEOUT_S = 120.0


class Stage(Protocol):
    """What a scenario is told and tells while the load runs."""

    def begin(self, words: str) -> None:
        """The fault begins now."""
        ...

    def hold(self) -> None:
        """Wait as long as the fault shall last."""
        ...

    def mark(self, words: str) -> None:
        """Something happens now, worth a line on the time axis."""
        ...

    def end(self, words: str) -> None:
        """The cause is gone now; the store may heal."""
        ...


def nothing() -> None:
    """Of scenarios that need no preparation."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One fault: `act` calls begin and end of its stage once each."""

    name: str
    title: str
    what: str
    act: Callable[[Stage], None]
    prepare: Callable[[], None] = nothing


class Store(Protocol):
    """Something that speaks S3 and can be hurt."""

    name: str

    def start(self) -> Target:
        """Bring it up, healthy. raises Fault"""
        ...

    def stop(self) -> None:
        """Undo every fault, and stop what `start` started."""
        ...

    def scenarios(self) -> list[Scenario]:
        """What can be done to it."""
        ...

    def health(self, at_s: float) -> Health | None:
        """What it says of itself now; None if it cannot be asked. Blocks up to seconds."""
        ...

    def repair_bytes(self) -> int:
        """Bytes that repair has moved so far; -1: it does not tell."""
        ...


class CommandStore:
    """A store that runs already, hurt and healed by commands of its owner."""

    def __init__(self, path: Path) -> None:
        try:
            document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
            self._target = Target(
                document["name"], document["endpoint"].rstrip("/"), document["access_key"],
                document["secret_key"], document.get("region", "us-east-1"),
            )  # fmt: skip
            self._faults = {
                name: (entry.get("prepare", ""), entry["begin"], entry.get("end", ""))
                for name, entry in document.get("faults", {}).items()
            }
        except KeyError as error:
            raise faults.Invalid("store", str(path), f"has no {error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, TypeError) as error:
            raise faults.Invalid("store", str(path), str(error)) from error
        if not self._target.endpoint.startswith("http://"):
            raise faults.Invalid("store", str(path), "endpoint must begin with http://")
        self._health = str(document.get("health", ""))
        self.name = self._target.name

    def start(self) -> Target:
        return self._target

    def stop(self) -> None:
        """It was running before, and goes on."""

    def scenarios(self) -> list[Scenario]:
        return [self._scenario(name, *commands) for name, commands in self._faults.items()]

    def health(self, at_s: float) -> Health | None:
        if not self._health:
            return None
        began_s = time.monotonic()
        is_healthy = _run(self._health) == 0
        asked_s = at_s + time.monotonic() - began_s
        return Health(asked_s, is_healthy, "healthy" if is_healthy else "not healthy", -1)

    def repair_bytes(self) -> int:
        return -1

    def _scenario(self, name: str, prepare: str, begin: str, end: str) -> Scenario:
        def act(stage: Stage) -> None:
            stage.begin(name)
            _must_run(begin)
            stage.hold()
            if end:
                _must_run(end)
            stage.end("undone" if end else "")

        def ready() -> None:
            if prepare:
                _must_run(prepare)

        what = f"`{begin}`" + (f", then `{end}`" if end else "")
        return Scenario(name, name.replace("-", " "), what, act, ready)


def _run(command: str) -> int:
    done = subprocess.run(
        command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False,
        timeout=COMMAND_TIMEOUT_S,
    )  # fmt: skip
    return done.returncode


def _must_run(command: str) -> None:
    code = _run(command)
    if code != 0:
        raise faults.Unavailable(f"`{command}` ended with code {code}")
