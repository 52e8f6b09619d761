"""The results as one page of Markdown, printed line by line as they come."""

import math
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.calibration import calibrate
from benchmarks.faults.cluster import describe_machine
from benchmarks.load.endpoint import CLIENT, SERVER, Endpoint
from benchmarks.load.traffic import Measurement
from common.limits import MIB

ROOT = Path(__file__).parent.parent.parent
ROLES = ("gateway", "metaservice", "storagenode", SERVER, CLIENT)
DATA_HEADER = (
    "scenario", "endpoint", "per s", "MB/s", "p50 ms", "p99 ms", "failed",
    "us CPU per request: gateway", "metadata", "nodes", "server", "client",
)  # fmt: skip
MEMORY_HEADER = ("process", "endpoint", "peak MB, all scenarios", "peak MB, 64 uploads")


class Page:
    """Prints and keeps lines."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def line(self, text: str = "") -> None:
        """One line."""
        self._lines.append(text)
        print(text, flush=True)

    def header(self, columns: Sequence[str]) -> None:
        """Begin a table."""
        self.line()
        self.row(columns)
        self.row(["---"] * len(columns))

    def row(self, cells: Sequence[str]) -> None:
        """One row of a table."""
        self.line("| " + " | ".join(cells) + " |")

    def save(self, path: Path) -> None:
        """Write all lines to a file."""
        path.write_text("\n".join(self._lines) + "\n", encoding="utf-8")


def preface(page: Page, arguments: Sequence[str]) -> None:
    """What was run where."""
    command = " ".join(["python -m benchmarks.load", *map(_without_secret, arguments)])
    page.line(f"`{command}`, commit {commit() or 'unknown'}")
    page.line()
    page.line(f"machine: {describe_machine()}, {_processor()}, Python {platform.python_version()}")
    page.line()
    page.line(f"calibration: {calibrate()}")


def data_row(title: str, endpoint: Endpoint, measurement: Measurement) -> list[str]:
    """A scenario at an endpoint."""
    return [
        title, endpoint.name, figure(measurement.rate), figure(measurement.megabytes_per_s),
        figure(measurement.latency_ms(0.5)), figure(measurement.latency_ms(0.99)),
        str(measurement.failed), *[figure(measurement.cpu_us(role)) for role in ROLES],
    ]  # fmt: skip


def memory_rows(
    endpoint: Endpoint, before: dict[str, int], named: dict[str, int]
) -> list[list[str]]:
    """Peak memory of each process: over the scenarios, and under the named load."""
    return [
        [name, endpoint.name, megabytes(size), megabytes(named.get(name, 0))]
        for name, size in before.items()
        if name != CLIENT
    ]


def figure(value: float) -> str:
    """Three digits, or all of a large number; a dash for what is not known."""
    if math.isnan(value):
        return "-"
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def megabytes(size: int) -> str:
    """MiB, as the limits are written."""
    return f"{size / MIB:,.0f}" if size else "-"


def commit() -> str:
    """The commit of this checkout; empty if it is none."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


def _without_secret(argument: str) -> str:
    head, separator, rest = argument.partition("=http")
    return f"{head}=http{rest.split(',')[0]},..." if separator else argument


def say(text: str) -> None:
    """Progress, beside the page."""
    print(text, file=sys.stderr, flush=True)
