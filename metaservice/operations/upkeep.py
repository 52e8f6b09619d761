"""What the service forgets by itself: old transaction ids, rows of uploads long completed."""

from common import limits
from metaservice import keys
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

ROWS_PER_STEP = 100


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
    """Walks all uploads, a step at a time, and drops the rows of those completed long ago."""

    def __init__(self) -> None:
        self._position = b"u"

    async def step(self, transaction: Transaction) -> meta_pb2.FinishGarbageReply:
        """Look at the next rows; begins again at the end."""
        horizon = transaction.now_ns - int(limits.COMPLETED_UPLOAD_KEEP_S * 1e9)
        rows = await transaction.scan(self._position, b"v", ROWS_PER_STEP)
        for key, value in rows:
            upload = records_pb2.Upload.FromString(value)
            if upload.state == records_pb2.Upload.DONE and upload.ended_ns < horizon:
                transaction.require(key, value)
                transaction.delete(key)
        self._position = rows[-1][0] + b"\x00" if len(rows) == ROWS_PER_STEP else b"u"
        return meta_pb2.FinishGarbageReply()
