"""The keys that a header carries, wrapped by the cluster's key ring.

Fragments of checkpoints carry theirs too, but a recovery goes by the header alone. So after a
rotation one new header is enough, and the old master key is needed for the journal no more.
"""

from collections.abc import Iterator

from common import faults
from common.keyring import KeySource, key_id_of
from metaservice.journal import checkpoint, group
from proto import journal_pb2

Carrier = journal_pb2.Segment | journal_pb2.Checkpoint


def master_keys(header: journal_pb2.Header) -> set[str]:
    """Ids of the master keys that a recovery by this header needs."""
    return {key_id_of(carrier.wrapped_key) for carrier, _ in _carriers(header)}


def is_current(header: journal_pb2.Header, ring: KeySource) -> bool:
    """Whether the active master key wraps everything in a header."""
    return all(ring.is_current(carrier.wrapped_key) for carrier, _ in _carriers(header))


def rewrap(header: journal_pb2.Header, ring: KeySource) -> bool:
    """Wrap what old master keys wrap by the active one, in place; what does not open stays.

    returns  whether anything was wrapped anew
    """
    is_changed = False
    for carrier, context in _carriers(header):
        if not ring.is_current(carrier.wrapped_key):
            try:
                carrier.wrapped_key = ring.rewrap(carrier.wrapped_key, context)
            except (faults.NotFound, faults.Corrupt):
                continue
            is_changed = True
    return is_changed


def _carriers(header: journal_pb2.Header) -> Iterator[tuple[Carrier, bytes]]:
    for segment in header.segments:
        yield segment, group.KEY_CONTEXT
    for stored in header.checkpoints:
        yield stored, checkpoint.KEY_CONTEXT
