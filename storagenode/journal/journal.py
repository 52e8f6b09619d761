"""The journal of the metadata on one storage node: what docs/metadata-journal.md asks of a node.

One thread does all that touches the disk, in the order of the calls. Appends that come while it
works are written and synced together. After a failed write or sync nothing is acknowledged until
the journal was opened anew: what is there is read, and no segment of before is appended to.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from prometheus_client import Counter

from common import faults
from common.buffers import BufferPool
from common.checksum import crc32c
from common.frames.wire import Piece
from common.limits import MIB
from common.worker_thread import WorkerThread
from proto import journal_pb2
from storagenode.journal import state as states
from storagenode.journal.record import PAYLOAD_BYTES_MAX, Record
from storagenode.journal.segment import PATTERN, Segment
from storagenode.store.files import Files

log = logging.getLogger(__name__)

READ_BYTES_MAX = 2 * MIB
SCRUB_S = 1.0  # between two pieces
SCRUB_BYTES = MIB  # a piece: appends wait for it, about a millisecond
SCRUB_PAUSE_S = 600.0  # between two passes
SCRUBBED = Counter("ostraka_journal_scrub_bytes", "Bytes of journal copies read again")
DAMAGED = Counter("ostraka_journal_scrub_damaged", "Journal copies that were found damaged")
NO_SPACE = (28, 122)  # ENOSPC, EDQUOT
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Where the journal lies, and how large its files are."""

    folder: Path
    chunk_bytes: int
    reserve_bytes: int  # kept free on the file system


@dataclass(slots=True)
class _Append:
    record: Record
    payload: bytes
    done: "asyncio.Future[None]"


class NodeJournal:
    """One node's journal. Make it in a running loop. raises Corrupt, Invalid (newer format)"""

    def __init__(self, settings: JournalSettings, files: Files, pool: BufferPool) -> None:
        self._settings, self._files, self._pool = settings, files, pool
        self._loop = asyncio.get_running_loop()
        self._thread = WorkerThread("journal")
        files.make_folder(settings.folder)
        try:
            self._state = states.load(files, settings.folder)
        except faults.Corrupt as corrupt:
            # As if the disk were new: another id tells everybody that this memory is lost.
            log.error("the journal's state is lost: %s", faults.in_words(corrupt))
            self._state = states.make()
        self._segments = self._find_segments()
        self._open: Segment | None = None
        self._last: _Append | None = None  # of the open segment
        self._next_sequence = 0
        self._queue: list[_Append] = []
        self._pump: asyncio.Task[None] | None = None
        self._is_saved = True  # whether the state in memory is the one on disk
        self._to_scrub: list[int] = []  # segments, in this pass
        self._resting_until_s = 0.0
        self.is_failed = False

    def _find_segments(self) -> dict[int, Segment]:
        folder, found = self._settings.folder, dict[int, Segment]()
        for path in self._files.list(folder, PATTERN):
            segment_id, _, number = path.stem.partition("-")
            segment = found.get(int(segment_id, 16))
            if segment is None:
                segment = Segment(self._files, folder, int(segment_id, 16))
                found[segment.segment_id] = segment
            segment.add_found(int(number), path)
        return found

    # --- promises and the header --------------------------------------------------------------

    async def fence(self, caller: journal_pb2.Caller) -> journal_pb2.FenceReply:
        """Promise an epoch, durable when this returns; epoch 0 only looks. raises Fenced, Invalid

        What was being appended before is on disk or refused when this returns.
        """
        if caller.epoch or caller.cluster_id:  # who only looks may not know which cluster it is
            self._check_cluster(caller.cluster_id)
        if caller.epoch:
            await self._promise(caller)
        return await self._run(self._picture_blocking)

    async def write_header(
        self, caller: journal_pb2.Caller, header: journal_pb2.Header
    ) -> journal_pb2.WriteHeaderReply:
        """Replace the header by a newer one; durable when this returns. raises Fenced, Invalid"""
        self._check_cluster(caller.cluster_id)
        if header.epoch > caller.epoch:
            raise faults.Invalid("header", str(header.epoch), "is of a later epoch than its writer")
        await self._promise(caller)
        known = self._state.header
        if (header.epoch, header.version) > (known.epoch, known.version):
            self._state.header = header
            await self._save()
        elif not self._is_saved:
            await self._save()
        return journal_pb2.WriteHeaderReply(journal_id=self._state.journal_id)

    async def _promise(self, caller: journal_pb2.Caller) -> None:
        state = self._state
        self._check_caller(caller)
        if caller.epoch == state.promised and self._is_saved:
            return
        # From now on, even before it is durable, the lower epoch gets nothing more.
        if caller.epoch != state.promised:
            self._open = self._last = None
        state.promised, state.holder = caller.epoch, caller.holder
        state.cluster_id = caller.cluster_id
        await self._save()

    def _check_caller(self, caller: journal_pb2.Caller) -> None:
        """Whether a caller's epoch is still, or could become, the one. raises Fenced"""
        state = self._state
        if caller.epoch < state.promised or (
            caller.epoch == state.promised and caller.holder != state.holder
        ):
            raise faults.Fenced("journal epoch", str(caller.epoch))

    def _check_cluster(self, cluster_id: str) -> None:
        if self._state.cluster_id not in ("", cluster_id):
            raise faults.Invalid("cluster_id", cluster_id, "another cluster's journal is here")

    async def _save(self) -> None:
        self._is_saved = False
        # As it is now: another call may change it while the thread works.
        data = states.encode(self._state)
        await self._run(states.save, self._files, self._settings.folder, data)
        self._is_saved = data == states.encode(self._state)

    def _picture_blocking(self) -> journal_pb2.FenceReply:
        state = self._state
        return journal_pb2.FenceReply(
            promised=state.promised,
            holder=state.holder,
            header=state.header,
            journal_id=state.journal_id,
            cluster_id=state.cluster_id,
            segments=[
                journal_pb2.SegmentState(
                    segment_id=segment.segment_id,
                    first_sequence=segment.first_sequence,
                    end_sequence=segment.end_sequence,
                    damaged=segment.is_damaged,
                    size_bytes=segment.size_bytes,
                )
                for segment in list(self._segments.values())
            ],
        )

    # --- segments -----------------------------------------------------------------------------

    async def open_segment(
        self, caller: journal_pb2.Caller, segment_id: int, first_sequence: int
    ) -> None:
        """Begin a segment, and end the one before. raises Fenced, Full, Invalid, Unavailable"""
        self._check_cluster(caller.cluster_id)
        await self._promise(caller)
        if self._open is not None and self._open.segment_id == segment_id:
            return
        if segment_id in self._segments:
            raise faults.Invalid("segment", f"{segment_id:x}", "was there before")
        self._open = self._last = None
        settings = self._settings
        _, free = self._files.space(settings.folder)
        if free - settings.reserve_bytes < settings.chunk_bytes:
            raise faults.Full("no room for the journal")
        segment = Segment(self._files, settings.folder, segment_id)
        await self._run(segment.begin, first_sequence, settings.chunk_bytes)
        self._segments[segment_id] = segment
        self._check_caller(caller)  # nobody else came meanwhile
        self._open, self._next_sequence = segment, first_sequence

    async def append(self, request: journal_pb2.Append, payload: Piece) -> None:
        """Append a record to the open segment; on disk when this returns.

        raises   Fenced, Invalid (segment not open here, sequence out of order), Corrupt (payload),
                 Unavailable (the journal's disk has failed)
        """
        self._check_caller(request.caller)
        if request.caller.epoch != self._state.promised:
            raise faults.Invalid("epoch", str(request.caller.epoch), "was not promised")
        if self.is_failed:
            raise faults.Unavailable("the journal's disk has failed")
        segment = self._open
        if segment is None or segment.segment_id != request.segment_id:
            raise faults.Invalid("segment", f"{request.segment_id:x}", "is not open here")
        last = self._last
        if last is not None and (last.record.sequence, last.record.payload_crc) == (
            request.sequence, request.crc32c,
        ):  # fmt: skip
            await asyncio.shield(last.done)
            return
        if request.sequence != self._next_sequence:
            raise faults.Invalid("sequence", str(request.sequence), "is out of order")
        data = bytes(payload)  # the thread may still read it when a cancelled caller is gone
        if len(data) > PAYLOAD_BYTES_MAX or crc32c(data) != request.crc32c:
            raise faults.Corrupt("journal record", str(request.sequence))
        record = Record(
            segment.segment_id, request.sequence, request.time_ns, len(data), request.crc32c, 0
        )
        self._next_sequence += 1
        appended = _Append(record, data, self._loop.create_future())
        self._last = appended
        self._queue.append(appended)
        if self._pump is None or self._pump.done():
            self._pump = self._loop.create_task(self._write_queue())
        await asyncio.shield(appended.done)

    async def _write_queue(self) -> None:
        while self._queue:
            batch, self._queue = self._queue, []
            failed: faults.Fault | None = faults.Unavailable("the journal failed")
            try:
                await self._run(self._write_blocking, batch)
                failed = None
            except faults.Fault as fault:
                failed = fault
            finally:  # whatever went wrong, nobody may wait for ever
                if failed is not None:
                    self._fail((*batch, *self._queue), failed)
            if failed is not None:
                return
            for append in batch:
                if not append.done.done():
                    append.done.set_result(None)

    def _fail(self, appends: Sequence[_Append], fault: faults.Fault) -> None:
        """Refuse appends, and all that would follow them in the segment."""
        self._open = self._last = None
        self._queue = []
        for append in appends:
            if not append.done.done():
                append.done.set_exception(fault)
                append.done.exception()  # its caller may be gone

    def _write_blocking(self, batch: list[_Append]) -> None:
        """Write what was queued: of one segment, unless one was begun in between."""
        size = self._settings.chunk_bytes
        while batch:
            segment_id = batch[0].record.segment_id
            some = [append for append in batch if append.record.segment_id == segment_id]
            records = [(append.record, append.payload) for append in some]
            self._segments[segment_id].write(records, self._pool, size)
            batch = [append for append in batch if append.record.segment_id != segment_id]

    async def read(self, request: journal_pb2.Read) -> tuple[journal_pb2.ReadReply, list[bytes]]:
        """Records of a segment. raises NotFound("segment" or "record"), Corrupt, Unavailable"""
        self._check_cluster(request.cluster_id)
        segment = self._segments.get(request.segment_id)
        if segment is None:
            raise faults.NotFound("segment", f"{request.segment_id:x}")
        size = min(request.bytes_max or READ_BYTES_MAX, READ_BYTES_MAX)
        found = await self._run(segment.read, request.from_sequence, size)
        entries = [
            journal_pb2.Entry(
                sequence=record.sequence,
                time_ns=record.time_ns,
                crc32c=record.payload_crc,
                size_bytes=record.size_bytes,
            )
            for record, _ in found
        ]
        return journal_pb2.ReadReply(entries=entries), [payload for _, payload in found]

    async def trim(self, request: journal_pb2.Trim) -> journal_pb2.TrimReply:
        """Forget segments that are not named, and records before a sequence. raises Fenced"""
        self._check_cluster(request.caller.cluster_id)
        await self._promise(request.caller)
        named, freed = set(request.segment_ids), 0
        for segment in list(self._segments.values()):
            if segment.segment_id not in named and segment is not self._open:
                del self._segments[segment.segment_id]
                freed += await self._run(segment.remove)
            else:
                freed += await self._run(segment.trim, request.before_sequence)
        return journal_pb2.TrimReply(freed_bytes=freed)

    # --- scrubbing ----------------------------------------------------------------------------

    async def scrub(self) -> None:
        """Verify the next piece of what is kept, in between appends; called again and again.

        A damaged copy is told with the next picture, and the metadata service replaces it.
        """
        if self.is_failed or self._loop.time() < self._resting_until_s:
            return
        if not self._to_scrub:
            self._to_scrub = sorted(self._segments)
        segment = self._segments.get(self._to_scrub[0]) if self._to_scrub else None
        done, was_damaged = 0, segment is not None and segment.is_damaged
        if segment is not None:
            done = await self._run(segment.verify_some, SCRUB_BYTES)
            SCRUBBED.inc(done)
            if segment.is_damaged and not was_damaged:
                DAMAGED.inc()
                log.error("a journal copy is damaged", extra={"segment": segment.segment_id})
        if done < SCRUB_BYTES:
            self._to_scrub = self._to_scrub[1:]
            if not self._to_scrub:
                self._resting_until_s = self._loop.time() + SCRUB_PAUSE_S

    # --- failing ------------------------------------------------------------------------------

    async def reopen(self) -> None:
        """After a failure begin with what is on disk, as at a start. raises OSError: it still fails

        What was promised stays promised; what was refused is not appended after all.
        """
        if self._pump is not None and not self._pump.done():
            await asyncio.wait([self._pump])
        found = await self._thread.call(self._find_again_blocking)
        self._segments, self._to_scrub = found, []
        self._open = self._last = None
        self._is_saved = self.is_failed = False

    def _find_again_blocking(self) -> dict[int, Segment]:
        self._files.probe(self._settings.folder)
        before, found = self._segments, self._find_segments()
        for segment in before.values():
            segment.close()
        return found

    # --- the thread ---------------------------------------------------------------------------

    async def _run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Do something in the journal's thread. raises Full, Unavailable: until it is reopened"""
        if self.is_failed:
            raise faults.Unavailable("the journal's disk has failed")
        work = self._thread.call(function, *arguments)
        try:
            return await asyncio.shield(work)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise faults.Full("no room for the journal") from error
            if not self.is_failed:
                log.critical("the journal's disk has failed: %s", error)
            self.is_failed = True
            raise faults.Unavailable(f"the journal's disk has failed: {error.strerror}") from error

    async def close(self) -> None:
        """Finish what was accepted and close all files."""
        if self._pump is not None and not self._pump.done():
            await asyncio.wait([self._pump])
        self._thread.shutdown()
        for segment in self._segments.values():
            segment.close()
