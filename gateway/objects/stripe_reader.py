"""One stripe from the disks: k cells in the healthy case, around what is missing, late or bad.

The healthy path never runs the decoder. What a checksum refuses, what a node does not have or does
not deliver in time is an erasure: other cells are fetched, the missing ones recreated, and the
fragment reported for repair.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from prometheus_client import Counter

from common import faults
from common.concurrency import wait_out
from common.erasure.layout import BLOCK_BYTES
from common.frames import Reply
from gateway.objects.hedging import DELAY_S_MAX
from gateway.objects.nodes import Nodes
from gateway.objects.stripes import CellSet
from proto import records_pb2, storage_pb2

log = logging.getLogger(__name__)

READ_DEADLINE_S = 10.0

CHECKSUM_BYTES = 4

HEDGED_READS = Counter(
    "ostraka_hedged_reads", "Stripes for which others were asked too, by whose cell came first",
    ["first"],
)  # fmt: skip

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
        self._asked: dict[asyncio.Future[Reply], tuple[int, Span]] = {}  # not answered yet

    async def fetch(self, wanted: dict[int, Span]) -> bool:
        """Get spans of data cells. Returns whether it was a degraded read.

        In the healthy case they are not verified yet: the cell set holds their checksums.

        wanted   by index of the data cell, whole blocks
        raises   Unavailable if fewer than k cells can be had
        """
        try:
            if all(self._is_prompt(index) for index in wanted):
                calls = self._ask(wanted)
                delay_s = self._nodes.hedge_delay_s(self._blob.disk_ids[i] for i in wanted)
                await self._collect(calls, delay_s)
                if self._has_all(wanted):
                    return False
                if self._asked:
                    return await self._read_beside(wanted, delay_s)
            await self._fetch_around(wanted)
            return True
        finally:
            self._cancel_asked()

    async def fetch_without(self, bad: Iterable[int], wanted: dict[int, Span]) -> None:
        """Get the spans around cells that proved corrupt; all are verified then."""
        for index in bad:
            self._drop_corrupt(index)
        try:
            await self._fetch_around(wanted)
        finally:
            self._cancel_asked()

    async def _read_beside(self, wanted: dict[int, Span], waited_s: float) -> bool:
        """Ask others for what is late, and take what comes first. Returns whether it was theirs."""
        spares = self._blob.k - len(wanted) + len(self._asked)
        if not self._nodes.hedging.take(spares):
            await self._collect(list(self._asked), DELAY_S_MAX - waited_s)
            if self._has_all(wanted):
                return False
            self._give_up(self._asked)
            await self._fetch_around(wanted)
            return True
        around = asyncio.get_running_loop().create_task(self._fetch_around(wanted))
        try:
            late = list(self._asked)
            while not around.done():
                waiting = [call for call in late if call in self._asked]
                both: list[asyncio.Future[Any]] = [around, *waiting]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                self._note_answered(waiting)
                if not around.done() and self._has_all(wanted):
                    HEDGED_READS.labels("late").inc()
                    return False
        finally:
            around.cancel()
            await wait_out([around])
        around.result()
        HEDGED_READS.labels("spare").inc()
        return True

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
            if len(chosen) + len(self._asked) < missing:
                raise faults.Unavailable("too few fragments can be read")
            if chosen:
                await self._read(dict.fromkeys(chosen, span))
            else:  # nobody else can be asked: wait for who is late
                await self._collect(list(self._asked), READ_DEADLINE_S)
        self._lose_asked()  # nothing may be written any more to what is recreated now
        self._verify()
        lost = {index: span for index in wanted if not self._has(index, span)}
        if lost:
            self._cells.reconstruct_blocking(lost, span)

    def _next(self, have: Iterable[int], count: int) -> list[int]:
        """The best cells to ask for: prompt nodes first, data before parity."""
        known = set(have) | self._gone | {index for index, _ in self._asked.values()}
        rest = [
            index
            for index in range(len(self._blob.disk_ids))
            if index not in known and self._nodes.client_of(self._blob.disk_ids[index])
        ]
        rest.sort(key=lambda index: (not self._is_prompt(index), index))
        return rest[:count]

    async def _read(self, spans: dict[int, Span]) -> None:
        """Ask for spans; those that come in time are noted in the cell set."""
        calls = self._ask(spans)
        await self._collect(calls, DELAY_S_MAX)
        late = [call for call in calls if call in self._asked]
        if late and self._next(spans, 1):
            self._give_up(late)
        else:
            await self._collect(late, READ_DEADLINE_S)  # nobody else to ask

    def _ask(self, spans: dict[int, Span]) -> list["asyncio.Future[Reply]"]:
        """Ask for spans of cells."""
        calls = []
        for index, span in spans.items():
            if self._has(index, span):
                continue
            disk_id = self._blob.disk_ids[index]
            client = self._nodes.client_of(disk_id)
            if client is None:
                self._gone.add(index)
                continue
            offset = self._cells.stripe.fragment_offset
            request = storage_pb2.ReadFragment(
                blob_id=self._blob.blob_id, index=index, disk_id=disk_id
            )
            request.ranges.add(offset=offset + span[0], length=span[1] - span[0])
            place = self._cells.place(index, *span)
            call = client.read_fragment(request, place, READ_DEADLINE_S)
            call.add_done_callback(partial(self._time, disk_id, self._nodes.now_s()))
            self._asked[call] = (index, span)
            calls.append(call)
        return calls

    def _time(self, disk_id: int, begun_s: float, call: "asyncio.Future[Reply]") -> None:
        if not call.cancelled() and call.exception() is None:
            self._nodes.note_read(disk_id, begun_s)

    async def _collect(self, calls: Sequence["asyncio.Future[Reply]"], timeout_s: float) -> None:
        """Wait for calls, for so long; note those that were answered."""
        if calls:
            await asyncio.wait(calls, timeout=timeout_s)
            self._note_answered(calls)

    def _note_answered(self, calls: Iterable["asyncio.Future[Reply]"]) -> None:
        for call in calls:
            if call.done() and call in self._asked:
                self._note(call, *self._asked.pop(call))

    def _give_up(self, calls: Iterable["asyncio.Future[Reply]"]) -> None:
        """These are too late: from now on nothing is written to their places."""
        for call in list(calls):
            index, _ = self._asked.pop(call)
            call.cancel()
            self._gone.add(index)
            self._nodes.was_late(self._blob.disk_ids[index])

    def _lose_asked(self) -> None:
        """Others were faster than what was asked for first."""
        self._note_answered(list(self._asked))
        for index, _ in self._asked.values():
            self._gone.add(index)
            self._nodes.lost_hedge(self._blob.disk_ids[index])
        self._cancel_asked()

    def _cancel_asked(self) -> None:
        """Places of unanswered calls are about to be somebody else's memory."""
        for call in self._asked:
            call.cancel()
        self._asked.clear()

    def _note(self, call: "asyncio.Future[Reply]", index: int, span: Span) -> None:
        failure = faults.Unavailable("cancelled") if call.cancelled() else call.exception()
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

    def _has_all(self, wanted: dict[int, Span]) -> bool:
        return all(self._has(index, span) for index, span in wanted.items())

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
