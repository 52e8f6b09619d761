"""Leases: the right to do a job, for a time, with a token that grows with every holder.

The token fences: who acts for a lease shows its token, and whoever saw a higher one refuses.
"""

from metaservice import keys
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2


async def acquire_lease(
    transaction: Transaction, request: meta_pb2.AcquireLease
) -> meta_pb2.LeaseReply:
    """Take a free lease or extend one's own; is_held tells whether the caller has it now."""
    key = keys.lease(request.name)
    stored = await transaction.get(key)
    lease = records_pb2.Lease.FromString(stored) if stored is not None else records_pb2.Lease()
    now = transaction.now_ns
    if lease.holder != request.holder:
        if lease.until_ns > now:
            return meta_pb2.LeaseReply(lease=lease, is_held=False)
        lease = records_pb2.Lease(
            name=request.name, holder=request.holder, token=transaction.next_order()
        )
    lease.until_ns = now + request.seconds * 10**9
    transaction.put(key, lease.SerializeToString())
    return meta_pb2.LeaseReply(lease=lease, is_held=True)
