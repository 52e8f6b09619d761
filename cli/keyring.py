"""`ostraka admin keyring`: the master keys of a cluster.

A ring is a file; who may read it may rotate it. Whether a key may go is for the running cluster to
say, which alone knows what is wrapped by it.
"""

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from cli.folder import DEFAULT_DIRECTORY, ClusterFolder
from cli.target import Target, for_cluster
from common import faults
from common.keyring import KeyRing, KeyState, change_file
from proto import admin_pb2

WHAT_IS_LOST = (
    "What is lost with it: `ostraka recover namespace` cannot bring back objects that were written"
    " before the rotation, and copies of the metadata from before it cannot be opened."
)


@click.group("keyring")
def command() -> None:
    """The master keys, which wrap all other keys.

    After each change back up the file again, and copy it to every host of the cluster that has it.
    """


def for_ring(function: Callable[..., None]) -> Callable[..., None]:
    """The option that names a deployed cluster's ring."""
    option = click.option(
        "--keyring", "file", type=click.Path(path_type=Path),
        help="A deployed cluster's key ring, instead of a folder's.",
    )  # fmt: skip
    return option(function)


def for_ring_and_cluster(function: Callable[..., None]) -> Callable[..., None]:
    """Options that name the cluster and its ring; the command gets a Target and a path."""

    @for_ring
    @for_cluster
    @wraps(function)
    def with_ring(target: Target, file: Path | None, **others: Any) -> None:
        if target.control is not None and file is None:
            raise click.UsageError("--control needs --keyring")
        if target.control is None and file is not None:
            raise click.UsageError("--keyring needs --control: the cluster whose ring it is")
        function(target, file or ClusterFolder(target.directory).keyring_file, **others)

    return with_ring


@command.command("rotate")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY,
    show_default=True, help="A local cluster's folder.",
)  # fmt: skip
@for_ring
@click.option("--prepare", is_flag=True,
              help="Only make the new key: the next rotation uses it.")  # fmt: skip
def rotate(directory: Path, file: Path | None, prepare: bool) -> None:
    """Wrap by a new master key from now on.

    Running processes take it up within seconds, and what older keys wrap is wrapped anew in the
    background: `list` says how far it is. Old keys stay until they are retired.

    With gateways on several hosts: `--prepare`, copy the file to all of them, then rotate, and copy
    it again. So no gateway meets a key that it does not have.
    """
    path = file or ClusterFolder(directory).keyring_file
    if prepare:
        ring = change_file(path, KeyRing.prepare)
        click.echo(f"prepared master key: {list(ring.states())[-1]}")
    else:
        ring = change_file(path, KeyRing.rotate)
        click.echo(f"active master key: {ring.active_id}")


@command.command("list")
@for_ring_and_cluster
def list_keys(target: Target, path: Path) -> None:
    """List all keys of the ring, and what the cluster still needs them for."""
    reply = _ask(target)
    ring = KeyRing.load(path)
    keys = [
        {"id": key_id, "state": str(state), "needed_for": _needed_for(key_id, ring, reply)}
        for key_id, state in ring.states().items()
    ]
    progress = reply.progress
    document = {
        "active": ring.active_id,
        "taken_up": reply.active == ring.active_id,
        "keys": keys,
        "pass": {
            "done": not reply.due,
            "rows": progress.rows,
            "rewrapped": progress.rewrapped,
            "left": dict(progress.left),
        },
    }
    click.echo(json.dumps(document, indent=1))


@command.command("retire")
@for_ring_and_cluster
@click.argument("key_id")
def retire(target: Target, path: Path, key_id: str) -> None:
    """Retire an old key, once nothing in the metadata is wrapped by it.

    It stays in the file, for two things only: headers of fragments that were written while it was
    active, from which `ostraka recover namespace` builds metadata, and older copies of the
    metadata. Nothing else uses it.
    """
    reply = _ask(target)

    def change(ring: KeyRing) -> None:
        _require_unneeded(key_id, ring, reply)
        ring.retire(key_id)

    change_file(path, change)
    click.echo(f"retired: {key_id}")


@command.command("destroy")
@for_ring_and_cluster
@click.argument("key_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(target: Target, path: Path, key_id: str, yes: bool) -> None:
    """Delete a retired key from the file, for good.

    What is lost with it: `ostraka recover namespace` cannot bring back objects that were written
    before the rotation, and copies of the metadata from before it cannot be opened.
    """
    reply = _ask(target)
    ring = KeyRing.load(path)
    if ring.states().get(key_id) is KeyState.RETIRED and not yes:
        click.echo(WHAT_IS_LOST)
        click.confirm(f"Destroy master key {key_id}?", abort=True)

    def change(ring: KeyRing) -> None:
        ring.require(key_id, KeyState.RETIRED)
        _require_unneeded(key_id, ring, reply)
        ring.destroy(key_id)

    change_file(path, change)
    click.echo(f"destroyed: {key_id}")


def _ask(target: Target) -> admin_pb2.MasterKeysReply:
    reply: admin_pb2.MasterKeysReply = target.ask("MasterKeys", admin_pb2.MasterKeysRequest())
    return reply


def _needed_for(key_id: str, ring: KeyRing, reply: admin_pb2.MasterKeysReply) -> list[str]:
    """What of the running metadata a key wraps, or may wrap."""
    if key_id == ring.active_id:
        return ["what is written now"]
    if ring.states()[key_id] is KeyState.PREPARED:
        return []
    needed = []
    if reply.active != ring.active_id:
        needed.append("rows: the metadata service has not taken the ring up")
    elif reply.due:
        needed.append("rows: they are being wrapped anew")
    elif left := dict(reply.progress.left).get(key_id):
        needed.append(f"rows: {left} could not be unwrapped")
    if key_id in reply.journal:
        needed.append("the metadata's journal")
    return needed


def _require_unneeded(key_id: str, ring: KeyRing, reply: admin_pb2.MasterKeysReply) -> None:
    ring.require(key_id, KeyState.OLD, KeyState.RETIRED)
    needed = _needed_for(key_id, ring, reply)
    if needed:
        raise faults.Invalid("master key", key_id, f"still needed for {'; for '.join(needed)}")
