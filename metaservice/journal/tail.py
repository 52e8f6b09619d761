"""The end of the journal as nodes have it: records read, and groups that the engine has lost.

A flipped bit in the last record of the engine's own log can look like a write that was cut short,
and is dropped as one, though it was acknowledged. The nodes still have it. They may also have a
group that was under way when the process ended: to apply that one is right as well.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Mapping

from common import faults
from common.checksum import crc32c
from common.keyring import KeySource
from metaservice.journal.group import Body, SegmentKey, decode
from metaservice.journal.register import Peers
from proto import journal_pb2
from storagenode.client import Method

log = logging.getLogger(__name__)

READ_S = 10.0
Rows = dict[bytes, bytes | None]


class CaughtUp(Exception):
    """The engine was behind and is not any more; who has read it as it was must start again."""


async def read_on(
    peers: Peers, nodes: Iterable[tuple[str, int]], key: SegmentKey, begin: journal_pb2.Read
) -> AsyncIterator[Body]:
    """Records from a sequence on; where one node ends or fails, the next one goes on.

    nodes   names, each with the end up to which it is asked
    """
    sequence = begin.from_sequence
    for name, end in nodes:
        while sequence < end:
            request = journal_pb2.Read(
                cluster_id=begin.cluster_id, segment_id=begin.segment_id, from_sequence=sequence
            )
            try:
                bodies = await _read_some(peers, name, key, request)
            except faults.Fault as fault:
                log.warning("%s: %s", name, fault)
                break
            if not bodies:
                break
            for body in bodies[: end - sequence]:
                yield body
                sequence += 1


async def _read_some(
    peers: Peers, name: str, key: SegmentKey, request: journal_pb2.Read
) -> list[Body]:
    """Records from a sequence on, as one node has them; none at the end. raises Fault"""
    peer = peers.peer(name)
    if peer is None:
        raise faults.Unavailable("does not answer")
    answer = await peer.journal_call(Method.JOURNAL_READ, request, deadline_s=READ_S)
    bodies, at = list[Body](), 0
    for entry in journal_pb2.ReadReply.FromString(answer.header).entries:
        sealed = bytes(answer.payload[at : at + entry.size_bytes])
        at += entry.size_bytes
        if entry.sequence != request.from_sequence + len(bodies) or crc32c(sealed) != entry.crc32c:
            raise faults.Corrupt("journal record", str(entry.sequence))
        bodies.append(decode(key.open(entry.sequence, sealed)))
    return bodies


class Tail:
    """What nodes have of a header's open segment, as their promises say."""

    def __init__(
        self, peers: Peers, ring: KeySource, header: journal_pb2.Header,
        replies: Mapping[str, journal_pb2.FenceReply],
    ) -> None:  # fmt: skip
        self._peers, self._ring, self._header = peers, ring, header
        self._ends: dict[str, int] = {}
        open_segments = [each for each in header.segments[-1:] if not each.sealed]
        for segment in open_segments:
            for name in segment.nodes:
                reply = replies.get(name)
                for known in reply.segments if reply is not None else ():
                    if known.segment_id == segment.segment_id:
                        self._ends[name] = known.end_sequence

    async def read_from(self, sequence: int) -> tuple[Rows, int]:
        """What whole groups from a sequence on changed, and where they end.

        raises   Unavailable: every node that answers has more than could be read
        """
        rows: Rows = {}
        group: Rows = {}
        end, at, last = sequence, sequence, max(self._ends.values(), default=sequence)
        if last <= sequence:
            return rows, end
        segment = self._header.segments[-1]
        key = SegmentKey.unwrap(segment.segment_id, segment.wrapped_key, self._ring)
        begin = journal_pb2.Read(
            cluster_id=self._header.cluster_id, segment_id=segment.segment_id, from_sequence=at
        )
        nodes = sorted(self._ends.items(), key=lambda node: -node[1])
        async for body in read_on(self._peers, nodes, key, begin):
            at += 1
            group.update(body.rows)
            if not body.has_more:
                rows.update(group)
                group, end = {}, at
        if at < min(self._ends.values()):
            raise faults.Unavailable("the end of the journal cannot be read now")
        return rows, end
