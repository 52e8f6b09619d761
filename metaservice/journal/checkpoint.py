"""Checkpoints: all rows of one moment, as sealed blobs named by the header."""

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from typing import Protocol

from common import faults
from common.clock import Clock
from common.concurrency import run_blocking
from common.erasure.layout import FULL_CELL_BYTES, LAYOUT_VERSION
from common.keyring import KeySource
from common.limits import MIB
from common.placement.choose import choose_disks
from common.placement.topology import Topology
from metaservice.journal.blobs import BlobKeeper, blob_id
from metaservice.journal.group import KEY_BYTES, pack_rows, unpack_rows
from metaservice.kv.interface import Row
from proto import journal_pb2, storage_pb2

log = logging.getLogger(__name__)

BLOB_BYTES = 16 * MIB  # of rows; held in memory while it is written
ROWS_PER_SCAN = 500
KEY_CONTEXT = b"ostraka metadata checkpoint"
PROFILE = "STANDARD"
LAST = b"\xff" * 16
POSITION = b"Wposition"


class RowSource(Protocol):
    """The rows of one moment."""

    def scan(self, begin: bytes, end: bytes, limit: int) -> list[Row]: ...


def slices_blocking(source: RowSource, blob_bytes: int = BLOB_BYTES) -> Iterator[tuple[int, bytes]]:
    """All rows, some at a time: how many, and packed."""
    begin, pieces, size, count = b"", list[bytes](), 0, 0
    while rows := source.scan(begin, LAST, ROWS_PER_SCAN):
        packed = pack_rows(rows)
        pieces += packed
        size += sum(map(len, packed))
        count += len(rows)
        begin = rows[-1][0] + b"\x00"
        if size >= blob_bytes:
            yield count, b"".join(pieces)
            pieces, size, count = [], 0, 0
    if pieces:
        yield count, b"".join(pieces)


def sequence_of(source: RowSource) -> int:
    """Everything up to this sequence is in the rows."""
    rows = source.scan(POSITION, POSITION + b"\x00", 1)
    return journal_pb2.Position.FromString(rows[0][1]).end_sequence - 1 if rows else 0


class CheckpointWriter:
    """Stores snapshots of the engine."""

    def __init__(self, keeper: BlobKeeper, ring: KeySource, clock: Clock, thread: Executor) -> None:
        self._keeper, self._ring, self._clock, self._thread = keeper, ring, clock, thread
        self._number = 0

    async def write(
        self,
        source: RowSource,
        epoch: int,
        topology: Callable[[], tuple[Topology, set[str]]],
        cluster_id: str,
    ) -> journal_pb2.Checkpoint:
        """Store all rows; what the header shall say of them. raises Unavailable, Full, Corrupt

        topology   the cluster, and names of nodes that do not answer
        """
        key = secrets.token_bytes(KEY_BYTES)
        checkpoint = journal_pb2.Checkpoint(
            sequence=sequence_of(source),
            time_ns=self._clock.now_ns(),
            wrapped_key=self._ring.wrap(key, KEY_CONTEXT),
        )
        slices = slices_blocking(source)
        while (found := await run_blocking(self._thread, next, slices, None)) is not None:
            count, data = found
            self._number += 1
            name = blob_id(epoch, self._number)
            known, down = topology()
            profile = known.profiles.get(PROFILE)
            if profile is None:
                raise faults.Unavailable("the topology is not known yet")
            identity = storage_pb2.FragmentIdentity(
                cluster_id=cluster_id, blob_id=name, k=profile.k, m=profile.m,
                cell_bytes=FULL_CELL_BYTES, plain_bytes=len(data), layout=LAYOUT_VERSION,
                created_ns=checkpoint.time_ns, wrapped_key=checkpoint.wrapped_key,
            ).SerializeToString()  # fmt: skip
            placement = choose_disks(known, profile, name, down)
            blob = await self._keeper.write(name, data, key, placement, identity)
            checkpoint.blobs.append(blob)
            checkpoint.row_count += count
            checkpoint.size_bytes += len(data)
        return checkpoint


async def read_checkpoint(
    keeper: BlobKeeper, ring: KeySource, checkpoint: journal_pb2.Checkpoint
) -> AsyncIterator[list[Row]]:
    """All rows of a checkpoint, some at a time. raises Unavailable, Corrupt, NotFound"""
    key = ring.unwrap(checkpoint.wrapped_key, KEY_CONTEXT)
    count = 0
    for blob in checkpoint.blobs:
        data = await keeper.read(blob, key)
        rows = [(name, row) for name, row in unpack_rows(data) if row is not None]
        count += len(rows)
        yield rows
    if count != checkpoint.row_count:
        raise faults.Corrupt("checkpoint", str(checkpoint.sequence), "rows are missing")
