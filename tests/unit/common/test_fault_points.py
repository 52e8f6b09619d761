"""Fault points: nothing happens unless armed, then exactly what was asked for, when it was.

Method: arm points in this process; kill is tried in a child. The list of points is compared with
the places in the code.
"""

import ast
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import fault_points, faults

ROOT = Path(__file__).parents[3]
POINT = "put.after_fragments"


@pytest.fixture(autouse=True)
def nothing_armed() -> Iterator[None]:
    yield
    fault_points.configure(())


def reached_in_code() -> list[str]:
    """Every name that the product's code reaches."""
    names = []
    for package in ("common", "gateway", "metaservice", "storagenode", "workers"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr == "reach"
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id == "fault_points"
                ):
                    (name,) = node.args
                    assert isinstance(name, ast.Constant)
                    names.append(str(name.value))
    return names


def test_the_table_names_every_place_once() -> None:
    assert sorted(reached_in_code()) == sorted(fault_points.POINTS)


def test_nothing_happens_unarmed() -> None:
    for name in fault_points.POINTS:
        fault_points.reach(name)
    assert fault_points.describe() == ""
    assert not fault_points.is_open()


def test_raise_at_the_third_time_only() -> None:
    fault_points.arm(f"{POINT}=raise@3")
    fault_points.reach(POINT)
    fault_points.reach(POINT)
    fault_points.reach("put.before_commit")  # another point
    with pytest.raises(faults.Unavailable):
        fault_points.reach(POINT)
    fault_points.reach(POINT)


def test_lasting_until_disarmed() -> None:
    fault_points.arm(f"{POINT}=eio@2+")
    fault_points.reach(POINT)
    for _ in range(3):
        with pytest.raises(OSError, match="fault point"):
            fault_points.reach(POINT)
    fault_points.disarm()
    fault_points.reach(POINT)


def test_once_although_many_threads_come() -> None:
    fault_points.arm(f"{POINT}=raise@5")
    hits: list[BaseException] = []
    gate = threading.Barrier(8)

    def come() -> None:
        gate.wait()
        for _ in range(200):
            try:
                fault_points.reach(POINT)
            except faults.Unavailable as hit:
                hits.append(hit)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hits) == 1


def test_kill_ends_the_process_at_once() -> None:
    code = (
        "from common import fault_points\n"
        f"fault_points.configure(['{POINT}=kill'])\n"
        f"fault_points.reach('{POINT}')\nprint('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == -9
    assert done.stdout == ""


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "put.nowhere=kill", f"{POINT}=explode", f"{POINT}=raise@0", f"{POINT}=stall:",
     f"{POINT}=stall:1.2.3", f"{POINT}=raise@1@2"],
)  # fmt: skip
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(faults.Invalid):
        fault_points.configure([text])


def test_only_a_process_started_for_tests_listens() -> None:
    fault_points.configure(["listen"])
    assert fault_points.is_open()
    assert fault_points.describe() == ""
    fault_points.configure([f"{POINT}=raise"])
    assert fault_points.is_open()
    assert fault_points.describe() == f"{POINT}=raise\n"
    fault_points.configure([])
    assert not fault_points.is_open()
