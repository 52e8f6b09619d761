"""The one commit that moves fragments: conditional on the blob, its generation and the claim.

Until it, the placement that readers see is untouched; after it, readers of the old placement have
a grace before what was moved away is deleted. If the blob is gone, what was written is deleted.
"""

from common import limits
from metaservice import keys
from metaservice.operations.naming import Naming, find_naming
from metaservice.operations.repairs import (
    Job,
    Stray,
    file_job,
    load_strays,
    store_strays,
)
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

Reply = meta_pb2.CommitPlacementReply
GRACE_NS = int(limits.GARBAGE_GRACE_S * 1e9)


async def commit_placement(
    transaction: Transaction, request: meta_pb2.CommitPlacement
) -> meta_pb2.CommitPlacementReply:
    """Name the new fragments, and end or update the job; its claim ends either way.

    outcome  MOVED: done. GONE: nothing names the blob. CHANGED: another placement than the moves
             were made for. FENCED: the claim is another's. What was written for moves that were
             not made becomes a stray, and is deleted.
    """
    blob_id = request.blob_id
    stored = await transaction.get(keys.repair(blob_id))
    before = Job.FromString(stored) if stored is not None else None
    if before is None or before.token != request.token:
        return Reply(outcome=Reply.FENCED)
    naming = await find_naming(transaction, blob_id)
    strays = list((await load_strays(transaction, blob_id)).strays)
    if naming is None:
        _give_up(transaction, blob_id, strays, request.token)
        file_job(transaction, before, None)
        return Reply(outcome=Reply.GONE)
    job = Job.FromString(stored or b"")
    job.until_ns, job.holder = 0, ""
    if naming.blob.placement_generation != request.generation:
        _give_up(transaction, blob_id, strays, request.token)
        file_job(transaction, before, job)
        return Reply(outcome=Reply.CHANGED)
    if request.moves:
        strays = await _move(transaction, naming, request, strays)
    _give_up(transaction, blob_id, strays, request.token)
    reported = set(job.missing) - set(request.seen)  # since it was planned: still to be looked at
    if request.whole and not reported:
        file_job(transaction, before, None)
    else:
        job.blob.CopyFrom(naming.blob)
        job.missing[:] = sorted(reported | set(request.missing))
        job.waiting = request.waiting and not reported
        file_job(transaction, before, job)
    return Reply(outcome=Reply.MOVED)


async def _move(
    transaction: Transaction,
    naming: Naming,
    request: meta_pb2.CommitPlacement,
    strays: list[Stray],
) -> list[Stray]:
    """Put new disks into the placement; returns the strays with what was moved away."""
    blob = naming.blob
    named = {(move.index, move.disk_id) for move in request.moves}
    left = [stray for stray in strays if (stray.index, stray.disk_id) not in named]
    due_ns = transaction.now_ns + GRACE_NS
    for move in request.moves:
        old = blob.disk_ids[move.index]
        if old not in (0, move.disk_id) and not await _is_out(transaction, old):
            left.append(
                Stray(
                    index=move.index, disk_id=old, state=Stray.SURPLUS, due_ns=due_ns,
                    token=request.token,
                )
            )  # fmt: skip
        blob.disk_ids[move.index] = move.disk_id
    del blob.late_disk_ids[:]  # they have their entries
    blob.placement_generation += 1
    blob.degraded = not request.whole
    naming.store(transaction)
    return left


def _give_up(transaction: Transaction, blob_id: bytes, strays: list[Stray], token: int) -> None:
    """What a claim was writing and did not get named is deleted at once."""
    for stray in strays:
        if stray.state == Stray.WRITING and stray.token <= token:
            stray.state, stray.due_ns = Stray.SURPLUS, transaction.now_ns
    store_strays(transaction, blob_id, strays)


async def _is_out(transaction: Transaction, disk_id: int) -> bool:
    """Whether a disk is gone: if it ever comes back it is walked, and needs no entry."""
    stored = await transaction.get_unchecked(keys.disk(disk_id))
    disk = records_pb2.Disk.FromString(stored) if stored is not None else None
    return disk is None or disk.gone or disk.state == records_pb2.Disk.REMOVED
