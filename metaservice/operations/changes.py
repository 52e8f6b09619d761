"""The change log: what happened in buckets that somebody reads changes of, in commit order.

A record is part of the commit that made the change. Sequences come from the service's one clock,
inside the commit, so a reader that has seen a sequence never misses a smaller one.
"""

from metaservice import keys
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

BEGIN, END = b"c", b"d"
TRIM_ROWS_MAX = 100


def add_change(
    transaction: Transaction,
    bucket: records_pb2.Bucket,
    kind: str,
    key: bytes,
    version: records_pb2.Version,
) -> None:
    """Record a change, if the bucket has consumers, under a sequence of its own."""
    if not bucket.consumers:
        return
    record = records_pb2.ChangeRecord(
        sequence=transaction.next_order(),
        bucket_id=bucket.bucket_id,
        key=key,
        kind=kind,
        version=version,
        consumers=bucket.consumers,
        time_ns=transaction.now_ns,
    )
    transaction.put(keys.change(record.sequence), record.SerializeToString())


async def read_changes(
    transaction: Transaction, request: meta_pb2.ReadChanges
) -> meta_pb2.ReadChangesReply:
    """Records for one consumer after a sequence, in order."""
    records: list[records_pb2.ChangeRecord] = []
    begin = keys.change(request.after_sequence + 1)
    while len(records) < request.limit:
        rows = await transaction.scan(begin, END, request.limit)
        for _, value in rows:
            record = records_pb2.ChangeRecord.FromString(value)
            if request.consumer in record.consumers and len(records) < request.limit:
                records.append(record)
        if len(rows) < request.limit:
            break
        begin = rows[-1][0] + b"\x00"
    return meta_pb2.ReadChangesReply(records=records)


async def trim_changes(
    transaction: Transaction, request: meta_pb2.TrimChanges
) -> meta_pb2.TrimChangesReply:
    """Note how far a consumer is, and drop a bounded number of records that all have read.

    A consumer never goes back: a smaller sequence than it had before changes nothing.
    """
    key = keys.consumer(request.consumer)
    stored = await transaction.get(key)
    through = max(request.through_sequence, int.from_bytes(stored or b"", "big"))
    if stored is None or through != int.from_bytes(stored, "big"):
        transaction.put(key, keys.uint64(through))
    rows = await transaction.scan(BEGIN, keys.change(through + 1), TRIM_ROWS_MAX)
    for key, value in rows:
        record = records_pb2.ChangeRecord.FromString(value)
        if await _all_have_read(transaction, record):
            transaction.delete(key)
    return meta_pb2.TrimChangesReply()


async def _all_have_read(transaction: Transaction, record: records_pb2.ChangeRecord) -> bool:
    for consumer in record.consumers:
        through = await transaction.get(keys.consumer(consumer))
        if through is None or int.from_bytes(through, "big") < record.sequence:
            return False
    return True
