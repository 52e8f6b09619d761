"""One segment of the journal on one node: preallocated chunk files, appended to, read, trimmed.

A segment is appended to only in the life of the process that began it. All calls block; they belong
in the journal's thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import fault_points, faults
from common.buffers import BufferPool
from common.checksum import crc32c
from storagenode.journal.record import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    Record,
    decode,
)
from storagenode.store.files import PAGE, ExtentFile, Files, align

SCAN_BYTES = 2**20
PATTERN = "*.log"
EMPTY = -2  # first sequence of a chunk without a record


@dataclass(slots=True)
class Chunk:
    """One file. Sequences [first, end) are in it; -1: not looked yet."""

    number: int
    path: Path
    file: ExtentFile
    first_sequence: int = -1
    end_sequence: int = -1


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a record begins, so that a reader can go on there."""

    chunk: Chunk
    sequence: int
    offset: int
    previous: Record | None


class Segment:
    """All chunks of a segment."""

    def __init__(self, files: Files, folder: Path, segment_id: int) -> None:
        self.segment_id = segment_id
        self._files = files
        self._folder = folder
        self._chunks: list[Chunk] = []
        self._is_scanned = False
        self._at = 0  # where the next record goes, in the last chunk
        self._previous_crc = 0
        self._place: _Place | None = None
        self._verified: _Place | None = None  # up to here, in this pass
        self.is_open = False
        self.is_damaged = False

    def add_found(self, number: int, path: Path) -> None:
        """Take a chunk that was there; in order of numbers."""
        self._chunks.append(Chunk(number, path, self._files.open(path)))

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(chunk.file.size_bytes for chunk in self._chunks)

    @property
    def first_sequence(self) -> int:
        """Of the first record that is there, or would be."""
        self._scan()
        return self._chunks[0].first_sequence if self._chunks else 0

    @property
    def end_sequence(self) -> int:
        """One more than that of the last valid record."""
        self._scan()
        return self._chunks[-1].end_sequence if self._chunks else 0

    # --- appending ----------------------------------------------------------------------------

    def begin(self, first_sequence: int, chunk_bytes: int) -> None:
        """Make the first chunk of a new segment. raises OSError"""
        self._make_chunk(first_sequence, chunk_bytes)
        self.is_open = self._is_scanned = True

    def write(
        self, records: Sequence[tuple[Record, bytes | memoryview]], pool: BufferPool, size: int
    ) -> None:
        """Append and sync. records: of any previous_crc; size: of a new chunk. raises OSError"""
        is_one = len(records) == 1
        touched = []
        for record, payload in records:
            linked = Record(
                record.segment_id, record.sequence, record.time_ns, record.size_bytes,
                record.payload_crc, self._previous_crc,
            )  # fmt: skip
            chunk = self._chunks[-1]
            if self._at + linked.disk_bytes > chunk.file.size_bytes:
                chunk = self._make_chunk(record.sequence, max(size, linked.disk_bytes))
            buffer = pool.take_now(linked.disk_bytes)
            try:
                end = HEADER_BYTES + record.size_bytes
                buffer.view[:HEADER_BYTES] = linked.encode()
                buffer.view[HEADER_BYTES:end] = payload
                buffer.view[end:] = bytes(linked.disk_bytes - end)
                if is_one:
                    chunk.file.write_durable([buffer.view], self._at)
                else:
                    chunk.file.write([buffer.view], self._at)
            finally:
                buffer.release()
            self._at += linked.disk_bytes
            self._previous_crc = linked.crc
            if chunk not in touched:
                touched.append(chunk)
        fault_points.reach("journal.before_sync")
        if not is_one:
            for chunk in touched:
                chunk.file.sync()
        fault_points.reach("journal.after_sync")
        self._chunks[-1].end_sequence = records[-1][0].sequence + 1

    def _make_chunk(self, first_sequence: int, size: int) -> Chunk:
        number = self._chunks[-1].number + 1 if self._chunks else 0
        path = self._folder / f"{self.segment_id:016x}-{number:06d}.log"
        file = self._files.create(path, align(size))
        if self._chunks:
            self._chunks[-1].end_sequence = first_sequence
        chunk = Chunk(number, path, file, first_sequence, first_sequence)
        self._chunks.append(chunk)
        self._at = 0
        return chunk

    # --- reading ------------------------------------------------------------------------------

    def read(self, from_sequence: int, bytes_max: int) -> list[tuple[Record, bytes]]:
        """Records from a sequence on, as many as fit, at least one if it is there.

        raises   NotFound("record") if it was trimmed; Corrupt if it, or one before it, is damaged
        """
        self._scan()
        if from_sequence < self.first_sequence:
            raise faults.NotFound("record", str(from_sequence))
        found: list[tuple[Record, bytes]] = []
        size = 0
        for record, payload in self._from(from_sequence):
            size += len(payload)
            if found and size > bytes_max:
                break
            found.append((record, payload))
        if not found and from_sequence < self.end_sequence:
            raise faults.Corrupt("journal", f"{self.segment_id:x}", "a record is damaged")
        return found

    def _from(self, sequence: int) -> Iterator[tuple[Record, bytes]]:
        """Valid records from a sequence on, without a gap."""
        for chunk in self._chunks:
            if chunk.end_sequence <= sequence:
                continue
            for record, payload in self._records(chunk, sequence):
                if sequence < record.sequence or record.sequence >= chunk.end_sequence:
                    return
                if record.sequence == sequence:
                    yield record, payload
                    sequence += 1
            if sequence < chunk.end_sequence:
                return

    def _records(self, chunk: Chunk, wanted: int = 0) -> Iterator[tuple[Record, bytes]]:
        """The valid records of a chunk, until one is not: from its begin, or from a known place."""
        file = chunk.file
        page = memoryview(bytearray(PAGE))
        place = self._place
        if place is None or place.chunk is not chunk or place.sequence > wanted:
            place = _Place(chunk, chunk.first_sequence, 0, None)
        while place.offset < file.size_bytes:
            found = self._record_at(place, page)
            if found is None:
                return
            record, payload = found
            self._place = place  # of the last record handed out: a page may end before it
            yield record, payload
            place = _Place(chunk, record.sequence + 1, place.offset + record.disk_bytes, record)

    def _record_at(self, place: _Place, page: memoryview) -> tuple[Record, bytes] | None:
        """The record that begins at a place, if it is valid and continues the one before."""
        file = place.chunk.file
        file.read(place.offset, page)
        record = decode(page)
        if record is None or not self._continues(record, place.previous):
            return None
        if (
            record.size_bytes > PAYLOAD_BYTES_MAX
            or place.offset + record.disk_bytes > file.size_bytes
        ):
            return None
        whole = memoryview(bytearray(record.disk_bytes))
        file.read(place.offset, whole)
        payload = bytes(whole[HEADER_BYTES : HEADER_BYTES + record.size_bytes])
        return (record, payload) if crc32c(payload) == record.payload_crc else None

    def _continues(self, record: Record, previous: Record | None) -> bool:
        if record.segment_id != self.segment_id:
            return False
        if previous is None:
            return True
        return (record.sequence, record.previous_crc) == (previous.sequence + 1, previous.crc)

    def _scan(self) -> None:
        """Learn where the chunks begin and the last one ends, once. raises OSError"""
        if self._is_scanned:
            return
        self._is_scanned = True
        page = memoryview(bytearray(PAGE))
        for chunk in self._chunks:
            if chunk.file.size_bytes < PAGE:  # the power was lost while it was made
                chunk.first_sequence = EMPTY
                continue
            chunk.file.read(0, page)
            record = decode(page)
            if record is not None and record.segment_id == self.segment_id:
                chunk.first_sequence = record.sequence
            elif not any(page):
                chunk.first_sequence = EMPTY
        self._drop_empty()
        known = next(
            (place for place, chunk in enumerate(self._chunks) if chunk.first_sequence < 0),
            len(self._chunks),
        )
        self.is_damaged = known + 1 < len(self._chunks)
        for chunk in self._chunks[known:]:
            self.is_damaged = self.is_damaged or self._has_later(chunk, 0, -1)
            chunk.file.close()
        del self._chunks[known:]
        for chunk, following in zip(self._chunks, self._chunks[1:], strict=False):
            chunk.end_sequence = following.first_sequence
        if self._chunks:
            self._scan_last(self._chunks[-1])

    def _drop_empty(self) -> None:
        """Forget chunks that were made and not written to: too small, or the process ended."""
        for chunk in [chunk for chunk in self._chunks if chunk.first_sequence == EMPTY]:
            if self._has_later(chunk, 0, -1):
                chunk.first_sequence = -1  # its begin is lost
            else:
                self._chunks.remove(chunk)
                chunk.file.close()

    def _scan_last(self, chunk: Chunk) -> None:
        last, end = chunk.first_sequence - 1, 0
        for record, _ in self._records(chunk):
            last, end = record.sequence, end + record.disk_bytes
        chunk.end_sequence = last + 1
        self.is_damaged = self.is_damaged or self._has_later(chunk, end, last)

    def _has_later(self, chunk: Chunk, offset: int, sequence: int) -> bool:
        """Whether a valid header of this segment follows behind an invalid place."""
        window = memoryview(bytearray(SCAN_BYTES))
        while offset < chunk.file.size_bytes:
            size = min(SCAN_BYTES, chunk.file.size_bytes - offset)
            chunk.file.read(offset, window[:size])
            for at in range(0, size, PAGE):
                record = decode(window[at : at + PAGE])
                if (
                    record is not None
                    and record.segment_id == self.segment_id
                    and record.sequence > sequence + 1
                ):
                    return True
            offset += size
        return False

    # --- scrubbing ----------------------------------------------------------------------------

    def verify_some(self, bytes_max: int) -> int:
        """Read the next records again, to see whether they are still right; the bytes read.

        0: all have been read, the next call begins anew. A copy that is not is damaged from now on.
        """
        self._scan()
        if self.is_damaged:
            return 0
        done, page = 0, memoryview(bytearray(PAGE))
        while done < bytes_max:
            place = self._next_to_verify()
            self._verified = place
            if place is None:
                break
            try:
                found = self._record_at(place, page)
            except (OSError, faults.Corrupt):
                found = None
            if found is None:
                self.is_damaged = True
                return done
            record, _ = found
            self._verified = _Place(
                place.chunk, record.sequence + 1, place.offset + record.disk_bytes, record
            )
            done += record.disk_bytes
        return done

    def _next_to_verify(self) -> _Place | None:
        """Where the next record to verify begins, in this chunk or a later one; None: nowhere."""
        place = self._verified
        for chunk in self._chunks:
            if place is not None and place.chunk in self._chunks:
                if chunk.number < place.chunk.number:
                    continue
                if chunk is place.chunk and place.sequence < chunk.end_sequence:
                    return place
                if chunk is place.chunk:
                    continue
            if chunk.first_sequence < chunk.end_sequence:
                return _Place(chunk, chunk.first_sequence, 0, None)
        return None

    # --- trimming -----------------------------------------------------------------------------

    def trim(self, before_sequence: int) -> int:
        """Drop chunks whose records are all before a sequence, never the last; bytes freed."""
        self._scan()
        freed = 0
        while len(self._chunks) > 1 and self._chunks[0].end_sequence <= before_sequence:
            freed += self._drop(self._chunks.pop(0))
        return freed

    def remove(self) -> int:
        """Drop all of it; returns the bytes freed."""
        self.is_open = False
        freed = sum(self._drop(chunk) for chunk in self._chunks)
        self._chunks.clear()
        return freed

    def _drop(self, chunk: Chunk) -> int:
        chunk.file.close()
        self._files.unlink(chunk.path)
        return chunk.file.size_bytes

    def close(self) -> None:
        """Close all files."""
        for chunk in self._chunks:
            chunk.file.close()
