"""The journal's single writer: groups to the nodes of the open segment, and new segments.

One group at a time, as the engine writes them. Whoever changes the header or the segment holds the
turn. docs/metadata-journal.md says why each step is where it is.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter, Histogram

from common import faults
from common.clock import Clock
from common.keyring import KeySource
from metaservice.journal import register
from metaservice.journal.ensemble import Directory, Ensembles
from metaservice.journal.group import SegmentKey, encode
from metaservice.journal.patience import AppendPatience
from metaservice.journal.posting import Batch, Posted
from metaservice.journal.register import age, names_of, running_quorum
from metaservice.journal.tail import CaughtUp, Tail
from metaservice.journal.wrapping import is_current, rewrap
from proto import journal_pb2

log = logging.getLogger(__name__)

HEADER, POSITION = b"Wheader", b"Wposition"
RETRY_S = 0.2
GIVE_UP_S = 10.0  # of waiting for nodes, if the service may go on without a journal
SEGMENTS_PER_EPOCH = 2**24

CHANGES = Counter("ostraka_journal_ensemble_changes", "New segments of the metadata's journal")
SECONDS = Histogram(
    "ostraka_journal_append_seconds",
    "Time until a group of commits is on all journal nodes",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 5),
)


class LocalRows(Protocol):
    """The engine, as far as the journal writes to it beside the groups."""

    def get(self, key: bytes) -> bytes | None: ...

    async def write_aside(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Write rows of the journal's own; durable when this returns. raises Unavailable"""
        ...


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How the writer behaves.

    copies      nodes of a segment that are wanted
    copies_min  with fewer, commits wait; 0: they are acknowledged from one disk instead
    patience_s  a node that does not answer an append for so long is replaced; sooner where appends
                usually take much less
    """

    copies: int
    copies_min: int
    patience_s: float


class Ended(Exception):
    """The service goes on without a journal."""


class JournalWriter:
    """The open segment, the header, the sequence."""

    def __init__(
        self,
        local: LocalRows,
        nodes: Directory,
        ring: KeySource,
        clock: Clock,
        settings: WriterSettings,
    ) -> None:
        self._local, self._nodes, self._ring, self._clock = local, nodes, ring, clock
        self.settings = settings
        self._patience = AppendPatience(settings.patience_s)
        self._turn = asyncio.Lock()
        self._key: SegmentKey | None = None
        self._ensembles = Ensembles(nodes, clock)
        self._has_header: dict[str, tuple[int, int]] = {}
        self._bodies: list[bytes] = []
        self._sent: tuple[Posted, float] | None = None  # of the group that was begun
        self._serial = 0
        self._is_closed = False
        self.caller = journal_pb2.Caller()
        self.next_sequence = 1
        self.bytes_since_checkpoint = 0
        self.waits_for = ""  # what commits wait for, in words
        stored = local.get(HEADER)
        self.header = journal_pb2.Header.FromString(stored) if stored is not None else None

    @property
    def is_known(self) -> bool:
        """Whether the engine has a journal that goes on."""
        return self.header is not None and not self.header.ended

    @property
    def segment(self) -> journal_pb2.Segment:
        """The open one."""
        assert self.header is not None, "begun"
        return self.header.segments[-1]

    @property
    def is_short(self) -> bool:
        """Whether the open segment has fewer copies than wanted."""
        return len(self.segment.nodes) < self.settings.copies

    # --- groups: what the engine calls ----------------------------------------------------------

    def begin(self, rows: Mapping[bytes, bytes | None]) -> tuple[bytes, bytes]:
        """Take the next group; the row that the engine writes with it.

        Its records leave at once if nobody is about to change the segment: the nodes take longest,
        and the engine's thread, once it runs, would hold us up.
        """
        self._bodies = encode(rows, self._clock.now_ns())
        first = self.next_sequence
        if self._key is not None and not self._turn.locked():
            self._sent = self._post(self.segment, self._key, self._bodies, 0)
        return POSITION, journal_pb2.Position(
            epoch=self.caller.epoch,
            first_sequence=first,
            end_sequence=first + len(self._bodies),
            keys=rows.keys(),
        ).SerializeToString()

    async def send(self) -> None:
        """Put the group on the nodes; on all of their disks when this returns.

        raises   Fenced: another service has taken over; Unavailable: closed; Ended
        """
        begun_s = self._clock.monotonic_s()
        async with self._turn:
            await self._append(self._bodies)
        SECONDS.observe(self._clock.monotonic_s() - begun_s)

    async def _append(self, bodies: Sequence[bytes]) -> None:
        first, attempt = self.next_sequence, 0
        sent, self._sent = self._sent, None
        if sent is not None and sent[0].segment_id != self.segment.segment_id:
            await sent[0].forget()  # somebody had the turn in between: it is for another segment
            sent = None
        assert self._key is not None, "a segment is open"
        sent = sent or self._post(self.segment, self._key, bodies, attempt)
        while bad := await self._answered(sent):
            attempt += 1
            await self._renew(first, bad)
            sent = self._post(self.segment, self._key, bodies, attempt)
        self.next_sequence = first + len(bodies)
        self.bytes_since_checkpoint += sum(map(len, bodies))

    async def _try(
        self, segment: journal_pb2.Segment, key: SegmentKey, bodies: Sequence[bytes], attempt: int
    ) -> set[str]:
        """Send the next records to all nodes of a segment; who lacks them. raises Fenced"""
        return await self._answered(self._post(segment, key, bodies, attempt))

    def _post(
        self, segment: journal_pb2.Segment, key: SegmentKey, bodies: Sequence[bytes], attempt: int
    ) -> tuple[Posted, float]:
        """Send the next records to all nodes of a segment, now; what was sent, and when."""
        begun_s, deadline_s = self._clock.monotonic_s(), self._patience.deadline_s(attempt)
        batch = Batch(bodies, self.next_sequence, self._clock.now_ns(), deadline_s)
        return Posted(self._nodes, self.caller, segment, key, batch), begun_s

    async def _answered(self, sent: tuple[Posted, float]) -> set[str]:
        posted, begun_s = sent
        try:
            return await posted.lacking()
        finally:
            self._patience.note(self._clock.monotonic_s() - begun_s)

    # --- segments -------------------------------------------------------------------------------

    async def _renew(self, first: int, bad: Collection[str], bodies: Sequence[bytes] = ()) -> None:
        """Seal the open segment before a sequence and begin one there, without the bad nodes.

        bodies   records that it begins with: of an earlier life, acknowledged perhaps. They are on
                 its nodes before the header names it, and no longer what the sealed one has of them
        raises   Fenced, Unavailable (closed), Ended
        """
        assert self.header is not None
        self._ensembles.doubt(bad)
        header = self._next_header()
        before = header.segments[-1].nodes if header.segments else ()
        kept = [name for name in before if name not in bad]
        if header.segments and not header.segments[-1].sealed:
            header.segments[-1].sealed = True
            header.segments[-1].end_sequence = first
        segment, key = await self._open_segment(first, kept)
        attempt = 0
        while bodies and (bad := await self._try(segment, key, bodies, attempt)):
            attempt += 1
            self._ensembles.doubt(bad)
            kept = [name for name in segment.nodes if name not in bad]
            segment, key = await self._open_segment(first, kept)
        header.segments.append(segment)
        await self._commit(header)
        self._key = key
        CHANGES.inc()
        log.info("journal segment on %s", ", ".join(segment.nodes), extra={"sequence": first})

    async def _open_segment(
        self, first: int, kept: Sequence[str]
    ) -> tuple[journal_pb2.Segment, SegmentKey]:
        """Open a segment on as many nodes as wanted, or as can be had. raises as `_renew`"""
        begun_s = self._clock.monotonic_s()
        while True:
            self._serial += 1
            segment_id = self.caller.epoch * SEGMENTS_PER_EPOCH + self._serial
            request = journal_pb2.Open(
                caller=self.caller, segment_id=segment_id, first_sequence=first
            )
            settings = self.settings
            nodes = await self._ensembles.open(request, kept, settings.copies, settings.copies_min)
            if nodes and len(nodes) >= self.settings.copies_min:
                self.waits_for = ""
                key = SegmentKey.make(segment_id)
                segment = journal_pb2.Segment(
                    segment_id=segment_id, epoch=self.caller.epoch, first_sequence=first,
                    nodes=nodes, wrapped_key=key.wrap(self._ring),
                )  # fmt: skip
                return segment, key
            await self._wait("too few storage nodes take the journal", begun_s)

    async def rewrap(self) -> None:
        """Wrap the keys in the header by the active master key, after a rotation.

        raises   Fenced, Unavailable
        """
        if self.header is None or is_current(self.header, self._ring):
            return
        header = journal_pb2.Header()
        header.CopyFrom(self.header)
        if rewrap(header, self._ring):
            await self.change(self._rewrap)

    def _rewrap(self, header: journal_pb2.Header) -> None:
        rewrap(header, self._ring)

    async def grow(self) -> None:
        """Begin a segment on more nodes, if the open one has fewer copies than wanted.

        raises   Fenced, Unavailable
        """
        if not self.is_short:
            return
        if self._ensembles.can_have(len(self.segment.nodes) + 1):
            async with self._turn:
                await self._renew(self.next_sequence, ())

    async def leave(self, names: Collection[str]) -> None:
        """Begin a segment without nodes whose copies of the open one are damaged.

        raises   Fenced, Unavailable
        """
        async with self._turn:
            await self._renew(self.next_sequence, names)

    # --- the header -----------------------------------------------------------------------------

    def _next_header(self) -> journal_pb2.Header:
        header = journal_pb2.Header()
        if self.header is not None:
            header.CopyFrom(self.header)
        header.version = header.version + 1 if header.epoch == self.caller.epoch else 1
        header.epoch = self.caller.epoch
        header.format = register.FORMAT
        header.cluster_id = self.caller.cluster_id
        header.copies = self.settings.copies
        header.written_ns = self._clock.now_ns()
        header.ended = False
        return header

    async def change(self, edit: Callable[[journal_pb2.Header], None]) -> None:
        """Change the header; it is in force when this returns. raises Fenced, Unavailable"""
        async with self._turn:
            header = self._next_header()
            edit(header)
            await self._commit(header)

    async def _commit(
        self, header: journal_pb2.Header, rows: Mapping[bytes, bytes] | None = None
    ) -> None:
        """Write a header here, then on enough members of it and of the one before."""
        groups = [names_of(header)]
        if self.header is not None and names_of(self.header) not in ([], groups[0]):
            groups.append(names_of(self.header))
        await self._local.write_aside({HEADER: header.SerializeToString(), **(rows or {})})
        self.header = header
        begun_s, names = self._clock.monotonic_s(), sorted({*groups[0], *groups[-1]})

        def is_enough(answered: Collection[str]) -> bool:
            having = {name for name in names if self._has_header.get(name) == age(header)}
            having.update(answered)
            return all(len(having & {*group}) >= running_quorum(len(group)) for group in groups)

        while True:
            await self.spread(names, is_enough)
            if is_enough(()):
                self.waits_for = ""
                return
            await self._wait("too few members of the journal answer", begun_s)

    async def spread(
        self,
        names: Collection[str],
        is_enough: Callable[[Collection[str]], bool] = lambda answered: False,
    ) -> None:
        """Write the header to members that do not have it. raises Fenced"""
        assert self.header is not None
        header = self.header
        lacking = [name for name in names if self._has_header.get(name) != age(header)]
        having = await register.write_header(self._nodes, self.caller, header, lacking, is_enough)
        self._has_header.update(dict.fromkeys(having, age(header)))

    def forget_header_of(self, name: str) -> None:
        """A member has lost what it had."""
        self._has_header.pop(name, None)

    async def _wait(self, why: str, begun_s: float) -> None:
        """Before another attempt. raises Unavailable (closed), Ended"""
        if self._is_closed:
            raise faults.Unavailable("the journal is closed")
        if not self.waits_for:
            log.error("commits wait: %s", why)
        self.waits_for = why
        if not self.settings.copies_min and self._clock.monotonic_s() - begun_s > GIVE_UP_S:
            raise Ended(why)
        await self._clock.sleep(RETRY_S)
        await self._nodes.refresh()

    # --- lives ----------------------------------------------------------------------------------

    async def resume(self) -> None:
        """Take a new epoch and put the last group on the nodes again; before anything is answered.

        raises   Fenced: this is not the newest copy of the metadata; CaughtUp, Unavailable
                 (closed), Ended
        """
        assert self.header is not None
        stored = self._local.get(POSITION)
        position = journal_pb2.Position.FromString(stored or b"")
        names = names_of(self.header)
        await self._take_epoch(names, self._is_quorum, running_quorum(len(names)))
        await self._catch_up(position.end_sequence)
        self.next_sequence = position.first_sequence
        rows = {key: self._local.get(key) for key in position.keys}
        bodies = encode(rows, self._clock.now_ns()) if rows else []
        async with self._turn:
            await self._renew(self.next_sequence, (), bodies)
        self.next_sequence += len(bodies)

    async def _catch_up(self, end_sequence: int) -> None:
        """Apply what nodes have of the journal and the engine has lost. raises CaughtUp"""
        assert self.header is not None
        nodes = [name for each in self.header.segments[-1:] for name in each.nodes]
        replies = await register.fence(self._nodes, nodes, self.caller)
        rows, end = await Tail(self._nodes, self._ring, self.header, replies).read_from(
            end_sequence
        )
        if rows:
            position = journal_pb2.Position(
                epoch=self.caller.epoch, first_sequence=end_sequence, end_sequence=end, keys=rows
            )
            await self._local.write_aside({**rows, POSITION: position.SerializeToString()})
            words = f"commits {end_sequence} to {end - 1} came back from the journal's nodes"
            raise CaughtUp(words)

    async def begin_new(self, members: Sequence[journal_pb2.Member]) -> None:
        """Begin a journal where there is none, or none any more; groups may follow.

        raises   Fenced: nodes have a journal that this engine does not know; Unavailable, Ended
        """
        names = [member.name for member in members]
        live = [place.name for places in self._nodes.live_zones.values() for place in places]
        everyone = sorted({*names, *live})
        await self._take_epoch(everyone, lambda replies: {*names} <= {*replies}, len(everyone))
        stored = self._local.get(POSITION)
        if stored is not None:  # what was not journaled since leaves a gap
            self.next_sequence = journal_pb2.Position.FromString(stored).end_sequence + 1
        async with self._turn:
            header = self._next_header()
            del header.members[:]
            header.members.extend(members)
            segment, self._key = await self._open_segment(self.next_sequence, ())
            header.segments.append(segment)
            position = journal_pb2.Position(
                epoch=self.caller.epoch,
                first_sequence=self.next_sequence,
                end_sequence=self.next_sequence,
            )
            await self._commit(header, {POSITION: position.SerializeToString()})
        self.bytes_since_checkpoint = 0

    def _is_quorum(self, replies: Mapping[str, journal_pb2.FenceReply]) -> bool:
        """Whether so many members answered that one has heard of any recovery."""
        assert self.header is not None
        members = self.header.members
        known = [
            member.name
            for member in members
            if member.name in replies
            and member.journal_id in (b"", replies[member.name].journal_id)
        ]
        return len(known) >= running_quorum(len(members)) or len(replies) >= len(members)

    async def _take_epoch(
        self,
        names: Sequence[str],
        is_enough: Callable[[Mapping[str, journal_pb2.FenceReply]], bool],
        wanted: int,
    ) -> None:
        """Have nodes promise an epoch of our own. raises Fenced, Unavailable, Ended"""
        begun_s = self._clock.monotonic_s()
        cluster_id = self._local.get(b"Ccluster_id") or b""
        holder = secrets.token_bytes(16)
        while True:
            await self._nodes.refresh()
            looker = journal_pb2.Caller(cluster_id=cluster_id.decode())

            def is_many(answered: Collection[str], wanted: int = wanted) -> bool:
                return len(answered) >= wanted

            replies = await register.fence(self._nodes, names, looker, is_many)
            self._check_newest(replies)
            if is_enough(replies):
                known = self.header.epoch if self.header is not None else 0
                epoch = max([known, *[reply.promised for reply in replies.values()]]) + 1
                caller = journal_pb2.Caller(
                    cluster_id=cluster_id.decode(), epoch=epoch, holder=holder
                )
                try:
                    promises = await register.fence(self._nodes, names, caller, is_many)
                except faults.Fenced:
                    promises = {}  # another epoch was promised meanwhile: look again
                self._check_newest(promises)
                if is_enough(promises):
                    self.caller = caller
                    self.waits_for = ""
                    return
            wanted = len(names)  # once more, with all who answer: some may have been emptied
            await self._wait("too few members of the journal promise an epoch", begun_s)

    def _check_newest(self, replies: Mapping[str, journal_pb2.FenceReply]) -> None:
        newest = register.newest_header(replies)
        own = age(self.header) if self.header is not None else (0, 0)
        if newest is not None and age(newest) > own:
            raise faults.Fenced(
                "metadata", f"epoch {own[0]}",
                detail="the storage nodes hold a newer journal than this folder: it was emptied, is"
                " an old copy, or another service took over; see `ostraka recover metadata`",
            )  # fmt: skip

    async def end(self) -> None:
        """Note that the service goes on without a journal; here, and where it can be told."""
        header = self._next_header()
        header.ended = True
        if header.segments and not header.segments[-1].sealed:
            header.segments[-1].sealed = True
            header.segments[-1].end_sequence = self.next_sequence
        await self._local.write_aside({HEADER: header.SerializeToString()})
        self.header, self.waits_for = header, ""
        try:
            await self.spread(names_of(header))
        except faults.Fenced as fenced:
            log.warning("the end of the journal could not be told: %s", fenced)

    def close(self) -> None:
        """Stop waiting for nodes."""
        self._is_closed = True


async def end_journal(local: LocalRows) -> None:
    """Note in the engine that it goes on without a journal, because that is switched off."""
    stored = local.get(HEADER)
    if stored is None:
        return
    header = journal_pb2.Header.FromString(stored)
    if not header.ended:
        header.ended = True
        header.version += 1
        await local.write_aside({HEADER: header.SerializeToString()})
