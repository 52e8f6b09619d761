"""What a node's journal remembers beside the segments: its promise and the newest header.

One small file that is replaced as a whole, with a CRC32C in front.
"""

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from common import faults
from common.checksum import digest
from proto import journal_pb2
from storagenode.store.files import Files

FORMAT = 1
MAGIC = b"OSTKJST1"
_CRC_BYTES = 4
_NAME = "state"


@dataclass(slots=True)
class State:
    """As it is on disk."""

    journal_id: bytes = b""
    promised: int = 0
    holder: bytes = b""
    cluster_id: str = ""
    header: journal_pb2.Header = field(default_factory=journal_pb2.Header)


def make() -> State:
    """A new one, of a new id; not on disk yet."""
    return State(journal_id=secrets.token_bytes(16))


def load(files: Files, folder: Path) -> State:
    """Read the state; a new one with a new id is not on disk yet. raises Corrupt, Invalid"""
    data = files.read_file(folder / _NAME)
    if data is None:
        return make()
    body = data[len(MAGIC) + _CRC_BYTES :]
    if data[: len(MAGIC)] != MAGIC:
        raise faults.Invalid("journal", str(folder), "of another format")
    if digest("CRC32C", body) != data[len(MAGIC) : len(MAGIC) + _CRC_BYTES]:
        raise faults.Corrupt("journal", str(folder), "its state is damaged")
    reply = journal_pb2.FenceReply.FromString(body)
    return State(reply.journal_id, reply.promised, reply.holder, reply.cluster_id, reply.header)


def encode(state: State) -> bytes:
    """The file's bytes."""
    body = journal_pb2.FenceReply(
        journal_id=state.journal_id,
        promised=state.promised,
        holder=state.holder,
        cluster_id=state.cluster_id,
        header=state.header,
    ).SerializeToString()
    return MAGIC + digest("CRC32C", body) + body


def save(files: Files, folder: Path, data: bytes) -> None:
    """Replace the file; durable when this returns. raises OSError"""
    files.replace_file(folder / _NAME, data)
