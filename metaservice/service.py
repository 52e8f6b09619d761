"""The control plane of the metadata service: cluster status, accounts, keys, disk states."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from common import faults
from common.keyring import KeyRing
from common.rpc import answer
from metaservice.journal import wrapping
from metaservice.journal.service import MetadataJournal
from metaservice.journal.survival import ONE_DISK, JournalPicture
from metaservice.operations import garbage, quarantine, repairs
from metaservice.operations.credentials import CredentialOperations
from metaservice.operations.inspection import Inspector
from metaservice.operations.master_keys import MasterKeys
from metaservice.operations.nodes import NodeOperations
from metaservice.operations.repair_board import RepairBoard
from metaservice.transaction import Transaction, Transactor
from proto import admin_pb2, admin_pb2_grpc, meta_pb2, scrub_pb2

SERVICE = "ostraka.admin.MetaControl"
OFF = {
    "rocksdb": JournalPicture(f"{ONE_DISK}: its journal is switched off", "off"),
    "memory": JournalPicture("nothing: metadata ends with this process", "off"),
}


Export = Callable[[], AsyncIterator[admin_pb2.ExportChunk]]


async def _refuse(fault: faults.Fault) -> None:
    raise fault


class MetaControl(admin_pb2_grpc.MetaControlServicer):
    """gRPC messages to operations."""

    def __init__(  # noqa: PLR0913 - wired in one place
        self,
        transactor: Transactor,
        nodes: NodeOperations,
        ring: KeyRing,
        engine: str,
        board: RepairBoard,
        master_keys: MasterKeys,
        journal: MetadataJournal | None = None,
        export: Export | None = None,
    ) -> None:
        """engine   name of the metadata engine, as configured"""
        self._journal = journal
        self._export = export
        self._engine = engine
        self._board = board
        self._master_keys = master_keys
        self._transactor = transactor
        self._nodes = nodes
        self._credentials = CredentialOperations(ring)
        self._inspector = Inspector()

    async def ClusterStatus(self, request: Any, context: Any) -> admin_pb2.ClusterStatusReply:  # noqa: N802
        # Not `read`, which waits for what is not durable yet: status tells of waiting, too.
        transaction = Transaction(self._transactor.store, self._transactor.clock)
        return await answer(context, self._status(transaction))

    async def ExportMetadata(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Stream a consistent copy of all rows; commits go on meanwhile."""
        if self._export is None:
            await answer(context, _refuse(faults.Unsupported("the engine has nothing to export")))
            return
        try:
            async for chunk in self._export():
                yield chunk
        except faults.Fault as fault:
            await answer(context, _refuse(fault))

    async def CreateAccount(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._write(
            context, request, self._credentials.create_account, admin_pb2.AccountReply
        )

    async def ListAccounts(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._read(context, request, self._credentials.list_accounts)

    async def DeleteAccount(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._write(
            context, request, self._credentials.delete_account, admin_pb2.DeleteAccountReply
        )

    async def CreateKey(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._write(context, request, self._credentials.create_key, admin_pb2.KeyReply)

    async def ListKeys(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._read(context, request, self._credentials.list_keys)

    async def SetKeyEnabled(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._write(
            context, request, self._credentials.set_key_enabled, admin_pb2.KeyReply
        )

    async def DeleteKey(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._write(
            context, request, self._credentials.delete_key, admin_pb2.DeleteKeyReply
        )

    async def SetDiskState(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._write(
            context, request, self._nodes.set_disk_state, admin_pb2.SetDiskStateReply
        )

    async def WalkBlobs(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._read(context, request, self._inspector.walk_blobs)

    async def LocateBlobs(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._read(context, request, self._inspector.locate_blobs)

    async def ReportFragments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._write(
            context, request, self._inspector.report_fragments, scrub_pb2.ReportFragmentsReply
        )

    async def ListRepairs(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._read(context, request, repairs.list_repairs)

    async def MasterKeys(self, request: Any, context: Any) -> Any:  # noqa: N802
        """What is wrapped by which master key; whether the journal needs old ones."""
        reply = await self._read(context, request, self._master_keys.picture)
        header = self._journal.writer.header if self._journal is not None else None
        if header is not None:
            reply.journal.extend(sorted(wrapping.master_keys(header)))
        return reply

    async def _status(self, transaction: Transaction) -> admin_pb2.ClusterStatusReply:
        topology = await self._nodes.topology(transaction)
        health = await self._nodes.get_topology(
            transaction, meta_pb2.GetTopology(known_epoch=topology.epoch)
        )
        journal = self._journal.picture() if self._journal is not None else OFF[self._engine]
        return admin_pb2.ClusterStatusReply(
            topology=topology,
            nodes=[
                admin_pb2.NodeState(
                    name=node.name,
                    is_alive=node.is_alive,
                    heartbeat_age_ms=node.heartbeat_age_ms,
                )
                for node in health.health
            ],
            scrub=await quarantine.load_scrub(transaction, scrub_pb2.LoadScrub()),
            metadata_doubtful=self._transactor.is_doubtful,
            degraded_blobs=await repairs.degraded_count(transaction),
            garbage_pending=await garbage.pending_count(transaction),
            metadata_engine=self._engine,
            metadata_survives=journal.survives,
            journal=admin_pb2.JournalStatus(
                state=journal.state,
                copies=journal.copies,
                copies_wanted=journal.copies_wanted,
                epoch=journal.epoch,
                nodes=journal.nodes,
                checkpoint_sequence=journal.checkpoint_sequence,
                checkpoint_ns=journal.checkpoint_ns,
                problems=journal.problems,
            ),
            repair=await self._board.status(transaction),
        )

    async def _read(
        self, context: Any, request: Message, operation: Callable[..., Awaitable[Any]]
    ) -> Any:
        work = self._transactor.read(lambda transaction: operation(transaction, request))
        return await answer(context, work)

    async def _write(
        self,
        context: Any,
        request: Message,
        operation: Callable[..., Awaitable[Any]],
        reply: type[Message],
    ) -> Any:
        work = self._transactor.write(lambda transaction: operation(transaction, request), reply)
        return await answer(context, work)
