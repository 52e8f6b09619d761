"""`ostraka durability`: how likely data is lost within a year, from what this cluster measured.

Every input is named with where it comes from: measured on this cluster, set on it, or assumed and
to be given as an option. docs/durability.md has the formulas.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cli.control import call, control_address, host_and_port, with_control
from cli.folder import DEFAULT_DIRECTORY, ClusterFolder
from common import faults
from common.limits import DAY, GIB, HOUR, MIB, MINUTE
from common.placement.durability import (
    Cause,
    annual_loss,
    any_loss,
    groups,
    loss_while_degraded,
    nines,
    rate_of,
)
from proto import admin_pb2, records_pb2

DETECTION_S = 3.0  # HEARTBEAT_MISSED_S of the metadata service
GRACE_S = 30.0  # repair_grace_s of the workers
REPAIR_BYTES_PER_S = 50.0 * MIB
SCRUB_INTERVAL_S = 14 * DAY
RESTORE_S = DAY  # of a copy of the metadata: somebody has to come
METADATA = "metadata"
FULL_SHARE = 0.9  # of a disk's capacity
MEASURED, SET, ASSUMED = "measured", "set", "assumed"


@dataclass(frozen=True, slots=True)
class Input:
    """One figure that the result rests on."""

    name: str
    value: float
    words: str
    source: str  # MEASURED, SET or ASSUMED, and by which option it can be given


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast a cluster finds and mends: seconds, and plain bytes of blobs made whole a second."""

    detection: Input
    grace: Input
    repair: Input
    scrub: Input

    def disk_repair_s(self, disk_bytes: float, k: int) -> float:
        """From the loss of a disk with so many bytes of fragments until all are whole again.

        A byte of a fragment stands for k plain bytes of its blob.
        """
        mending_s = disk_bytes * k / self.repair.value
        return self.detection.value + self.grace.value + mending_s

    def latent_repair_s(self) -> float:
        """From a byte's decay until it is mended: half a scrub on average."""
        return self.scrub.value / 2


@dataclass(frozen=True, slots=True)
class Row:
    """A profile, at one filling of its disks. Probabilities are per year."""

    profile: str
    geometry: str
    disk_bytes: int
    repair_s: float
    binomial: float
    markov: float
    nines: float
    any_of_all: float  # that at least one set of disks that hold a blob together is lost


@click.command("durability")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="The cluster's folder.",
)  # fmt: skip
@click.option("--control", type=host_and_port, metavar="HOST:PORT",
              help="A deployed cluster's metadata service, instead of a folder.")  # fmt: skip
@click.option("--disk-failures", type=click.FloatRange(0, 100, max_open=True), default=1.5,
              show_default=True, help="Percent of disks that fail within a year.")  # fmt: skip
@click.option("--latent-errors", type=click.FloatRange(0, 100, max_open=True), default=0.001,
              show_default=True, help="Percent of fragments that decay within a year.")  # fmt: skip
@click.option("--grace", type=click.FloatRange(0), help="Seconds before repair begins.")
@click.option("--repair-rate", type=click.FloatRange(0, min_open=True),
              help="MiB/s of data made whole, instead of what was measured.")  # fmt: skip
@click.option("--scrub-interval", type=click.FloatRange(0, min_open=True),
              help="Days in which every byte is checked once.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(  # noqa: PLR0913 - one parameter per option
    directory: Path, control: str | None, disk_failures: float, latent_errors: float,
    grace: float | None, repair_rate: float | None, scrub_interval: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Compute how many nines of durability this cluster's data has, and from what.

    Two models of independent losses, the more pessimistic one counts; each profile as its disks are
    filled now and with full disks. What no model knows is said too.
    """
    address = control or control_address(ClusterFolder(directory))
    reply = ask(address)
    rates = rates_of(reply, grace, repair_rate, scrub_interval)
    shares = (disk_failures / 100, latent_errors / 100)
    rows = list(rows_of(reply.topology, rates, shares))
    if not rows:
        raise faults.Unavailable("no disk has registered yet")
    inputs = [*_share_inputs(shares), rates.detection, rates.grace, rates.repair, rates.scrub]
    rows.append(metadata_row(reply, shares[0]))
    inputs.append(Input("restore", RESTORE_S, "of metadata by hand", ASSUMED))
    degraded = degraded_risk(reply, rates, shares)
    if as_json:
        click.echo(json.dumps(_document(reply, rows, inputs, degraded), indent=1))
    else:
        _show(reply, rows, inputs, degraded)


def ask(address: str) -> admin_pb2.ClusterStatusReply:
    """What the metadata service knows. raises Unavailable"""
    reply: admin_pb2.ClusterStatusReply = with_control(
        address, lambda stub: call(stub.ClusterStatus, admin_pb2.ClusterStatusRequest())
    )
    return reply


def rates_of(
    reply: admin_pb2.ClusterStatusReply,
    grace_s: float | None = None,
    repair_mib_per_s: float | None = None,
    scrub_days: float | None = None,
) -> Rates:
    """What the cluster measured; what an option gives instead; else an assumption."""
    return Rates(
        Input("detection", DETECTION_S, "until it is noticed", SET),
        _grace(reply, grace_s),
        _repair_rate(reply, repair_mib_per_s),
        _given(
            "scrub interval", None if scrub_days is None else scrub_days * DAY, SCRUB_INTERVAL_S,
            "to check every byte", "--scrub-interval",
        ),
    )  # fmt: skip


def _given(name: str, value: float | None, otherwise: float, words: str, option: str) -> Input:
    if value is not None:
        return Input(name, value, words, f"given by {option}")
    return Input(name, otherwise, words, f"{ASSUMED} ({option})")


def _grace(reply: admin_pb2.ClusterStatusReply, given_s: float | None) -> Input:
    words, last = "before repair begins", reply.repair.last
    if given_s is None and last.lost_after_ms:
        waited_s = max(last.lost_after_ms / 1000 - DETECTION_S, 0.0)
        return Input("grace", waited_s, words, _measured_last(last))
    return _given("grace", given_s, GRACE_S, words, "--grace")


def _measured_last(last: records_pb2.RepairMeasure) -> str:
    """When, and of how much."""
    moment = datetime.fromtimestamp(last.ended_ns / 1e9, UTC)
    return f"{MEASURED} {moment:%Y-%m-%d %H:%M} UTC, {last.plain_bytes / GIB:,.1f} GiB"


def _repair_rate(reply: admin_pb2.ClusterStatusReply, mib_per_s: float | None) -> Input:
    words = "made whole a second"
    if mib_per_s is not None:
        return Input("repair rate", mib_per_s * MIB, words, "given by --repair-rate")
    if reply.repair.done_bytes_per_s:
        return Input("repair rate", float(reply.repair.done_bytes_per_s), words, f"{MEASURED} now")
    last = reply.repair.last
    if last.plain_bytes and last.taken_ms:
        rate = last.plain_bytes * 1000 / last.taken_ms
        return Input("repair rate", rate, words, _measured_last(last))
    return Input("repair rate", REPAIR_BYTES_PER_S, words, f"{ASSUMED} (--repair-rate)")


def _share_inputs(shares: tuple[float, float]) -> Iterator[Input]:
    failures, latent = shares
    yield Input("disk failures", failures, "of disks a year",
                f"{ASSUMED} (--disk-failures)")  # fmt: skip
    yield Input("latent errors", latent, "of fragments a year",
                f"{ASSUMED} (--latent-errors)")  # fmt: skip


def causes_of(rates: Rates, shares: tuple[float, float], disk_bytes: float, k: int) -> list[Cause]:
    """Why a fragment is lost, and how long it is missing then."""
    failures, latent = shares
    return [
        Cause(rate_of(failures), rates.disk_repair_s(disk_bytes, k)),
        Cause(rate_of(latent), rates.latent_repair_s()),
    ]


def rows_of(
    topology: records_pb2.Topology, rates: Rates, shares: tuple[float, float]
) -> Iterator[Row]:
    """Each profile as filled now, then with full disks."""
    disks = [disk for disk in topology.disks if disk.state != records_pb2.Disk.REMOVED]
    if not disks:
        return
    now = max(disk.used_bytes for disk in disks)
    full = int(max(disk.capacity_bytes for disk in disks) * FULL_SHARE)
    zones: dict[str, int] = {}
    for disk in disks:
        zones[disk.zone] = zones.get(disk.zone, 0) + 1
    for profile in topology.profiles:
        sets = max(1, groups(list(zones.values()), profile.k + profile.m))
        for disk_bytes in (now, max(now, full)):
            causes = causes_of(rates, shares, disk_bytes, profile.k)
            loss = annual_loss(profile.k, profile.m, causes)
            yield Row(
                profile.name, f"{profile.k} + {profile.m}", disk_bytes, causes[0].repair_s,
                loss.binomial, loss.markov, nines(loss.worst), any_loss(loss.worst, sets),
            )  # fmt: skip


def metadata_row(reply: admin_pb2.ClusterStatusReply, failures: float) -> Row:
    """Metadata, and objects up to 16 KiB, which live in it: the engine's disk and its copies."""
    copies = reply.journal.copies if reply.journal.state == "running" else 0
    loss = annual_loss(1, copies, [Cause(rate_of(failures), RESTORE_S)])
    return Row(
        METADATA, f"1 + {copies}", 0, RESTORE_S, loss.binomial, loss.markov, nines(loss.worst),
        loss.worst,
    )  # fmt: skip


def degraded_risk(
    reply: admin_pb2.ClusterStatusReply, rates: Rates, shares: tuple[float, float]
) -> float:
    """That one blob which misses a fragment now is lost before it is whole again; 0: none does."""
    disks, profiles = reply.topology.disks, reply.topology.profiles
    if not reply.degraded_blobs or not disks or not profiles:
        return 0.0
    now = max(disk.used_bytes for disk in disks)
    return max(
        loss_while_degraded(p.k, p.m, min(1, p.m), causes_of(rates, shares, now, p.k))
        for p in profiles
    )


def _document(
    reply: admin_pb2.ClusterStatusReply,
    rows: Sequence[Row],
    inputs: Sequence[Input],
    degraded: float,
) -> dict[str, Any]:
    return {
        "profiles": [asdict(row) for row in rows],
        "inputs": [asdict(entry) for entry in inputs],
        "degraded_blobs": reply.degraded_blobs,
        "degraded_blob_loss": degraded,
        "metadata_survives": reply.metadata_survives,
    }


def _show(
    reply: admin_pb2.ClusterStatusReply,
    rows: Sequence[Row],
    inputs: Sequence[Input],
    degraded: float,
) -> None:
    out = Console(highlight=False, soft_wrap=True)
    out.print("[bold]One blob (64 MiB of an object at most), within a year[/bold]")
    table = Table(box=None, pad_edge=False)
    for column in (
        "profile", "geometry", "fullest disk", "repaired in", "nines", "lost", "any blob lost",
    ):  # fmt: skip
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(
            row.profile, row.geometry, _size(row.disk_bytes) if row.disk_bytes else "",
            duration(row.repair_s),
            f"{row.nines:.1f}", f"{max(row.binomial, row.markov):.1e}", f"{row.any_of_all:.1e}",
        )  # fmt: skip
    out.print(table)
    if reply.degraded_blobs:
        out.print(
            f"{reply.degraded_blobs} blobs miss a fragment now: each of them is lost with a "
            f"probability of {degraded:.1e} before it is whole again"
        )
    out.print(f"Objects up to 16 KiB, and what finds all others, are metadata; it survives the "
              f"loss of: {reply.metadata_survives}")  # fmt: skip
    out.print("\n[bold]From[/bold]")
    facts = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(4):
        facts.add_column(no_wrap=True)
    for entry in inputs:
        facts.add_row(entry.name, _value(entry), entry.words, entry.source)
    out.print(facts)
    out.print(
        "\nNot in any model: losses with one cause (a zone, a batch of disks, a mistake, a bug). "
        "docs/durability.md says what is done about each."
    )


def _value(entry: Input) -> str:
    if entry.name == "repair rate":
        return f"{entry.value / MIB:,.1f} MiB"
    if entry.name in ("disk failures", "latent errors"):
        return f"{entry.value:.3%}"
    return duration(entry.value)


def duration(seconds: float) -> str:
    """3.0 s, 12.5 min, 3.4 h, 14.0 days."""
    if math.isinf(seconds):
        return "never"
    for unit, name in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"


def _size(count_bytes: int) -> str:
    return f"{count_bytes / MIB / 1024:,.1f} GiB"
