"""Known bugs, to be planted one at a time: what the simulation must catch.

Each replaces one decision of the product by the one that somebody once made, somewhere, and that
lost data. Nothing of this is in the product.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from gateway.objects.stripes import CellSet
from metaservice.operations import listing
from storagenode.store.index import Index
from storagenode.store.writes import GroupWriter
from tests.simulation.disk import SimulatedFiles
from tests.simulation.plan import ZONES, Kind, Plan, Scale, draw

Plant = Callable[[], Iterator[None]]


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug, the plans that give it a chance, and in how many of them it must show."""

    plant: Callable[[], Any]
    scale: Scale
    seeds_max: int = 12

    @property
    def name(self) -> str:
        return self.plant.__name__

    def plan(self, seed: int) -> Plan:
        return draw(seed, self.scale)


BUGS: list[Bug] = []


def bug(scale: Scale = Scale(), seeds_max: int = 12) -> Callable[[Plant], Plant]:  # noqa: B008
    """Add a planting to the list."""

    def add(plant: Plant) -> Plant:
        BUGS.append(Bug(contextmanager(plant), scale, seeds_max))
        return plant

    return add


POWER = Scale(
    mode="POWER", kinds=(Kind.CRASH, Kind.CRASH_AT_WRITE, Kind.BLACKOUT), troubles=8, days=0
)


@bug(POWER)
def node_acknowledges_before_fsync() -> Iterator[None]:
    """A fragment counts as on disk when it was handed to the kernel."""

    def write(self: GroupWriter, group: list[Any]) -> None:
        for each in group:
            each.extent.file.write(each.pieces, each.offset)

    with patch.object(GroupWriter, "store_blocking", write):
        yield


@bug(POWER)
def lost_directory_fsync() -> Iterator[None]:
    """A new extent's data is synced, its folder's entry is not."""
    with patch.object(SimulatedFiles, "sync_folder", lambda self, path: None):
        yield


@bug(Scale(mode="ZONES", kinds=(Kind.FLIP, Kind.MISDIRECT), troubles=12, days=0))
def reader_trusts_fragments_without_checksum() -> Iterator[None]:
    """What a node sends is taken for what was written."""
    with patch.object(CellSet, "is_intact", lambda *_: True):
        yield


@bug(Scale(
    mode="POWER", kinds=(Kind.CRASH,), troubles=30, requests=80, targets=ZONES, days=0,
))  # fmt: skip
def tombstones_forgotten() -> Iterator[None]:
    """What was deleted while it was being written, or marked in vain, may come (back)."""
    with patch.object(Index, "tombstone", lambda *_: None):
        yield


@bug(Scale(requests=60, days=0))
def listing_begins_behind_its_marker() -> Iterator[None]:
    """The next page begins after everything that has the marker for a prefix."""

    def begin_after(span: Any, marker: bytes) -> bytes:
        return bytes(listing.keys.after(span.base + marker[:1]))

    with patch.object(listing, "_begin_after", begin_after):
        yield


@bug(Scale(mode="ZONES", kinds=(Kind.WRITE_ERRORS,), troubles=10, days=0))
def disk_goes_on_after_a_failed_write() -> Iterator[None]:
    """A failed write or sync is logged, and acknowledged."""

    def ignore(self: GroupWriter, error: OSError, group: list[Any]) -> None:
        for each in group:
            if not each.done.done():
                each.done.set_result(None)

    with patch.object(GroupWriter, "poison", ignore):
        yield
