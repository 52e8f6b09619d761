"""What the service does by itself: forgets old transaction ids and rows of uploads long completed,
aborts the uploads of deleted buckets.
"""

from common import limits
from metaservice import keys
from metaservice.operations import garbage, multipart
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

ROWS_PER_STEP = 100
SWEPT_AT_ONCE_MAX = 30  # uploads; three rows each
FINISHED_UPLOADS, DELETED_BUCKETS = b"f", b"z"


class TransactionTrimmer:
    """Drops transaction ids older than they are kept for, as fast as they were made.

    The first 8 bytes of an id are its maker's time in nanoseconds, so the oldest come first. Each
    step begins where the last one ended: a scan over deleted rows is as long as over present ones.
    Ids whose maker's clock was late lie before that, and are found by the next process.
    """

    def __init__(self) -> None:
        self._position = keys.transaction(b"")
        self.is_behind = False  # whether the last step left something to do

    async def step(self, transaction: Transaction) -> meta_pb2.FinishGarbageReply:
        """Drop a bounded number."""
        horizon = transaction.now_ns - int(limits.TRANSACTION_ID_KEEP_S * 1e9)
        end = keys.transaction(keys.uint64(max(horizon, 0)))
        rows = await transaction.scan(self._position, end, ROWS_PER_STEP)
        for key, _ in rows:
            transaction.delete(key)
        self.is_behind = len(rows) == ROWS_PER_STEP
        if rows:
            self._position = rows[-1][0]
        return meta_pb2.FinishGarbageReply()


class UploadTrimmer:
    """Drops the rows of uploads completed long ago.

    Rows sort by when their upload was begun, and none begun after the horizon can have ended before
    it. So a pass reads little more than it drops; it begins again at the first row when done.
    """

    def __init__(self) -> None:
        self._position = FINISHED_UPLOADS
        self.is_behind = False  # whether the last step left something to do

    async def step(self, transaction: Transaction) -> meta_pb2.FinishGarbageReply:
        """Look at the next rows."""
        horizon = transaction.now_ns - int(limits.COMPLETED_UPLOAD_KEEP_S * 1e9)
        end = FINISHED_UPLOADS + keys.uint64(max(horizon, 0))
        rows = await transaction.scan(self._position, end, ROWS_PER_STEP)
        for key, value in rows:
            if records_pb2.Upload.FromString(value).ended_ns < horizon:
                transaction.delete(key)
        self.is_behind = len(rows) == ROWS_PER_STEP
        self._position = rows[-1][0] + b"\x00" if self.is_behind else FINISHED_UPLOADS
        return meta_pb2.FinishGarbageReply()


class BucketSweeper:
    """Aborts the uploads that were open when their bucket was deleted."""

    def __init__(self) -> None:
        self.is_behind = False  # whether the last step left something to do

    async def step(self, transaction: Transaction) -> meta_pb2.FinishGarbageReply:
        """Abort a bounded number of one bucket; no write of a deleted bucket gets in between."""
        gone = await transaction.scan(DELETED_BUCKETS, keys.after(DELETED_BUCKETS), 1)
        self.is_behind = bool(gone)
        for key, _ in gone:
            bucket_id = int.from_bytes(key[len(DELETED_BUCKETS) :], "big")
            prefix = keys.bucket_rows(b"u", bucket_id)
            rows = await transaction.scan(
                prefix, keys.after(prefix), SWEPT_AT_ONCE_MAX, checked=True
            )
            for _, value in rows:
                upload = records_pb2.Upload.FromString(value)
                multipart.drop_open(transaction, bucket_id, upload)
                garbage.add_garbage(transaction, upload_id=upload.upload_id)
            if len(rows) < SWEPT_AT_ONCE_MAX:
                transaction.delete(key)
        return meta_pb2.FinishGarbageReply()
