"""A whole walk over metadata and disks, page by page, comparing as it goes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from common import faults
from metaservice.client import Method
from proto import records_pb2, scrub_pb2, storage_pb2
from workers.compare import METADATA, Comparison, Disks, Finding, MetaCalls

ROWS_PER_PAGE = 200
FRAGMENTS_PER_PAGE = 200

Walk = scrub_pb2.WalkBlobs


@dataclass(frozen=True, slots=True)
class Step:
    """One page: of what, how much, what was found."""

    phase: str  # versions, parts, disk N
    count: int
    findings: Sequence[Finding]


class ClusterWalk:
    """Walks a cluster, or one bucket of it."""

    def __init__(self, meta: MetaCalls, disks: Disks, comparison: Comparison) -> None:
        self._meta = meta
        self._disks = disks
        self._comparison = comparison

    async def everything(self) -> AsyncIterator[Step]:
        """All versions, all parts, all disks. raises Unavailable, Corrupt"""
        async for step in self._rows(Walk(rows=Walk.VERSIONS), "versions"):
            yield step
        async for step in self._rows(Walk(rows=Walk.PARTS), "parts"):
            yield step
        for disk in self._disks.disks():
            if disk.state != records_pb2.Disk.REMOVED:
                async for step in self.disk(disk.disk_id):
                    yield step

    async def bucket(self, name: str) -> AsyncIterator[Step]:
        """The versions of a bucket and the parts of its uploads. raises NotFound("bucket")"""
        uploads: list[bytes] = []
        async for step in self._rows(Walk(rows=Walk.VERSIONS, bucket=name), "versions", uploads):
            yield step
        async for _ in self._rows(Walk(rows=Walk.UPLOADS, bucket=name), "uploads", uploads):
            pass
        for upload_id in uploads:
            async for step in self._rows(Walk(rows=Walk.PARTS, upload_id=upload_id), "parts"):
                yield step

    async def disk(self, disk_id: int) -> AsyncIterator[Step]:
        """All fragments of a disk; nothing if its node does not answer."""
        after, phase = b"", f"disk {disk_id}"
        while True:
            client = self._disks.client_of(disk_id)
            if client is None:
                return
            request = storage_pb2.ListFragments(
                disk_id=disk_id, after=after, limit=FRAGMENTS_PER_PAGE
            )
            try:
                page = await client.list_fragments(request)
            except (faults.Unavailable, faults.Busy, faults.NotFound):
                return
            findings = await self._comparison.check_fragments(disk_id, page.fragments)
            yield Step(phase, len(page.fragments), findings)
            if not page.more:
                return
            last = page.fragments[-1]
            after = last.blob_id + bytes([last.index])

    async def _rows(
        self, request: Walk, phase: str, uploads: list[bytes] | None = None
    ) -> AsyncIterator[Step]:
        request.limit = ROWS_PER_PAGE
        is_done = False
        while not is_done:
            page: scrub_pb2.WalkBlobsReply = await self._meta.call(Method.WALK_BLOBS, request)
            findings = [_row_finding(problem) for problem in page.problems]
            findings += await self._comparison.check_blobs(page.blobs)
            self._comparison.seen.rows += page.rows
            if uploads is not None:
                uploads.extend(page.upload_ids)
            yield Step(phase, page.rows, findings)
            request.position, is_done = page.position, page.done


def _row_finding(problem: scrub_pb2.RowProblem) -> Finding:
    named = scrub_pb2.NamedBlob(
        bucket=problem.bucket, key=problem.key, version_id=problem.version_id
    )
    return Finding(METADATA, named, words=problem.words)
