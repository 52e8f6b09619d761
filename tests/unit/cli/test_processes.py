"""Children of a supervisor: started, watched, told why they ended, stopped in order.

Method: small shell programs in place of services; every one is gone afterwards.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.lifeline import end_all, processes_of
from cli.processes import STOP_ORDER, Child, how_it_ended, stop, watch
from common import exit_codes
from tests.support.cluster import wait_for

FOREVER = "exec sleep 600"
Make = Callable[..., Child]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes children that are killed at the end."""
    made: list[Child] = []

    def child(script: str, role: str = "storagenode") -> Child:
        name = f"{role}-{len(made)}"
        log_file = tmp_path / f"{name}.log"
        found = Child(role, name, "", "", None, log_file, program=("/bin/sh", "-c", script))
        made.append(found)
        return found

    yield child
    for each in made:
        if each.process is not None:
            each.process.kill()
            each.process.wait()


def entry(level: str, message: str) -> str:
    return json.dumps({"level": level, "message": message})


def ended(child: Child) -> Child:
    child.start()
    assert child.process is not None
    child.process.wait(10)
    return child


def test_child_is_described_while_it_runs_and_after(make: Make) -> None:
    child = make(FOREVER)
    assert child.describe()["state"] == "stopped" and not child.is_ended
    child.start()
    assert child.process is not None
    assert child.describe()["state"] == "running"
    assert child.describe()["pid"] == child.process.pid
    child.process.kill()
    child.process.wait()
    assert child.is_ended
    assert (child.describe()["state"], child.describe()["pid"]) == ("stopped", None)


def test_output_goes_to_the_log_and_is_appended(make: Make) -> None:
    child = make("echo out; echo err >&2")
    ended(child)
    ended(child)
    assert child.log_file is not None
    assert sorted(child.log_file.read_text().split()) == ["err", "err", "out", "out"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([entry("info", "up"), entry("error", "no disk")], "no disk"),
        ([entry("critical", "refused"), entry("info", "stopping")], "refused"),
        ([entry("info", "up")], ""),
        (["Traceback ...", "ValueError: 7"], "ValueError: 7"),
        ([], ""),
    ],
)
def test_last_words_are_the_last_error(make: Make, lines: list[str], words: str) -> None:
    child = make("")
    assert child.log_file is not None
    child.log_file.write_text("".join(f"{line}\n" for line in lines))
    assert child.last_words() == words


def test_end_is_told_in_words(make: Make) -> None:
    assert how_it_ended(ended(make("echo broken; exit 3"))) == "ended (broken)"
    quiet = ended(make("exit 3"))
    assert how_it_ended(quiet) == f"ended with code 3, see {quiet.log_file}"
    assert how_it_ended(ended(make("kill -9 $$"))) == "was killed by signal 9"
    quiet.log_file = None
    assert how_it_ended(quiet) == "ended with code 3"


def test_dead_child_is_started_again_later_each_time(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    child = ended(make("exit 1"))
    delays = []
    for _ in range(8):
        assert "starting it again" in watch([child])[0]
        assert child.process is not None
        last = child.process
        delays.append(child.restart_at_s - now_s)
        now_s = child.restart_at_s - 0.01
        assert watch([child]) == [] and child.process is last
        now_s = child.restart_at_s
        assert watch([child]) == [] and child.process is not last
        child.process.wait()
    assert delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])


def test_long_life_forgives_earlier_ends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    child = make(FOREVER)
    child.failures = 5
    child.start()
    watch([child])
    assert child.failures == 5
    later_s = time.monotonic() + 21
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    watch([child])
    assert child.failures == 0


def test_children_stop_in_order(make: Make, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    children = []
    for role in reversed(STOP_ORDER):
        trap = f"trap 'echo {role} >>{journal}; exit 0' TERM"
        script = f"{trap}; echo up; while :; do sleep 0.01; done"
        children.append(make(script, role))
    for child in children:
        child.start()
    wait_for(lambda: all(c.log_file and "up" in c.log_file.read_text() for c in children), "traps")
    assert stop(children) == []
    assert journal.read_text().split() == list(STOP_ORDER)
    assert not any(child.is_running for child in children)


def test_child_that_does_not_stop_is_killed_and_named(make: Make) -> None:
    stubborn = make("trap '' TERM; echo up; while :; do sleep 0.01; done")
    stubborn.start()
    wait_for(lambda: bool(stubborn.log_file and stubborn.log_file.read_text()), "the trap")
    assert stop([stubborn], patience_s=0.1) == [stubborn.name]
    assert not stubborn.is_running


def test_large_log_is_set_aside(make: Make, tmp_path: Path) -> None:
    child = make("echo fresh")
    assert child.log_file is not None
    with child.log_file.open("wb") as log:
        log.truncate(33 << 20)
    ended(child)
    assert child.log_file.read_text() == "fresh\n"
    assert child.log_file.with_suffix(".old").stat().st_size == 33 << 20


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with a configuration of a folder, that nobody supervises."""
    config = tmp_path / "config" / "node-1.toml"
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"import signal; {ignore}; print(flush=True); signal.pause()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--config", str(config)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_processes_of_a_folder_are_found(
    tmp_path: Path, stranger: "subprocess.Popen[bytes]"
) -> None:
    assert processes_of(tmp_path / "config") == [stranger.pid]
    assert processes_of(tmp_path / "conf") == []
    assert processes_of(tmp_path) == [stranger.pid]


def test_processes_that_do_not_end_are_killed(
    tmp_path: Path, stranger: "subprocess.Popen[bytes]"
) -> None:
    def found() -> list[int]:
        stranger.poll()  # or it stays as a zombie of ours
        return processes_of(tmp_path / "config")

    assert end_all(found, 0.2) == 1
    assert stranger.wait(10) == -signal.SIGKILL
    assert end_all(found, 0.2) == 0


def test_service_ends_with_its_parent(tmp_path: Path) -> None:
    """A process that died before its child could ask for the signal is noticed too."""
    gone = subprocess.run(["true"], check=True)
    assert gone.returncode == 0
    done = subprocess.run(
        [sys.executable, "-c", "from cli.lifeline import end_with; end_with(1 << 22)"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 1 and "has ended" in done.stderr
    code = (
        "import os, subprocess, sys, time\n"
        "code = 'import os, sys, time; from cli.lifeline import end_with; end_with(os.getppid());"
        " print(os.getpid(), flush=True); time.sleep(600)'\n"
        "child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode(), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    pid = int(done.stdout)
    wait_for(lambda: not _lives(pid), "the child's end")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return b"\0" in Path(f"/proc/{pid}/cmdline").read_bytes()  # a zombie has none
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_some_end_only_to_be_started_again(make: Make) -> None:
    assert ended(make(f"exit {exit_codes.AGAIN}")).wants_again
    assert not ended(make("exit 1")).wants_again
    assert not make("exit 75").wants_again, "never started"
