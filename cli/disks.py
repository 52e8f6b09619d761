"""`ostraka admin disk`: what disks there are, emptying one, taking one out, taking it back."""

import json
from typing import Any

import click

from cli.target import Target, for_cluster
from proto import admin_pb2, records_pb2

Disk = records_pb2.Disk


@click.group("disk")
def disk() -> None:
    """Disks of storage nodes."""


@disk.command("list")
@for_cluster
def list_disks(target: Target) -> None:
    """List all disks with their state and what is still named on those that are to be emptied."""
    reply = target.ask("ClusterStatus", admin_pb2.ClusterStatusRequest())
    alive = {node.name for node in reply.nodes if node.is_alive}
    named = dict(reply.repair.named)
    records = [
        {
            "disk_id": record.disk_id,
            "node": record.node_name,
            "zone": record.zone,
            "state": Disk.State.Name(record.state).lower(),
            "answers": record.node_name in alive and not record.gone,
            "capacity_bytes": record.capacity_bytes,
            "used_bytes": record.used_bytes,
            "fragments": record.fragment_count,
            "fragments_named": _named(record, named, is_known=not reply.repair.is_looking),
        }
        for record in sorted(reply.topology.disks, key=lambda record: record.disk_id)
    ]
    click.echo(json.dumps(records, indent=1))


@disk.command("drain")
@for_cluster
@click.argument("disk_id", type=click.IntRange(1))
def drain_disk(target: Target, disk_id: int) -> None:
    """Take no new data on a disk, and move what it holds to others.

    `disk list` shows how much is left; at 0 it can be removed.
    """
    _set(target, disk_id, Disk.DRAINING)
    click.echo(f"disk {disk_id} is being emptied; `ostraka status` shows how far it is")


@disk.command("remove")
@for_cluster
@click.argument("disk_id", type=click.IntRange(1))
@click.option("--force", is_flag=True, help="Also if data is on it: it is rebuilt from the others.")
def remove_disk(target: Target, disk_id: int, force: bool) -> None:
    """Take a disk out of the cluster for good.

    Without --force only one that was drained, or failed, and that nothing names any more.
    """
    _set(target, disk_id, Disk.REMOVED, force=force)
    click.echo(f"disk {disk_id} is removed")


@disk.command("return")
@for_cluster
@click.argument("disk_id", type=click.IntRange(1))
def return_disk(target: Target, disk_id: int) -> None:
    """Take new data on a drained or removed disk again."""
    _set(target, disk_id, Disk.UP)
    click.echo(f"disk {disk_id} is in use")


def _set(
    target: Target, disk_id: int, state: "Disk.State.ValueType", *, force: bool = False
) -> None:
    request = admin_pb2.SetDiskStateRequest(disk_id=disk_id, state=state, force=force)
    target.ask("SetDiskState", request)


def _named(record: Any, named: dict[int, int], *, is_known: bool) -> int | None:
    """Fragments that placements name on a disk that is out; None: not known, or in use."""
    if record.state == Disk.UP or not is_known:
        return None
    return named.get(record.disk_id, 0)
