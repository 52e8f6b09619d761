"""Blobs that want repair: written by the commit that left them so, reported by a reader or found by
a pass over all placements.

One job per blob, its place in a queue of its own (fewest further losses first), and counters of
jobs and bytes: what is degraded is told at once, however much it is. A job is worked on under a
claim, whose token grows with every claim: who shows an older one has lost it.
"""

from collections.abc import Iterable

from common import faults
from metaservice import keys
from metaservice.kv.interface import decode_counter
from metaservice.operations.naming import find_naming
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

Job = records_pb2.RepairJob
Stray = records_pb2.Stray

BEGIN, END = b"j", b"k"
DEGRADED = keys.single("degraded_blobs")
WAITING = keys.single("repairs_waiting")
BYTES_LEFT = keys.single("repair_bytes_left")
UNREADABLE = 255  # margin of a blob with fewer than k fragments; last: only a return can help it
ENTRIES_MAX = 100  # of one page of the queue
CLAIMS_MAX = 16  # of one commit, three rows each
LATE_NS = 60 * 10**9  # what a lost claim was writing is left alone for so much longer


def margin_of(blob: records_pb2.BlobRef, missing: Iterable[int]) -> int:
    """How many further losses a blob bears."""
    left = len(blob.disk_ids) - len(set(missing)) - blob.k
    return left if left >= 0 else UNREADABLE


async def add_repairs(transaction: Transaction, blobs: Iterable[records_pb2.BlobRef]) -> None:
    """Ask for the repair of every blob that was committed with less than all in place."""
    for blob in blobs:
        if blob.degraded:
            missing = [index for index, disk_id in enumerate(blob.disk_ids) if not disk_id]
            await put_job(transaction, blob, missing, "degraded_write")
            _note_late(transaction, blob)


def _note_late(transaction: Transaction, blob: records_pb2.BlobRef) -> None:
    """Write an entry for each fragment that may arrive after its commit.

    A repair takes it back; if the blob is deleted before, it is deleted as well, and refused if it
    comes even later.
    """
    due_ns = transaction.now_ns + LATE_NS
    strays = [
        Stray(index=index, disk_id=disk_id, state=Stray.SURPLUS, due_ns=due_ns)
        for index, disk_id in enumerate(blob.late_disk_ids)
        if disk_id and not blob.disk_ids[index]
    ]
    if strays:
        store_strays(transaction, blob.blob_id, strays)


async def drop_repair(transaction: Transaction, blob_id: bytes) -> None:
    """Forget the job of a blob that is whole again, or gone."""
    stored = await transaction.get(keys.repair(blob_id))
    if stored is not None:
        file_job(transaction, Job.FromString(stored), None)


async def degraded_count(transaction: Transaction) -> int:
    """How many blobs have a job."""
    return decode_counter(await transaction.get_unchecked(DEGRADED))


async def report_bad(
    transaction: Transaction, request: meta_pb2.ReportBad
) -> meta_pb2.ReportBadReply:
    """Note bad or missing fragments of a blob that is still named."""
    blob_id = request.blob.blob_id
    if await transaction.get(keys.blob_owner(blob_id)) is not None:
        await put_job(transaction, request.blob, request.indexes, request.reason)
    return meta_pb2.ReportBadReply()


async def list_repairs(
    transaction: Transaction, request: meta_pb2.ListRepairs
) -> meta_pb2.ListRepairsReply:
    """Some jobs, and how many there are."""
    rows = await transaction.scan(BEGIN, END, request.limit)
    return meta_pb2.ListRepairsReply(
        jobs=[Job.FromString(value) for _, value in rows],
        pending=await degraded_count(transaction),
    )


async def put_job(
    transaction: Transaction, blob: records_pb2.BlobRef, missing: Iterable[int], reason: str
) -> bool:
    """Write a blob's job, or add to it what it did not yet tell of; returns whether it is new."""
    stored = await transaction.get(keys.repair(blob.blob_id))
    if stored is None:
        indexes = sorted(set(missing))
        job = Job(blob=blob, missing=indexes, reason=reason, created_ns=transaction.now_ns)
        file_job(transaction, None, job)
        return True
    before = Job.FromString(stored)
    union = sorted({*before.missing, *missing})
    if union != list(before.missing):
        job = Job.FromString(stored)
        job.missing[:] = union
        job.waiting = False
        file_job(transaction, before, job)
    return False


def file_job(transaction: Transaction, before: Job | None, after: Job | None) -> None:
    """Write or drop a job's row, its place in the queue, and what it counts for."""
    if before is not None:
        _count(transaction, before, -1)
        transaction.delete(_place(before))
    if after is not None:
        after.margin = margin_of(after.blob, after.missing)
        _count(transaction, after, 1)
        transaction.put(_place(after), b"")
        transaction.put(keys.repair(after.blob.blob_id), after.SerializeToString())
    elif before is not None:
        transaction.delete(keys.repair(before.blob.blob_id))


def margin_counter(margin: int) -> bytes:
    """The counter of jobs whose blobs bear so many further losses."""
    return keys.single(f"repairs_of_margin_{margin}")


def _place(job: Job) -> bytes:
    return keys.repair_queue(job.margin, job.blob.blob_id, is_waiting=job.waiting)


def _count(transaction: Transaction, job: Job, sign: int) -> None:
    transaction.add(DEGRADED, sign)
    transaction.add(margin_counter(job.margin), sign)
    if job.waiting:
        transaction.add(WAITING, sign)
    else:
        transaction.add(BYTES_LEFT, sign * job.blob.plain_bytes)


async def read_queue(
    transaction: Transaction, request: meta_pb2.QueueRepairs
) -> meta_pb2.QueueRepairsReply:
    """A page of jobs, fewest further losses first, each with what a plan is made from."""
    begin = keys.repair_queue(0, b"", is_waiting=request.waiting)
    end = keys.after(begin[:-1])
    if request.after:
        begin = max(begin, request.after + b"\x00")
    limit = min(request.limit, ENTRIES_MAX)
    reply = meta_pb2.QueueRepairsReply()
    if not limit:
        return reply
    rows = await transaction.scan(begin, end, limit + 1)
    reply.more = len(rows) > limit
    for row, _ in rows[:limit]:
        blob_id = row[3:]
        stored = await transaction.get_unchecked(keys.repair(blob_id))
        if stored is None:
            continue
        entry = reply.entries.add(row=row)
        entry.job.MergeFromString(stored)
        naming = await find_naming(transaction, blob_id)
        if naming is not None:
            entry.blob.CopyFrom(naming.blob)
        strays = await transaction.get_unchecked(keys.strays(blob_id))
        if strays is not None:
            entry.strays.extend(records_pb2.Strays.FromString(strays).strays)
    return reply


async def claim_repairs(
    transaction: Transaction, request: meta_pb2.ClaimRepairs
) -> meta_pb2.ClaimRepairsReply:
    """Take jobs, and note where their fragments will be written before anybody writes there.

    A job is refused (token 0) if it is gone, another worker has it, or a target is being deleted.
    raises   Invalid for too many at once
    """
    if len(request.claims) > CLAIMS_MAX:
        raise faults.Invalid("claims", str(len(request.claims)), f"at most {CLAIMS_MAX}")
    reply = meta_pb2.ClaimRepairsReply()
    for claim in request.claims:
        reply.tokens.append(await _claim(transaction, request, claim))
    return reply


async def _claim(
    transaction: Transaction, request: meta_pb2.ClaimRepairs, claim: meta_pb2.ClaimRepair
) -> int:
    stored = await transaction.get(keys.repair(claim.blob_id))
    if stored is None:
        return 0
    before, job = Job.FromString(stored), Job.FromString(stored)
    now_ns = transaction.now_ns
    if job.until_ns > now_ns and job.holder != request.holder:
        return 0
    strays = await load_strays(transaction, claim.blob_id)
    targets = {(target.index, target.disk_id) for target in claim.targets}
    token = transaction.next_order()
    until_ns = now_ns + request.seconds * 10**9
    kept: list[Stray] = []
    for stray in strays.strays:
        is_target = (stray.index, stray.disk_id) in targets
        if is_target and stray.state == Stray.DELETING:
            return 0
        if not is_target:
            if stray.state == Stray.WRITING:
                stray.state, stray.due_ns = Stray.SURPLUS, now_ns
            kept.append(stray)
    for index, disk_id in sorted(targets):
        kept.append(
            Stray(index=index, disk_id=disk_id, state=Stray.WRITING, due_ns=until_ns, token=token)
        )
    store_strays(transaction, claim.blob_id, kept)
    job.holder, job.token, job.until_ns = request.holder, token, until_ns
    file_job(transaction, before, job)
    return token


async def load_strays(transaction: Transaction, blob_id: bytes) -> records_pb2.Strays:
    """Where fragments of a blob may lie that nothing names; must not change until the commit."""
    stored = await transaction.get(keys.strays(blob_id))
    return records_pb2.Strays.FromString(stored) if stored is not None else records_pb2.Strays()


def store_strays(transaction: Transaction, blob_id: bytes, strays: list[Stray]) -> None:
    """Write a blob's strays; without any there is no row."""
    if strays:
        row = records_pb2.Strays(strays=strays).SerializeToString()
        transaction.put(keys.strays(blob_id), row)
    else:
        transaction.delete(keys.strays(blob_id))
