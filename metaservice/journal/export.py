"""A consistent copy of all metadata for a backup: streamed out sealed, read back row by row.

Each part is sealed as a whole under the backup's random key, with its number as the nonce; the key
is wrapped by the cluster's key ring, so a backup is worthless without it.
"""

import secrets
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common import faults
from common.clock import Clock
from common.concurrency import run_blocking
from common.keyring import KeySource
from common.limits import MIB
from metaservice.journal.checkpoint import sequence_of, slices_blocking
from metaservice.journal.group import KEY_BYTES, unpack_rows
from metaservice.kv.interface import Row
from metaservice.kv.rocks import RocksStore
from metaservice.operations.nodes import CLUSTER_ID
from proto import admin_pb2

FORMAT = 1
KEY_CONTEXT = b"ostraka metadata backup"
PIECE_BYTES = 1 * MIB  # of a message
NONCE_BYTES = 12


async def export_rows(
    store: RocksStore, ring: KeySource, clock: Clock
) -> AsyncIterator[admin_pb2.ExportChunk]:
    """All rows of one durable moment. raises Unavailable, Corrupt"""
    snapshot = await store.snapshot()
    await store.settle()  # nothing of it may be lost by the original
    cluster_id = store.get(CLUSTER_ID) or b""
    key = secrets.token_bytes(KEY_BYTES)
    header = admin_pb2.ExportHeader(
        format=FORMAT,
        cluster_id=cluster_id.decode(),
        sequence=sequence_of(snapshot),
        time_ns=clock.now_ns(),
        wrapped_key=ring.wrap(key, KEY_CONTEXT),
    )
    yield admin_pb2.ExportChunk(header=header)
    cipher, slices, number = AESGCM(key), slices_blocking(snapshot), 0
    with ThreadPoolExecutor(1, "export") as thread:
        while (found := await run_blocking(thread, next, slices, None)) is not None:
            number += 1
            count, data = found
            sealed = cipher.encrypt(_nonce(number), data, cluster_id)
            for begin in range(0, len(sealed), PIECE_BYTES):
                is_last = begin + PIECE_BYTES >= len(sealed)
                yield admin_pb2.ExportChunk(
                    data=sealed[begin : begin + PIECE_BYTES],
                    ends_part=is_last,
                    row_count=count if is_last else 0,
                )


def open_part(
    header: admin_pb2.ExportHeader, ring: KeySource, number: int, sealed: bytes
) -> list[Row]:
    """The rows of a part; numbers count from 1. raises Corrupt, NotFound("master key")"""
    key = ring.unwrap(header.wrapped_key, KEY_CONTEXT)
    try:
        data = AESGCM(key).decrypt(_nonce(number), sealed, header.cluster_id.encode())
    except InvalidTag as error:
        raise faults.Corrupt("backup", f"part {number}") from error
    return [(name, row) for name, row in unpack_rows(data) if row is not None]


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE_BYTES, "big")
