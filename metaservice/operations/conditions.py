"""Conditions of writes, decided inside the commit against the head row."""

from common import faults
from metaservice.operations.lookup import Head
from proto import meta_pb2


def check(conditions: meta_pb2.Conditions, head: Head | None, key: bytes) -> None:
    """Compare with what is visible; a delete marker counts as absent.

    raises   PreconditionFailed; NotFound("key") for If-Match on an absent key; Unsupported for
             conditions on size and time: never passed over in silence
    """
    if conditions.has_if_match_size or conditions.if_match_last_modified_ns:
        raise faults.Unsupported("conditions on size and time")
    if conditions.if_none_match and head is not None:
        wanted = conditions.if_none_match
        if "*" in wanted or head.etag in wanted:
            raise faults.PreconditionFailed("If-None-Match")
    if conditions.if_match:
        if head is None:
            raise faults.NotFound("key", key.decode(errors="replace"))
        if "*" not in conditions.if_match and head.etag not in conditions.if_match:
            raise faults.PreconditionFailed("If-Match")
