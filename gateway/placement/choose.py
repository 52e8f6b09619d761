"""The choice of disks for a blob: deterministic, weighted, one fragment per zone where it can be.

source  D. Thaler, C. Ravishankar, Using Name-Based Mappings to Increase Hit Rates, 1998 (highest
        random weight), with -weight / log(hash) for weights.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from zlib import crc32

from common import faults
from gateway.placement.topology import PlacedDisk, Profile, Topology


@dataclass(frozen=True, slots=True)
class Placement:
    """Disks in fragment order. degraded: not every fragment has a zone of its own that should."""

    disks: tuple[PlacedDisk, ...]
    is_degraded: bool


def choose_disks(
    topology: Topology, profile: Profile, blob_id: bytes, down: Collection[str] = ()
) -> Placement:
    """Choose k + m disks that can take fragments now.

    down     names of nodes that do not answer
    raises   Full if disks are there but without space; Unavailable if too few nodes are alive
    """
    wanted = profile.k + profile.m
    usable = [disk for disk in topology.writable_disks if disk.node_name not in down]
    if not usable:
        if topology.disks and not topology.writable_disks:
            raise faults.Full("no disk takes new data")
        raise faults.Unavailable("no storage node answers")
    zones: dict[str, list[PlacedDisk]] = {}
    for disk in usable:
        zones.setdefault(disk.zone, []).append(disk)
    ranked = sorted(
        (_by_weight(disks, blob_id) for disks in zones.values()),
        key=lambda disks: _score(disks[0], blob_id),
        reverse=True,
    )
    chosen = _deal(ranked, wanted, len(usable))
    _check_spread(chosen, profile)
    expected_zones = min(wanted, topology.zone_count)
    is_degraded = len({disk.zone for disk in chosen}) < expected_zones
    return Placement(tuple(chosen), is_degraded)


def _deal(ranked: Sequence[Sequence[PlacedDisk]], wanted: int, disk_count: int) -> list[PlacedDisk]:
    """Take one disk per zone in turn; the same disk again only when there are too few disks."""
    chosen: list[PlacedDisk] = []
    turn = 0
    while len(chosen) < wanted:
        for disks in ranked:
            if len(chosen) == wanted:
                break
            if turn < len(disks) or len(chosen) >= disk_count:
                chosen.append(disks[turn % len(disks)])
        turn += 1
    return chosen


def _check_spread(chosen: Sequence[PlacedDisk], profile: Profile) -> None:
    """Refuse a placement that one lost disk would destroy although the profile survives losses."""
    counts: dict[int, int] = {}
    for disk in chosen:
        counts[disk.disk_id] = counts.get(disk.disk_id, 0) + 1
    if profile.m and max(counts.values()) > profile.m:
        raise faults.Unavailable("too few disks are up for the profile")


def _by_weight(disks: list[PlacedDisk], blob_id: bytes) -> list[PlacedDisk]:
    if len(disks) == 1:
        return disks
    return sorted(disks, key=lambda disk: _score(disk, blob_id), reverse=True)


def _score(disk: PlacedDisk, blob_id: bytes) -> float:
    uniform = (crc32(blob_id, disk.seed) + 0.5) / 2**32
    return -disk.weight / math.log(uniform)
