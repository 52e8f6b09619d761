"""The collector: makes deleted, overwritten, aborted and orphaned data leave the disks.

Two kinds of work. Garbage rows name blobs that a commit stopped naming; when they are due their
fragments are deleted on every disk, then the row. Ended writer sessions may have left blobs that
no commit ever named: each node is walked for the session's blobs, and those without an owner row
are deleted. Both only ever delete what the metadata service says. What could not be done on a disk
that is away is kept for it, apart from the rest, until it returns or is removed.
"""

import logging
from collections.abc import Iterable
from typing import Protocol

from prometheus_client import Counter

from common import fault_points, faults
from metaservice.client import MetaClient, Method
from proto import meta_pb2, records_pb2, storage_pb2
from storagenode.client import NodeClient

log = logging.getLogger(__name__)

LEASE = "garbage"
LEASE_S = 60
ROWS_PER_PAGE = 200
PAGES_PER_ROUND = 100
SESSIONS_PER_ROUND = 20
ROWS_PER_FINISH = 20
FRAGMENTS_PER_PAGE = 500
REACHABLE = (records_pb2.Disk.UP, records_pb2.Disk.READ_ONLY, records_pb2.Disk.DRAINING)

DELETED = Counter("ostraka_fragments_collected", "Fragments deleted by the collector", ["reason"])


class NodeDirectory(Protocol):
    """Which nodes there are, and how to reach them."""

    async def refresh(self) -> None: ...

    def client_of(self, disk_id: int) -> NodeClient | None: ...

    def disks(self) -> list[records_pb2.Disk]: ...


class GarbageCollector:
    """One round at a time, under a lease."""

    def __init__(self, meta: MetaClient, nodes: NodeDirectory, holder: str) -> None:
        self._meta = meta
        self._nodes = nodes
        self._holder = holder

    async def run_once(self) -> int:
        """Do one round; returns how many rows and sessions were finished."""
        finished = 0
        for _ in range(PAGES_PER_ROUND):
            if not await self._hold_lease():
                return finished
            await self._nodes.refresh()
            listed: meta_pb2.ListGarbageReply = await self._meta.call(
                Method.LIST_GARBAGE, meta_pb2.ListGarbage(limit=ROWS_PER_PAGE)
            )
            if not listed.entries:
                break
            finished += await self._collect_rows(listed.entries)
        finished += await self._collect_orphans()
        return finished + await self._collect_kept()

    async def _hold_lease(self) -> bool:
        request = meta_pb2.AcquireLease(name=LEASE, holder=self._holder, seconds=LEASE_S)
        lease: meta_pb2.LeaseReply = await self._meta.call(Method.ACQUIRE_LEASE, request)
        return lease.is_held

    async def _collect_rows(self, entries: Iterable[meta_pb2.GarbageEntry]) -> int:
        of_blobs: list[meta_pb2.GarbageEntry] = []
        for entry in entries:
            if entry.garbage.upload_id:
                await self._expand(entry.row)
            else:
                of_blobs.append(entry)
        away = await self._delete_blobs(
            [blob for entry in of_blobs for blob in entry.garbage.blobs]
        )
        fault_points.reach("garbage.after_fragments")
        finished = 0
        for begin in range(0, len(of_blobs), ROWS_PER_FINISH):
            request = _finish_request(of_blobs[begin : begin + ROWS_PER_FINISH], away)
            await self._meta.call(Method.FINISH_GARBAGE, request)
            finished += len(request.rows)
        return finished

    async def _collect_kept(self) -> int:
        """Do what was kept for disks that have returned; forget what was kept for removed ones."""
        disks = {disk.disk_id: disk for disk in self._nodes.disks() if self._is_decided(disk)}
        finished = 0
        for _ in range(PAGES_PER_ROUND):
            if not disks or not await self._hold_lease():
                break
            request = meta_pb2.ListGarbage(limit=ROWS_PER_PAGE, disk_ids=sorted(disks))
            listed: meta_pb2.ListGarbageReply = await self._meta.call(Method.LIST_GARBAGE, request)
            if not listed.entries:
                break
            by_disk: dict[int, list[meta_pb2.GarbageEntry]] = {}
            for entry in listed.entries:
                by_disk.setdefault(entry.garbage.disk_id, []).append(entry)
            for disk_id, entries in by_disk.items():
                done = await self._collect_of(disks[disk_id], entries)
                if len(done) < len(entries):
                    del disks[disk_id]  # it is away again: the next round
                for begin in range(0, len(done), ROWS_PER_FINISH):
                    rows = done[begin : begin + ROWS_PER_FINISH]
                    await self._meta.call(Method.FINISH_GARBAGE, meta_pb2.FinishGarbage(rows=rows))
                finished += len(done)
        return finished

    def _is_decided(self, disk: records_pb2.Disk) -> bool:
        """Whether what was kept for a disk can be done, or need not be any more."""
        if disk.state == records_pb2.Disk.REMOVED:
            return True
        return disk.state in REACHABLE and self._nodes.client_of(disk.disk_id) is not None

    async def _collect_of(
        self, disk: records_pb2.Disk, entries: list[meta_pb2.GarbageEntry]
    ) -> list[bytes]:
        """Delete what was kept for one disk; returns the rows that are done."""
        if disk.state == records_pb2.Disk.REMOVED:
            return [entry.row for entry in entries]
        of_blobs = [entry for entry in entries if not entry.garbage.session_id]
        blobs = [blob for entry in of_blobs for blob in entry.garbage.blobs]
        done: list[bytes] = []
        if not await self._delete_blobs(blobs):
            done += [entry.row for entry in of_blobs]
        for entry in entries:
            if entry.garbage.session_id and await self._walk(entry.garbage.session_id, disk):
                done.append(entry.row)
        return done

    async def _expand(self, row: bytes) -> None:
        """Turn an upload into rows of blobs, which the next page brings."""
        is_done = False
        while not is_done:
            reply: meta_pb2.ExpandGarbageReply = await self._meta.call(
                Method.EXPAND_GARBAGE, meta_pb2.ExpandGarbage(row=row)
            )
            is_done = reply.done

    async def _delete_blobs(self, blobs: Iterable[records_pb2.BlobRef]) -> set[int]:
        """Delete all fragments of blobs; returns the disks where some are left."""
        removed = {
            disk.disk_id for disk in self._nodes.disks() if disk.state == records_pb2.Disk.REMOVED
        }
        by_disk: dict[int, list[storage_pb2.FragmentId]] = {}
        for blob in blobs:
            for index, disk_id in enumerate(blob.disk_ids):
                if disk_id and disk_id not in removed:
                    by_disk.setdefault(disk_id, []).append(
                        storage_pb2.FragmentId(blob_id=blob.blob_id, index=index, disk_id=disk_id)
                    )
        away: set[int] = set()
        for disk_id, fragments in by_disk.items():
            for begin in range(0, len(fragments), FRAGMENTS_PER_PAGE):
                some = fragments[begin : begin + FRAGMENTS_PER_PAGE]
                if not await self._delete(disk_id, some, "deleted"):
                    away.add(disk_id)
                    break
        return away

    async def _delete(
        self, disk_id: int, fragments: list[storage_pb2.FragmentId], reason: str
    ) -> bool:
        client = self._nodes.client_of(disk_id)
        if client is None:
            return False
        try:
            reply = await client.delete_fragments(storage_pb2.DeleteFragments(fragments=fragments))
        except (faults.Unavailable, faults.NotFound, faults.Busy) as fault:
            log.info("fragments stay for now: %s", fault, extra={"disk": disk_id})
            return False
        DELETED.labels(reason).inc(reply.deleted)
        return True

    async def _collect_orphans(self) -> int:
        listed: meta_pb2.ListEndedSessionsReply = await self._meta.call(
            Method.LIST_ENDED_SESSIONS, meta_pb2.ListEndedSessions(limit=SESSIONS_PER_ROUND)
        )
        finished = 0
        for session in listed.sessions:
            walked = set(session.walked_nodes)
            to_walk = [disk for disk in self._nodes.disks() if str(disk.disk_id) not in walked]
            away = [
                disk.disk_id
                for disk in to_walk
                if not await self._walk(session.session_id, disk)
            ]  # fmt: skip
            fault_points.reach("orphans.after_fragments")
            await self._meta.call(
                Method.MARK_WALKED,
                meta_pb2.MarkWalked(
                    session_id=session.session_id, finished=True, away_disk_ids=away
                ),
            )
            finished += 1
        return finished

    async def _walk(self, session_id: int, disk: records_pb2.Disk) -> bool:
        """Delete a session's unnamed blobs from one disk; False if the disk is away."""
        if disk.state == records_pb2.Disk.REMOVED:
            return True
        client = self._nodes.client_of(disk.disk_id)
        if client is None:
            return False
        after, prefix = b"", session_id.to_bytes(8, "big")
        while True:
            try:
                page = await client.list_fragments(
                    storage_pb2.ListFragments(
                        disk_id=disk.disk_id,
                        after=after,
                        blob_prefix=prefix,
                        limit=FRAGMENTS_PER_PAGE,
                    )
                )
            except (faults.Unavailable, faults.NotFound, faults.Busy):
                return False
            if page.fragments and not await self._drop_unnamed(disk.disk_id, page):
                return False
            if not page.more:
                return True
            last = page.fragments[-1]
            after = last.blob_id + bytes([last.index])

    async def _drop_unnamed(self, disk_id: int, page: storage_pb2.ListFragmentsReply) -> bool:
        blob_ids = [fragment.blob_id for fragment in page.fragments]
        checked: meta_pb2.CheckBlobsReply = await self._meta.call(
            Method.CHECK_BLOBS, meta_pb2.CheckBlobs(blob_ids=blob_ids)
        )
        orphans = [
            storage_pb2.FragmentId(blob_id=fragment.blob_id, index=fragment.index, disk_id=disk_id)
            for fragment, is_named in zip(page.fragments, checked.referenced, strict=True)
            if not is_named
        ]
        return not orphans or await self._delete(disk_id, orphans, "orphaned")


def _finish_request(entries: list[meta_pb2.GarbageEntry], away: set[int]) -> meta_pb2.FinishGarbage:
    """Rows to forget, and rows of which something is to be kept for disks that are away."""
    request = meta_pb2.FinishGarbage()
    for entry in entries:
        left = [blob for blob in entry.garbage.blobs if away.intersection(blob.disk_ids)]
        if left:
            postponed = request.postponed.add(row=entry.row)
            for blob in left:
                rest = postponed.garbage.blobs.add()
                rest.CopyFrom(blob)
                rest.disk_ids[:] = [disk_id if disk_id in away else 0 for disk_id in blob.disk_ids]
        else:
            request.rows.append(entry.row)
        # Also of those with a fragment left: that is kept by its disk's row from now on.
        request.blob_ids.extend(sorted({blob.blob_id for blob in entry.garbage.blobs}))
    return request
