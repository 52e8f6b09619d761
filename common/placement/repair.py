"""What a blob that is not whole needs: which fragments to make anew or to move, and where to.

A blob is whole when no fragment is missing, none lies on a disk that is to be emptied, and no move
would spread it wider. Pure: the same picture gives the same plan on every worker.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from common.placement.choose import score
from common.placement.topology import PlacedDisk


@dataclass(frozen=True, slots=True)
class DiskView:
    """Disks as repair sees them.

    disks    all that are not removed
    lost     what they held is taken for lost; disks not in `disks` are lost too
    leaving  to be emptied; what they hold can be read
    usable   take new fragments now
    """

    disks: Mapping[int, PlacedDisk]
    lost: frozenset[int]
    leaving: frozenset[int]
    usable: frozenset[int]

    def is_lost(self, disk_id: int) -> bool:
        """Whether a fragment there is missing; 0 is no disk."""
        return disk_id not in self.disks or disk_id in self.lost


@dataclass(frozen=True, slots=True)
class Blob:
    """What a plan is made from. missing: indexes known to be bad, beyond those on lost disks."""

    blob_id: bytes
    k: int
    m: int
    disk_ids: Sequence[int]
    missing: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """One step of a repair.

    missing    indexes without a fragment now
    moves      targets by index: of missing ones, or of one fragment that lies badly
    is_whole   once the moves are done nothing is left to do
    """

    missing: tuple[int, ...]
    moves: Mapping[int, PlacedDisk]
    is_whole: bool

    def is_needed(self) -> bool:
        """Whether anything is wrong with the blob."""
        return bool(self.missing or self.moves or not self.is_whole)


def missing_of(blob: Blob, view: DiskView) -> tuple[int, ...]:
    """The indexes that have no fragment, or one that is lost or bad."""
    return tuple(
        index
        for index, disk_id in enumerate(blob.disk_ids)
        if index in blob.missing or view.is_lost(disk_id)
    )


def plan(blob: Blob, view: DiskView) -> Plan:
    """The next step: everything missing at once, else one move of a fragment that lies badly.

    Never two of a blob's fragments are moved at once: if a move goes wrong, one is in doubt.
    """
    missing = missing_of(blob, view)
    where = {
        index: view.disks[disk_id]
        for index, disk_id in enumerate(blob.disk_ids)
        if index not in missing
    }
    moves: dict[int, PlacedDisk] = {}
    for index in missing:
        before = view.disks.get(blob.disk_ids[index])
        target = _target(blob, view, where, before)
        if target is not None:
            moves[index] = where[index] = target
    if not missing:
        step = _next_move(blob, view, where, view.usable)
        if step is not None:
            moves[step[0]] = where[step[0]] = step[1]
    is_complete = len(where) == len(blob.disk_ids)
    everywhere = frozenset(view.disks) - view.lost - view.leaving | view.usable
    is_whole = is_complete and _next_move(blob, view, where, everywhere) is None
    return Plan(missing, moves, is_whole)


def elsewhere(blob: Blob, view: DiskView, index: int) -> PlacedDisk | None:
    """Another disk for a fragment whose own must be kept as it is; None: no disk takes it now."""
    where = {
        other: view.disks[disk_id]
        for other, disk_id in enumerate(blob.disk_ids)
        if other != index and not view.is_lost(disk_id)
    }
    return _target(blob, view, where, None, view.usable - {blob.disk_ids[index]})


def _next_move(
    blob: Blob, view: DiskView, where: Mapping[int, PlacedDisk], targets: frozenset[int]
) -> tuple[int, PlacedDisk] | None:
    """A fragment that should move: off a disk that is to be emptied, or to spread wider."""
    for index, disk in sorted(where.items()):
        if disk.disk_id in view.leaving:
            rest = {other: placed for other, placed in where.items() if other != index}
            target = _target(blob, view, rest, disk, targets)
            if target is not None:
                return index, target
    return _spreading_move(blob, view, where, targets)


def _spreading_move(
    blob: Blob, view: DiskView, where: Mapping[int, PlacedDisk], targets: frozenset[int]
) -> tuple[int, PlacedDisk] | None:
    zones, disks = _loads(where.values())
    # The last of the fullest place: data fragments, which every read touches, stay where they are.
    for index, disk in sorted(where.items(), reverse=True):
        best = None
        for disk_id in targets:
            other = view.disks[disk_id]
            wider = zones[disk.zone] - zones[other.zone] >= 2
            same = disk.zone == other.zone and disks[disk.disk_id] - disks[disk_id] >= 2
            if wider or same:
                rank = (-zones[other.zone], -disks[disk_id], score(other, blob.blob_id), disk_id)
                best = max(best, (rank, disk_id)) if best is not None else (rank, disk_id)
        if best is not None:
            return index, view.disks[best[1]]
    return None


def _target(
    blob: Blob,
    view: DiskView,
    where: Mapping[int, PlacedDisk],
    before: PlacedDisk | None,
    targets: frozenset[int] | None = None,
) -> PlacedDisk | None:
    """The best disk for one more fragment: the emptiest zone, the old zone, the old disk.

    None if it would put more than m fragments on a disk, or on a zone while there are others.
    """
    allowed = view.usable if targets is None else targets
    zones, disks = _loads(where.values())
    zone_count = len({view.disks[disk_id].zone for disk_id in allowed} | set(zones))
    in_zone_max = blob.m if zone_count * blob.m >= blob.k + blob.m else blob.k + blob.m
    best = None
    for disk_id in allowed:
        disk = view.disks[disk_id]
        if zones[disk.zone] >= in_zone_max or disks[disk_id] >= max(blob.m, 1):
            continue
        rank = (
            -zones[disk.zone],
            -disks[disk_id],
            before is not None and disk.zone == before.zone,
            before is not None and disk_id == before.disk_id,
            score(disk, blob.blob_id),
            disk_id,
        )
        best = max(best, rank) if best is not None else rank
    return view.disks[best[-1]] if best is not None else None


def _loads(placed: Iterable[PlacedDisk]) -> tuple[Counter[str], Counter[int]]:
    zones: Counter[str] = Counter()
    disks: Counter[int] = Counter()
    for disk in placed:
        zones[disk.zone] += 1
        disks[disk.disk_id] += 1
    return zones, disks
