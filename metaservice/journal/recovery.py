"""Metadata brought back from the storage nodes: the last checkpoint, and the journal behind it.

Takes an epoch of its own first, so that whoever wrote the journal can acknowledge nothing more.
What cannot be proven to be complete is said, and nothing is written, unless the loss is accepted.
Running it again is harmless.
"""

import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from common import faults
from common.clock import Clock
from common.keyring import KeySource
from metaservice.journal import register
from metaservice.journal.blobs import BlobKeeper
from metaservice.journal.checkpoint import read_checkpoint
from metaservice.journal.group import Body, SegmentKey
from metaservice.journal.register import Peers, names_of, recovery_quorum
from metaservice.journal.tail import read_on
from metaservice.journal.writer import HEADER, POSITION
from metaservice.kv.interface import Row
from proto import journal_pb2

log = logging.getLogger(__name__)

ATTEMPTS_MAX = 5  # of taking an epoch, against a service that takes some too


class RowSink(Protocol):
    """An empty engine."""

    def write(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes] = ()) -> None: ...

    def get(self, key: bytes) -> bytes | None: ...

    def sync_blocking(self) -> None: ...


@dataclass(slots=True)
class Report:
    """What was brought back."""

    epoch: int = 0
    sequence: int = 0
    checkpoint_sequence: int = 0
    checkpoint_ns: int = 0
    row_count: int = 0  # of the checkpoint
    group_count: int = 0  # applied after it
    last_ns: int = 0  # of the last group
    losses: list[str] = field(default_factory=list)  # sentences; empty: nothing acknowledged


class Recovery:
    """One recovery from nodes that are connected."""

    def __init__(
        self, peers: Peers, ring: KeySource, keeper: BlobKeeper, clock: Clock, cluster_id: str
    ) -> None:
        self._peers, self._ring, self._keeper, self._clock = peers, ring, keeper, clock
        self._cluster_id = cluster_id
        self._replies: dict[str, journal_pb2.FenceReply] = {}
        self._caller = journal_pb2.Caller()
        self.report = Report()
        self.header = journal_pb2.Header()

    # --- taking over ----------------------------------------------------------------------------

    async def take_over(self, names: Sequence[str]) -> None:
        """Fence whoever wrote the journal, and learn what there is. raises NotFound, Unavailable"""
        holder = secrets.token_bytes(16)
        for _ in range(ATTEMPTS_MAX):
            looker = journal_pb2.Caller(cluster_id=self._cluster_id)
            seen = await register.fence(self._peers, names, looker)
            if register.newest_header(seen) is None:
                raise faults.NotFound("journal of metadata on", ", ".join(names) or "any node")
            epoch = max(reply.promised for reply in seen.values()) + 1
            self._caller = journal_pb2.Caller(
                cluster_id=self._cluster_id, epoch=epoch, holder=holder
            )
            try:
                self._replies = await register.fence(self._peers, names, self._caller)
            except faults.Fenced:
                continue
            newest = register.newest_header(self._replies)
            if newest is not None:
                self.header = newest
                self.report.epoch = epoch
                self._judge_members()
                return
        raise faults.Unavailable("another service keeps taking the journal over")

    def _judge_members(self) -> None:
        """Whether enough members promised that no newer header can be in force."""
        members = self.header.members
        known = [
            member.name
            for member in members
            if member.name in self._replies
            and member.journal_id in (b"", self._replies[member.name].journal_id)
        ]
        needed = recovery_quorum(len(members))
        if len(known) < needed:
            away = sorted({*names_of(self.header)} - {*known})
            self.report.losses.append(
                f"{len(known)} of the {needed} members that are needed have their memory of the"
                f" journal: {', '.join(away)} do not answer or were emptied, so newer commits and a"
                " service that still runs cannot be ruled out"
            )
        if self.header.ended:
            self.report.losses.append(
                "the service went on without a journal: what it acknowledged since is not here"
            )

    # --- bringing back --------------------------------------------------------------------------

    async def restore(
        self,
        sink: RowSink,
        until_ns: int | None = None,
        base: AsyncIterator[list[Row]] | None = None,
        is_base_all: bool = False,
    ) -> None:
        """Write the rows of the newest moment, or of one, into an empty engine; not synced yet.

        base     rows to begin with, instead of a checkpoint's on the nodes: of a backup
        is_base_all   nothing that came after it is wanted
        raises   Unavailable if there is no checkpoint that can be read
        """
        if base is None:
            self.report.checkpoint_sequence = await self._restore_checkpoint(sink, until_ns)
        else:
            async for rows in base:
                sink.write(dict(rows))
                self.report.row_count += len(rows)
            position = journal_pb2.Position.FromString(sink.get(POSITION) or b"")
            self.report.checkpoint_sequence = position.end_sequence - 1
        self.report.sequence = self.report.checkpoint_sequence
        if is_base_all:
            return
        group: dict[bytes, bytes | None] = {}
        first = 0
        async for sequence, body in self._records(self.report.checkpoint_sequence + 1):
            if until_ns is not None and body.time_ns > until_ns:
                break
            first = first or sequence
            group.update(body.rows)
            if not body.has_more:
                self._apply(sink, group, first, sequence + 1)
                self.report.last_ns = body.time_ns
                group, first = {}, 0

    async def _restore_checkpoint(self, sink: RowSink, until_ns: int | None) -> int:
        """Write the rows of the newest checkpoint that can be read; its sequence."""
        troubles = []
        for checkpoint in reversed(self.header.checkpoints):
            if until_ns is not None and checkpoint.time_ns > until_ns:
                continue
            try:
                async for rows in read_checkpoint(self._keeper, self._ring, checkpoint):
                    sink.write(dict(rows))
            except (faults.Unavailable, faults.Corrupt) as fault:
                troubles.append(faults.in_words(fault))
                continue
            self.report.row_count = checkpoint.row_count
            self.report.checkpoint_ns = self.report.last_ns = checkpoint.time_ns
            return checkpoint.sequence
        raise faults.Unavailable("; ".join(troubles) or "there is no checkpoint of that time")

    def _apply(
        self, sink: RowSink, rows: Mapping[bytes, bytes | None], first: int, end: int
    ) -> None:
        puts = {key: value for key, value in rows.items() if value is not None}
        puts[POSITION] = journal_pb2.Position(
            epoch=self._caller.epoch, first_sequence=first, end_sequence=end, keys=rows.keys()
        ).SerializeToString()
        sink.write(puts, [key for key, value in rows.items() if value is None])
        self.report.sequence = end - 1
        self.report.group_count += 1

    async def _records(self, sequence: int) -> AsyncIterator[tuple[int, Body]]:
        """All records from a sequence on, until one is on no copy; notes what is lost by that."""
        for segment in self.header.segments:
            if segment.sealed and segment.end_sequence <= max(sequence, segment.first_sequence):
                continue
            if segment.first_sequence > sequence:
                self.report.losses.append(
                    f"commits {sequence} to {segment.first_sequence - 1} are not in the journal"
                )
                return
            end, sure = self._end_of(segment)
            async for record in self._read_segment(segment, sequence, end):
                yield record
                sequence = record[0] + 1
            if sequence < sure:
                self.report.losses.append(
                    f"commits from {sequence} on are on no node that answers; needed is one of"
                    f" {', '.join(segment.nodes)}"
                )
                return

    def _end_of(self, segment: journal_pb2.Segment) -> tuple[int, int]:
        """Where a segment may end, and up to where everything acknowledged surely lies."""
        if segment.sealed:
            return segment.end_sequence, segment.end_sequence
        ends, sure_ends = [segment.first_sequence], list[int]()
        for name in segment.nodes:
            reply = self._replies.get(name)
            for known in reply.segments if reply is not None else ():
                if known.segment_id == segment.segment_id:
                    ends.append(known.end_sequence)
                    if not known.damaged:
                        sure_ends.append(max(known.end_sequence, segment.first_sequence))
        # Every node of the segment has what was acknowledged; none left: nobody knows.
        return max(ends), min(sure_ends, default=max(ends) + 1)

    async def _read_segment(
        self, segment: journal_pb2.Segment, sequence: int, end: int
    ) -> AsyncIterator[tuple[int, Body]]:
        key = SegmentKey.unwrap(segment.segment_id, segment.wrapped_key, self._ring)
        names = sorted(segment.nodes, key=lambda name: name not in self._replies)
        begin = journal_pb2.Read(
            cluster_id=self._cluster_id, segment_id=segment.segment_id, from_sequence=sequence
        )
        async for body in read_on(self._peers, [(name, end) for name in names], key, begin):
            yield sequence, body
            sequence += 1

    # --- the end --------------------------------------------------------------------------------

    def finish(self, sink: RowSink) -> None:
        """Note in the engine where it is; durable when this returns. raises Unavailable"""
        header = journal_pb2.Header()
        header.CopyFrom(self.header)
        header.epoch, header.version = self._caller.epoch, 1
        header.written_ns, header.ended = self._clock.now_ns(), False
        end = self.report.sequence + 1
        segments = [each for each in header.segments if each.first_sequence < end]
        if segments and (not segments[-1].sealed or segments[-1].end_sequence > end):
            segments[-1].sealed, segments[-1].end_sequence = True, end
        del header.segments[:]
        header.segments.extend(segments)
        kept = [each for each in header.checkpoints if each.sequence < end]
        del header.checkpoints[:]
        header.checkpoints.extend(kept)
        self.header = header
        sink.write({HEADER: header.SerializeToString()})
        sink.sync_blocking()

    async def announce(self) -> None:
        """Tell the members who goes on: the old folder, started again, finds out.

        raises   Unavailable if too few could be told; Fenced
        """
        names = [name for name in names_of(self.header) if name in self._replies]
        having = await register.write_header(self._peers, self._caller, self.header, names)
        if len(having) < min(recovery_quorum(len(self.header.members)), len(names)):
            raise faults.Unavailable("too few members of the journal could be told; run it again")
