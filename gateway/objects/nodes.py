"""Storage nodes as a gateway sees them: the topology, a client per node, who answers."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from common import faults
from common.clock import Clock
from common.placement.choose import Placement, choose_disks
from common.placement.topology import Topology
from gateway.objects.doubts import PROBE_DEADLINE_S, Doubts
from gateway.objects.gathering import Gathering
from gateway.objects.hedging import Hedging
from gateway.objects.stragglers import Stragglers
from proto import meta_pb2, records_pb2
from storagenode.client import NodeClient

log = logging.getLogger(__name__)

STANDARD = "STANDARD"


class TopologyReader(Protocol):
    """The call of the metadata client that this module makes."""

    async def get_topology(self, request: meta_pb2.GetTopology) -> meta_pb2.GetTopologyReply: ...


MakeClient = Callable[[str, str, int], NodeClient]


class Nodes:
    """All storage nodes. `refresh` runs every second, `probe` every PROBE_S."""

    def __init__(self, meta: TopologyReader, make_client: MakeClient, clock: Clock) -> None:
        self._clock = clock
        self._doubts = Doubts(clock)
        self._meta = meta
        self._make_client = make_client
        self._clients: dict[str, NodeClient] = {}
        self.tell: Callable[[], meta_pb2.Foreground] | None = None  # what clients feel, each second
        self.hedging, self.stragglers, self.gathering = Hedging(), Stragglers(), Gathering()
        self.topology = Topology(records_pb2.Topology())

    async def refresh(self) -> None:
        """Look for a new topology, and for nodes that stopped answering the metadata service."""
        request = meta_pb2.GetTopology(known_epoch=self.topology.epoch)
        if self.tell is not None:
            request.foreground.CopyFrom(self.tell())
        reply = await self._meta.get_topology(request)
        self._doubts.heard(node.name for node in reply.health if not node.is_alive)
        if reply.HasField("topology"):
            await self._adopt(Topology(reply.topology))

    async def probe(self) -> None:
        """Ask doubted nodes how they are, so that they are used again as soon as may be."""
        for name, client in self._clients.items():
            self._doubts.connected(name, client.is_up)
        asked = self._doubts.to_ask(self._clients)
        await asyncio.gather(*[self._ask(name) for name in asked])

    async def _ask(self, name: str) -> None:
        client = self._clients.get(name)
        if client is None:
            return
        begun_s = self._clock.monotonic_s()
        try:
            status = await client.status(PROBE_DEADLINE_S)
        except faults.Fault:
            self._doubts.stood_still(name)
            return
        disks_s = [disk.mean_call_us / 1e6 for disk in status.disks]
        self._doubts.answered(name, max([self._clock.monotonic_s() - begun_s, *disks_s]))

    async def stop(self) -> None:
        """Close all connections."""
        await asyncio.gather(*[client.stop() for client in self._clients.values()])
        self._clients.clear()

    def now_ns(self) -> int:
        """The gateway's wall clock."""
        return self._clock.now_ns()

    def place(self, blob_id: bytes) -> Placement:
        """Choose disks for a new blob among nodes that answer us. raises Full, Unavailable"""
        profile = self.topology.profiles.get(STANDARD)
        if profile is None:
            raise faults.Unavailable("the topology is not known yet")
        down = {name for name, client in self._clients.items() if not client.is_up}
        if self._doubts.are_none:
            return choose_disks(self.topology, profile, blob_id, down)
        doubtful = down | {name for name in self._clients if self._doubts.is_doubtful(name)}
        if doubtful != down:
            try:
                return choose_disks(self.topology, profile, blob_id, doubtful)
            except faults.Unavailable:
                pass  # rather a slow node than none
        return choose_disks(self.topology, profile, blob_id, down)

    def client_of(self, disk_id: int) -> NodeClient | None:
        """The client of a disk's node, if the node is connected."""
        client = self._clients.get(self.topology.node_of(disk_id))
        return client if client is not None and client.is_up else None

    def is_prompt(self, disk_id: int) -> bool:
        """Whether a disk's node is connected and has not kept anyone waiting just now."""
        name = self.topology.node_of(disk_id)
        client = self._clients.get(name)
        return client is not None and client.is_up and not self._doubts.is_doubtful(name)

    def was_late(self, disk_id: int) -> None:
        """Note that a node let a caller wait: for a while others are asked first."""
        name = self.topology.node_of(disk_id)
        if name:
            self._doubts.was_late(name)

    def note_read(self, disk_id: int, begun_s: float) -> None:
        """A read that was begun at a time of `now_s` has been answered."""
        name = self.topology.node_of(disk_id)
        self.hedging.note(name, self._clock.monotonic_s() - begun_s)

    def now_s(self) -> float:
        """The time that latencies are measured with."""
        return self._clock.monotonic_s()

    def hedge_delay_s(self, disk_ids: Iterable[int]) -> float:
        """How long to wait for reads of these disks before others are asked."""
        return self.hedging.delay_s(self.topology.node_of(disk_id) for disk_id in disk_ids)

    def lost_hedge(self, disk_id: int) -> None:
        """Others were faster than a disk's node; one that always loses is doubted."""
        if self.hedging.lost(self.topology.node_of(disk_id)):
            self.was_late(disk_id)

    async def _adopt(self, topology: Topology) -> None:
        for name, address in topology.addresses.items():
            known = self._clients.get(name)
            if known is not None and known.address == address:
                continue
            if known is not None:
                await known.stop()
            host, _, port = address.rpartition(":")
            client = self._make_client(name, host, int(port))
            await client.start()
            self._clients[name] = client
            try:
                await client.wait_up(1.0)
            except faults.Unavailable:
                log.warning("a storage node does not answer", extra={"node": name})
        for name in self._clients.keys() - topology.addresses.keys():
            await self._clients.pop(name).stop()
        self.topology = topology
