"""Calls of the hot plane to the fragment store."""

from collections.abc import Awaitable, Mapping
from typing import cast

from common.buffers import Buffer, BufferPool
from common.frames import Answer, Call, Handler, Slot
from proto import scrub_pb2, storage_pb2
from storagenode.client import Method
from storagenode.store.disk import Disk
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.scrub import Scrubber


class PoolSlots:
    """Page-aligned memory for cells: what is received there is written to disk from there."""

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool

    def take(self, size: int) -> Slot:
        return self._pool.take_now(size)

    def give_back(self, slot: Slot) -> None:
        cast(Buffer, slot).release()


class NodeServer:
    """The table of handlers over one store."""

    def __init__(
        self,
        store: FragmentStore,
        name: str,
        zone: str,
        incarnation: int,
        scrubbers: Mapping[Disk, Scrubber] | None = None,
    ) -> None:
        self._store = store
        self._scrubbers = scrubbers or {}
        self._name, self._zone, self._incarnation = name, zone, incarnation

    def handlers(self) -> dict[int, Handler]:
        """Handlers by method id."""
        return {
            Method.PUT_CELL: self._put_cell,
            Method.READ_FRAGMENT: self._read_fragment,
            Method.DELETE_FRAGMENTS: self._delete_fragments,
            Method.LIST_FRAGMENTS: self._list_fragments,
            Method.STAT_FRAGMENTS: self._stat_fragments,
            Method.NODE_STATUS: self._node_status,
            Method.VERIFY_FRAGMENTS: self._verify_fragments,
        }

    def _put_cell(self, call: Call) -> Awaitable[None]:
        request = storage_pb2.PutCell.FromString(call.header)
        return self._store.begin_put(request, call.payload, cast(Buffer | None, call.slot))

    async def _read_fragment(self, call: Call) -> Answer:
        request = storage_pb2.ReadFragment.FromString(call.header)
        reply, buffer = await self._store.read(request)
        return Answer(reply.SerializeToString(), (buffer.view,), buffer.release)

    async def _delete_fragments(self, call: Call) -> Answer:
        request = storage_pb2.DeleteFragments.FromString(call.header)
        return Answer((await self._store.delete(request)).SerializeToString())

    def _list_fragments(self, call: Call) -> Answer:
        request = storage_pb2.ListFragments.FromString(call.header)
        return Answer(self._store.list(request).SerializeToString())

    def _stat_fragments(self, call: Call) -> Answer:
        request = storage_pb2.StatFragments.FromString(call.header)
        return Answer(self._store.stat_all(request).SerializeToString())

    async def _verify_fragments(self, call: Call) -> Answer:
        request = scrub_pb2.VerifyFragments.FromString(call.header)
        return Answer((await self._store.verify(request)).SerializeToString())

    def _node_status(self, call: Call) -> Answer:
        return Answer(self.status().SerializeToString())

    def status(self) -> storage_pb2.NodeStatusReply:
        """The node and its disks as of now."""
        return storage_pb2.NodeStatusReply(
            node_name=self._name,
            zone=self._zone,
            incarnation=self._incarnation,
            disks=[disk_status(disk, self._scrubbers.get(disk)) for disk in self._store.disks],
        )


def disk_status(disk: Disk, scrubber: Scrubber | None = None) -> storage_pb2.DiskStatus:
    """One disk as of now."""
    used, free = disk.used_bytes, disk.free_bytes
    status = storage_pb2.DiskStatus(
        disk_id=disk.identity.disk_id,
        disk_uuid=disk.identity.disk_uuid,
        path=str(disk.settings.folder),
        capacity_bytes=used + disk.dead_bytes + free,
        free_bytes=free,
        used_bytes=used,
        dead_bytes=disk.dead_bytes,
        fragment_count=disk.fragment_count,
        state=disk.state,
        direct_io=disk.is_direct,
        bytes_read=disk.counters.bytes_read,
        bytes_written=disk.counters.bytes_written,
        condition=disk.condition,
        damaged_fragments=len(disk.damaged),
        read_errors=disk.health.read_errors,
        failure=disk.failure,
        next_trial_ns=disk.next_trial_ns if disk.failure else 0,
        mean_call_us=int(disk.health.mean_s * 1e6),
    )
    if scrubber is not None:
        status.scrub_pass = scrubber.progress.pass_number
        status.scrub_finished_ns = scrubber.progress.finished_ns
        status.scrub_share = scrubber.share
    return status
