"""What disks found bad in their own fragments, told to the metadata service until it has heard."""

from metaservice.client import MetaClient, Method
from proto import scrub_pb2
from storagenode.store.fragment_store import FragmentStore

REPORTED_AT_ONCE_MAX = 50


class Reporter:
    """Sends the reports of all disks of a node."""

    def __init__(self, store: FragmentStore, meta: MetaClient) -> None:
        self._store = store
        self._meta = meta

    async def send(self) -> int:
        """Send what there is; returns how many. What was not sent stays. raises Unavailable"""
        sent = 0
        for disk in self._store.disks:
            while disk.reports and disk.identity.disk_id:
                some = list(disk.reports)[:REPORTED_AT_ONCE_MAX]
                request = scrub_pb2.ReportFragments(
                    fragments=[
                        scrub_pb2.BadFragment(
                            blob_id=blob_id,
                            index=index,
                            disk_id=disk.identity.disk_id,
                            reason=reason,
                        )
                        for blob_id, index, reason in some
                    ]
                )
                await self._meta.call(Method.REPORT_FRAGMENTS, request)
                for _ in some:
                    disk.reports.popleft()
                sent += len(some)
        return sent
