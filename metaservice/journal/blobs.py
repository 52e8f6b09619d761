"""Checkpoint blobs on the storage nodes: sealed, erasure-coded and checked as blobs of objects are.

Whole blobs only, a stripe at a time; no ranges. Their ids begin with eight bytes FF, which no
writer session has.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common import faults
from common.buffers import Buffer, BufferPool
from common.checksum import crc32c_blocks
from common.concurrency import run_blocking
from common.erasure.code import Codes, ErasureCode
from common.erasure.layout import (
    BLOCK_BYTES,
    FULL_CELL_BYTES,
    LAYOUT_VERSION,
    SEALED_BYTES,
    Stripe,
    layout_of,
    layout_of_blob,
)
from common.frames import Reply
from common.limits import PACKAGE_BYTES, PACKAGE_TAG_BYTES
from common.placement.choose import Placement
from metaservice import keys
from proto import records_pb2, storage_pb2

SESSION = keys.CHECKPOINT_SESSION
DEADLINE_S = 5.0  # of a cell


def blob_id(epoch: int, number: int) -> bytes:
    """The id of a blob of this life of the service."""
    return SESSION + ((epoch << 24) + number).to_bytes(8, "big")


class FragmentPeer(Protocol):
    """The calls of a node's client that are made for blobs."""

    def put_cell(
        self, request: storage_pb2.PutCell, cell: memoryview, deadline_s: float
    ) -> "asyncio.Future[Reply]": ...

    def read_fragment(
        self, request: storage_pb2.ReadFragment, into: memoryview, deadline_s: float
    ) -> "asyncio.Future[Reply]": ...


class Disks(Protocol):
    """Nodes by the disks they have."""

    def client_of(self, disk_id: int) -> FragmentPeer | None: ...


class BlobKeeper:
    """Writes and reads whole blobs."""

    def __init__(self, disks: Disks, codes: Codes, pool: BufferPool) -> None:
        self._disks, self._codes, self._pool = disks, codes, pool
        self._thread = ThreadPoolExecutor(1, "checkpoint")

    async def write(
        self, name: bytes, data: bytes, key: bytes, placement: Placement, identity: bytes
    ) -> records_pb2.BlobRef:
        """Store a blob; on k + 1 disks at least (all k, if m is 0) when this returns.

        raises   Unavailable, Full
        """
        n = len(placement.disks)
        k, m = _geometry(identity)
        layout, cipher = layout_of(k, m, len(data), FULL_CELL_BYTES), AESGCM(key)
        failed: dict[int, faults.Fault] = {}
        for number in range(layout.stripe_count):
            stripe = layout.stripe(number)
            buffer = self._pool.take_now(n * stripe.cell_bytes)
            try:
                plain = data[stripe.plain_begin : stripe.plain_begin + stripe.plain_bytes]
                tables = await run_blocking(
                    self._thread, _seal_blocking, self._codes.get(k, m), cipher, name, stripe,
                    plain, buffer,
                )  # fmt: skip
                calls: dict[int, asyncio.Future[Reply]] = {}
                for index, disk in enumerate(placement.disks):
                    peer = self._disks.client_of(disk.disk_id)
                    if index in failed or peer is None:
                        failed.setdefault(index, faults.Unavailable(f"{disk.node_name} is away"))
                        continue
                    request = storage_pb2.PutCell(
                        blob_id=name, index=index, disk_id=disk.disk_id, cell_index=number,
                        last=stripe.is_last, fragment_bytes=layout.fragment_bytes,
                        cell_bytes=layout.stripe(0).cell_bytes, block_bytes=BLOCK_BYTES,
                        block_checksums=tables[index],
                        identity=_indexed(identity, index) if number == 0 else b"",
                    )  # fmt: skip
                    begin = index * stripe.cell_bytes
                    cell = buffer.view[begin : begin + stripe.cell_bytes]
                    calls[index] = peer.put_cell(request, cell, DEADLINE_S)
                results = await asyncio.gather(*calls.values(), return_exceptions=True)
                for index, result in zip(calls, results, strict=True):
                    if isinstance(result, faults.Fault):
                        failed[index] = result
                    elif isinstance(result, BaseException):
                        raise result
            finally:
                buffer.release()
            if n - len(failed) < k + min(m, 1):
                raise next(iter(failed.values()))
        return records_pb2.BlobRef(
            blob_id=name, plain_bytes=len(data), k=k, m=m, cell_bytes=FULL_CELL_BYTES,
            disk_ids=[0 if i in failed else disk.disk_id for i, disk in enumerate(placement.disks)],
            layout=LAYOUT_VERSION,
        )  # fmt: skip

    async def read(self, blob: records_pb2.BlobRef, key: bytes) -> bytes:
        """Read a blob from any k of its fragments. raises Unavailable, Corrupt"""
        layout, cipher = layout_of_blob(blob), AESGCM(key)
        code = self._codes.get(blob.k, blob.m)
        parts: list[bytes] = []
        bad: set[int] = set()
        for number in range(layout.stripe_count):
            stripe = layout.stripe(number)
            buffer = self._pool.take_now(layout.n * stripe.cell_bytes)
            try:
                have = await self._fetch(blob, stripe, buffer, bad)
                parts.append(
                    await run_blocking(
                        self._thread,
                        _open_blocking,
                        code,
                        cipher,
                        blob.blob_id,
                        stripe,
                        have,
                        buffer,
                    )  # fmt: skip
                )
            finally:
                buffer.release()
        return b"".join(parts)

    async def _fetch(
        self, blob: records_pb2.BlobRef, stripe: Stripe, buffer: Buffer, bad: set[int]
    ) -> dict[int, int]:
        """Read k cells of a stripe into their places; their addresses. raises Unavailable"""
        size, have = stripe.cell_bytes, dict[int, int]()
        for index, disk_id in enumerate(blob.disk_ids):
            if len(have) == blob.k:
                break
            peer = self._disks.client_of(disk_id) if disk_id else None
            if index in bad or peer is None:
                continue
            request = storage_pb2.ReadFragment(
                blob_id=blob.blob_id, index=index, disk_id=disk_id,
                ranges=[storage_pb2.Range(offset=stripe.fragment_offset, length=size)],
            )  # fmt: skip
            cell = buffer.view[index * size : (index + 1) * size]
            try:
                reply = await peer.read_fragment(request, cell, DEADLINE_S)
            except faults.Fault:
                bad.add(index)
                continue
            checksums = storage_pb2.ReadFragmentReply.FromString(reply.header).block_checksums
            if crc32c_blocks(cell, BLOCK_BYTES) == checksums:
                have[index] = buffer.address + index * size
            else:
                bad.add(index)
        if len(have) < blob.k:
            raise faults.Unavailable("too few fragments of a checkpoint are left")
        return have


def _geometry(identity: bytes) -> tuple[int, int]:
    known = storage_pb2.FragmentIdentity.FromString(identity)
    return known.k, known.m


def _indexed(identity: bytes, index: int) -> bytes:
    known = storage_pb2.FragmentIdentity.FromString(identity)
    known.index = index
    return known.SerializeToString()


def _names(name: bytes, number: int) -> tuple[bytes, bytes]:
    """Nonce and associated data of a package. Each checkpoint has a key of its own."""
    return name[-4:] + number.to_bytes(8, "big"), name + number.to_bytes(8, "big")


def _seal_blocking(
    code: ErasureCode, cipher: AESGCM, name: bytes, stripe: Stripe, plain: bytes, buffer: Buffer
) -> list[bytes]:
    """Seal and code a stripe in place; per cell the checksums of its blocks."""
    size, view = stripe.cell_bytes, buffer.view
    for number in range(stripe.packages):
        begin, at = number * PACKAGE_BYTES, number * SEALED_BYTES
        package = plain[begin : begin + PACKAGE_BYTES]
        nonce, context = _names(name, stripe.first_package + number)
        view[at : at + len(package) + PACKAGE_TAG_BYTES] = cipher.encrypt(nonce, package, context)
    view[stripe.sealed_bytes : code.k * size] = bytes(code.k * size - stripe.sealed_bytes)
    code.encode(buffer.address, size)
    return [
        crc32c_blocks(view[at : at + size], BLOCK_BYTES) for at in range(0, code.n * size, size)
    ]


def _open_blocking(
    code: ErasureCode,
    cipher: AESGCM,
    name: bytes,
    stripe: Stripe,
    have: Mapping[int, int],
    buffer: Buffer,
) -> bytes:
    """Recreate what is missing and open the packages. raises Corrupt"""
    size = stripe.cell_bytes
    wanted = {i: buffer.address + i * size for i in range(code.k) if i not in have}
    code.reconstruct(have, wanted, size)
    sealed, parts = buffer.view[: stripe.sealed_bytes], list[bytes]()
    try:
        for number in range(stripe.packages):
            package = sealed[number * SEALED_BYTES : (number + 1) * SEALED_BYTES]
            nonce, context = _names(name, stripe.first_package + number)
            parts.append(cipher.decrypt(nonce, package, context))
    except InvalidTag as error:
        raise faults.Corrupt("checkpoint", name.hex()) from error
    return b"".join(parts)
