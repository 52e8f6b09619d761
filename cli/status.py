"""`ostraka status`: what runs, what is degraded, what the cluster survives now.

The JSON form is a contract: `endpoint`, `state` (healthy, degraded, unavailable, stopped),
`survives`, `metadata_survives`, `metadata_journal`, `capacity_bytes`, `used_bytes`,
`degraded_blobs`, `garbage_pending`, `repair` (figures, see cli/repair_words.py), `problems`, and
`processes` with `role`, `name`, `zone`, `pid`, `address`, `state` (running, waiting, unresponsive,
stopped). Exit code 0: healthy or degraded; 1:
unavailable or stopped.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.control import call, control_address, host_and_port, with_control
from cli.folder import DEFAULT_DIRECTORY, ClusterFolder, ClusterIdentity
from cli.picture import blank_picture, describe_cluster, say_unavailable
from cli.ports import LOOPBACK
from cli.repair_words import repair_in_words
from common import faults
from common.limits import MIB
from proto import admin_pb2

PROBE_S = 1.0
COLUMNS = ("role", "name", "zone", "pid", "address", "state")
TROUBLE = {
    "waiting": "is not ready: it waits for what it needs",
    "unresponsive": "runs, but does not answer",
    "stopped": "does not run",
}


@click.command("status")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="The cluster's folder.",
)  # fmt: skip
@click.option("--control", type=host_and_port, metavar="HOST:PORT",
              help="A deployed cluster's metadata service, instead of a folder.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The documented JSON form.")
def command(directory: Path, control: str | None, as_json: bool) -> None:
    """Show processes, zones, disks, capacity, and what is degraded.

    Exit code 0 for a healthy or degraded cluster, 1 for one that is unavailable or stopped.
    """
    picture = collect_from(control) if control else collect(ClusterFolder(directory))
    if as_json:
        click.echo(json.dumps(picture, indent=1))
    else:
        _show(picture)
    sys.exit(0 if picture["state"] in ("healthy", "degraded") else 1)


def collect(folder: ClusterFolder) -> dict[str, Any]:
    """The picture of a local cluster. raises NotFound if there is none"""
    identity = folder.load()
    state = folder.read_state()
    endpoint = state.get("endpoint", f"http://{LOOPBACK}:{identity.port}")
    picture = blank_picture(endpoint, "stopped", state.get("processes", []))
    if folder.supervisor() is None:
        for process in picture["processes"]:
            process["pid"], process["state"] = None, "stopped"
        return picture
    asyncio.run(_probe_all(picture["processes"], identity))
    try:
        if any(p["name"] == "metaservice" and p["state"] in TROUBLE for p in picture["processes"]):
            raise faults.Unavailable("the metadata service does not answer")
        reply = _ask(control_address(folder))
    except faults.Unavailable:
        say_unavailable(picture)
        return picture
    describe_cluster(picture, reply)
    others = [p for p in picture["processes"] if p["role"] in ("gateway", "workers")]
    troubles = [f"{p['name']} {TROUBLE[p['state']]}" for p in others if p["state"] in TROUBLE]
    if troubles:
        picture["problems"] += troubles
        picture["state"] = "degraded" if picture["state"] == "healthy" else picture["state"]
    if not any(p["role"] == "gateway" and p["state"] == "running" for p in others):
        picture["state"] = "unavailable"
    return picture


def collect_from(address: str) -> dict[str, Any]:
    """The picture of a deployed cluster, as far as its metadata service sees: no gateways."""
    metaservice = {
        "role": "metaservice", "name": "metaservice", "zone": "", "pid": None,
        "address": address, "state": "running",
    }  # fmt: skip
    picture = blank_picture("", "unavailable", [metaservice])
    try:
        reply = _ask(address)
    except faults.Unavailable:
        metaservice["state"] = "unresponsive"
        say_unavailable(picture)
        return picture
    alive = {node.name for node in reply.nodes if node.is_alive}
    picture["processes"] += [
        {
            "role": "storagenode", "name": node.name, "zone": node.zone, "pid": None,
            "address": node.address, "state": "running" if node.name in alive else "unresponsive",
        }
        for node in sorted(reply.topology.nodes, key=lambda node: node.name)
    ]  # fmt: skip
    describe_cluster(picture, reply)
    return picture


def _ask(address: str) -> admin_pb2.ClusterStatusReply:
    reply: admin_pb2.ClusterStatusReply = with_control(
        address, lambda stub: call(stub.ClusterStatus, admin_pb2.ClusterStatusRequest())
    )
    return reply


async def _probe_all(processes: list[dict[str, Any]], identity: ClusterIdentity) -> None:
    """Ask every process that runs how it is, all at once."""
    running = [process for process in processes if process["state"] == "running"]
    ports = [identity.ports.get(f"{process['name']}-admin", 0) for process in running]
    states = await asyncio.gather(*[_probe(port) for port in ports])
    for process, state in zip(running, states, strict=True):
        process["state"] = state


async def _probe(port: int) -> str:
    """The state of a process that exists, by its admin port."""
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(b"GET /ready HTTP/1.0\r\n\r\n")
                words = (await reader.readline()).split()
            finally:
                writer.close()
    except TimeoutError:
        return "unresponsive"
    except OSError:
        return "waiting"  # it does not listen yet
    return "running" if words[1:2] == [b"200"] else "waiting"


def _show(picture: dict[str, Any]) -> None:
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"{picture['endpoint'] or 'cluster'}  [bold]{picture['state']}[/bold]")
    if picture["survives"]:
        out.print(f"  data survives the loss of: {picture['survives']}")
        out.print(f"  metadata survives the loss of: {picture['metadata_survives']}")
        used, capacity = picture["used_bytes"] // MIB, picture["capacity_bytes"] // MIB
        out.print(f"  {used:,} MiB of {capacity:,} MiB on all disks used, parity included")
        words = repair_in_words(picture["repair"])
        if words:
            out.print(f"  {words}")
    for problem in picture["problems"]:
        out.print("  [yellow]![/yellow]", escape(problem))
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    for process in picture["processes"]:
        table.add_row(*[escape(str(process[column] or "")) for column in COLUMNS])
    out.print(table)
