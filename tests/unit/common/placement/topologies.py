"""Topologies for tests, made from the number of disks in each zone."""

from collections.abc import Mapping, Sequence

from common.placement.topology import Profile, Topology
from proto import records_pb2

GIB = 1 << 30


def topology_of(
    disks_per_zone: Sequence[int],
    states: Mapping[int, records_pb2.Disk.State.ValueType] | None = None,
    capacities: Mapping[int, int] | None = None,
) -> Topology:
    """Disks numbered from 1, zone by zone; every disk has a node of its own, `n` and its id."""
    record = records_pb2.Topology(epoch=1)
    for zone, count in enumerate(disks_per_zone):
        for _ in range(count):
            disk_id = len(record.disks) + 1
            record.disks.add(
                disk_id=disk_id,
                disk_uuid=f"disk {disk_id}".encode(),
                node_name=f"n{disk_id}",
                zone=f"z{zone}",
                capacity_bytes=(capacities or {}).get(disk_id, GIB),
                state=(states or {}).get(disk_id, records_pb2.Disk.UP),
            )
    return Topology(record)


def profile_of(k: int, m: int) -> Profile:
    return Profile("STANDARD", k, m, 1 << 20)


def blob_id_of(number: int) -> bytes:
    """Ids as writer sessions make them: session, counter."""
    return (7).to_bytes(8, "big") + number.to_bytes(8, "big")
