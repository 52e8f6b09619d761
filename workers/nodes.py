"""Storage nodes as workers reach them: the topology, a client per node, and what is lost.

A disk is lost at once when its node runs without it, and otherwise when its node has been silent,
or the disk failed, for longer than the grace: a process that is started again, or a machine that
reboots, moves no data. What is lost may come back; what is right of it is taken back then.
"""

import asyncio

from common.clock import Clock
from common.placement.repair import DiskView
from common.placement.topology import Topology
from metaservice.client import MetaClient
from proto import meta_pb2, records_pb2
from storagenode.client import NodeClient

Disk = records_pb2.Disk
READABLE = (Disk.UP, Disk.READ_ONLY, Disk.DRAINING)
GRACE_S = 30.0
AVOIDED_S = 60.0  # a disk that refused a fragment for want of space gets none for so long


class WorkerNodes:
    """All storage nodes, refreshed before each round of work."""

    def __init__(
        self, meta: MetaClient, clock: Clock, secret: bytes, grace_s: float = GRACE_S
    ) -> None:
        self._meta = meta
        self._clock = clock
        self._secret = secret
        self._grace_s = grace_s
        self._clients: dict[str, NodeClient] = {}
        self._health: dict[str, meta_pb2.NodeHealth] = {}
        self._failed_since_s: dict[int, float] = {}
        self._avoided_until_s: dict[int, float] = {}
        self._refreshing: asyncio.Lock = asyncio.Lock()
        self._lost_before: frozenset[int] | None = None
        self.lost_after_ms = 0  # how long the last disk was silent when it was taken for lost
        self.topology = Topology(records_pb2.Topology())
        self.foreground = meta_pb2.Foreground()

    async def refresh(self) -> None:
        """Learn of new nodes, addresses and states."""
        async with self._refreshing:
            request = meta_pb2.GetTopology(known_epoch=self.topology.epoch)
            reply = await self._meta.get_topology(request)
            self._health = {node.name: node for node in reply.health}
            self.foreground = reply.foreground
            if reply.HasField("topology"):
                await self._adopt(Topology(reply.topology))
            self._note_failed()
            self._note_lost()

    async def _adopt(self, topology: Topology) -> None:
        for name, address in topology.addresses.items():
            known = self._clients.get(name)
            if known is not None and known.address == address:
                continue
            if known is not None:
                await known.stop()
            host, _, port = address.rpartition(":")
            client = NodeClient(name, host, int(port), self._secret)
            await client.start()
            self._clients[name] = client
        self.topology = topology

    def _note_failed(self) -> None:
        now_s = self._clock.monotonic_s()
        failed = {disk.disk_id for disk in self.disks() if disk.state == Disk.FAILED}
        self._failed_since_s = {i: self._failed_since_s.get(i, now_s) for i in failed}

    def _note_lost(self) -> None:
        """Keep how long it took until a silent node's disk was taken for lost."""
        now = frozenset(disk.disk_id for disk in self.disks() if self._is_silent(disk))
        if self._lost_before is not None:
            for disk_id in now - self._lost_before:
                health = self._health.get(self.topology.node_of(disk_id))
                self.lost_after_ms = health.heartbeat_age_ms if health is not None else 0
        self._lost_before = now

    def client_of(self, disk_id: int) -> NodeClient | None:
        """The client of a disk's node, if the node is connected."""
        client = self._clients.get(self.topology.node_of(disk_id))
        return client if client is not None and client.is_up else None

    def disks(self) -> list[records_pb2.Disk]:
        """All disks of the topology."""
        return list(self.topology.record.disks)

    def disk(self, disk_id: int) -> records_pb2.Disk | None:
        """A disk of the topology."""
        return self.topology.disks.get(disk_id)

    def avoid(self, disk_id: int) -> None:
        """Let a disk that has no room be for a while."""
        self._avoided_until_s[disk_id] = self._clock.monotonic_s() + AVOIDED_S

    def lost(self) -> frozenset[int]:
        """Disks whose fragments are taken for lost."""
        return frozenset(disk.disk_id for disk in self.disks() if self._is_lost(disk))

    def is_readable(self, disk_id: int) -> bool:
        """Whether a disk can be asked for fragments."""
        disk = self.disk(disk_id)
        return disk is not None and disk.state in READABLE and self.client_of(disk_id) is not None

    def is_settled(self, disk_id: int) -> bool:
        """Whether a disk's node has been there for long enough to be trusted."""
        health = self._health.get(self.topology.node_of(disk_id))
        return health is not None and health.is_steady and self.is_readable(disk_id)

    def view(self) -> DiskView:
        """The disks as repair sees them now."""
        disks = {disk.disk_id: disk for zone in self.topology.zones for disk in zone}
        states = {i: self.topology.disks[i].state for i in disks}
        lost = self.lost()
        leaving = frozenset(i for i in disks if states[i] == Disk.DRAINING)
        now_s = self._clock.monotonic_s()
        usable = frozenset(
            i
            for i in disks
            if states[i] == Disk.UP
            and i not in lost
            and self.is_settled(i)
            and self._avoided_until_s.get(i, 0.0) <= now_s
        )
        return DiskView(disks, lost, leaving, usable)

    def _is_lost(self, disk: records_pb2.Disk) -> bool:
        if disk.state == Disk.REMOVED or disk.gone:
            return True
        failed_s = self._failed_since_s.get(disk.disk_id)
        if failed_s is not None and self._clock.monotonic_s() - failed_s > self._grace_s:
            return True
        return self._is_silent(disk)

    def _is_silent(self, disk: records_pb2.Disk) -> bool:
        """Whether a disk's node has not been heard of for longer than the grace."""
        health = self._health.get(disk.node_name)
        return health is None or health.heartbeat_age_ms > self._grace_s * 1000

    async def stop(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.stop()
