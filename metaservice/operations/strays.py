"""Fragments that lie where no placement names them: deleted in two steps, so that none is deleted
that a repair takes back meanwhile.

First a commit says that an entry is being deleted; from then on no claim gets its place. Then the
node deletes what was written before that, and shows it a fence: a late writer of an older claim is
refused. Then the entry goes. Each step may be done again by anybody.
"""

from common import faults, limits
from metaservice import keys
from metaservice.operations.naming import find_naming
from metaservice.operations.repairs import LATE_NS, Stray, load_strays, store_strays
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

BEGIN, END = b"J", b"K"
ROWS_PER_PAGE_MAX = 500
TAKEN_AT_ONCE_MAX = 40
JUDGED_AT_ONCE_MAX = 500
STRAYS_MADE_MAX = 40  # entries that one judgement may write


async def list_strays(
    transaction: Transaction, request: meta_pb2.ListStrays
) -> meta_pb2.ListStraysReply:
    """A page of rows, and of them the entries that are due."""
    limit = min(request.limit or ROWS_PER_PAGE_MAX, ROWS_PER_PAGE_MAX)
    begin = keys.strays(request.after) + b"\x00" if request.after else BEGIN
    rows = await transaction.scan(begin, END, limit + 1)
    reply = meta_pb2.ListStraysReply(more=len(rows) > limit)
    for key, value in rows[:limit]:
        for stray in records_pb2.Strays.FromString(value).strays:
            if _is_due(stray, transaction.now_ns):
                reply.due.add(blob_id=key[1:], stray=stray)
    if rows:
        reply.next = rows[:limit][-1][0][1:]
    return reply


async def take_strays(
    transaction: Transaction, request: meta_pb2.TakeStrays
) -> meta_pb2.TakeStraysReply:
    """Mark due entries as being deleted. token 0: it is not due any more, or is named again."""
    _check_count(len(request.strays), TAKEN_AT_ONCE_MAX)
    reply = meta_pb2.TakeStraysReply()
    for entry in request.strays:
        reply.tokens.append(await _take(transaction, entry))
    return reply


async def _take(transaction: Transaction, entry: meta_pb2.StrayEntry) -> int:
    strays = list((await load_strays(transaction, entry.blob_id)).strays)
    for stray in strays:
        if not _is_same(stray, entry.stray) or not _is_due(stray, transaction.now_ns):
            continue
        naming = await find_naming(transaction, entry.blob_id)
        if naming is not None and naming.blob.disk_ids[stray.index] == stray.disk_id:
            strays.remove(stray)  # a placement is stronger than an entry
            store_strays(transaction, entry.blob_id, strays)
            return 0
        if stray.state != Stray.DELETING:
            stray.state, stray.token = Stray.DELETING, transaction.next_order()
            store_strays(transaction, entry.blob_id, strays)
        return stray.token
    return 0


async def finish_strays(
    transaction: Transaction, request: meta_pb2.FinishStrays
) -> meta_pb2.FinishStraysReply:
    """Forget entries whose fragments are deleted, or whose disk is removed."""
    _check_count(len(request.strays), TAKEN_AT_ONCE_MAX)
    for entry in request.strays:
        strays = list((await load_strays(transaction, entry.blob_id)).strays)
        left = [stray for stray in strays if not _is_same(stray, entry.stray)]
        if len(left) != len(strays):
            gone = entry.stray
            transaction.delete(keys.quarantine(gone.disk_id, entry.blob_id, gone.index))
            store_strays(transaction, entry.blob_id, left)
    return meta_pb2.FinishStraysReply()


async def judge_fragments(
    transaction: Transaction, request: meta_pb2.JudgeFragments
) -> meta_pb2.JudgeFragmentsReply:
    """What may stay of the fragments found on a disk that was away.

    STRAY    of a blob that lies elsewhere: it is an entry now and deleted later, unless a repair
             takes it back. ORPHAN: its blob is deleted, or was never named and never will be.
             The metadata's own checkpoints stay.
    returns  verdicts of the first fragments, maybe not of all: ask again for the rest
    """
    _check_count(len(request.fragments), JUDGED_AT_ONCE_MAX)
    reply = meta_pb2.JudgeFragmentsReply()
    made = 0
    for fragment in request.fragments:
        verdict = await _judge(transaction, request.disk_id, fragment)
        reply.verdicts.append(verdict)
        made += verdict == meta_pb2.STRAY
        if made == STRAYS_MADE_MAX:
            break
    return reply


async def _judge(
    transaction: Transaction, disk_id: int, fragment: meta_pb2.FragmentName
) -> "meta_pb2.Verdict.ValueType":
    blob_id, index = fragment.blob_id, fragment.index
    if blob_id.startswith(keys.CHECKPOINT_SESSION):
        return meta_pb2.KEEP  # the journal names it, and drops its old ones itself
    owner = await transaction.get_unchecked(keys.blob_owner(blob_id))
    if owner is None:
        # Absence alone proves nothing: only a session that ended, and was walked, makes no more.
        session = await transaction.get_unchecked(keys.session(int.from_bytes(blob_id[:8], "big")))
        return meta_pb2.ORPHAN if session is None else meta_pb2.KEEP
    naming = await find_naming(transaction, blob_id)
    if naming is None:
        return meta_pb2.KEEP  # the collector has it
    if index < len(naming.blob.disk_ids) and naming.blob.disk_ids[index] == disk_id:
        return meta_pb2.KEEP
    strays = list((await load_strays(transaction, blob_id)).strays)
    if any((stray.index, stray.disk_id) == (index, disk_id) for stray in strays):
        return meta_pb2.KEEP  # it has its entry
    # Blobs that wait to come home take it back if it is theirs; a reader of it there is none.
    due_ns = transaction.now_ns + int(limits.GARBAGE_GRACE_S * 1e9)
    strays.append(Stray(index=index, disk_id=disk_id, state=Stray.SURPLUS, due_ns=due_ns))
    store_strays(transaction, blob_id, strays)
    return meta_pb2.STRAY


def _is_due(stray: Stray, now_ns: int) -> bool:
    if stray.state == Stray.WRITING:  # its worker died; give it time to notice
        return stray.due_ns + LATE_NS <= now_ns
    return stray.state == Stray.DELETING or stray.due_ns <= now_ns


def _is_same(stray: Stray, other: Stray) -> bool:
    places = (stray.index, stray.disk_id), (other.index, other.disk_id)
    return places[0] == places[1] and stray.token == other.token


def _check_count(count: int, count_max: int) -> None:
    if count > count_max:
        raise faults.Invalid("count", str(count), f"at most {count_max}")
