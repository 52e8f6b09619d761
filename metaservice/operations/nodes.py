"""Storage nodes and disks: registration, heartbeats, and the topology that others see.

What places data is in rows: names, zones, addresses, disks and their states; every change of it
raises the epoch. What changes by the second (free bytes, the last heartbeat) stays in memory.
"""

from typing import Literal

from common import faults
from common.clock import Clock
from metaservice import keys
from metaservice.kv.interface import Store
from metaservice.operations.repair_scan import is_out_and_empty
from metaservice.transaction import Transaction
from proto import admin_pb2, meta_pb2, records_pb2

HeardField = Literal[
    "condition", "damaged_fragments", "scrub_finished_ns", "scrub_share", "read_errors", "failure",
    "next_trial_ns",
]  # fmt: skip
EPOCH = keys.single("topology_epoch")
CLUSTER_ID = keys.single("cluster_id")
REGION = keys.single("region")
NEXT_DISK_ID = keys.single("next_disk_id")
HEARTBEAT_MISSED_S = 3.0  # a node that was silent for so long is taken for dead
ROWS_MAX = 100_000
# Of a disk's record: what its node says by the second, of no matter to placement.
HEARD_ONLY: tuple[HeardField, ...] = (
    "condition",
    "damaged_fragments",
    "scrub_finished_ns",
    "scrub_share",
    "read_errors",
    "failure",
    "next_trial_ns",
)
# A node that came back a second time within RETURNS_KEPT_S is trusted with moved fragments only
# after so long, doubled with every return: one that comes and goes does not make data do so too.
STEADY_S_MIN = 5.0
STEADY_S_MAX = 300.0
RETURNS_KEPT_S = 1800.0
FOREGROUND_KEPT_S = 5.0  # what a gateway said of its clients is true for so long
BY_OPERATORS = (records_pb2.Disk.DRAINING, records_pb2.Disk.REMOVED)  # stand over a node's word


class NodeRegistry:
    """Heartbeats, and the last picture of nodes and disks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun_s = clock.monotonic_s()
        self._seen_s: dict[str, float] = {}
        self._disks: dict[int, records_pb2.Disk] = {}
        self._returns_s: dict[str, list[float]] = {}
        self._foreground: dict[str, tuple[float, meta_pb2.Foreground]] = {}
        self.heard_from: dict[str, records_pb2.Node] = {}  # as they said, committed or not

    def introduce(self, node: records_pb2.Node) -> None:
        """Note where a node says it is; its latest process counts."""
        known = self.heard_from.get(node.name)
        if known is None or known.incarnation <= node.incarnation:
            self.heard_from[node.name] = node

    def heard(self, name: str, disks: list[records_pb2.Disk]) -> None:
        """Note a heartbeat and what it said about disks."""
        now_s = self._clock.monotonic_s()
        if name in self._seen_s and not self.is_alive(name):
            returns = [at for at in self._returns_s.get(name, []) if at > now_s - RETURNS_KEPT_S]
            self._returns_s[name] = [*returns, now_s]
        self._seen_s[name] = now_s
        for disk in disks:
            self._disks[disk.disk_id] = disk

    def age_s(self, name: str) -> float:
        """Seconds since the last heartbeat, or since the service started."""
        return self._clock.monotonic_s() - self._seen_s.get(name, self._begun_s)

    def is_alive(self, name: str) -> bool:
        """Whether a node was heard lately."""
        return self.age_s(name) < HEARTBEAT_MISSED_S

    def is_steady(self, name: str) -> bool:
        """Whether a node is alive, and has been for long enough after it was away."""
        returns = self._returns_s.get(name)
        if not self.is_alive(name) or not returns or len(returns) == 1:
            return self.is_alive(name)
        wait_s = min(STEADY_S_MIN * 2.0 ** (len(returns) - 2), STEADY_S_MAX)
        return self._clock.monotonic_s() - returns[-1] >= wait_s

    def felt(self, foreground: meta_pb2.Foreground) -> None:
        """Note what a gateway's clients feel."""
        self._foreground[foreground.gateway] = (self._clock.monotonic_s(), foreground)

    def foreground(self) -> meta_pb2.Foreground:
        """The slowest gateway's 99th percentile, and all requests together."""
        horizon_s = self._clock.monotonic_s() - FOREGROUND_KEPT_S
        lately = {name: said for name, said in self._foreground.items() if said[0] > horizon_s}
        self._foreground = lately
        total = meta_pb2.Foreground()
        for _, said in lately.values():
            total.p99_us = max(total.p99_us, said.p99_us)
            total.requests_per_s += said.requests_per_s
        return total

    def health(self, name: str) -> meta_pb2.NodeHealth:
        """Whether a node is taken for alive."""
        return meta_pb2.NodeHealth(
            name=name,
            is_alive=self.is_alive(name),
            heartbeat_age_ms=int(self.age_s(name) * 1000),
            is_steady=self.is_steady(name),
        )

    def refresh(self, disk: records_pb2.Disk) -> None:
        """Put what the last heartbeat said into a stored record."""
        latest = self._disks.get(disk.disk_id)
        if latest is not None:
            disk.free_bytes = latest.free_bytes
            disk.used_bytes = latest.used_bytes
            disk.fragment_count = latest.fragment_count
            for field in HEARD_ONLY:
                setattr(disk, field, getattr(latest, field))


class NodeOperations:
    """Heartbeat, topology, states."""

    def __init__(self, registry: NodeRegistry, store: Store) -> None:
        self._registry = registry
        self._store = store

    async def heartbeat(
        self, transaction: Transaction, request: meta_pb2.Heartbeat
    ) -> meta_pb2.HeartbeatReply:
        """Register a node and its disks, or note that they live.

        A disk that the node had and no longer names has failed: nothing more is placed on it.
        raises   Invalid if the node belongs to another cluster or a disk has no identity; Fenced if
                 a later process of the same name lives
        """
        cluster_id = (await transaction.get_unchecked(CLUSTER_ID) or b"").decode()
        if request.cluster_id and request.cluster_id != cluster_id:
            raise faults.Invalid("cluster_id", request.cluster_id, "another cluster's")
        node = request.node
        self._registry.introduce(node)
        stored = await transaction.get(keys.node(node.name))
        known = records_pb2.Node.FromString(stored) if stored is not None else records_pb2.Node()
        if node.incarnation < known.incarnation and self._registry.is_alive(node.name):
            raise faults.Fenced("node", node.name)
        changed = False
        disks: list[records_pb2.Disk] = []
        for reported in request.disks:
            disk, is_changed = await self._disk(transaction, node, reported)
            disks.append(disk)
            changed = changed or is_changed
        record = records_pb2.Node()
        record.CopyFrom(node)
        record.heartbeat_ns = 0
        del record.disk_ids[:]
        record.disk_ids.extend(disk.disk_id for disk in disks)
        row = record.SerializeToString()
        if stored != row:
            transaction.put(keys.node(node.name), row)
            await self._fail_missing(transaction, known, record)
            changed = True
        epoch = await _epoch(transaction)
        if changed:
            epoch += 1
            transaction.put(EPOCH, keys.uint64(epoch))
        self._registry.heard(node.name, disks)
        return meta_pb2.HeartbeatReply(cluster_id=cluster_id, topology_epoch=epoch, disks=disks)

    async def get_topology(
        self, transaction: Transaction, request: meta_pb2.GetTopology
    ) -> meta_pb2.GetTopologyReply:
        """Nodes, disks and profiles if the epoch is another than known; liveness always."""
        names = [
            records_pb2.Node.FromString(value).name
            for _, value in await transaction.scan(b"N", b"O", ROWS_MAX)
        ]
        if request.HasField("foreground"):
            self._registry.felt(request.foreground)
        reply = meta_pb2.GetTopologyReply(
            health=[self._registry.health(name) for name in names],
            foreground=self._registry.foreground(),
        )
        if await _epoch(transaction) != request.known_epoch:
            reply.topology.CopyFrom(await self.topology(transaction))
        return reply

    async def topology(self, transaction: Transaction) -> records_pb2.Topology:
        """The whole picture, free space as of the last heartbeats."""
        topology = records_pb2.Topology(
            epoch=await _epoch(transaction),
            cluster_id=(await transaction.get_unchecked(CLUSTER_ID) or b"").decode(),
            region=(await transaction.get_unchecked(REGION) or b"").decode(),
        )
        for _, value in await transaction.scan(b"N", b"O", ROWS_MAX):
            topology.nodes.append(records_pb2.Node.FromString(value))
        for _, value in await transaction.scan(b"D", b"E", ROWS_MAX):
            disk = records_pb2.Disk.FromString(value)
            self._registry.refresh(disk)
            topology.disks.append(disk)
        for _, value in await transaction.scan(b"P", b"Q", ROWS_MAX):
            topology.profiles.append(records_pb2.Profile.FromString(value))
        return topology

    async def set_disk_state(
        self, transaction: Transaction, request: admin_pb2.SetDiskStateRequest
    ) -> admin_pb2.SetDiskStateReply:
        """Drain, remove or return a disk.

        raises   NotFound("disk"); Invalid for other states, and for the removal, unless forced, of
                 a disk that the last pass over all placements did not find empty
        """
        if request.state not in (*BY_OPERATORS, records_pb2.Disk.UP):
            raise faults.Invalid("state", str(request.state), "only the node itself tells that")
        stored = await transaction.get(keys.disk(request.disk_id))
        if stored is None:
            raise faults.NotFound("disk", str(request.disk_id))
        disk = records_pb2.Disk.FromString(stored)
        if request.state == records_pb2.Disk.REMOVED and not request.force:
            await _check_empty(transaction, disk)
        if disk.state != request.state or disk.forgotten:
            disk.state, disk.forgotten = request.state, False
            transaction.put(keys.disk(disk.disk_id), disk.SerializeToString())
            transaction.put(EPOCH, keys.uint64(await _epoch(transaction) + 1))
        return admin_pb2.SetDiskStateReply()

    async def _disk(
        self, transaction: Transaction, node: records_pb2.Node, reported: records_pb2.Disk
    ) -> tuple[records_pb2.Disk, bool]:
        """The record of a reported disk, and whether placement must know of a change."""
        if not reported.disk_uuid:
            raise faults.Invalid("disk", str(reported.disk_id), "it has no identity")
        stored = await self._stored_disk(transaction, reported)
        disk = records_pb2.Disk()
        disk.CopyFrom(reported)
        disk.node_name, disk.zone = node.name, node.zone
        if stored is None:
            next_id = await transaction.get(NEXT_DISK_ID)
            disk.disk_id = int.from_bytes(next_id, "big") if next_id is not None else 1
            transaction.put(NEXT_DISK_ID, keys.uint64(disk.disk_id + 1))
        else:
            disk.disk_id = stored.disk_id
            disk.was_lost = stored.was_lost or stored.gone
            if stored.state in BY_OPERATORS and not stored.forgotten:
                disk.state = stored.state
        placed = records_pb2.Disk()
        placed.CopyFrom(disk)
        placed.free_bytes = placed.used_bytes = placed.fragment_count = 0
        for field in HEARD_ONLY:
            placed.ClearField(field)
        if stored is not None and _is_about(stored.capacity_bytes, disk.capacity_bytes):
            placed.capacity_bytes = stored.capacity_bytes  # no new epoch for every file written
        row = placed.SerializeToString()
        if await transaction.get(keys.disk(disk.disk_id)) == row:
            return disk, False
        transaction.put(keys.disk(disk.disk_id), row)
        return disk, True

    async def _fail_missing(
        self, transaction: Transaction, before: records_pb2.Node, now: records_pb2.Node
    ) -> None:
        for disk_id in sorted(set(before.disk_ids) - set(now.disk_ids)):
            key = keys.disk(disk_id)
            stored = await transaction.get(key)
            disk = records_pb2.Disk.FromString(stored or b"")
            if disk.node_name == now.name and disk.state not in BY_OPERATORS:
                disk.state, disk.gone = records_pb2.Disk.FAILED, True
                transaction.put(key, disk.SerializeToString())

    async def _stored_disk(
        self, transaction: Transaction, reported: records_pb2.Disk
    ) -> records_pb2.Disk | None:
        if reported.disk_id:
            stored = await transaction.get_unchecked(keys.disk(reported.disk_id))
            if stored is not None:
                disk = records_pb2.Disk.FromString(stored)
                if disk.disk_uuid == reported.disk_uuid:
                    return disk
        for _, value in await transaction.scan(b"D", b"E", ROWS_MAX):
            disk = records_pb2.Disk.FromString(value)
            if disk.disk_uuid == reported.disk_uuid:
                return disk
        return None


async def _check_empty(transaction: Transaction, disk: records_pb2.Disk) -> None:
    if disk.state == records_pb2.Disk.UP:
        raise faults.Invalid("disk", str(disk.disk_id), "it is in use: drain it first")
    if not await is_out_and_empty(transaction, disk.disk_id):
        raise faults.Invalid(
            "disk", str(disk.disk_id), "data may still be named on it: wait for the drain to end"
        )


def _is_about(known: int, now: int) -> bool:
    return abs(known - now) * 10 <= known


async def _epoch(transaction: Transaction) -> int:
    stored = await transaction.get(EPOCH)
    return int.from_bytes(stored, "big") if stored is not None else 0
