"""Metadata made anew from pieces found on disks: buckets, keys, versions, parts, in order of time.

Nothing is ever given to the collector here: fragments do not tell which of two writings of a key
was committed, or whether an upload was completed. The newest is what readers get; older ones of a
key without versions are kept as its versions.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cli.survey import Piece, PieceReader
from common import checksum, faults
from metaservice import keys
from metaservice.app import FORMAT, FORMAT_NUMBER
from metaservice.kv.interface import Store
from metaservice.operations import buckets, objects
from metaservice.operations.lookup import find_bucket, find_head
from metaservice.operations.nodes import CLUSTER_ID, EPOCH, NEXT_DISK_ID, REGION
from metaservice.transaction import Transaction, Transactor
from proto import meta_pb2, records_pb2

DEFAULT_CHECKSUM = "CRC64NVME"
METHOD = "AES256"
ENABLED, SUSPENDED = records_pb2.Bucket.ENABLED, records_pb2.Bucket.SUSPENDED
NEVER = records_pb2.Bucket.NEVER


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the disks and the folder say of the cluster itself."""

    cluster_id: str
    region: str
    disks: Sequence[records_pb2.Disk]
    profile: records_pb2.Profile


@dataclass(slots=True)
class Report:
    """What was brought back, and what was not and why."""

    buckets: int = 0
    versions: int = 0
    parts: int = 0
    bytes: int = 0
    degraded: int = 0
    superseded: int = 0  # kept as versions, though a newer one of their key replaced them
    unread: int = 0  # brought back, with an ETag made up: their data could not be read
    cut: int = 0  # without system and user metadata
    left_out: list[str] = field(default_factory=list)


class ReplayedClock:
    """The clock of the metadata as it is made: each version gets the time of its writing."""

    def __init__(self) -> None:
        self.at_ns = 0

    def now_ns(self) -> int:
        return self.at_ns

    def monotonic_s(self) -> float:
        return self.at_ns / 1e9

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits here")


@dataclass(slots=True)
class _Draft:
    """A version to be: one piece, or the parts of an upload."""

    pieces: list[Piece]
    is_upload: bool
    is_null: bool = False

    @property
    def created_ns(self) -> int:
        return max(piece.created_ns for piece in self.pieces)


class Namespace:
    """Writes pieces into a new, empty store."""

    def __init__(
        self, store: Store, cluster: Cluster, reader: PieceReader | None, say: Callable[[str], None]
    ) -> None:
        """reader   reads all data for ETags and checksums; None: they are made up"""
        self._clock = ReplayedClock()
        self._transactor = Transactor(store, self._clock)
        self._cluster = cluster
        self._reader = reader
        self._say = say
        self._versioned: set[str] = set()  # buckets that get versions they perhaps never had
        self.report = Report()

    async def write(self, pieces: Iterable[Piece]) -> Report:
        """Bring back everything that can be."""
        drafts = self._drafts(pieces)
        await self._transactor.write(self._identify, meta_pb2.FinishGarbageReply)
        await self._make_buckets(drafts)
        for number, draft in enumerate(drafts, 1):
            await self._make_version(draft)
            if number % 100 == 0:
                self._say(f"{number:,} of {len(drafts):,} versions")
        return self.report

    def _drafts(self, pieces: Iterable[Piece]) -> list[_Draft]:
        """Versions in order of time; the newest null one of each key is its null version."""
        uploads: dict[bytes, dict[int, Piece]] = {}
        drafts: list[_Draft] = []
        for piece in sorted(pieces, key=lambda piece: piece.created_ns):
            identity = piece.identity
            if piece.trouble:
                self._leave_out(piece, piece.trouble)
            elif identity.upload_id:
                uploads.setdefault(identity.upload_id, {})[identity.part_number] = piece
            else:
                drafts.append(_Draft([piece], is_upload=False))
        drafts.extend(
            _Draft([parts[number] for number in sorted(parts)], is_upload=True)
            for parts in uploads.values()
        )
        drafts.sort(key=lambda draft: draft.created_ns)
        newest: dict[tuple[str, bytes], _Draft] = {}
        for draft in drafts:
            identity = draft.pieces[-1].identity
            if draft.pieces[-1].about.versioning != ENABLED:
                draft.is_null = True
                older = newest.get((identity.bucket, identity.key))
                if older is not None:
                    older.is_null = False
                    self.report.superseded += 1
                    self._versioned.add(identity.bucket)
                newest[identity.bucket, identity.key] = draft
        return drafts

    def _leave_out(self, piece: Piece, why: str) -> None:
        identity = piece.identity
        name = identity.key.decode(errors="backslashreplace")
        part = f" part {identity.part_number}" if identity.upload_id else ""
        self.report.left_out.append(f"{identity.bucket}/{name}{part}: {why}")

    async def _identify(self, transaction: Transaction) -> meta_pb2.FinishGarbageReply:
        cluster = self._cluster
        transaction.put(FORMAT, keys.uint64(FORMAT_NUMBER))
        transaction.put(CLUSTER_ID, cluster.cluster_id.encode())
        transaction.put(REGION, cluster.region.encode())
        transaction.put(EPOCH, keys.uint64(1))
        profile = cluster.profile
        transaction.put(keys.profile(profile.name), profile.SerializeToString())
        for disk in cluster.disks:
            transaction.put(keys.disk(disk.disk_id), disk.SerializeToString())
        next_id = max((disk.disk_id for disk in cluster.disks), default=0) + 1
        transaction.put(NEXT_DISK_ID, keys.uint64(next_id))
        return meta_pb2.FinishGarbageReply()

    async def _make_buckets(self, drafts: Sequence[_Draft]) -> None:
        """Buckets as the newest fragment of each says."""
        latest = {draft.pieces[-1].identity.bucket: draft for draft in drafts}
        for name, draft in sorted(latest.items()):
            about = draft.pieces[-1].about
            self._clock.at_ns = max(about.bucket_created_ns, 1)
            versioning = about.versioning
            if name in self._versioned and versioning == NEVER:
                versioning = SUSPENDED
            bucket = records_pb2.Bucket(
                name=name,
                owner_account=about.bucket_account,
                owner_id=about.bucket_owner_id,
                region=self._cluster.region,
                versioning=versioning,
            )
            request = meta_pb2.CreateBucket(bucket=bucket)

            async def create(
                transaction: Transaction, request: meta_pb2.CreateBucket = request
            ) -> meta_pb2.BucketReply:
                return await buckets.create_bucket(transaction, request)

            await self._transactor.write(create, meta_pb2.BucketReply)
            self.report.buckets += 1

    async def _make_version(self, draft: _Draft) -> None:
        last = draft.pieces[-1].identity
        about = draft.pieces[-1].about
        version = records_pb2.Version(
            owner_id=about.owner_id,
            content_type=about.content_type,
            system=about.system,
            user=about.user,
            storage_class=about.storage_class,
            size_bytes=sum(piece.size_bytes for piece in draft.pieces),
        )
        parts = [self._part(piece) for piece in draft.pieces]
        if draft.is_upload:
            _name_parts(version, last.upload_id, parts)
        else:
            version.etag = parts[0].etag
            version.checksums.extend(parts[0].checksums)
            version.encryption.CopyFrom(parts[0].encryption)
            version.blobs.extend(parts[0].blobs)
        self._clock.at_ns = draft.created_ns

        async def commit(transaction: Transaction) -> meta_pb2.CommitReply:
            transaction.allow_large()
            stored = await find_bucket(transaction, last.bucket)
            bucket = records_pb2.Bucket()
            bucket.CopyFrom(stored)
            bucket.versioning = stored.versioning if draft.is_null else ENABLED
            if draft.is_null and bucket.versioning == ENABLED:
                bucket.versioning = SUSPENDED
            owner = records_pb2.BlobOwner(bucket_id=bucket.bucket_id, key=last.key)
            if draft.is_upload:
                await _put_parts(transaction, last.upload_id, parts, owner)
            else:
                await objects.take_blobs(transaction, version.blobs, owner)
            head = await find_head(transaction, bucket.bucket_id, last.key)
            return await objects.put_newest(transaction, bucket, last.key, version, head, b"")

        await self._transactor.write(commit, meta_pb2.CommitReply)
        report = self.report
        report.versions += 1
        report.parts += len(parts) if draft.is_upload else 0
        report.bytes += version.size_bytes
        report.cut += last.about_cut
        report.degraded += any(blob.degraded for part in parts for blob in part.blobs)

    def _part(self, piece: Piece) -> records_pb2.Part:
        """A piece as a part's record: what its data digests to, where its blobs are."""
        identity = piece.identity
        md5, crc = hashlib.md5(usedforsecurity=False), checksum.new(DEFAULT_CHECKSUM)
        part = records_pb2.Part(
            number=identity.part_number,
            size_bytes=piece.size_bytes,
            last_modified_ns=piece.created_ns,
            encryption=records_pb2.Encryption(method=METHOD, wrapped_key=identity.wrapped_key),
            blobs=piece.references(),
        )
        is_read = self._reader is not None
        try:
            for plain in self._reader.read(piece) if self._reader is not None else ():
                md5.update(plain)
                crc.update(plain)
        except faults.Fault as fault:
            self._leave_out(piece, f"its data cannot be read: {faults.in_words(fault)}")
            is_read = False
        if is_read:
            part.checksums.add(algorithm=DEFAULT_CHECKSUM, value=crc.digest())
            part.etag = part.md5 = md5.hexdigest()
        else:
            made_up = hashlib.md5(identity.wrapped_key, usedforsecurity=False)
            part.etag = part.md5 = made_up.hexdigest()
            self.report.unread += 1
        return part


def _name_parts(
    version: records_pb2.Version, upload_id: bytes, parts: Sequence[records_pb2.Part]
) -> None:
    digests = hashlib.md5(usedforsecurity=False)
    for part in parts:
        digests.update(bytes.fromhex(part.md5))
        runs = version.parts.runs
        run = runs[-1] if runs else None
        if (
            run is not None
            and run.first_number + run.count == part.number
            and run.part_bytes == part.size_bytes
        ):
            run.count += 1
        else:
            runs.add(first_number=part.number, count=1, part_bytes=part.size_bytes)
    version.etag = f"{digests.hexdigest()}-{len(parts)}"
    version.parts.upload_id = upload_id
    version.parts.count = len(parts)


async def _put_parts(
    transaction: Transaction,
    upload_id: bytes,
    parts: Sequence[records_pb2.Part],
    owner: records_pb2.BlobOwner,
) -> None:
    for part in parts:
        transaction.put(keys.part(upload_id, part.number), part.SerializeToString())
        of_part = records_pb2.BlobOwner(
            bucket_id=owner.bucket_id,
            key=owner.key,
            upload_id=upload_id,
            part_number=part.number,
        )
        await objects.take_blobs(transaction, part.blobs, of_part)
