"""Named places in the code where a test lets the process die, fail or stand still.

`reach(NAME)` stands at every place of POINTS. While nothing is armed it is one look into an empty
dictionary. Points are armed by the setting `fault_points` or, once that names anything, by
`POST /fault-points` on the admin port; without the setting no one can arm them.

  NAME=ACTION[@N][+]    ACTION is kill (SIGKILL), raise (Unavailable), eio (OSError) or
                        stall:SECONDS (the thread stands still, the event loop if it is there)
                        at the N-th time (default: the next) it is reached; with + from then on
  listen                arms nothing, opens the admin call
"""

import errno
import logging
import os
import re
import signal
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

from common import faults

log = logging.getLogger(__name__)

LISTEN = "listen"
STALL_S_MAX = 60.0
# What is so at a point: the process may die there and nothing that was acknowledged is lost.
POINTS: Mapping[str, str] = {
    "put.after_fragments": "gateway: a blob is on its quorum, nothing names it yet",
    "put.before_commit": "gateway: all bytes are stored or in hand, the commit is not sent",
    "put.after_commit": "gateway: committed, the client has no answer yet",
    "complete.after_commit": "gateway: an upload is completed, the client has no answer yet",
    "commit.before_write": "metadata service: a group of commits is accepted, nothing is written",
    "commit.before_sync": "metadata service: a group is written, not synced",
    "commit.after_sync": "metadata service: a group is on disk, nobody knows",
    "reply.before_send": "metadata service: a commit is on disk, its reply is not sent",
    "fragment.before_write": "storage node: cells have arrived, nothing is written",
    "fragment.before_sync": "storage node: cells are written, some not synced",
    "fragment.after_sync": "storage node: a fragment is on disk, not in the index",
    "fragment.after_index": "storage node: a fragment is in the index, not acknowledged",
    "delete.after_tombstone": "storage node: a tombstone is on disk, the fragment is not marked",
    "scrub.after_verify": "storage node: fragments are verified, nobody has noted how far",
    "journal.before_sync": "storage node: records of the journal are written, some not synced",
    "journal.after_sync": "storage node: records of the journal are on disk, nobody knows",
    "repair.after_claim": "workers: a repair is claimed, nothing is written",
    "repair.before_commit": "workers: fragments are made anew, no placement names them",
    "repair.after_commit": "workers: a placement names the new fragments, the worker does not know",
    "garbage.after_fragments": "workers: fragments are deleted, their rows are still there",
    "orphans.after_fragments": "workers: a session's orphans are deleted, it is not marked walked",
}
_FORM = re.compile(r"([a-z_.]+)=(kill|raise|eio|stall:([0-9.]+))(?:@([1-9][0-9]*))?(\+)?")


@dataclass(slots=True)
class _Armed:
    """What happens at a point, and when."""

    action: str
    stall_s: float
    nth: int
    is_lasting: bool
    reached: "count[int]" = field(default_factory=lambda: count(1))  # thread-safe

    def is_due(self) -> bool:
        number = next(self.reached)
        return number == self.nth or (self.is_lasting and number > self.nth)


_armed: dict[str, _Armed] = {}
_open = threading.Event()


def reach(name: str) -> None:
    """Be at a point. raises Unavailable or OSError if a test wants so"""
    armed = _armed.get(name)
    if armed is not None and armed.is_due():
        _act(name, armed)


def _act(name: str, armed: _Armed) -> None:
    log.warning("fault point reached", extra={"point": name, "action": armed.action})
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif armed.action == "raise":
        raise faults.Unavailable(f"fault point {name}")
    elif armed.action == "eio":
        raise OSError(errno.EIO, f"fault point {name}")
    threading.Event().wait(armed.stall_s)


def configure(settings: Iterable[str]) -> None:
    """Adopt a process's setting; nothing is armed beyond it. raises Invalid"""
    disarm()
    _open.clear()
    for text in settings:
        _open.set()
        if text != LISTEN:
            arm(text)


def arm(text: str) -> None:
    """Arm one point; again: from the begin. raises Invalid"""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise faults.Invalid("fault_points", text, "is not NAME=ACTION[@N][+]")
    name, action, seconds, nth, lasting = found.groups()
    if name not in POINTS:
        raise faults.Invalid("fault_points", name, "is no fault point")
    try:
        stall_s = min(float(seconds or 0), STALL_S_MAX)
    except ValueError as error:
        raise faults.Invalid("fault_points", text, "has no number of seconds") from error
    _armed[name] = _Armed(action, stall_s, int(nth or 1), lasting is not None)


def disarm() -> None:
    """Arm nothing."""
    _armed.clear()


def is_open() -> bool:
    """Whether the admin call may arm points: the process was started for tests."""
    return _open.is_set()


def describe() -> str:
    """What is armed, one point a line."""
    return "".join(f"{name}={armed.action}\n" for name, armed in sorted(_armed.items()))
