"""What the workers' comparison keeps here: its place, and unknown fragments waiting for their end.

A fragment that no row names, no session and no stray's entry explains may be what a fault left, or
what a fault in the metadata hides. So it is looked at for QUARANTINE_S, from its first sight on,
before it goes.
"""

from common import faults, limits
from metaservice import keys
from metaservice.operations.repairs import load_strays
from metaservice.transaction import Transaction
from proto import records_pb2, scrub_pb2, storage_pb2

NAME = "comparison"
LEASE = "comparison"
QUARANTINE_NS = int(limits.QUARANTINE_S * 1e9)
FRAGMENTS_AT_ONCE_MAX = 100
FORGOTTEN_AT_ONCE_MAX = 200  # rows of a page; the next pass finds more


async def load_scrub(
    transaction: Transaction, request: scrub_pb2.LoadScrub
) -> scrub_pb2.ScrubState:
    """Where the comparison stands."""
    stored = await transaction.get_unchecked(keys.scrub(NAME))
    return scrub_pb2.ScrubState.FromString(stored or b"")


async def save_scrub(
    transaction: Transaction, request: scrub_pb2.SaveScrub
) -> scrub_pb2.ScrubState:
    """Keep where it stands. raises Fenced if the caller's lease has gone to another"""
    stored = await transaction.get(keys.lease(LEASE))
    lease = records_pb2.Lease.FromString(stored or b"")
    if (lease.holder, lease.token) != (request.holder, request.token):
        raise faults.Fenced("lease", LEASE)
    transaction.put(keys.scrub(NAME), request.state.SerializeToString(deterministic=True))
    return request.state


async def quarantine(
    transaction: Transaction, request: scrub_pb2.Quarantine
) -> scrub_pb2.QuarantineReply:
    """Note unknown fragments of a disk; answers those that have been for long enough.

    Where the request is a page of the disk, what was noted there and is not unknown any more is
    forgotten: something else has deleted it, or explains it now. None is noted while garbage is
    kept for the disk: that is deleted first, and may explain them.
    raises   Invalid for too many at once
    """
    if len(request.fragments) > FRAGMENTS_AT_ONCE_MAX:
        raise faults.Invalid("fragments", str(len(request.fragments)), "too many at once")
    reply = scrub_pb2.QuarantineReply()
    if request.is_page:
        await _forget_others(transaction, request)
    prefix = keys.kept_garbage(request.disk_id, b"")
    has_kept_garbage = bool(await transaction.scan(prefix, keys.after(prefix), 1))
    for fragment in request.fragments:
        key = keys.quarantine(request.disk_id, fragment.blob_id, fragment.index)
        owner = await transaction.get(keys.blob_owner(fragment.blob_id))
        session_id = int.from_bytes(fragment.blob_id[:8], "big")
        session = await transaction.get(keys.session(session_id))
        stored = await transaction.get(key)
        explained = owner is not None or session is not None
        if explained or await _has_entry(transaction, request.disk_id, fragment):
            if stored is not None:
                transaction.delete(key)
        elif stored is None and has_kept_garbage:
            continue
        elif stored is None:
            transaction.put(key, keys.uint64(transaction.now_ns))
        elif int.from_bytes(stored, "big") + QUARANTINE_NS <= transaction.now_ns:
            reply.due.add(fragment=fragment, seen_ns=int.from_bytes(stored, "big"))
    return reply


async def _forget_others(transaction: Transaction, request: scrub_pb2.Quarantine) -> None:
    disk = keys.quarantined(request.disk_id)
    begin = disk + request.after + b"\x00" if request.after else disk
    end = disk + request.upto + b"\x00" if request.upto else keys.after(disk)
    named = {
        keys.quarantine(request.disk_id, fragment.blob_id, fragment.index)
        for fragment in request.fragments
    }
    for key, _ in await transaction.scan(begin, end, FORGOTTEN_AT_ONCE_MAX):
        if key not in named:
            transaction.delete(key)


async def _has_entry(
    transaction: Transaction, disk_id: int, fragment: storage_pb2.FragmentId
) -> bool:
    """Whether a fragment is known to lie where it is not wanted: it goes when that is due."""
    strays = (await load_strays(transaction, fragment.blob_id)).strays
    return any((stray.index, stray.disk_id) == (fragment.index, disk_id) for stray in strays)


async def release(transaction: Transaction, request: scrub_pb2.Release) -> scrub_pb2.ReleaseReply:
    """Forget fragments that are gone."""
    for fragment in request.fragments:
        transaction.delete(keys.quarantine(fragment.disk_id, fragment.blob_id, fragment.index))
    return scrub_pb2.ReleaseReply()
