"""How repair goes on: what workers say of themselves, and what the counters of jobs say.

What changes by the second (rates, what was done since there was last nothing to do) stays in
memory; a service that starts anew counts anew. How long the last repair of much data took is a row:
`ostraka durability` rests on it.
"""

from collections import deque

from common.clock import Clock
from common.limits import MIB
from metaservice import keys
from metaservice.kv.interface import decode_counter
from metaservice.operations import placements, repairs
from metaservice.operations.repair_scan import last_pass
from metaservice.transaction import Transaction
from proto import admin_pb2, meta_pb2, records_pb2

RATE_WINDOW_S = 10.0
MEASURED_BYTES_MIN = 64 * MIB  # of less, pauses and single calls tell more than the rate
HEARD_S = 15.0  # a worker that was silent for so long counts no more
MARGINS = (*range(17), repairs.UNREADABLE)
Outcome = meta_pb2.CommitPlacementReply


class RepairBoard:
    """Progress of all workers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: dict[str, deque[tuple[float, meta_pb2.RepairProgress]]] = {}
        self._done: deque[tuple[float, int]] = deque()
        self._bytes_done = 0
        self._was_empty = True
        self._begun_s: float | None = None  # since when there is something to do

    async def queue_repairs(
        self, transaction: Transaction, request: meta_pb2.QueueRepairs
    ) -> meta_pb2.QueueRepairsReply:
        """A page of the queue; with it the worker says how far it is."""
        if request.HasField("progress"):
            self._hear(request.progress)
        if not decode_counter(await transaction.get_unchecked(repairs.BYTES_LEFT)):
            self._was_empty, self._begun_s = True, None
        elif self._begun_s is None:
            self._begun_s = self._clock.monotonic_s()
        return await repairs.read_queue(transaction, request)

    async def commit_placement(
        self, transaction: Transaction, request: meta_pb2.CommitPlacement
    ) -> meta_pb2.CommitPlacementReply:
        """See placements.commit_placement; counts what was made whole."""
        before = decode_counter(await transaction.get_unchecked(repairs.BYTES_LEFT))
        reply = await placements.commit_placement(transaction, request)
        change = transaction.adds.get(repairs.BYTES_LEFT, 0)
        if change < 0 < before:
            if self._was_empty:
                self._bytes_done, self._was_empty = 0, False
            self._bytes_done -= change
            self._done.append((self._clock.monotonic_s(), -change))
            if before + change <= 0:
                self._keep_measure(transaction)
        return reply

    def _keep_measure(self, transaction: Transaction) -> None:
        """Nothing is left to do: note how fast it went, if it was much."""
        if self._begun_s is None or self._bytes_done < MEASURED_BYTES_MIN:
            return
        taken_s = self._clock.monotonic_s() - self._begun_s
        said = [said[-1][1].lost_after_ms for said in self._lately()]
        measure = records_pb2.RepairMeasure(
            ended_ns=transaction.now_ns,
            plain_bytes=self._bytes_done,
            taken_ms=max(int(taken_s * 1000), 1),
            lost_after_ms=max(said, default=0),
        )
        transaction.put(keys.repair_measure(), measure.SerializeToString())

    async def status(self, transaction: Transaction) -> admin_pb2.RepairStatus:
        """What there is to do, and how fast it is done."""
        progress = await last_pass(transaction)
        lately = self._lately()
        now_s = self._clock.monotonic_s()
        while self._done and self._done[0][0] < now_s - RATE_WINDOW_S:
            self._done.popleft()
        status = admin_pb2.RepairStatus(
            waiting=await _count(transaction, repairs.WAITING),
            bytes_left=await _count(transaction, repairs.BYTES_LEFT),
            bytes_done=self._bytes_done,
            read_bytes_per_s=sum(_rate(said, now_s) for said in lately),
            done_bytes_per_s=int(sum(size for _, size in self._done) / RATE_WINDOW_S),
            limit_bytes_per_s=sum(said[-1][1].limit_bytes_per_s for said in lately),
            is_throttled=any(said[-1][1].is_throttled for said in lately),
            workers=len(lately),
            is_looking=bool(progress.cursor) and not progress.done,
            rows_looked_at=progress.rows,
            rows_expected=max(progress.rows, progress.rows_before),
            named=progress.named if progress.done else {},
        )
        stored = await transaction.get_unchecked(keys.repair_measure())
        if stored is not None:
            status.last.MergeFromString(stored)
        for margin in MARGINS:
            count = await _count(transaction, repairs.margin_counter(margin))
            if count:
                status.by_margin[margin] = count
        return status

    def _hear(self, progress: meta_pb2.RepairProgress) -> None:
        said = self._said.setdefault(progress.worker, deque())
        now_s = self._clock.monotonic_s()
        if said and progress.bytes_read < said[-1][1].bytes_read:
            said.clear()  # it started again
        said.append((now_s, progress))
        while said[0][0] < now_s - RATE_WINDOW_S and len(said) > 1:
            said.popleft()

    def _lately(self) -> list[deque[tuple[float, meta_pb2.RepairProgress]]]:
        horizon_s = self._clock.monotonic_s() - HEARD_S
        self._said = {name: said for name, said in self._said.items() if said[-1][0] > horizon_s}
        return list(self._said.values())


def _rate(said: deque[tuple[float, meta_pb2.RepairProgress]], now_s: float) -> int:
    begun_s, first = said[0]
    seconds = max(now_s - begun_s, 1.0)
    return int((said[-1][1].bytes_read - first.bytes_read) / seconds)


async def _count(transaction: Transaction, key: bytes) -> int:
    return max(decode_counter(await transaction.get_unchecked(key)), 0)
