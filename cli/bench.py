"""`ostraka bench`: what a store does under load, and on its worst day."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks.calibration import calibrate
from benchmarks.faults.campaign import Timing, run_scenario
from benchmarks.faults.cluster import describe_machine
from benchmarks.faults.record import LoadShape, RunRecord, load_run
from benchmarks.faults.report import render, render_picture, summary
from benchmarks.faults.scenarios import NAMES, LocalStore
from benchmarks.faults.store import CommandStore, Store
from cli.processes import ROOT
from common import faults

EXIT_LOST = 1
MakeStore = Callable[[], Store]


@click.group("bench")
def command() -> None:
    """Measure a store."""


PATH = click.Path(path_type=Path)


@command.command("faults")
@click.option("--scenario", "names", multiple=True, help="Only this one; may be repeated.")
@click.option("--list", "is_list", is_flag=True, help="Name the scenarios and end.")
@click.option("--store", "store_file", type=PATH, help="TOML file that describes another store.")
@click.option("--directory", type=PATH, help="Where local clusters are made. [default: temporary]")
@click.option("--name", default="Ostraka", show_default=True, help="Name of the local cluster.")
@click.option("--zones", type=click.IntRange(5, 12), default=6, show_default=True)
@click.option("--gateways", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--clients", type=click.IntRange(1, 1024), default=16, show_default=True)
@click.option("--size", type=click.IntRange(64, 2**26), default=2**16, help="Bytes of an object.")
@click.option("--objects", type=click.IntRange(1), default=512, show_default=True)
@click.option("--reads", type=click.FloatRange(0, 1), default=0.7, help="Share of reads.")
@click.option("--rate", type=click.FloatRange(0), default=0.0, help="Requests/s. [default: all]")
@click.option("--before", "healthy_s", default=10.0, help="Seconds before the fault.")
@click.option("--hold", "hold_s", default=20.0, help="Seconds that a lasting fault lasts.")
@click.option("--after", "after_s", default=15.0, help="At least so many seconds after it.")
@click.option("--patience", "patience_s", default=120.0, help="At most, waiting for full health.")
@click.option("--report", type=PATH, default=Path("faults.html"), show_default=True)
@click.option("--json", "json_file", type=PATH, help="Raw samples. [default: beside the report]")
@click.option("--picture", type=PATH, help="Also an SVG image of the last scenario.")
@click.option("--compare", is_flag=True, help="Run nothing: show the given runs side by side.")
@click.argument("runs", nargs=-1, type=PATH)
def faults_command(  # noqa: PLR0913 - one parameter per option
    names: tuple[str, ...], is_list: bool, store_file: Path | None, directory: Path | None,
    name: str, zones: int, gateways: int, clients: int, size: int, objects: int, reads: float,
    rate: float, healthy_s: float, hold_s: float, after_s: float, patience_s: float,
    report: Path, json_file: Path | None, picture: Path | None, compare: bool,
    runs: tuple[Path, ...],
) -> None:  # fmt: skip
    """Hurt a store under load, scenario by scenario, and draw what happened.

    Each scenario runs on a fresh local cluster (or on the store that --store describes). Writes one
    self-contained HTML page, and the raw samples beside it for `--compare RUN.json RUN.json ...`.
    Exit code 1 if an acknowledged byte was lost.
    """
    if compare != bool(runs):
        raise click.UsageError("--compare and the runs to compare belong together")
    if compare:
        _write_report(report, picture, [load_run(path) for path in runs])
        return
    known = _known(store_file)
    if is_list:
        click.echo("\n".join(known))
        return
    for wanted in names:
        if wanted not in known:
            raise faults.Invalid("scenario", wanted, f"is none of {', '.join(known)}")
    shape = LoadShape(clients, size, reads, rate, objects)
    timing = Timing(healthy_s, hold_s, after_s, patience_s)
    with tempfile.TemporaryDirectory(prefix="ostraka-bench-") as temporary:

        def make_store() -> Store:
            if store_file is not None:
                return CommandStore(store_file)
            return LocalStore(name, (directory or Path(temporary)) / "cluster", zones, gateways)

        record = _run(make_store, names or known, shape, timing)
    record.save(json_file or report.with_suffix(".json"))
    _write_report(report, picture, [record])
    click.echo("\n" + summary(record))
    if any(scenario.read_back.lost_objects for scenario in record.scenarios):
        sys.exit(EXIT_LOST)


def _known(store_file: Path | None) -> tuple[str, ...]:
    if store_file is None:
        return NAMES
    return tuple(scenario.name for scenario in CommandStore(store_file).scenarios())


def _run(
    make_store: MakeStore, names: Sequence[str], shape: LoadShape, timing: Timing
) -> RunRecord:
    """Run scenarios one after another."""
    record = RunRecord(
        store=make_store().name,
        started=datetime.now(UTC).isoformat(timespec="minutes"),
        commit=_commit(),
        machine=describe_machine(),
        calibration=calibrate(),
        load=shape,
    )
    began_s = time.monotonic()
    for number, name in enumerate(names, 1):
        click.echo(f"[{number}/{len(names)}, {time.monotonic() - began_s:.0f} s] {name}", err=True)
        scenario = run_scenario(
            make_store(), name, shape, timing, lambda line: click.echo(line, err=True)
        )
        record.scenarios.append(scenario)
    return record


def _write_report(report: Path, picture: Path | None, runs: Sequence[RunRecord]) -> None:
    if not any(run.scenarios for run in runs):
        raise faults.Invalid("runs", "", "hold no scenario")
    report.write_text(render(runs), encoding="utf-8")
    click.echo(f"{report}", err=True)
    if picture is not None:
        last = runs[-1].scenarios[-1].name
        picture.write_text(render_picture(runs[-1], last), encoding="utf-8")


def _commit() -> str:
    """The commit of this checkout; empty if it is none."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip()
