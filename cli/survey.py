"""What the fragments on a cluster's disks say, put together: objects, parts, and their bytes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from common import faults
from common.buffers import BufferPool
from common.checksum import crc32c_blocks
from common.erasure.code import Codes
from common.erasure.layout import BLOCK_BYTES, BlobLayout, layout_of_blob
from common.keyring import KeyRing
from common.limits import MIB, PACKAGE_BYTES
from gateway.objects.encryption import DataKey
from gateway.objects.stripes import CellSet, open_blocking
from metaservice import keys
from proto import records_pb2, storage_pb2
from storagenode.store.record import Record
from storagenode.store.survey import Survey

Place = tuple[Survey, Record, bytes]


@dataclass(slots=True)
class Blob:
    """A blob and where its fragments are."""

    identity: storage_pb2.FragmentIdentity
    places: dict[int, Place] = field(default_factory=dict)

    @property
    def is_readable(self) -> bool:
        """Whether enough fragments are there."""
        return len(self.places) >= self.identity.k

    def reference(self) -> records_pb2.BlobRef:
        """The blob as metadata names it."""
        identity = self.identity
        count = identity.k + identity.m
        return records_pb2.BlobRef(
            blob_id=identity.blob_id,
            plain_bytes=identity.plain_bytes,
            k=identity.k,
            m=identity.m,
            cell_bytes=identity.cell_bytes,
            disk_ids=[
                self.places[index][0].identity.disk_id if index in self.places else 0
                for index in range(count)
            ],
            degraded=len(self.places) < count,
            layout=identity.layout,
        )


@dataclass(slots=True)
class Piece:
    """All blobs of one object or part: what was written under one data key."""

    blobs: dict[int, Blob] = field(default_factory=dict)  # by their number

    @property
    def identity(self) -> storage_pb2.FragmentIdentity:
        """Of any of its blobs: bucket, key, metadata are the same in all."""
        return next(iter(self.blobs.values())).identity

    @property
    def about(self) -> storage_pb2.ObjectHeader:
        """What its fragments say of the object's metadata."""
        return storage_pb2.ObjectHeader.FromString(self.identity.about)

    @property
    def size_bytes(self) -> int:
        """Plaintext."""
        return sum(blob.identity.plain_bytes for blob in self.blobs.values())

    @property
    def created_ns(self) -> int:
        """When its writing began, by its gateway's clock."""
        return min(blob.identity.created_ns for blob in self.blobs.values())

    @property
    def trouble(self) -> str:
        """Why it cannot be brought back; empty: it can."""
        if sorted(self.blobs) != list(range(len(self.blobs))):
            return "blobs are missing"
        if self.identity.object_bytes not in (0, self.size_bytes):
            return "its end is missing: it was never finished, or is lost"
        if not all(blob.is_readable for blob in self.blobs.values()):
            return "too few fragments are left"
        return ""

    def references(self) -> list[records_pb2.BlobRef]:
        """Its blobs in order."""
        return [self.blobs[number].reference() for number in sorted(self.blobs)]


def gather(surveys: Iterable[Survey]) -> tuple[list[Piece], int]:
    """Read all headers of all disks; returns the pieces, and how many headers say too little.

    Of a fragment that is on two disks, or twice on one, the newest counts.
    """
    pieces: dict[bytes, Piece] = {}
    unknown = 0
    for survey in surveys:
        for found in survey.fragments():
            if found.record.blob_id.startswith(keys.CHECKPOINT_SESSION):
                continue  # of the metadata itself
            identity = storage_pb2.FragmentIdentity.FromString(found.identity)
            if not identity.bucket or not identity.wrapped_key or not identity.about:
                unknown += 1
                continue
            record = found.record
            piece = pieces.setdefault(identity.wrapped_key, Piece())
            blob = piece.blobs.setdefault(identity.blob_number, Blob(identity))
            known = blob.places.get(record.index)
            if known is None or known[1].written_ns < record.written_ns:
                blob.places[record.index] = (survey, record, found.table)
    return list(pieces.values()), unknown


class PieceReader:
    """Reads the plaintext of pieces from the disks' folders, around what is bad."""

    def __init__(self, ring: KeyRing, codes: Codes) -> None:
        self._ring = ring
        self._codes = codes
        self._pool = BufferPool(64 * MIB)

    def read(self, piece: Piece) -> Iterator[memoryview]:
        """Stripe by stripe; each is valid until the next.

        raises   Corrupt, Unavailable, NotFound("master key")
        """
        wrapped = records_pb2.Encryption(wrapped_key=piece.identity.wrapped_key)
        key = DataKey.unwrap(wrapped, self._ring)
        for number in sorted(piece.blobs):
            blob = piece.blobs[number]
            layout = layout_of_blob(blob.reference())
            packages = -(-layout.plain_bytes // PACKAGE_BYTES)
            cipher = key.sealer(blob.identity.blob_id, number, packages)
            for wanted in layout.locate(0, layout.plain_bytes):
                buffer = self._pool.take_now(layout.n * wanted.stripe.cell_bytes)
                plain = self._pool.take_now(wanted.plain_bytes)
                try:
                    cells = CellSet(self._codes.get(layout.k, layout.m), wanted.stripe, buffer)
                    self._fetch(blob, layout, cells)
                    open_blocking(cells, cipher, wanted, plain.view)
                    yield plain.view
                finally:
                    buffer.release()
                    plain.release()

    def _fetch(self, blob: Blob, layout: BlobLayout, cells: CellSet) -> None:
        size = cells.stripe.cell_bytes
        span = (0, size)
        for index in sorted(blob.places):
            if len(cells.spans) == layout.k:
                break
            survey, record, table = blob.places[index]
            view = cells.place(index, *span)
            first, end = record.blocks(cells.stripe.fragment_offset, size)
            try:
                survey.read(record, cells.stripe.fragment_offset, view)
            except (OSError, faults.Fault):
                continue
            if crc32c_blocks(view, BLOCK_BYTES) == table[4 * first : 4 * end]:
                cells.spans[index] = span
        lost = {index: span for index in range(layout.k) if index not in cells.spans}
        if lost:
            cells.reconstruct_blocking(lost, span)
