"""Repair: blobs that miss a fragment, or lie badly, made whole again, those most at risk first.

A job is planned from the placement as it is named now, claimed with the places that will be written
to, worked on, and committed by one conditional change of the placement. A worker that dies leaves a
claim that ends by itself; one that wakes up too late is refused by the service and by the nodes.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from common import fault_points, faults
from common.clock import Clock
from common.placement.repair import Blob, DiskView, Plan, elsewhere, plan
from metaservice.client import MetaClient, Method
from proto import meta_pb2, records_pb2, storage_pb2
from workers.nodes import WorkerNodes
from workers.pace import Pace
from workers.rebuild import Rebuilder, Sources

log = logging.getLogger(__name__)

CLAIM_S = 60
ENTRIES_PER_PAGE = 16
ROUND_S = 5.0  # then the queue is read from its begin again: what is more urgent may have come
RETRY_S = 10.0  # a job that failed is left alone for so long
WAITING_RATIO = 10.0  # and all that waits for so many times as long as looking at it takes
RETRIES_KEPT_MAX = 10_000
Outcome = meta_pb2.CommitPlacementReply

BLOBS = Counter("ostraka_repair_blobs", "Blobs worked on, by what came of it", ["outcome"])
FRAGMENTS = Counter("ostraka_repair_fragments", "Fragments rebuilt, moved or found right", ["how"])
READ = Gauge("ostraka_repair_read_bytes", "Bytes read by repair since the process started")
WRITTEN = Gauge("ostraka_repair_written_bytes", "Bytes written by repair since the process started")
LIMIT = Gauge("ostraka_repair_limit_bytes_per_s", "How fast repair may read now")


@dataclass(slots=True)
class _Work:
    """A planned job."""

    entry: meta_pb2.RepairEntry
    plan: Plan
    bad: frozenset[int]  # reported, read, and found bad
    view: DiskView | None = None  # that it was planned with
    token: int = 0

    @property
    def is_salvage(self) -> bool:
        """Whether too few fragments are wholly right: good blocks of the bad ones are needed."""
        blob = self.entry.blob
        return bool(self.bad) and len(blob.disk_ids) - len(self.plan.missing) < blob.k

    @property
    def blob_id(self) -> bytes:
        """The blob's id."""
        return self.entry.job.blob.blob_id


class RepairWorker:
    """Works on the queue; several of them share it by claims."""

    def __init__(  # noqa: PLR0913 - wired in one place
        self,
        meta: MetaClient,
        nodes: WorkerNodes,
        rebuilder: Rebuilder,
        pace: Pace,
        clock: Clock,
        name: str,
        in_flight_max: int = 8,
    ) -> None:
        self._meta = meta
        self._nodes = nodes
        self._rebuilder = rebuilder
        self._pace = pace
        self._clock = clock
        self._holder = f"{name}-{secrets.token_hex(4)}"
        self._in_flight_max = in_flight_max
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._retry_at_s: dict[bytes, float] = {}
        self._view_of_waiting: DiskView | None = None
        self._waiting_due_s = 0.0  # then what waits is looked at again
        self._has_left = False  # whether a job was left alone for a while
        self._blobs = 0
        READ.set_function(lambda: rebuilder.bytes_read)
        WRITTEN.set_function(lambda: rebuilder.bytes_written)

    async def watch(self) -> None:
        """Once a second: who is there, and what clients feel."""
        await self._nodes.refresh()
        self._pace.felt(self._nodes.foreground)
        await self._meta.call(
            Method.QUEUE_REPAIRS, meta_pb2.QueueRepairs(progress=self._progress())
        )
        LIMIT.set(self._pace.bytes_per_s)

    async def run_once(self) -> None:
        """Work on the queue until nothing is left that can be done now."""
        try:
            while await self._round(is_waiting=False):
                pass
            view, now_s = self._nodes.view(), self._clock.monotonic_s()
            if view != self._view_of_waiting or now_s >= self._waiting_due_s:
                # The cluster changed: some of what waits may be possible now.
                self._has_left, self._waiting_due_s = False, math.inf
                self._view_of_waiting = view
                await self._round(is_waiting=True)
                if self._has_left:
                    ended_s = self._clock.monotonic_s()
                    pause_s = max(RETRY_S, WAITING_RATIO * (ended_s - now_s))
                    self._waiting_due_s = min(self._waiting_due_s, ended_s + pause_s)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._tasks.clear()

    async def _round(self, *, is_waiting: bool) -> bool:
        """Go through the queue once, or for some seconds; returns whether anything was done."""
        after, begun = b"", False
        end_s = self._clock.monotonic_s() + ROUND_S
        while True:
            page = await self._page(after, is_waiting=is_waiting)
            works = await self._prepare(page.entries)
            begun = bool(works) or begun
            for work in works:
                while len(self._tasks) >= self._in_flight_max:
                    await self._wait_for_one()
                task = asyncio.get_running_loop().create_task(self._work(work))
                self._tasks[work.blob_id] = task
            if not page.more or (not is_waiting and self._clock.monotonic_s() > end_s):
                break
            after = page.entries[-1].row if page.entries else after
            if not page.entries:
                break
        while self._tasks:
            await self._wait_for_one()
        return begun

    def _progress(self) -> meta_pb2.RepairProgress:
        return meta_pb2.RepairProgress(
            worker=self._holder,
            bytes_read=self._rebuilder.bytes_read,
            bytes_written=self._rebuilder.bytes_written,
            blobs=self._blobs,
            limit_bytes_per_s=int(self._pace.bytes_per_s),
            is_throttled=self._pace.is_throttled,
            lost_after_ms=self._nodes.lost_after_ms,
        )

    async def _page(self, after: bytes, *, is_waiting: bool) -> meta_pb2.QueueRepairsReply:
        request = meta_pb2.QueueRepairs(after=after, limit=ENTRIES_PER_PAGE, waiting=is_waiting)
        reply: meta_pb2.QueueRepairsReply = await self._meta.call(Method.QUEUE_REPAIRS, request)
        return reply

    async def _wait_for_one(self) -> None:
        await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for blob_id, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[blob_id]
                task.result()

    # --- planning and claiming ----------------------------------------------------------------

    async def _prepare(self, entries: Iterable[meta_pb2.RepairEntry]) -> list[_Work]:
        """Plan the jobs of a page, and claim those where something can be done."""
        entries, now_s = list(entries), self._clock.monotonic_s()
        free = [
            entry
            for entry in entries
            if entry.job.blob.blob_id not in self._tasks
            and self._retry_at_s.get(entry.job.blob.blob_id, 0.0) <= now_s
        ]
        self._has_left = self._has_left or len(free) < len(entries)
        planned = await asyncio.gather(*[self._plan(entry) for entry in free])
        works = [work for work in planned if work is not None]
        if not works:
            return []
        request = meta_pb2.ClaimRepairs(holder=self._holder, seconds=CLAIM_S)
        for work in works:
            claim = request.claims.add(
                blob_id=work.blob_id, generation=work.entry.blob.placement_generation
            )
            for index, disk in work.plan.moves.items():
                claim.targets.add(index=index, disk_id=disk.disk_id)
        reply: meta_pb2.ClaimRepairsReply = await self._meta.call(Method.CLAIM_REPAIRS, request)
        for work, token in zip(works, reply.tokens, strict=True):
            work.token = token
            if not token:
                self._leave(work.blob_id)
        return [work for work in works if work.token]

    async def _plan(self, entry: meta_pb2.RepairEntry) -> _Work | None:
        """What to do for a blob; None: nothing now."""
        job, blob = entry.job, entry.blob
        view = self._nodes.view()
        if not entry.HasField("blob"):
            return _Work(entry, Plan((), {}, True), frozenset())
        try:
            bad = await self._bad_ones(job, blob)
        except faults.Unavailable:
            self._leave(blob.blob_id)
            return None
        known = Blob(blob.blob_id, blob.k, blob.m, list(blob.disk_ids), bad)
        step = plan(known, view)
        if bad and len(blob.disk_ids) - len(step.missing) < blob.k:
            step = _salvage(known, step, view, bad)
        waits = job.waiting and set(step.missing) == set(job.missing)
        if waits and not step.moves and not step.is_whole:
            return None
        return _Work(entry, step, bad, view)

    async def _bad_ones(
        self, job: records_pb2.RepairJob, blob: records_pb2.BlobRef
    ) -> frozenset[int]:
        """Of the fragments told to be missing, those that can be read and are not right."""
        lost = self._nodes.lost()
        bad = set()
        for index in job.missing:
            if index >= len(blob.disk_ids):
                continue
            disk_id = blob.disk_ids[index]
            if not disk_id or disk_id in lost or not self._nodes.is_readable(disk_id):
                continue
            if await self._rebuilder.is_whole(blob, index, disk_id):
                FRAGMENTS.labels("found_right").inc()
            else:
                bad.add(index)
        return frozenset(bad)

    def _leave(self, blob_id: bytes) -> None:
        """Look at a job again only later."""
        self._has_left = True
        if len(self._retry_at_s) >= RETRIES_KEPT_MAX:
            self._retry_at_s.clear()
        self._retry_at_s[blob_id] = self._clock.monotonic_s() + RETRY_S

    # --- doing --------------------------------------------------------------------------------

    async def _work(self, work: _Work) -> None:
        """Do a claimed job, and commit or give it up."""
        is_done = True
        fault_points.reach("repair.after_claim")
        try:
            if work.plan.moves:
                await self._make(work)
        except (faults.Unavailable, faults.Full, faults.Busy, faults.AlreadyExists) as fault:
            log.info("a repair did not succeed: %s", fault, extra={"blob": work.blob_id.hex()})
            is_done = False
        except (faults.Fenced, faults.Invalid, faults.NotFound, faults.Corrupt) as fault:
            log.warning("a repair was refused: %s", fault, extra={"blob": work.blob_id.hex()})
            if isinstance(fault, faults.Corrupt) and work.is_salvage:
                work.plan = Plan(work.plan.missing, {}, False)  # it waits for a disk to return
            else:
                is_done = False
        fault_points.reach("repair.before_commit")
        outcome = await self._commit(work, is_done=is_done)
        fault_points.reach("repair.after_commit")
        if not is_done:
            self._leave(work.blob_id)
        BLOBS.labels(Outcome.Outcome.Name(outcome).lower() if is_done else "failed").inc()
        self._blobs += 1

    async def _commit(self, work: _Work, *, is_done: bool) -> "Outcome.Outcome.ValueType":
        step = work.plan
        request = meta_pb2.CommitPlacement(
            blob_id=work.blob_id,
            token=work.token,
            generation=work.entry.blob.placement_generation,
            seen=work.entry.job.missing,
        )
        if is_done:
            for index, disk in step.moves.items():
                request.moves.add(index=index, disk_id=disk.disk_id)
            request.missing.extend(i for i in step.missing if i not in step.moves)
            request.whole = step.is_whole
            request.waiting = not step.is_whole and not step.moves
            if request.waiting and work.view != self._view_of_waiting:
                self._waiting_due_s = 0.0  # what it waits for may be there by now
        else:
            request.missing.extend(step.missing)
        reply: meta_pb2.CommitPlacementReply = await self._meta.call(
            Method.COMMIT_PLACEMENT, request
        )
        return reply.outcome

    async def _make(self, work: _Work) -> None:
        """Have every target's fragment on its disk. raises Unavailable, Full ..."""
        blob, step = work.entry.blob, work.plan
        sources = self._sources(work)
        targets = {index: disk.disk_id for index, disk in step.moves.items()}
        for index, disk_id in list(targets.items()):
            if await self._is_there(work, index, disk_id, sources):
                FRAGMENTS.labels("taken_back").inc()
                del targets[index]
        if not targets:
            return
        copied = len(targets.keys() & sources.disks.keys())
        try:
            await self._rebuilder.rebuild(blob, sources, targets, work.token)
        except faults.Full:
            for disk_id in targets.values():
                self._nodes.avoid(disk_id)
            raise
        finally:
            await self._report(work, sources)
        FRAGMENTS.labels("moved").inc(copied)
        FRAGMENTS.labels("rebuilt").inc(len(targets) - copied)

    def _sources(self, work: _Work) -> Sources:
        return Sources(
            {
                index: disk_id
                for index, disk_id in enumerate(work.entry.blob.disk_ids)
                if index not in work.plan.missing and self._nodes.is_readable(disk_id)
            },
            {index: work.entry.blob.disk_ids[index] for index in work.bad if work.is_salvage},
        )

    async def _is_there(self, work: _Work, index: int, disk_id: int, sources: Sources) -> bool:
        """Whether the right fragment is on its new disk already; another one there is deleted.

        raises   Unavailable, also if deleting a damaged one would risk the blob
        """
        client = self._nodes.client_of(disk_id)
        if client is None:
            raise faults.Unavailable(f"disk {disk_id} does not answer")
        blob = work.entry.blob
        name = storage_pb2.FragmentId(blob_id=blob.blob_id, index=index, disk_id=disk_id)
        found = await client.stat_fragments(storage_pb2.StatFragments(fragments=[name]))
        places = {(stray.index, stray.disk_id) for stray in work.entry.strays}
        if not found.fragments and (index, disk_id) not in places:
            return False
        may_be_right = found.fragments and index not in work.bad
        if may_be_right and await self._rebuilder.verify(blob, index, disk_id):
            return True
        if blob.disk_ids[index] == disk_id:
            try:
                await self._require_others(blob, sources)
            except faults.Unavailable:
                await self._report(work, sources)
                raise
        await client.delete_fragments(
            storage_pb2.DeleteFragments(fragments=[name], may_return=True, fence=work.token - 1)
        )
        return False

    async def _require_others(self, blob: records_pb2.BlobRef, sources: Sources) -> None:
        """A damaged fragment's good blocks may be needed: k others must be wholly right first.

        raises   Unavailable
        """
        right = 0
        for index, disk_id in list(sources.disks.items()):
            if await self._rebuilder.verify(blob, index, disk_id):
                right += 1
            else:
                sources.refuse(index, "bad_block")
            if right == blob.k:
                return
        raise faults.Unavailable("too few other fragments are right")

    async def _report(self, work: _Work, sources: Sources) -> None:
        """Tell of fragments that turned out bad while they were read."""
        for reason in ("missing", "bad_block"):
            indexes = [index for index, why in sources.bad.items() if why == reason]
            if indexes:
                request = meta_pb2.ReportBad(blob=work.entry.blob, indexes=indexes, reason=reason)
                await self._meta.call(Method.REPORT_BAD, request)


def _salvage(blob: Blob, step: Plan, view: DiskView, bad: frozenset[int]) -> Plan:
    """One fragment at a time, made from good blocks; never in the place of one that has some."""
    for index in sorted(step.missing, key=lambda index: (index in bad, index)):
        target = elsewhere(blob, view, index) if index in bad else step.moves.get(index)
        if target is not None:
            return Plan(step.missing, {index: target}, False)
    return Plan(step.missing, {}, False)
