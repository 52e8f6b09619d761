"""The comparison that never ends: metadata against disks and disks against metadata, page by page.

One page a round, under a lease; the place in the pass is kept with the metadata. What is missing or
bad is reported for repair. Fragments that nothing knows of are noted, and deleted when they have
been unknown for a day (metaservice/operations/quarantine.py); those of blobs that lie elsewhere are
strays, deleted after the grace of moved ones (metaservice/operations/strays.py).
"""

import logging
from collections.abc import Sequence

from prometheus_client import Counter

from common import faults
from common.clock import Clock
from metaservice.client import MetaClient, Method
from proto import meta_pb2, records_pb2, scrub_pb2, storage_pb2
from workers.compare import METADATA, ORPHAN, REPAIRABLE, Comparison, Finding
from workers.garbage import NodeDirectory

log = logging.getLogger(__name__)

LEASE = "comparison"
LEASE_S = 120
RENEW_S = 30.0  # and the place is saved
ROWS_PER_PAGE = 200
FRAGMENTS_PER_PAGE = 100
REPORTED_AT_ONCE_MAX = 50
Walk = scrub_pb2.WalkBlobs

FOUND = Counter("ostraka_comparison_found", "What the comparison found", ["kind"])
ROWS = Counter("ostraka_comparison_rows", "Metadata rows that the comparison went through")
FRAGMENTS = Counter("ostraka_comparison_fragments", "Fragments on disks that it went through")
DELETED = Counter("ostraka_quarantine_deleted", "Unknown fragments deleted after their quarantine")


class ComparisonScrub:
    """Rounds of one page each."""

    def __init__(
        self, meta: MetaClient, nodes: NodeDirectory, holder: str, clock: Clock, pause_s: float
    ) -> None:
        """pause_s   between two passes"""
        self._meta = meta
        self._nodes = nodes
        self._holder = holder
        self._clock = clock
        self._pause_s = pause_s
        self._lease = records_pb2.Lease()
        self._renewed_s: float | None = None
        self._state = scrub_pb2.ScrubState()

    async def step(self) -> None:
        """One page, if the lease is ours. raises Unavailable, Corrupt"""
        if not await self._hold_lease():
            return
        state = self._state
        if self._clock.now_ns() < state.resting_until_ns:
            return
        if not state.begun_ns:
            state.pass_number += 1
            state.begun_ns = self._clock.now_ns()
        await self._nodes.refresh()
        comparison = Comparison(self._meta, self._nodes, self._clock.now_ns(), with_data=False)
        if not state.rows_done:
            await self._rows(comparison)
        else:
            await self._disk(comparison)

    async def _hold_lease(self) -> bool:
        """Have the lease, and what whoever had it before had come to."""
        now_s = self._clock.monotonic_s()
        if self._renewed_s is not None and now_s - self._renewed_s < RENEW_S:
            return True
        request = meta_pb2.AcquireLease(name=LEASE, holder=self._holder, seconds=LEASE_S)
        reply: meta_pb2.LeaseReply = await self._meta.call(Method.ACQUIRE_LEASE, request)
        if not reply.is_held:
            self._renewed_s = None
            return False
        if reply.lease.token != self._lease.token or self._renewed_s is None:
            self._lease = reply.lease
            self._state = await self._meta.call(Method.LOAD_SCRUB, scrub_pb2.LoadScrub())
        else:
            await self._save()
        self._renewed_s = now_s
        return True

    async def _save(self) -> None:
        request = scrub_pb2.SaveScrub(
            state=self._state, holder=self._holder, token=self._lease.token
        )
        try:
            await self._meta.call(Method.SAVE_SCRUB, request)
        except faults.Fenced:
            self._renewed_s = None
            raise

    # --- rows -----------------------------------------------------------------------------------

    async def _rows(self, comparison: Comparison) -> None:
        state = self._state
        request = Walk(rows=state.rows, position=state.position, limit=ROWS_PER_PAGE)
        page: scrub_pb2.WalkBlobsReply = await self._meta.call(Method.WALK_BLOBS, request)
        for problem in page.problems:
            self._count(METADATA)
            log.error("metadata: %s", problem.words, extra={"bucket": problem.bucket})
        findings = await comparison.check_blobs(page.blobs)
        for finding in findings:
            self._count(finding.kind)
        await self._report([finding for finding in findings if finding.kind in REPAIRABLE])
        ROWS.inc(page.rows)
        state.position = page.position
        if page.done:
            state.position = b""
            if state.rows == Walk.VERSIONS:
                state.rows = Walk.PARTS
            else:
                state.rows, state.rows_done = Walk.VERSIONS, True

    async def _report(self, findings: Sequence[Finding]) -> None:
        fragments = [bad for finding in findings for bad in finding.bad]
        for begin in range(0, len(fragments), REPORTED_AT_ONCE_MAX):
            some = fragments[begin : begin + REPORTED_AT_ONCE_MAX]
            await self._meta.call(
                Method.REPORT_FRAGMENTS, scrub_pb2.ReportFragments(fragments=some)
            )

    # --- disks ----------------------------------------------------------------------------------

    async def _disk(self, comparison: Comparison) -> None:
        state = self._state
        disk_ids = sorted(
            disk.disk_id
            for disk in self._nodes.disks()
            if disk.state != records_pb2.Disk.REMOVED and disk.disk_id >= state.disk_id
        )
        if not disk_ids:
            await self._finish()
            return
        if disk_ids[0] != state.disk_id:
            state.disk_id, state.after = disk_ids[0], b""
        client = self._nodes.client_of(state.disk_id)
        more = False
        if client is not None:
            request = storage_pb2.ListFragments(
                disk_id=state.disk_id, after=state.after, limit=FRAGMENTS_PER_PAGE
            )
            try:
                page = await client.list_fragments(request)
            except (faults.Unavailable, faults.Busy, faults.NotFound):
                page = None  # the next pass comes by again
            if page is not None:
                await self._page(comparison, page)
                more = page.more
        if not more:
            state.disk_id, state.after = state.disk_id + 1, b""

    async def _page(self, comparison: Comparison, page: storage_pb2.ListFragmentsReply) -> None:
        """Judge the fragments of a page of the disk that is looked at."""
        state = self._state
        findings = await comparison.check_fragments(state.disk_id, page.fragments)
        after = state.after
        if page.fragments:
            last = page.fragments[-1]
            state.after = last.blob_id + bytes([last.index])
        place = scrub_pb2.Quarantine(
            disk_id=state.disk_id, is_page=True, after=after, upto=state.after if page.more else b""
        )
        await self._unknown(place, findings)
        await self._elsewhere(state.disk_id, comparison.elsewhere)
        FRAGMENTS.inc(len(page.fragments))

    async def _unknown(self, request: scrub_pb2.Quarantine, findings: Sequence[Finding]) -> None:
        """Note unknown fragments of a page; delete those whose time has come."""
        disk_id = request.disk_id
        fragments = [
            storage_pb2.FragmentId(
                blob_id=finding.named.blob.blob_id, index=finding.index, disk_id=disk_id
            )
            for finding in findings
            if finding.kind == ORPHAN
        ]
        if fragments:
            self._count(ORPHAN, len(fragments))
            request.fragments.extend(fragments)
        reply: scrub_pb2.QuarantineReply = await self._meta.call(Method.QUARANTINE, request)
        client = self._nodes.client_of(disk_id)
        if not reply.due or client is None:
            return
        # Nothing that was written after it was first seen: it would be somebody else's.
        before_ns = min(due.seen_ns for due in reply.due)
        gone = [due.fragment for due in reply.due]
        deletion = storage_pb2.DeleteFragments(fragments=gone, written_before_ns=before_ns)
        deleted = await client.delete_fragments(deletion)
        DELETED.inc(deleted.deleted)
        log.warning("unknown fragments deleted", extra={"disk": disk_id, "count": deleted.deleted})
        await self._meta.call(Method.RELEASE, scrub_pb2.Release(fragments=gone))

    async def _elsewhere(self, disk_id: int, fragments: Sequence[storage_pb2.FragmentInfo]) -> None:
        """Let fragments go whose blobs lie on other disks, if nothing else will delete them.

        Such a one came too late for its commit, and repair has made it anew on another disk.
        """
        if not fragments:
            return
        request = meta_pb2.JudgeFragments(disk_id=disk_id)
        for fragment in fragments:
            request.fragments.add(blob_id=fragment.blob_id, index=fragment.index)
        await self._meta.call(Method.JUDGE_FRAGMENTS, request)

    # --- passes ---------------------------------------------------------------------------------

    def _count(self, kind: str, count: int = 1) -> None:
        FOUND.labels(kind).inc(count)
        self._state.found[kind] += count

    async def _finish(self) -> None:
        now_ns, before = self._clock.now_ns(), self._state
        log.info("compared metadata and disks", extra={"found": dict(before.found)})
        self._state = scrub_pb2.ScrubState(
            pass_number=before.pass_number,
            finished_ns=now_ns,
            found_before=before.found,
            resting_until_ns=now_ns + int(self._pause_s * 1e9),
        )
        await self._save()
