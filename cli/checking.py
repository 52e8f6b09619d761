"""The control planes of a cluster, as the comparison of metadata and disks calls them."""

from typing import Any

import grpc.aio
from google.protobuf.message import Message

from common import rpc
from metaservice.client import Method
from proto import admin_pb2, admin_pb2_grpc, records_pb2, scrub_pb2, storage_pb2

VERIFY_DEADLINE_S = 120.0


class ControlMeta:
    """The metadata service: workers.compare.MetaCalls."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def call(self, method: Method, request: Message) -> Any:
        """Make the call of the same name on the control plane."""
        name = "".join(word.capitalize() for word in method.name.split("_"))
        return await rpc.call(getattr(self._stub, name)(request, timeout=rpc.DEADLINE_S))


class ControlNode:
    """A storage node: workers.compare.NodeCalls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = admin_pb2_grpc.NodeControlStub(channel)  # type: ignore[no-untyped-call]

    async def list_fragments(
        self, request: storage_pb2.ListFragments
    ) -> storage_pb2.ListFragmentsReply:
        """A page of a disk."""
        reply: storage_pb2.ListFragmentsReply = await rpc.call(
            self._stub.ListFragments(request, timeout=rpc.DEADLINE_S)
        )
        return reply

    async def stat_fragments(
        self, request: storage_pb2.StatFragments
    ) -> storage_pb2.StatFragmentsReply:
        """Those that are there."""
        reply: storage_pb2.StatFragmentsReply = await rpc.call(
            self._stub.StatFragments(request, timeout=rpc.DEADLINE_S)
        )
        return reply

    async def verify_fragments(
        self, request: scrub_pb2.VerifyFragments
    ) -> scrub_pb2.VerifyFragmentsReply:
        """What the node finds reading its own."""
        reply: scrub_pb2.VerifyFragmentsReply = await rpc.call(
            self._stub.VerifyFragments(request, timeout=VERIFY_DEADLINE_S)
        )
        return reply


class ControlDisks:
    """All disks of a cluster: workers.compare.Disks. Use as an async context."""

    def __init__(self, status: admin_pb2.ClusterStatusReply) -> None:
        alive = {node.name for node in status.nodes if node.is_alive}
        self._disks = list(status.topology.disks)
        self._channels = {
            node.name: grpc.aio.insecure_channel(node.control_address)
            for node in status.topology.nodes
            if node.name in alive
        }
        self._nodes = {name: ControlNode(channel) for name, channel in self._channels.items()}
        self._node_of = {disk.disk_id: disk.node_name for disk in self._disks}

    def disks(self) -> list[records_pb2.Disk]:
        """All disks of the topology."""
        return self._disks

    def client_of(self, disk_id: int) -> ControlNode | None:
        """A disk's node; None: it was away when the check began."""
        return self._nodes.get(self._node_of.get(disk_id, ""))

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.close()
