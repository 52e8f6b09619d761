"""Storing bytes: inline, or as blobs whose fragments are on disk before anything names them.

A stripe's way: plaintext is received into a reused buffer; while one thread hashes it another
seals and codes it; the cells leave from that memory. Few stripes of an upload are in flight at a
time, and all uploads together stay within the pool's budget. A blob is stored when k + 1 fragments
are durable; the others get a short while more, and what is missing then is left to repair.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from common import checksum, fault_points, faults, limits
from common.buffers import BufferPool
from common.erasure.code import Codes
from common.keyring import KeyRing
from gateway.objects.blob_writer import BlobWriter, Threads, fill
from gateway.objects.encryption import DataKey
from gateway.objects.nodes import Nodes
from gateway.objects.stored import ByteSource, Identity, Stored
from proto import records_pb2, storage_pb2

DELETE_TRIES_S = 2.0
# Of a fragment's identity here: the blob's id and geometry, known later, must still fit in.
HEADER_BYTES_MAX = limits.IDENTITY_BYTES_MAX - 128
# Bodies without a length (forms, HTTP chunks) are collected before each blob is begun.
UNSIZED_PIECE_BYTES = 4 * limits.MIB
UNSIZED_BYTES_MAX = limits.GIB
UNSIZED_AT_ONCE_MAX = 8
SMALL_BYTES_MAX = 128 * limits.KIB  # of objects whose cells may wait for one another


class WriterSessions(Protocol):
    """The writer session, as the writer uses it: metaservice.client.WriterSession."""

    def new_blob_id(self, session_id: int) -> bytes: ...

    def begin_upload(self) -> int: ...

    def end_upload(self, session_id: int) -> None: ...


@dataclass(slots=True)
class Kernels:
    """What storing and reading compute with."""

    codes: Codes
    ring: KeyRing
    pool: BufferPool
    threads: Threads


class Hashes:
    """The digests of one upload, updated in order."""

    def __init__(self, algorithms: frozenset[str]) -> None:
        self._running = {name: checksum.new(name) for name in algorithms}

    def update(self, data: checksum.Data) -> None:
        """Add bytes; releases the GIL for large ones."""
        for running in self._running.values():
            running.update(data)

    def digests(self) -> dict[str, bytes]:
        """All digests."""
        return {name: running.digest() for name, running in self._running.items()}


@dataclass(slots=True)
class _Upload:
    """One object or part on its way."""

    stored: Stored
    key: DataKey
    hashes: Hashes
    identity: Identity
    size: int  # 0: not known before its end
    begun_ns: int

    def keep_inline(self, data: bytearray) -> None:
        """Hold small data sealed, for the commit."""
        self.hashes.update(data)
        self.stored.inline, self.stored.is_inline = self.key.seal_inline(data), True


class BytesSource:
    """Bytes in hand, as a source."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._rest = memoryview(data)

    async def read_into(self, view: memoryview) -> int:
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class ObjectWriter:
    """Stores the bytes of objects and parts."""

    def __init__(self, nodes: Nodes, kernels: Kernels, sessions: WriterSessions) -> None:
        self._nodes = nodes
        self._kernels = kernels
        self._sessions = sessions
        self._unsized = asyncio.Semaphore(UNSIZED_AT_ONCE_MAX)

    async def write(
        self, source: ByteSource, size: int | None, algorithms: frozenset[str], identity: Identity
    ) -> Stored:
        """Store `size` bytes, or (None) as many as come, up to UNSIZED_BYTES_MAX.

        Blobs are durable on their write quorum when this returns.

        algorithms   digests to compute of the plaintext
        raises       what the source raises; Invalid("size") if it has more or fewer bytes;
                     Unavailable, Full: nothing is kept
        """
        key, hashes = DataKey.make(), Hashes(algorithms)
        session_id = self._sessions.begin_upload()
        stored = Stored(session_id, size or 0, {}, key.wrap(self._kernels.ring))
        if size is not None and limits.INLINE_BYTES_MAX < size <= SMALL_BYTES_MAX:
            stored.is_small = True
            self._nodes.gathering.begin()
        upload = _Upload(stored, key, hashes, identity, size or 0, self._nodes.now_ns())
        try:
            if size is None:
                async with self._unsized:
                    await self._write_unsized(source, upload)
            elif size <= limits.INLINE_BYTES_MAX:
                upload.keep_inline(await _read_exactly(source, size))
            else:
                for number, begin in enumerate(range(0, size, limits.BLOB_BYTES_MAX)):
                    plain_bytes = min(limits.BLOB_BYTES_MAX, size - begin)
                    await self._write_blob(source, upload, number, plain_bytes)
            await _expect_end(source)
        except BaseException:
            await self.discard(stored)
            raise
        stored.digests = hashes.digests()
        return stored

    async def _write_unsized(self, source: ByteSource, upload: "_Upload") -> None:
        """Store bytes whose number shows at the end: collected piece by piece, a blob each."""
        stored, piece = upload.stored, memoryview(bytearray(UNSIZED_PIECE_BYTES))
        number = 0
        while True:
            count = await _fill_up(source, piece)
            stored.size_bytes += count
            if stored.size_bytes > UNSIZED_BYTES_MAX:
                raise faults.Invalid("size", str(stored.size_bytes), "EntityTooLarge")
            if number == 0 and count <= limits.INLINE_BYTES_MAX:
                upload.keep_inline(bytearray(piece[:count]))
                return
            if count:
                await self._write_blob(BytesSource(piece[:count]), upload, number, count)
                number += 1
            if count < len(piece):
                return

    async def _write_blob(
        self, source: ByteSource, upload: "_Upload", number: int, plain_bytes: int
    ) -> None:
        stored = upload.stored
        blob_id = self._sessions.new_blob_id(stored.session_id)
        placement = self._nodes.place(blob_id)
        header = _fragment_identity(self._nodes, upload, number)
        kernels = self._kernels
        blob = BlobWriter(
            self._nodes, kernels.codes, kernels.pool, kernels.threads, placement, upload.key.sealer
        )
        try:
            stored.blobs.append(
                await blob.write(
                    source, (blob_id, number, plain_bytes), upload.hashes.update, header
                )
            )
            fault_points.reach("put.after_fragments")
        except BaseException:
            await self._delete(blob.placed())
            raise

    async def discard(self, stored: Stored) -> None:
        """Give up what was stored: nothing will ever name it.

        What cannot be deleted now is the collector's, once the session has ended.
        """
        await self._delete(stored.blobs)
        self.release(stored)

    def release(self, stored: Stored) -> None:
        """The data has been committed, or given up: the session need not wait for it."""
        if stored.session_id:
            self._sessions.end_upload(stored.session_id)
            stored.session_id = 0
            if stored.is_small:
                self._nodes.gathering.end()

    async def _delete(self, blobs: list[records_pb2.BlobRef]) -> None:
        by_disk: dict[int, list[storage_pb2.FragmentId]] = {}
        for blob in blobs:
            for index, disk_id in enumerate(blob.disk_ids):
                fragment = storage_pb2.FragmentId(
                    blob_id=blob.blob_id, index=index, disk_id=disk_id
                )
                by_disk.setdefault(disk_id, []).append(fragment)
        calls = []
        for disk_id, fragments in by_disk.items():
            client = self._nodes.client_of(disk_id)
            if client is not None:
                calls.append(
                    client.delete_fragments(storage_pb2.DeleteFragments(fragments=fragments))
                )
        if calls:
            try:
                async with asyncio.timeout(DELETE_TRIES_S):
                    await asyncio.gather(*calls, return_exceptions=True)
            except TimeoutError:
                return


def _fragment_identity(nodes: Nodes, upload: _Upload, number: int) -> storage_pb2.FragmentIdentity:
    identity, stored = upload.identity, upload.stored
    header = storage_pb2.FragmentIdentity(
        cluster_id=nodes.topology.record.cluster_id,
        bucket=identity.bucket,
        key=identity.key,
        wrapped_key=stored.encryption.wrapped_key,
        upload_id=identity.upload_id,
        part_number=identity.part_number,
        blob_number=number,
        object_bytes=upload.size,
        created_ns=upload.begun_ns,
        about=identity.about,
    )
    if header.ByteSize() > HEADER_BYTES_MAX:
        about = storage_pb2.ObjectHeader.FromString(identity.about)
        about.ClearField("system")
        about.ClearField("user")
        header.about, header.about_cut = about.SerializeToString(), True
    return header


async def _read_exactly(source: ByteSource, size: int) -> bytearray:
    data = bytearray(size)
    await fill(source, memoryview(data))
    return data


async def _fill_up(source: ByteSource, view: memoryview) -> int:
    """Read until the view is full or the source ends; returns how many bytes came."""
    done = 0
    while done < len(view):
        count = await source.read_into(view[done:])
        if count == 0:
            break
        done += count
    return done


async def _expect_end(source: ByteSource) -> None:
    """Let the source come to its end: trailers are read, signatures checked there."""
    if await source.read_into(memoryview(bytearray(1))):
        raise faults.Invalid("size", "", "InvalidRequest")


def make_threads(cores: int) -> Threads:
    """Threads for a gateway on so many cores: hashing runs beside coding."""
    return Threads(
        hashing=ThreadPoolExecutor(max(1, cores), "hash"),
        coding=ThreadPoolExecutor(max(1, cores), "code"),
    )
