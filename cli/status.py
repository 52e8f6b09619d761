"""`ostraka status`: what runs, what is degraded, what the cluster survives now.

The JSON form is a contract: `endpoint`, `state` (healthy, degraded, unavailable, stopped),
`survives`, `metadata_survives`, `capacity_bytes`, `used_bytes`, `degraded_blobs`, and `processes`
with `role`, `name`, `zone`, `pid`, `address`, `state`. Exit code 0: healthy or degraded; 1:
unavailable or stopped.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cli.control import call, control_address, with_control
from cli.folder import DEFAULT_DIRECTORY, ClusterFolder
from common import faults
from gateway.placement.survival import survives
from gateway.placement.topology import Topology
from proto import admin_pb2, records_pb2

MIB = 1024 * 1024


@click.command("status")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="The cluster's folder.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The documented JSON form.")
def command(directory: Path, as_json: bool) -> None:
    """Show processes, zones, disks, capacity, and what is degraded."""
    picture = collect(ClusterFolder(directory))
    if as_json:
        click.echo(json.dumps(picture, indent=1))
    else:
        _show(picture)
    sys.exit(0 if picture["state"] in ("healthy", "degraded") else 1)


def collect(folder: ClusterFolder) -> dict[str, Any]:
    """The picture of a cluster. raises NotFound if there is none"""
    identity = folder.load()
    state = folder.read_state() or {}
    picture: dict[str, Any] = {
        "endpoint": state.get("endpoint", f"http://127.0.0.1:{identity.port}"),
        "state": "stopped",
        "survives": "",
        "metadata_survives": "",
        "capacity_bytes": 0,
        "used_bytes": 0,
        "degraded_blobs": 0,
        "problems": [],
        "processes": state.get("processes", []),
    }
    if not folder.is_locked():
        for process in picture["processes"]:
            process["pid"], process["state"] = None, "stopped"
        return picture
    try:
        reply = with_control(
            control_address(folder),
            lambda stub: call(stub.ClusterStatus, admin_pb2.ClusterStatusRequest()),
        )
    except faults.Unavailable:
        picture["state"] = "unavailable"
        picture["problems"] = ["the metadata service does not answer: nothing can be read"]
        return picture
    _describe(picture, reply)
    return picture


def _describe(picture: dict[str, Any], reply: admin_pb2.ClusterStatusReply) -> None:
    topology = Topology(reply.topology)
    disks = reply.topology.disks
    away = {node.name for node in reply.nodes if not node.is_alive}
    up = [disk for disk in disks if _is_up(disk, away)]
    profile = topology.profiles["STANDARD"]
    problems = [
        f"{disk.zone}: {disk.node_name} {_trouble(disk, away)}"
        for disk in disks
        if not _is_up(disk, away)
    ]
    gateways = [p for p in picture["processes"] if p["role"] == "gateway"]
    if not any(process["state"] == "running" for process in gateways):
        problems.append("no gateway runs")
    if reply.degraded_blobs:
        problems.append(f"{reply.degraded_blobs} blobs miss a fragment or lie off their zone")
    picture["survives"] = survives(topology, profile, away)
    picture["metadata_survives"] = reply.metadata_survives
    picture["capacity_bytes"] = sum(disk.capacity_bytes for disk in up)
    picture["used_bytes"] = sum(disk.used_bytes for disk in up)
    picture["degraded_blobs"] = reply.degraded_blobs
    picture["garbage_pending"] = reply.garbage_pending
    picture["problems"] = problems
    picture["state"] = "degraded" if problems else "healthy"
    if len(up) < min(profile.k, len(disks)) or not gateways:
        picture["state"] = "unavailable"


def _is_up(disk: records_pb2.Disk, away: set[str]) -> bool:
    return disk.node_name not in away and disk.state == records_pb2.Disk.UP


def _trouble(disk: records_pb2.Disk, away: set[str]) -> str:
    if disk.node_name in away:
        return "does not answer"
    return f"disk {disk.disk_id} is {records_pb2.Disk.State.Name(disk.state).lower()}"


def _show(picture: dict[str, Any]) -> None:
    out = Console()
    out.print(f"{picture['endpoint']}  [bold]{picture['state']}[/bold]", highlight=False)
    if picture["survives"]:
        out.print(f"  data survives the loss of: {picture['survives']}")
        out.print(f"  metadata survives the loss of: {picture['metadata_survives']}")
        used, capacity = picture["used_bytes"] // MIB, picture["capacity_bytes"] // MIB
        out.print(f"  {used:,} MiB of {capacity:,} MiB used, before erasure coding")
    for problem in picture["problems"]:
        out.print(f"  [yellow]![/yellow] {problem}", highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("role", "name", "zone", "pid", "address", "state"):
        table.add_column(column)
    for process in picture["processes"]:
        table.add_row(*[str(process[c] or "") for c in
                        ("role", "name", "zone", "pid", "address", "state")])  # fmt: skip
    out.print(table)
