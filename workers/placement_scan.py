"""Drives the pass over all placements: one worker at a time, a page after another, paced.

What a pass finds is worked on while it goes on: the first lost fragment is rebuilt within a second
of the loss, however long the whole pass takes.
"""

from prometheus_client import Gauge

from common.clock import Clock
from metaservice.client import MetaClient, Method
from proto import meta_pb2, records_pb2
from workers.nodes import WorkerNodes

LEASE = "placements"
LEASE_S = 20
LEASE_RENEW_S = 5.0
ROWS_PER_PAGE = 500
PAUSE_S = 0.005  # between pages, so that calls of gateways go between
IDLE_S = 2.0  # between two looks for whether a pass is due, while the disks are as they were
AGAIN_S = 3.0  # between passes while something is still named on a disk that is out
AGAIN_RATIO = 10  # and so many times as long as a pass takes

SEEN = Gauge("ostraka_repair_pass_rows", "Rows that the pass over placements has looked at")


class PlacementScan:
    """One round: a whole pass if one is due."""

    def __init__(self, meta: MetaClient, nodes: WorkerNodes, clock: Clock, holder: str) -> None:
        self._meta = meta
        self._nodes = nodes
        self._clock = clock
        self._holder = holder
        self._begun_s: float | None = None
        self._due_s = 0.0
        self._seen: tuple[int, frozenset[int]] | None = (
            None  # epoch and lost disks of the last look
        )
        self._idle_until_s = 0.0

    async def run_once(self) -> None:
        """Go on with the pass until it is done, or the lease is another's."""
        if not self._nodes.disks():
            return
        picture = (self._nodes.topology.epoch, self._nodes.lost())
        if picture == self._seen and self._clock.monotonic_s() < self._idle_until_s:
            return
        held_s = -LEASE_RENEW_S
        while True:
            now_s = self._clock.monotonic_s()
            if now_s - held_s >= LEASE_RENEW_S:
                if not await self._hold():
                    self._seen, self._idle_until_s = picture, now_s + IDLE_S
                    return
                held_s = now_s
            progress = await self._page(now_s)
            SEEN.set(progress.rows)
            if progress.done:
                self._seen, self._idle_until_s = picture, now_s + IDLE_S
                return
            await self._clock.sleep(PAUSE_S)

    async def _page(self, now_s: float) -> records_pb2.RepairPass:
        request = meta_pb2.ScanPlacements(
            lost_disk_ids=sorted(self._nodes.lost()),
            limit=ROWS_PER_PAGE,
            again=now_s >= self._due_s,
        )
        reply: meta_pb2.ScanPlacementsReply = await self._meta.call(Method.SCAN_PLACEMENTS, request)
        if not reply.progress.done:
            self._begun_s = now_s if self._begun_s is None else self._begun_s
            self._due_s = now_s + max(AGAIN_S, AGAIN_RATIO * (now_s - self._begun_s))
        else:
            self._begun_s = None
        return reply.progress

    async def _hold(self) -> bool:
        request = meta_pb2.AcquireLease(name=LEASE, holder=self._holder, seconds=LEASE_S)
        lease: meta_pb2.LeaseReply = await self._meta.call(Method.ACQUIRE_LEASE, request)
        return lease.is_held
