"""Nodes, disks and zones as one immutable picture."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

from proto import records_pb2


@dataclass(frozen=True, slots=True)
class PlacedDisk:
    """A disk as placement sees it. weight: its share of new data; seed: its own in the hashing."""

    disk_id: int
    node_name: str
    zone: str
    weight: float
    seed: int


Zone = tuple[PlacedDisk, ...]  # the disks of one zone, at least one


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
    def writable_zones(self) -> tuple[Zone, ...]:
        """Disks that take new fragments, if their nodes answer."""
        return self._zones({records_pb2.Disk.UP})

    @cached_property
    def readable_zones(self) -> tuple[Zone, ...]:
        """Disks that can be read, if their nodes answer."""
        disk = records_pb2.Disk
        return self._zones({disk.UP, disk.READ_ONLY, disk.DRAINING})

    @cached_property
    def zones(self) -> tuple[Zone, ...]:
        """All disks that are not removed, failed ones too: the cluster as it should be."""
        disk = records_pb2.Disk
        return self._zones({disk.UP, disk.READ_ONLY, disk.DRAINING, disk.FAILED})

    @cached_property
    def disk_count(self) -> int:
        """Disks that are not removed."""
        return sum(map(len, self.zones))

    def node_of(self, disk_id: int) -> str:
        """The node that has a disk; empty if the disk is unknown."""
        disk = self.disks.get(disk_id)
        return disk.node_name if disk is not None else ""

    def _zones(self, states: Collection[int]) -> tuple[Zone, ...]:
        zones: dict[str, list[PlacedDisk]] = {}
        for disk in self.record.disks:
            if disk.state in states:
                placed = PlacedDisk(
                    disk.disk_id,
                    disk.node_name,
                    disk.zone,
                    max(disk.capacity_bytes, 1),
                    crc32(disk.disk_uuid),
                )
                zones.setdefault(disk.zone, []).append(placed)
        return tuple(tuple(disks) for disks in zones.values())
