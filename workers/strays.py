"""What lies where no placement names it: deleted when it is due; disks that came back are searched.

A disk that was taken for lost may hold fragments that were rebuilt elsewhere meanwhile, and ones of
objects deleted meanwhile. The metadata service judges every one of them; what is still right stays.
"""

import logging
from collections.abc import Iterable

from prometheus_client import Counter

from common import faults
from metaservice.client import MetaClient, Method
from proto import meta_pb2, records_pb2, storage_pb2
from workers.nodes import WorkerNodes

log = logging.getLogger(__name__)

LEASE_S = 60
ROWS_PER_PAGE = 500
PAGES_PER_ROUND = 20
TAKEN_AT_ONCE = 40
FRAGMENTS_PER_PAGE = 500
PAGES_WALKED_PER_ROUND = 50
Disk = records_pb2.Disk

DELETED = Counter(
    "ostraka_repair_deleted_fragments", "Fragments deleted where nothing names them", ["reason"]
)


class StrayKeeper:
    """Two rounds of work: deleting what is due, walking disks that came back."""

    def __init__(self, meta: MetaClient, nodes: WorkerNodes, holder: str) -> None:
        self._meta = meta
        self._nodes = nodes
        self._holder = holder
        self._after = b""
        self._walked: dict[int, bytes] = {}

    # --- deleting -----------------------------------------------------------------------------

    async def sweep(self) -> int:
        """Look at the next pages of strays; returns how many were deleted."""
        deleted = 0
        for _ in range(PAGES_PER_ROUND):
            page: meta_pb2.ListStraysReply = await self._meta.call(
                Method.LIST_STRAYS, meta_pb2.ListStrays(after=self._after, limit=ROWS_PER_PAGE)
            )
            by_disk: dict[int, list[meta_pb2.StrayEntry]] = {}
            for entry in page.due:
                by_disk.setdefault(entry.stray.disk_id, []).append(entry)
            for disk_id, entries in by_disk.items():
                for begin in range(0, len(entries), TAKEN_AT_ONCE):
                    deleted += await self._delete(disk_id, entries[begin : begin + TAKEN_AT_ONCE])
            self._after = page.next if page.more else b""
            if not page.more:
                break
        return deleted

    async def _delete(self, disk_id: int, entries: list[meta_pb2.StrayEntry]) -> int:
        disk = self._nodes.disk(disk_id)
        if disk is None or disk.gone or disk.state == Disk.REMOVED:
            # If it ever comes back it is walked.
            await self._meta.call(Method.FINISH_STRAYS, meta_pb2.FinishStrays(strays=entries))
            return 0
        client = self._nodes.client_of(disk_id)
        if client is None or not self._nodes.is_readable(disk_id):
            return 0
        try:
            names = [_name(entry, disk_id) for entry in entries]
            found = await client.stat_fragments(storage_pb2.StatFragments(fragments=names))
            written = {(info.blob_id, info.index): info.written_ns for info in found.fragments}
            taken: meta_pb2.TakeStraysReply = await self._meta.call(
                Method.TAKE_STRAYS, meta_pb2.TakeStrays(strays=entries)
            )
            done = meta_pb2.FinishStrays()
            for entry, token in zip(entries, taken.tokens, strict=True):
                if not token:
                    continue
                written_ns = written.get((entry.blob_id, entry.stray.index), 0)
                # Not what may be written there later: this worker may be late itself.
                await client.delete_fragments(
                    storage_pb2.DeleteFragments(
                        fragments=[_name(entry, disk_id)],
                        may_return=True,
                        written_before_ns=written_ns + 1,
                        fence=token,
                    )
                )
                finished = done.strays.add(blob_id=entry.blob_id, stray=entry.stray)
                finished.stray.token = token
        except (faults.Unavailable, faults.NotFound, faults.Busy) as fault:
            log.info("strays stay for now: %s", fault, extra={"disk": disk_id})
            return 0
        await self._meta.call(Method.FINISH_STRAYS, done)
        DELETED.labels("moved").inc(len(done.strays))
        return len(done.strays)

    # --- walking ------------------------------------------------------------------------------

    async def walk(self) -> None:
        """Search disks that came back after they were taken for lost."""
        lost = self._nodes.lost()
        for disk in self._nodes.disks():
            if not disk.was_lost or disk.disk_id in lost:
                continue
            if self._nodes.is_settled(disk.disk_id) and await self._hold(disk.disk_id):
                await self._walk(disk.disk_id)

    async def _hold(self, disk_id: int) -> bool:
        request = meta_pb2.AcquireLease(
            name=f"walk-{disk_id}", holder=self._holder, seconds=LEASE_S
        )
        lease: meta_pb2.LeaseReply = await self._meta.call(Method.ACQUIRE_LEASE, request)
        return lease.is_held

    async def _walk(self, disk_id: int) -> None:
        """Have some pages judged; the next round goes on."""
        for _ in range(PAGES_WALKED_PER_ROUND):
            client = self._nodes.client_of(disk_id)
            if client is None:
                return
            after = self._walked.get(disk_id, b"")
            try:
                page = await client.list_fragments(
                    storage_pb2.ListFragments(
                        disk_id=disk_id, after=after, limit=FRAGMENTS_PER_PAGE
                    )
                )
                if page.fragments:
                    self._walked[disk_id] = await self._judge(disk_id, page.fragments)
            except (faults.Unavailable, faults.NotFound, faults.Busy) as fault:
                log.info("a walk goes on later: %s", fault, extra={"disk": disk_id})
                return
            if not page.fragments:
                self._walked.pop(disk_id, None)
                request = meta_pb2.MarkDiskWalked(disk_id=disk_id)
                await self._meta.call(Method.MARK_DISK_WALKED, request)
                return

    async def _judge(self, disk_id: int, fragments: "Iterable[storage_pb2.FragmentInfo]") -> bytes:
        """Delete the orphans of a page; returns the last fragment that was judged."""
        named = list(fragments)
        request = meta_pb2.JudgeFragments(disk_id=disk_id)
        for info in named:
            request.fragments.add(blob_id=info.blob_id, index=info.index)
        reply: meta_pb2.JudgeFragmentsReply = await self._meta.call(Method.JUDGE_FRAGMENTS, request)
        orphans = [
            storage_pb2.FragmentId(blob_id=info.blob_id, index=info.index, disk_id=disk_id)
            for info, verdict in zip(named, reply.verdicts, strict=False)
            if verdict == meta_pb2.ORPHAN
        ]
        if orphans:
            client = self._nodes.client_of(disk_id)
            if client is None:
                raise faults.Unavailable("away again")
            await client.delete_fragments(storage_pb2.DeleteFragments(fragments=orphans))
            DELETED.labels("deleted_object").inc(len(orphans))
        last = named[len(reply.verdicts) - 1]
        return last.blob_id + bytes([last.index])


def _name(entry: meta_pb2.StrayEntry, disk_id: int) -> storage_pb2.FragmentId:
    return storage_pb2.FragmentId(blob_id=entry.blob_id, index=entry.stray.index, disk_id=disk_id)
