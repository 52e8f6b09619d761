"""Calls of the hot plane to the node's journal."""

from common.frames import Answer, Call, Handler
from proto import journal_pb2
from storagenode.client import Method
from storagenode.journal.journal import NodeJournal


class JournalHandlers:
    """The table of handlers over one journal."""

    def __init__(self, journal: NodeJournal, node_name: str, zone: str) -> None:
        self._journal = journal
        self._node_name, self._zone = node_name, zone

    def handlers(self) -> dict[int, Handler]:
        """Handlers by method id."""
        return {
            Method.JOURNAL_FENCE: self._fence,
            Method.JOURNAL_OPEN: self._open,
            Method.JOURNAL_APPEND: self._append,
            Method.JOURNAL_WRITE_HEADER: self._write_header,
            Method.JOURNAL_READ: self._read,
            Method.JOURNAL_TRIM: self._trim,
        }

    async def _fence(self, call: Call) -> Answer:
        reply = await self._journal.fence(journal_pb2.Fence.FromString(call.header).caller)
        reply.node_name, reply.zone = self._node_name, self._zone
        return Answer(reply.SerializeToString())

    async def _open(self, call: Call) -> Answer:
        request = journal_pb2.Open.FromString(call.header)
        await self._journal.open_segment(request.caller, request.segment_id, request.first_sequence)
        return Answer()

    async def _append(self, call: Call) -> Answer:
        # The payload may be a slot's memory: it stays ours until this returns.
        await self._journal.append(journal_pb2.Append.FromString(call.header), call.payload)
        return Answer()

    async def _write_header(self, call: Call) -> Answer:
        request = journal_pb2.WriteHeader.FromString(call.header)
        reply = await self._journal.write_header(request.caller, request.header)
        return Answer(reply.SerializeToString())

    async def _read(self, call: Call) -> Answer:
        reply, payloads = await self._journal.read(journal_pb2.Read.FromString(call.header))
        return Answer(reply.SerializeToString(), tuple(payloads))

    async def _trim(self, call: Call) -> Answer:
        reply = await self._journal.trim(journal_pb2.Trim.FromString(call.header))
        return Answer(reply.SerializeToString())
