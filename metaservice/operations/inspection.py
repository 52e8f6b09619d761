"""Reading the metadata for those who compare it with the disks: by pages, changing nothing.

A page tells which blobs its rows name and where rows contradict one another: a version without its
data, a blob without an owner row (the collector would take it for an orphan), a key whose newest
version is not the one that listings show.
"""

from collections.abc import Sequence

from common import faults
from metaservice import keys
from metaservice.kv.interface import Row
from metaservice.operations import repairs
from metaservice.operations.lookup import find_bucket
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2, scrub_pb2

ROWS_PER_PAGE_MAX = 500
BLOBS_PER_PAGE_MAX = 1000  # of a page's rows together, once exceeded the page ends
PARTS_PER_PAGE_MAX = 10_000  # counted for the versions of a page
BUCKETS_MAX = 1_000_000
REPORTED_AT_ONCE_MAX = 1000
VERSIONS_PER_SCAN = 200
BUCKET_ID = slice(1, 9)
UPLOAD_ID = slice(1, 17)

Located = scrub_pb2.Located


class Inspector:
    """Walks rows; remembers the names of buckets."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    async def walk_blobs(
        self, transaction: Transaction, request: scrub_pb2.WalkBlobs
    ) -> scrub_pb2.WalkBlobsReply:
        """One page. Pages of a changing store: each is true for the moment it was read.

        raises   NotFound("bucket"); Corrupt if rows cannot be read
        """
        begin, end = await self._range(transaction, request)
        limit = min(request.limit or ROWS_PER_PAGE_MAX, ROWS_PER_PAGE_MAX)
        rows = await transaction.scan(max(begin, request.position), end, limit)
        reply = scrub_pb2.WalkBlobsReply(position=end, done=len(rows) < limit)
        page = _Page(self, transaction, reply, request.position)
        for row in rows:
            if request.rows == scrub_pb2.WalkBlobs.PARTS:
                await page.part(row)
            elif request.rows == scrub_pb2.WalkBlobs.UPLOADS:
                reply.upload_ids.append(keys.split_key_row(row[0])[1])
            else:
                await page.version(row)
            reply.rows += 1
            reply.position = row[0] + b"\x00"
            if page.is_full and row is not rows[-1]:
                reply.done = False
                break
        return reply

    async def _range(
        self, transaction: Transaction, request: scrub_pb2.WalkBlobs
    ) -> tuple[bytes, bytes]:
        if request.rows == scrub_pb2.WalkBlobs.PARTS:
            prefix = keys.parts(request.upload_id)
        else:
            kind = b"u" if request.rows == scrub_pb2.WalkBlobs.UPLOADS else b"v"
            prefix = kind
            if request.bucket:
                bucket = await find_bucket(transaction, request.bucket)
                prefix = keys.bucket_rows(kind, bucket.bucket_id)
        return prefix, keys.after(prefix)

    async def name_of(self, transaction: Transaction, bucket_id: int) -> str:
        """A bucket's name; empty if it is gone. Ids are never used again, so names are kept."""
        if bucket_id not in self._names:
            for _, value in await transaction.scan(b"B", b"C", BUCKETS_MAX):
                bucket = records_pb2.Bucket.FromString(value)
                self._names[bucket.bucket_id] = bucket.name
        return self._names.get(bucket_id, "")

    async def locate_blobs(
        self, transaction: Transaction, request: scrub_pb2.LocateBlobs
    ) -> scrub_pb2.LocateBlobsReply:
        """What each blob is to the metadata, and where it belongs."""
        found = [await self._locate(transaction, blob_id) for blob_id in request.blob_ids]
        return scrub_pb2.LocateBlobsReply(blobs=found)

    async def _locate(self, transaction: Transaction, blob_id: bytes) -> Located:
        stored = await transaction.get_unchecked(keys.blob_owner(blob_id))
        if stored is None:
            return Located(state=await _state_unowned(transaction, blob_id))
        owner = records_pb2.BlobOwner.FromString(stored)
        named = await _named_by(transaction, owner, blob_id)
        if named is None:
            return Located(state=Located.CONDEMNED)
        named.bucket = await self.name_of(transaction, owner.bucket_id)
        return Located(state=Located.NAMED, named=named)

    async def report_fragments(
        self, transaction: Transaction, request: scrub_pb2.ReportFragments
    ) -> scrub_pb2.ReportFragmentsReply:
        """Ask for the repair of fragments that are still to be where they were found bad.

        raises   Invalid for too many at once
        """
        if len(request.fragments) > REPORTED_AT_ONCE_MAX:
            count = str(len(request.fragments))
            raise faults.Invalid("fragments", count, f"at most {REPORTED_AT_ONCE_MAX}")
        transaction.allow_large()  # three rows for a blob that has a job already
        accepted = 0
        by_blob: dict[bytes, list[scrub_pb2.BadFragment]] = {}
        for fragment in request.fragments:
            by_blob.setdefault(fragment.blob_id, []).append(fragment)
        for blob_id, fragments in by_blob.items():
            located = await self._locate(transaction, blob_id)
            blob = located.named.blob
            by_reason: dict[str, list[int]] = {}
            for fragment in fragments:
                index = fragment.index
                if index < len(blob.disk_ids) and blob.disk_ids[index] == fragment.disk_id:
                    by_reason.setdefault(fragment.reason, []).append(index)
                    accepted += 1
            for reason, indexes in by_reason.items():
                await repairs.report_bad(
                    transaction, meta_pb2.ReportBad(blob=blob, indexes=indexes, reason=reason)
                )
        return scrub_pb2.ReportFragmentsReply(accepted=accepted)


class _Page:
    """One page as it fills."""

    def __init__(
        self,
        inspector: Inspector,
        transaction: Transaction,
        reply: scrub_pb2.WalkBlobsReply,
        position: bytes,
    ) -> None:
        self._inspector = inspector
        self._transaction = transaction
        self._reply = reply
        self._parts_counted = 0
        # A position is a row's key and a zero: within the key of that row the newest came before.
        self._last_key = position[: -keys.VERSION_ROW_BYTES - 1]

    @property
    def is_full(self) -> bool:
        """Whether the page has cost enough."""
        blobs = len(self._reply.blobs)
        return blobs >= BLOBS_PER_PAGE_MAX or self._parts_counted >= PARTS_PER_PAGE_MAX

    async def version(self, row: Row) -> None:
        """A version row: its blobs, its data row, its head row."""
        row_key, value = row
        bucket_id = int.from_bytes(row_key[BUCKET_ID], "big")
        key, place = keys.split_key_row(row_key)
        version = records_pb2.Version.FromString(value)
        name = scrub_pb2.NamedBlob(
            bucket=await self._inspector.name_of(self._transaction, bucket_id),
            key=key,
            version_id=version.version_id,
        )
        if version.is_inline and not await self._has(keys.data(bucket_id, key, place)):
            self._problem(name, "its data row is missing")
        prefix = row_key[: -keys.VERSION_ROW_BYTES]
        if prefix != self._last_key:
            self._last_key = prefix
            await self._newest(name, bucket_id, place, version)
        if version.HasField("parts"):
            await self._parts(name, version)
        await self._blobs(name, version.blobs)
        if not name.bucket:
            self._problem(name, f"its bucket {bucket_id} does not exist")

    async def part(self, row: Row) -> None:
        """A part row: its blobs."""
        row_key, value = row
        part = records_pb2.Part.FromString(value)
        name = scrub_pb2.NamedBlob(upload_id=row_key[UPLOAD_ID], part_number=part.number)
        if part.blobs:
            stored = await self._transaction.get_unchecked(keys.blob_owner(part.blobs[0].blob_id))
            owner = records_pb2.BlobOwner.FromString(stored or b"")
            name.key = owner.key
            name.bucket = await self._inspector.name_of(self._transaction, owner.bucket_id)
        await self._blobs(name, part.blobs)

    async def _blobs(self, name: scrub_pb2.NamedBlob, blobs: Sequence[records_pb2.BlobRef]) -> None:
        for blob in blobs:
            named = self._reply.blobs.add()
            named.CopyFrom(name)
            named.blob.CopyFrom(blob)
            if not await self._has(keys.blob_owner(blob.blob_id)):
                self._problem(name, f"blob {blob.blob_id.hex()} has no owner row")

    async def _parts(self, name: scrub_pb2.NamedBlob, version: records_pb2.Version) -> None:
        parts = version.parts
        self._reply.upload_ids.append(parts.upload_id)
        self._parts_counted += parts.count
        prefix = keys.parts(parts.upload_id)
        rows = await self._transaction.scan(prefix, keys.after(prefix), PARTS_PER_PAGE_MAX)
        there = {int.from_bytes(row_key[-2:], "big") for row_key, _ in rows}
        if parts.runs_elsewhere:
            missing = max(0, parts.count - len(there))
        else:
            missing = sum(
                number not in there
                for run in parts.runs
                for number in range(run.first_number, run.first_number + run.count)
            )
        if missing:
            self._problem(name, f"{missing} of its {parts.count} part rows are missing")

    async def _newest(
        self,
        name: scrub_pb2.NamedBlob,
        bucket_id: int,
        place: bytes,
        version: records_pb2.Version,
    ) -> None:
        transaction, key = self._transaction, name.key
        head = await transaction.get_unchecked(keys.head(bucket_id, key))
        marker = await transaction.get_unchecked(keys.marker(bucket_id, key))
        shown = records_pb2.Head.FromString(head).row if head is not None else None
        if version.is_delete_marker:
            if head is not None or marker != place:
                self._problem(name, "its newest version is a delete marker, and it does not show")
        elif shown != place or marker is not None:
            self._problem(name, "listings do not show its newest version")

    async def _has(self, key: bytes) -> bool:
        return await self._transaction.get_unchecked(key) is not None

    def _problem(self, name: scrub_pb2.NamedBlob, words: str) -> None:
        self._reply.problems.add(
            bucket=name.bucket, key=name.key, version_id=name.version_id, words=words
        )


async def _state_unowned(
    transaction: Transaction, blob_id: bytes
) -> "scrub_pb2.Located.State.ValueType":
    if blob_id.startswith(keys.CHECKPOINT_SESSION):
        return Located.CHECKPOINT  # the journal drops its old ones itself
    session_id = int.from_bytes(blob_id[:8], "big")
    stored = await transaction.get_unchecked(keys.session(session_id))
    if stored is None:
        return Located.UNKNOWN
    state = records_pb2.Session.FromString(stored).state
    return Located.IN_FLIGHT if state == records_pb2.Session.OPEN else Located.ENDED


async def _named_by(
    transaction: Transaction, owner: records_pb2.BlobOwner, blob_id: bytes
) -> scrub_pb2.NamedBlob | None:
    """The blob as its owner names it; None: it does not, any more."""
    if owner.upload_id:
        stored = await transaction.get_unchecked(keys.part(owner.upload_id, owner.part_number))
        part = records_pb2.Part.FromString(stored or b"")
        for blob in part.blobs:
            if blob.blob_id == blob_id:
                return scrub_pb2.NamedBlob(
                    blob=blob,
                    key=owner.key,
                    upload_id=owner.upload_id,
                    part_number=owner.part_number,
                )
        return None
    prefix = keys.versions(owner.bucket_id, owner.key)
    begin, end = prefix, keys.after(prefix)
    while rows := await transaction.scan(begin, end, VERSIONS_PER_SCAN):
        for _, value in rows:
            if blob_id not in value:
                continue  # cheaper than parsing every version of a key that has many
            version = records_pb2.Version.FromString(value)
            for blob in version.blobs:
                if blob.blob_id == blob_id:
                    return scrub_pb2.NamedBlob(
                        blob=blob, key=owner.key, version_id=version.version_id
                    )
        begin = rows[-1][0] + b"\x00"
    return None
