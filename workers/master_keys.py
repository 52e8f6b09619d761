"""Drives the pass that wraps everything by the active master key after a rotation.

The metadata service does the wrapping, page by page: workers never see a master key. A lease keeps
several workers from doubling the pace; two that both believed to have it would do no harm.
"""

from prometheus_client import Gauge

from common.clock import Clock
from metaservice.client import MetaClient, Method
from proto import meta_pb2

LEASE = "master_keys"
LEASE_S = 60
LEASE_RENEW_S = 20.0
ROWS_PER_PAGE = 200

ROWS = Gauge("ostraka_key_pass_rows", "Rows that the pass over wrapped keys has looked at")
REWRAPPED = Gauge("ostraka_key_pass_rewrapped", "Keys that it has wrapped by the active master key")


class KeyPassWorker:
    """One round: a whole pass if one is due."""

    def __init__(self, meta: MetaClient, clock: Clock, holder: str, rows_per_s: int) -> None:
        """rows_per_s   most rows looked at"""
        self._meta = meta
        self._clock = clock
        self._holder = holder
        self._pause_s = ROWS_PER_PAGE / rows_per_s

    async def run_once(self) -> None:
        """Go on with the pass until it is done, or the lease is another's."""
        if not (await self._page(0)).due:
            return
        held_s = -LEASE_RENEW_S
        while True:
            now_s = self._clock.monotonic_s()
            if now_s - held_s >= LEASE_RENEW_S:
                if not await self._hold():
                    return
                held_s = now_s
            reply = await self._page(ROWS_PER_PAGE)
            ROWS.set(reply.progress.rows)
            REWRAPPED.set(reply.progress.rewrapped)
            if not reply.due:
                return
            await self._clock.sleep(self._pause_s)

    async def _page(self, limit: int) -> meta_pb2.RewrapKeysReply:
        reply: meta_pb2.RewrapKeysReply = await self._meta.call(
            Method.REWRAP_KEYS, meta_pb2.RewrapKeys(limit=limit)
        )
        return reply

    async def _hold(self) -> bool:
        request = meta_pb2.AcquireLease(name=LEASE, holder=self._holder, seconds=LEASE_S)
        lease: meta_pb2.LeaseReply = await self._meta.call(Method.ACQUIRE_LEASE, request)
        return lease.is_held
