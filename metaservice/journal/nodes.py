"""Storage nodes as the metadata service reaches them: what rows and heartbeats say, a client each.

Addresses come from heartbeats too, before they are committed: when the service starts, nodes may
have new ones, and nothing can be committed before enough of them are reached.
"""

from collections.abc import Callable
from dataclasses import dataclass

from common.placement.topology import Topology
from metaservice.kv.interface import Store
from metaservice.operations.nodes import NodeRegistry
from proto import records_pb2
from storagenode.client import NodeClient

ROWS_MAX = 100_000
GONE = (records_pb2.Disk.REMOVED, records_pb2.Disk.DRAINING, records_pb2.Disk.FAILED)

MakeClient = Callable[[str, str, int], NodeClient]


def is_kept(disk: records_pb2.Disk | None) -> bool:
    """Whether what a disk had can still be on it."""
    return disk is not None and disk.state not in (
        records_pb2.Disk.REMOVED, records_pb2.Disk.FAILED,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A node that can take a part in the journal."""

    name: str
    zone: str
    address: str


class JournalNodes:
    """All storage nodes. `refresh` runs every second."""

    def __init__(
        self, store: Store, registry: NodeRegistry, make_client: MakeClient, own_zone: str
    ) -> None:
        """own_zone: of the service; nodes in it fail with it. Empty: in none of theirs"""
        self._store, self._registry = store, registry
        self._make_client = make_client
        self._own_zone = own_zone
        self._clients: dict[str, NodeClient] = {}
        self.places: dict[str, Place] = {}
        self.topology = Topology(records_pb2.Topology())

    async def refresh(self) -> None:
        """Learn of nodes and addresses."""
        record = records_pb2.Topology()
        for _, value in self._store.scan(b"N", b"O", ROWS_MAX):
            node = record.nodes.add()
            node.ParseFromString(value)
            heard = self._registry.heard_from.get(node.name)
            if heard is not None:
                node.address = heard.address
        for _, value in self._store.scan(b"D", b"E", ROWS_MAX):
            record.disks.add().ParseFromString(value)
        for _, value in self._store.scan(b"P", b"Q", ROWS_MAX):
            record.profiles.add().ParseFromString(value)
        self.topology = Topology(record)
        usable = {disk.node_name for disk in record.disks if disk.state not in GONE}
        self.places = {
            node.name: Place(node.name, node.zone, node.address)
            for node in record.nodes
            if node.name in usable and (not self._own_zone or node.zone != self._own_zone)
        }
        await self._connect({node.name: node.address for node in record.nodes})

    async def _connect(self, addresses: dict[str, str]) -> None:
        for name, address in addresses.items():
            known = self._clients.get(name)
            if known is not None and known.address == address:
                continue
            if known is not None:
                await known.stop()
            host, _, port = address.rpartition(":")
            self._clients[name] = self._make_client(name, host, int(port))
            await self._clients[name].start()
        for name in self._clients.keys() - addresses.keys():
            await self._clients.pop(name).stop()

    def peer(self, name: str) -> NodeClient | None:
        """The client of a node that is connected."""
        client = self._clients.get(name)
        return client if client is not None and client.is_up else None

    def client_of(self, disk_id: int) -> NodeClient | None:
        """The client of a disk's node, if the node is connected."""
        return self.peer(self.topology.node_of(disk_id))

    @property
    def down(self) -> set[str]:
        """Names of nodes that are not connected."""
        return {name for name, client in self._clients.items() if not client.is_up}

    @property
    def live_zones(self) -> dict[str, list[Place]]:
        """Connected places by zone."""
        zones: dict[str, list[Place]] = {}
        for name in sorted(self.places):
            if self.peer(name) is not None:
                zones.setdefault(self.places[name].zone, []).append(self.places[name])
        return zones

    async def stop(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.stop()
        self._clients.clear()
