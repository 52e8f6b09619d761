"""Calls of the hot plane to operations: parse, run as a transaction, answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import Counter

from common import fault_points, faults, limits
from common.clock import Clock
from common.frames import Answer, Call, Handler
from common.keyring import KeySource
from metaservice.kv.interface import Store
from metaservice.operations import (
    buckets,
    changes,
    credentials,
    garbage,
    inspection,
    leases,
    listing,
    multipart,
    objects,
    quarantine,
    repair_scan,
    repairs,
    sessions,
    strays,
    tagging,
    usage,
)
from metaservice.operations.master_keys import MasterKeys
from metaservice.operations.nodes import NodeOperations, NodeRegistry
from metaservice.operations.repair_board import RepairBoard
from metaservice.operations.sessions import Leases, SessionOperations
from metaservice.space import SpaceGuard
from metaservice.table import REPLIES, Entry, Kind, Method
from metaservice.transaction import Transaction, Transactor
from proto import meta_pb2, records_pb2

Operation = Callable[..., Awaitable[Any]]

CALLS = Counter("ostraka_meta_calls", "Calls of the hot plane", ["method"])
REFUSALS = Counter(
    "ostraka_meta_refusals", "Calls of the hot plane that ended as a fault", ["method", "fault"]
)


# Calls of those who delete what the metadata does not name.
COLLECTING = frozenset(
    ("list_garbage", "expand_garbage", "list_ended_sessions", "check_blobs", "quarantine")
)


class MetaServer:
    """The table of handlers over one store."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        garbage_grace_s: float = limits.GARBAGE_GRACE_S,
        space: SpaceGuard | None = None,
        ring: KeySource | None = None,
    ) -> None:
        """ring   None: nothing is wrapped anew"""
        self.space = space or SpaceGuard()
        self.transactor = Transactor(store, clock, garbage_grace_s)
        self.registry = NodeRegistry(clock)
        self.nodes = NodeOperations(self.registry, store)
        self._sessions = SessionOperations(Leases(clock))
        self._garbage = garbage.GarbageQueue()
        self._inspector = inspection.Inspector()
        self.board = RepairBoard(clock)
        self.master_keys = MasterKeys(ring)

    def handlers(self) -> dict[int, Handler]:
        """Handlers by method id."""
        return {
            int(method): self._handler(method.name.lower(), entry)
            for method, entry in self._table().items()
        }

    def _table(self) -> dict[Method, Entry]:
        reads: dict[Method, Operation] = {
            Method.GET_BUCKET: buckets.get_bucket,
            Method.LIST_BUCKETS: buckets.list_buckets,
            Method.LIST_KEYS: listing.list_keys,
            Method.LIST_VERSIONS: listing.list_versions,
            Method.GET_UPLOAD: multipart.get_upload,
            Method.LIST_PARTS: multipart.list_parts,
            Method.GET_PARTS: multipart.get_parts,
            Method.LIST_UPLOADS: listing.list_uploads,
            Method.GET_TOPOLOGY: self.nodes.get_topology,
            Method.GET_ACCESS_KEY: credentials.get_access_key,
            Method.LIST_GARBAGE: self._garbage.list_garbage,
            Method.CHECK_BLOBS: garbage.check_blobs,
            Method.READ_CHANGES: changes.read_changes,
            Method.LIST_REPAIRS: repairs.list_repairs,
            Method.RENEW_SESSION: self._sessions.renew_session,
            Method.USAGE: usage.usage,
        }
        writes: dict[Method, Operation] = {
            Method.CREATE_BUCKET: buckets.create_bucket,
            Method.DELETE_BUCKET: buckets.delete_bucket,
            Method.UPDATE_BUCKET: buckets.update_bucket,
            Method.DELETE_VERSION: objects.delete_version,
            Method.SET_TAGS: tagging.set_tags,
            Method.CREATE_UPLOAD: multipart.create_upload,
            Method.COMMIT_PART: self.master_keys.part_by_active(multipart.commit_part),
            Method.COMPLETE_UPLOAD: multipart.complete_upload,
            Method.ABORT_UPLOAD: multipart.abort_upload,
            Method.OPEN_SESSION: self._sessions.open_session,
            Method.CLOSE_SESSION: self._sessions.close_session,
            Method.LIST_ENDED_SESSIONS: self._sessions.list_ended_sessions,
            Method.HEARTBEAT: self.nodes.heartbeat,
            Method.ACQUIRE_LEASE: leases.acquire_lease,
            Method.EXPAND_GARBAGE: garbage.expand_garbage,
            Method.FINISH_GARBAGE: garbage.finish_garbage,
            Method.MARK_WALKED: sessions.mark_walked,
            Method.TRIM_CHANGES: changes.trim_changes,
            Method.REPORT_BAD: repairs.report_bad,
        }
        reads |= self._checking_reads()
        writes |= self._checking_writes()
        for method in (Method.CREATE_BUCKET, Method.CREATE_UPLOAD, Method.COMMIT_PART):
            writes[method] = self.space.guarded(writes[method])
        self._add_repair(reads, writes)
        table = {method: Entry(*REPLIES[method], Kind.READ, run) for method, run in reads.items()}
        table |= {
            method: Entry(*REPLIES[method], Kind.WRITE, run) for method, run in writes.items()
        }
        table[Method.GET_VERSION] = Entry(
            *REPLIES[Method.GET_VERSION], Kind.READ, objects.get_version, returns_data=True
        )
        table[Method.COMMIT_VERSION] = Entry(
            *REPLIES[Method.COMMIT_VERSION], Kind.WRITE, self._commit_version(), takes_data=True
        )
        table[Method.DELETE_VERSIONS] = Entry(
            *REPLIES[Method.DELETE_VERSIONS], Kind.MANY, objects.delete_version
        )
        return table

    def _commit_version(self) -> Operation:
        return self.space.guarded(self.master_keys.version_by_active(objects.commit_version))

    def _checking_reads(self) -> dict[Method, Operation]:
        return {
            Method.WALK_BLOBS: self._inspector.walk_blobs,
            Method.LOCATE_BLOBS: self._inspector.locate_blobs,
            Method.LOAD_SCRUB: quarantine.load_scrub,
        }

    def _checking_writes(self) -> dict[Method, Operation]:
        return {
            Method.REPORT_FRAGMENTS: self._inspector.report_fragments,
            Method.SAVE_SCRUB: quarantine.save_scrub,
            Method.QUARANTINE: quarantine.quarantine,
            Method.RELEASE: quarantine.release,
            Method.REWRAP_KEYS: self.master_keys.rewrap_keys,
        }

    def _add_repair(self, reads: dict[Method, Operation], writes: dict[Method, Operation]) -> None:
        """What workers ask for to repair."""
        reads |= {
            Method.QUEUE_REPAIRS: self.board.queue_repairs,
            Method.LIST_STRAYS: strays.list_strays,
        }
        writes |= {
            Method.CLAIM_REPAIRS: repairs.claim_repairs,
            Method.COMMIT_PLACEMENT: self.board.commit_placement,
            Method.SCAN_PLACEMENTS: repair_scan.scan_placements,
            Method.TAKE_STRAYS: strays.take_strays,
            Method.FINISH_STRAYS: strays.finish_strays,
            Method.JUDGE_FRAGMENTS: strays.judge_fragments,
            Method.MARK_DISK_WALKED: repair_scan.mark_disk_walked,
        }

    def _handler(self, name: str, entry: Entry) -> Handler:
        if name in COLLECTING:
            return self._unless_doubtful(self._plain_handler(name, entry))
        return self._plain_handler(name, entry)

    def _unless_doubtful(self, handler: Handler) -> Handler:
        """Refuse what ends in deletions while rows cannot be read: absence proves nothing then."""

        async def handle(call: Call) -> Answer | None:
            if self.transactor.is_doubtful:
                raise faults.Unavailable("the metadata is doubtful: nothing is collected")
            answer = handler(call)
            return answer if isinstance(answer, Answer) else await answer

        return handle

    def _plain_handler(self, name: str, entry: Entry) -> Handler:
        if entry.kind is Kind.READ:
            return self._reader(name, entry)
        if entry.kind is Kind.MANY:
            return self._delete_versions
        return self._writer(name, entry)

    def _reader(self, name: str, entry: Entry) -> Handler:
        parse, operation = entry.request.FromString, entry.operation
        transactor, calls = self.transactor, CALLS.labels(name)

        async def read(call: Call) -> Answer:
            calls.inc()
            request = parse(call.header)
            try:
                result = await transactor.read(lambda transaction: operation(transaction, request))
            except faults.Fault as fault:
                REFUSALS.labels(name, type(fault).__name__).inc()
                raise
            if entry.returns_data:
                reply, data = result
                return Answer(reply.SerializeToString(), (data,) if data else ())
            return Answer(result.SerializeToString())

        return read

    def _writer(self, name: str, entry: Entry) -> Handler:
        parse, operation, reply_type = entry.request.FromString, entry.operation, entry.reply
        calls = CALLS.labels(name)
        has_writer = "writer" in entry.request.DESCRIPTOR.fields_by_name

        async def write(call: Call) -> Answer:
            calls.inc()
            request: Any = parse(call.header)
            if entry.takes_data:
                data = bytes(call.payload)

                def body(transaction: Transaction) -> Awaitable[Any]:
                    return operation(transaction, request, data)

            else:

                def body(transaction: Transaction) -> Awaitable[Any]:
                    return operation(transaction, request)

            writer = request.writer if has_writer else None
            try:
                reply = await self.transactor.write(body, reply_type, writer)
                fault_points.reach("reply.before_send")
            except faults.Fault as fault:
                REFUSALS.labels(name, type(fault).__name__).inc()
                raise
            return Answer(reply.SerializeToString())

        return write

    async def _delete_versions(self, call: Call) -> Answer:
        """Many deletes, each a transaction of its own; the group commit makes them one sync."""
        request = meta_pb2.DeleteVersions.FromString(call.header)
        CALLS.labels("delete_versions").inc()
        results = await asyncio.gather(*[self._delete_one(delete) for delete in request.deletes])
        return Answer(meta_pb2.DeleteVersionsReply(results=results).SerializeToString())

    async def _delete_one(self, delete: meta_pb2.DeleteVersion) -> meta_pb2.DeleteResult:
        try:
            reply = await self.transactor.write(
                lambda transaction: objects.delete_version(transaction, delete),
                meta_pb2.CommitReply,
                delete.writer,
            )
        except faults.Fault as fault:
            REFUSALS.labels("delete_versions", type(fault).__name__).inc()
            fields = [
                records_pb2.Pair(name=name, value=value) for name, value in fault.fields.items()
            ]
            return meta_pb2.DeleteResult(fault=type(fault).__name__, fault_fields=fields)
        return meta_pb2.DeleteResult(reply=reply)
