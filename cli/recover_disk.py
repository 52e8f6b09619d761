"""`ostraka recover disk`: the index of a disk, built anew from its extents, without its node."""

import asyncio
import time
from pathlib import Path

import click
from rich.console import Console

from cli.folder import DEFAULT_DIRECTORY, ClusterFolder
from common import faults
from common.buffers import BufferPool
from common.clock import SystemClock
from common.limits import EXTENT_BYTES, MIB
from storagenode.store.disk import Disk
from storagenode.store.files import SystemFiles
from storagenode.store.index import Index
from storagenode.store.settings import DiskSettings
from storagenode.store.survey import check_unused


@click.command("disk")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True,
    help="A local cluster's folder.",
)  # fmt: skip
@click.option("--zone", help="Which of its disks: zone-N.")
@click.option("--path", type=click.Path(path_type=Path), help="A disk's folder, instead.")
def command(directory: Path, zone: str | None, path: Path | None) -> None:
    """Build the index of a disk anew from its extents.

    The node must not run. The old index is set aside, not deleted. What was deleted is known from
    the disk's log of deletions, and from the old index as far as it can be read.
    """
    if path is None:
        if zone is None:
            raise click.UsageError("say which disk: --zone or --path")
        folder = ClusterFolder(directory)
        folder.load()
        if folder.supervisor() is not None:
            raise faults.Invalid("directory", str(folder.path), "its cluster runs: stop it first")
        path = folder.path / zone
    path = path.absolute()
    check_unused(path)
    begun_s = time.monotonic()
    with Console(stderr=True).status(f"reading the extents of {path}"):
        words = asyncio.run(recover(path))
    click.echo(f"{words} in {time.monotonic() - begun_s:.1f} s")


async def recover(path: Path) -> str:
    """Rebuild; returns what was found, in words."""
    clock, folder = SystemClock(), path / "index"
    salvaged: dict[bytes, bytes] = {}
    aside = ""
    if folder.exists():
        try:
            old = Index(folder)
        except (faults.Corrupt, faults.Unavailable):  # damaged, or on bad sectors
            aside = ", the old index could not be read"
        else:
            salvaged = old.salvage_tombstones()
            old.close(is_synced=False)
        name = f"index.before-{clock.now_ns()}"
        SystemFiles().set_aside(folder, name)
        aside += f", the old index is in {name}"
    fresh = Index(folder)
    fresh.put_back(salvaged)
    fresh.close()
    settings = DiskSettings(path, EXTENT_BYTES, 1.0, 0)
    disk = Disk(settings, SystemFiles(), clock, BufferPool(16 * MIB))
    if disk.failure:
        await disk.close()
        raise faults.Unavailable(f"{path} cannot be read: {disk.failure}")
    extents = list(disk.extents.by_number.values())
    for extent in extents:
        disk.close_if_done(extent)
    words = (
        f"{disk.fragment_count:,} fragments ({disk.used_bytes:,} bytes) in {len(extents):,} "
        f"extents, {sum(1 for _ in disk.index.tombstones()):,} deletions known{aside}"
    )
    await disk.close()
    return words
