"""The control plane of a storage node."""

from collections.abc import Callable
from typing import Any, TypeVar

from common.buffers import BufferPool
from common.rpc import answer
from proto import admin_pb2, admin_pb2_grpc, storage_pb2
from storagenode.server import NodeServer
from storagenode.store.compact import Compactor
from storagenode.store.fragment_store import FragmentStore

SERVICE = "ostraka.admin.NodeControl"
RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")


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

    async def ListFragments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await answer(context, _called(self._store.list, request))

    async def StatFragments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await answer(context, _called(self._store.stat_all, request))

    async def VerifyFragments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await answer(context, self._store.verify(request))

    async def _compact(self, disk_id: int) -> admin_pb2.CompactReply:
        compactor = Compactor(self._store.disk(disk_id), self._pool)
        return admin_pb2.CompactReply(reclaimed_bytes=await compactor.run_once())


async def _called(method: Callable[[RequestT], ReplyT], request: RequestT) -> ReplyT:
    return method(request)
