"""Storage nodes as workers reach them: the topology, and a client per node."""

from metaservice.client import MetaClient
from proto import meta_pb2, records_pb2
from storagenode.client import NodeClient


class WorkerNodes:
    """All storage nodes, refreshed before each round of work."""

    def __init__(self, meta: MetaClient, secret: bytes) -> None:
        self._meta = meta
        self._secret = secret
        self._clients: dict[str, NodeClient] = {}
        self._topology = records_pb2.Topology()

    async def refresh(self) -> None:
        """Learn of new nodes and addresses."""
        reply = await self._meta.get_topology(
            meta_pb2.GetTopology(known_epoch=self._topology.epoch)
        )
        if not reply.HasField("topology"):
            return
        self._topology = reply.topology
        for node in self._topology.nodes:
            known = self._clients.get(node.name)
            if known is not None and known.address == node.address:
                continue
            if known is not None:
                await known.stop()
            host, _, port = node.address.rpartition(":")
            client = NodeClient(node.name, host, int(port), self._secret)
            await client.start()
            self._clients[node.name] = client

    def client_of(self, disk_id: int) -> NodeClient | None:
        """The client of a disk's node, if the node is connected."""
        for disk in self._topology.disks:
            if disk.disk_id == disk_id:
                client = self._clients.get(disk.node_name)
                return client if client is not None and client.is_up else None
        return None

    def disks(self) -> list[records_pb2.Disk]:
        """All disks of the topology."""
        return list(self._topology.disks)

    async def stop(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.stop()
