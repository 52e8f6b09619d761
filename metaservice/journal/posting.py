"""Records on their way to the nodes of a segment."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from common import faults
from common.checksum import crc32c
from common.frames import Reply
from metaservice.journal.ensemble import Directory
from metaservice.journal.group import SegmentKey
from proto import journal_pb2
from storagenode.client import Method

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in order, the place of the first, when they were made, and how long they may take."""

    bodies: Sequence[bytes]
    first_sequence: int
    time_ns: int
    deadline_s: float


class Posted:
    """What was sent to whom."""

    def __init__(
        self,
        nodes: Directory,
        caller: journal_pb2.Caller,
        segment: journal_pb2.Segment,
        key: SegmentKey,
        batch: Batch,
    ) -> None:
        """Send records to all nodes of a segment, now."""
        self.segment_id = segment.segment_id
        self._calls: list[asyncio.Future[Reply]] = []
        self._owners: list[str] = []
        peers = {name: nodes.peer(name) for name in segment.nodes}
        self._lacking = {name for name, peer in peers.items() if peer is None}
        for sequence, body in enumerate(batch.bodies, batch.first_sequence):
            sealed = key.seal(sequence, body)
            request = journal_pb2.Append(
                caller=caller, segment_id=segment.segment_id, sequence=sequence,
                time_ns=batch.time_ns, crc32c=crc32c(sealed),
            )  # fmt: skip
            for name, peer in peers.items():
                if peer is not None:
                    self._calls.append(
                        peer.journal_call(
                            Method.JOURNAL_APPEND, request, sealed, deadline_s=batch.deadline_s
                        )
                    )
                    self._owners.append(name)

    async def lacking(self) -> set[str]:
        """Wait for all answers; names of nodes that do not have all of it. raises Fenced"""
        results = await asyncio.gather(*self._calls, return_exceptions=True)
        for name, result in zip(self._owners, results, strict=True):
            if isinstance(result, faults.Fenced):
                raise result
            if isinstance(result, faults.Fault):
                log.warning("journal node %s: %s", name, result)
                self._lacking.add(name)
            elif isinstance(result, BaseException):
                raise result
        return self._lacking

    async def forget(self) -> None:
        """Wait until nothing of it is under way, whatever came of it."""
        await asyncio.gather(*self._calls, return_exceptions=True)
