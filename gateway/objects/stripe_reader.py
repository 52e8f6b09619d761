"""One stripe from the disks: k cells in the healthy case, around what is missing, late or bad.

The healthy path never runs the decoder. What a checksum refuses, what a node does not have or does
not deliver in time is an erasure: other cells are fetched, the missing ones recreated, and the
fragment reported for repair.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from common import faults
from common.erasure.layout import BLOCK_BYTES
from common.frames import Reply
from gateway.objects.nodes import Nodes
from gateway.objects.stripes import CellSet
from proto import records_pb2, storage_pb2

log = logging.getLogger(__name__)

READ_DEADLINE_S = 10.0
HEDGE_S = 0.25  # cells later than this are decoded around

CHECKSUM_BYTES = 4

Span = tuple[int, int]
Report = Callable[[records_pb2.BlobRef, int, str], None]


class StripeReader:
    """Fetches the cells of one stripe into their places."""

    def __init__(
        self, nodes: Nodes, blob: records_pb2.BlobRef, cells: CellSet, report: Report
    ) -> None:
        self._nodes = nodes
        self._blob = blob
        self._cells = cells
        self._report = report
        self._gone: set[int] = set()

    async def fetch(self, wanted: dict[int, Span]) -> bool:
        """Get spans of data cells. Returns whether it was a degraded read.

        In the healthy case they are not verified yet: the cell set holds their checksums.

        wanted   by index of the data cell, whole blocks
        raises   Unavailable if fewer than k cells can be had
        """
        healthy = [index for index in wanted if self._is_prompt(index)]
        if len(healthy) == len(wanted):
            await self._read(wanted)
            if all(self._has(index, span) for index, span in wanted.items()):
                return False
        self._verify()
        await self._fetch_around(wanted)
        return True

    async def fetch_without(self, bad: Iterable[int], wanted: dict[int, Span]) -> None:
        """Get the spans around cells that proved corrupt; all are verified then."""
        for index in bad:
            self._drop_corrupt(index)
        self._verify()
        await self._fetch_around(wanted)

    async def _fetch_around(self, wanted: dict[int, Span]) -> None:
        """Get one span of any k cells, then recreate the data cells that are still missing."""
        begin = min(span[0] for span in wanted.values())
        end = max(span[1] for span in wanted.values())
        span = (begin, end)
        while True:
            self._verify()
            have = [index for index in self._cells.spans if self._has(index, span)]
            missing = self._blob.k - len(have)
            if missing <= 0:
                break
            chosen = self._next(have, missing)
            if len(chosen) < missing:
                raise faults.Unavailable("too few fragments can be read")
            await self._read(dict.fromkeys(chosen, span))
        lost = {index: span for index in wanted if not self._has(index, span)}
        if lost:
            self._cells.reconstruct_blocking(lost, span)

    def _next(self, have: Iterable[int], count: int) -> list[int]:
        """The best cells to ask for: prompt nodes first, data before parity."""
        known = set(have) | self._gone
        rest = [
            index
            for index in range(len(self._blob.disk_ids))
            if index not in known and self._nodes.client_of(self._blob.disk_ids[index])
        ]
        rest.sort(key=lambda index: (not self._is_prompt(index), index))
        return rest[:count]

    async def _read(self, spans: dict[int, Span]) -> None:
        """Ask for spans; those that come in time and intact are noted in the cell set."""
        calls: dict[asyncio.Future[Reply], tuple[int, Span]] = {}
        for index, span in spans.items():
            if self._has(index, span):
                continue
            client = self._nodes.client_of(self._blob.disk_ids[index])
            if client is None:
                self._gone.add(index)
                continue
            offset = self._cells.stripe.fragment_offset
            request = storage_pb2.ReadFragment(
                blob_id=self._blob.blob_id, index=index, disk_id=self._blob.disk_ids[index]
            )
            request.ranges.add(offset=offset + span[0], length=span[1] - span[0])
            place = self._cells.place(index, *span)
            calls[client.read_fragment(request, place, READ_DEADLINE_S)] = (index, span)
        if not calls:
            return
        try:
            done, late = await asyncio.wait(calls, timeout=HEDGE_S)
            if late and not self._next(spans, 1):
                more, late = await asyncio.wait(late)  # nobody else to ask
                done |= more
        except asyncio.CancelledError:
            for call in calls:
                call.cancel()  # their places are about to be somebody else's memory
            raise
        for call in late:
            index, _ = calls[call]
            call.cancel()  # from now on nothing is written to its place
            self._gone.add(index)
            self._nodes.was_late(self._blob.disk_ids[index])
        for call in done:
            self._note(call, *calls[call])

    def _note(self, call: "asyncio.Future[Reply]", index: int, span: Span) -> None:
        failure = call.exception()
        if isinstance(failure, (faults.NotFound, faults.Corrupt, faults.Invalid)):
            self._report(self._blob, index, "missing")
        elif failure is None:
            reply = storage_pb2.ReadFragmentReply.FromString(call.result().header)
            blocks = -(-(span[1] - span[0]) // BLOCK_BYTES)
            if len(reply.block_checksums) == CHECKSUM_BYTES * blocks:
                self._cells.spans[index] = span
                self._cells.unverified[index] = reply.block_checksums
                return
            self._drop_corrupt(index)
        elif not isinstance(failure, (faults.Unavailable, faults.Busy)):
            raise failure
        self._gone.add(index)

    def _verify(self) -> None:
        """Compare what was read with its checksums, before it is decoded from."""
        for index, checksums in list(self._cells.unverified.items()):
            if not self._cells.is_intact(index, *self._cells.spans[index], checksums):
                self._drop_corrupt(index)
        self._cells.unverified.clear()

    def _drop_corrupt(self, index: int) -> None:
        log.error(
            "a fragment is corrupt",
            extra={"blob": self._blob.blob_id.hex(), "index": index, "block": BLOCK_BYTES},
        )
        self._cells.spans.pop(index, None)
        self._cells.unverified.pop(index, None)
        self._gone.add(index)
        self._report(self._blob, index, "bad_block")

    def _has(self, index: int, span: Span) -> bool:
        known = self._cells.spans.get(index)
        return known is not None and known[0] <= span[0] and span[1] <= known[1]

    def _is_prompt(self, index: int) -> bool:
        return index not in self._gone and self._nodes.is_prompt(self._blob.disk_ids[index])
