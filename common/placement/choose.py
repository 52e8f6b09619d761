"""The choice of disks for a blob: deterministic, weighted, one fragment per zone where it can be.

Zones and the disks in them are ranked by a hash of blob and disk, so every gateway chooses alike
and a disk that comes or goes moves only what is its share. Fragments are dealt to zones in turn.

source  D. Thaler, C. Ravishankar, Using Name-Based Mappings to Increase Hit Rates, 1998 (highest
        random weight), with -weight / log(hash) for weights.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

from common import faults
from common.placement.topology import PlacedDisk, Profile, Topology, Zone


@dataclass(frozen=True, slots=True)
class Placement:
    """Disks in fragment order. degraded: it would be spread wider if all of the cluster were up."""

    disks: tuple[PlacedDisk, ...]
    is_degraded: bool


def choose_disks(
    topology: Topology, profile: Profile, blob_id: bytes, down: Collection[str] = ()
) -> Placement:
    """Choose k + m disks that can take fragments now.

    No zone gets more than m fragments if that can be avoided, and no disk ever does: a profile
    that promises to survive losses does not start on one disk.

    down     names of nodes that do not answer
    raises   Full if it is space that is missing; Unavailable if too few nodes are alive
    """
    zones = _answering(topology.writable_zones, down)
    chosen = _deal(_ranked(zones, blob_id), profile)
    if chosen is None:
        raise _shortage(topology, profile, down)
    if sum(map(len, zones)) == topology.disk_count:
        return Placement(tuple(chosen), False)
    return Placement(tuple(chosen), _spread(chosen) < _home_spread(topology, profile, blob_id))


def _answering(zones: Sequence[Zone], down: Collection[str]) -> Sequence[Zone]:
    if not down:
        return zones
    left = (tuple(disk for disk in zone if disk.node_name not in down) for zone in zones)
    return [zone for zone in left if zone]


def _shortage(topology: Topology, profile: Profile, down: Collection[str]) -> faults.Fault:
    """Say why a placement is impossible: disks without space, or nodes that are away."""
    if _deal(_answering(topology.readable_zones, down), profile) is not None:
        return faults.Full("too few disks take new data")
    return faults.Unavailable("too few storage nodes answer")


def _ranked(zones: Iterable[Zone], blob_id: bytes) -> list[Sequence[PlacedDisk]]:
    """Zones by their best disk, and disks within each zone, highest score first."""
    scored = []
    for zone in zones:
        disks = [(score(disk, blob_id), disk.disk_id, disk) for disk in zone]
        if len(disks) > 1:
            disks.sort(reverse=True)
        scored.append(disks)
    scored.sort(reverse=True)
    return [[disk for _, _, disk in disks] for disks in scored]


def _deal(zones: Sequence[Sequence[PlacedDisk]], profile: Profile) -> list[PlacedDisk] | None:
    """Deal fragments to zones in turn, within a zone to its disks in turn; None: impossible."""
    wanted = profile.k + profile.m
    if len(zones) >= wanted:
        return [disks[0] for disks in zones[:wanted]]
    rooms = rooms_of([len(disks) for disks in zones], profile)
    if rooms is None:
        return None
    chosen: list[PlacedDisk] = []
    turn = 0
    while len(chosen) < wanted:
        for disks, room in zip(zones, rooms, strict=True):
            if turn < room and len(chosen) < wanted:
                chosen.append(disks[turn % len(disks)])
        turn += 1
    return chosen


def rooms_of(disk_counts: Sequence[int], profile: Profile) -> list[int] | None:
    """How many fragments each zone may get, with as few on one disk as possible; None: too few."""
    wanted = profile.k + profile.m
    on_disk_max = profile.m or wanted
    in_zone_max = profile.m if len(disk_counts) * profile.m >= wanted else wanted
    for on_disk in range(1, on_disk_max + 1):
        rooms = [min(in_zone_max, count * on_disk) for count in disk_counts]
        if sum(rooms) >= wanted:
            return rooms
    return None


def _home_spread(topology: Topology, profile: Profile, blob_id: bytes) -> tuple[int, int]:
    """How wide the blob would be spread if all disks took new data."""
    wanted = profile.k + profile.m
    if len(topology.zones) >= wanted:
        return wanted, wanted
    home = _deal(_ranked(topology.zones, blob_id), profile)
    return _spread(home) if home is not None else (0, 0)


def _spread(chosen: Sequence[PlacedDisk]) -> tuple[int, int]:
    return len({disk.zone for disk in chosen}), len({disk.disk_id for disk in chosen})


def score(disk: PlacedDisk, blob_id: bytes) -> float:
    """The weighted rank of a disk for a blob: the highest is its home."""
    # CRCs of the same bytes from two seeds differ by a constant, which would tie the ranks of
    # all disks together; two multiplications of MurmurHash3's finalizer untie them.
    value = crc32(blob_id, disk.seed)
    value = ((value ^ value >> 16) * 0x85EBCA6B) & 0xFFFFFFFF
    value = ((value ^ value >> 13) * 0xC2B2AE35) & 0xFFFFFFFF
    return -disk.weight / math.log(((value ^ value >> 16) + 0.5) / 2**32)
