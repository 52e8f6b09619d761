"""Nodes, disks and zones as one immutable picture, and what a profile survives on it."""

from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

from proto import records_pb2


@dataclass(frozen=True, slots=True)
class PlacedDisk:
    """A disk as placement sees it. weight: its share of new data; seed: its place in the hashing."""

    disk_id: int
    node_name: str
    zone: str
    weight: float
    seed: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Geometry of a storage class."""

    name: str
    k: int
    m: int
    cell_bytes: int


class Topology:
    """One epoch of the cluster."""

    def __init__(self, record: records_pb2.Topology) -> None:
        self.record = record
        self.epoch = record.epoch
        self.disks = {disk.disk_id: disk for disk in record.disks}
        self.addresses = {node.name: node.address for node in record.nodes}
        self.profiles = {
            profile.name: Profile(profile.name, profile.k, profile.m, profile.cell_bytes)
            for profile in record.profiles
        }

    @cached_property
    def writable_disks(self) -> tuple[PlacedDisk, ...]:
        """Disks that take new fragments, if their nodes answer."""
        return tuple(
            PlacedDisk(
                disk.disk_id,
                disk.node_name,
                disk.zone,
                max(disk.capacity_bytes, 1),
                crc32(disk.disk_uuid),
            )
            for disk in self.record.disks
            if disk.state == records_pb2.Disk.UP
        )

    @cached_property
    def zone_count(self) -> int:
        """Zones with a disk that is not removed."""
        return len(
            {disk.zone for disk in self.record.disks if disk.state != records_pb2.Disk.REMOVED}
        )

    def node_of(self, disk_id: int) -> str:
        """The node that has a disk; empty if the disk is unknown."""
        disk = self.disks.get(disk_id)
        return disk.node_name if disk is not None else ""


def survives(profile: Profile, zones: int, disks: int) -> str:
    """Say in words what may be lost with every object still readable.

    zones, disks   how many there are now
    """
    wanted = profile.k + profile.m
    if profile.m == 0 or disks <= 1:
        return "nothing: there is one copy" if profile.m == 0 else "nothing: there is one disk"
    per_zone = -(-wanted // zones)
    zone_losses = profile.m // per_zone
    per_disk = -(-wanted // disks)
    disk_losses = profile.m // per_disk
    if zone_losses:
        return _any(zone_losses, "zone")
    if disk_losses:
        return _any(disk_losses, "disk")
    return "nothing: there are too few disks"


def _any(count: int, what: str) -> str:
    return f"any {count} {what}s" if count > 1 else f"any 1 {what}"
