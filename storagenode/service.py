"""The control plane of a storage node."""

from typing import Any

from common.buffers import BufferPool
from common.rpc import answer
from proto import admin_pb2, admin_pb2_grpc, storage_pb2
from storagenode.server import NodeServer
from storagenode.store.compact import Compactor
from storagenode.store.fragment_store import FragmentStore

SERVICE = "ostraka.admin.NodeControl"


class NodeControl(admin_pb2_grpc.NodeControlServicer):
    """gRPC messages to the store."""

    def __init__(self, server: NodeServer, store: FragmentStore, pool: BufferPool) -> None:
        self._server = server
        self._store = store
        self._pool = pool

    async def Status(self, request: Any, context: Any) -> storage_pb2.NodeStatusReply:  # noqa: N802
        return self._server.status()

    async def Compact(self, request: Any, context: Any) -> admin_pb2.CompactReply:  # noqa: N802
        return await answer(context, self._compact(request.disk_id))

    async def _compact(self, disk_id: int) -> admin_pb2.CompactReply:
        compactor = Compactor(self._store.disk(disk_id), self._pool)
        return admin_pb2.CompactReply(reclaimed_bytes=await compactor.run_once())
