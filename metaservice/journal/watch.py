"""Whether the newest checkpoint is whole: the nodes that hold it are asked again and again.

Repair knows objects and not checkpoints: one that has lost fragments is replaced by a new one.
"""

import asyncio
from collections import Counter, defaultdict

from common import faults
from common.clock import Clock
from metaservice.journal.nodes import JournalNodes, is_kept
from proto import journal_pb2, records_pb2, storage_pb2

LOOK_S = 5.0
# Between checkpoints that are to be spread wider and are not: disks refuse to take them.
PAUSE_S, PAUSE_MAX_S = 10.0, 600.0

Place = tuple[int, bytes, int]  # disk, blob, index


class CheckpointWatch:
    """What the holders of the newest checkpoint's fragments said last."""

    def __init__(self, nodes: JournalNodes, clock: Clock) -> None:
        self._nodes, self._clock = nodes, clock
        self._lost: set[Place] = set()
        self._next_look_s = 0.0
        self._pause_s, self._not_before_s = PAUSE_S, 0.0

    async def look(self, header: journal_pb2.Header) -> None:
        """Ask all holders, if it is time."""
        now_s = self._clock.monotonic_s()
        if now_s < self._next_look_s or not header.checkpoints:
            return
        self._next_look_s = now_s + LOOK_S
        wanted: dict[int, list[Place]] = defaultdict(list)
        for blob in header.checkpoints[-1].blobs:
            for index, disk_id in enumerate(blob.disk_ids):
                if disk_id:
                    wanted[disk_id].append((disk_id, blob.blob_id, index))
        lost = await asyncio.gather(*[self._ask(places) for places in wanted.values()])
        self._lost = {place for places in lost for place in places}
        if not self.is_thin(header):
            self._pause_s = PAUSE_S

    async def _ask(self, places: list[Place]) -> list[Place]:
        """Those that their node does not have whole; as before, if it cannot tell."""
        before = [place for place in places if place in self._lost]
        client = self._nodes.client_of(places[0][0])
        if client is None:
            return before
        fragments = [
            storage_pb2.FragmentId(blob_id=blob_id, index=index, disk_id=disk_id)
            for disk_id, blob_id, index in places
        ]
        try:
            reply = await client.stat_fragments(storage_pb2.StatFragments(fragments=fragments))
        except faults.NotFound:
            return places  # its node has another disk now
        except faults.Fault:
            return before
        whole = {(each.blob_id, each.index) for each in reply.fragments if not each.damaged}
        return [place for place in places if place[1:] not in whole]

    def begun(self) -> None:
        """A checkpoint is tried; if too few disks take it, the next one is not tried at once."""
        self._not_before_s = self._clock.monotonic_s() + PAUSE_S

    def stored(self) -> None:
        """A checkpoint has just been stored: another one only helps if something changes."""
        self._not_before_s = self._clock.monotonic_s() + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)

    def is_due(self, header: journal_pb2.Header) -> bool:
        """Whether a new checkpoint is to replace one that is thinner than it could be."""
        return self._clock.monotonic_s() >= self._not_before_s and self.is_thin(header)

    def is_thin(self, header: journal_pb2.Header) -> bool:
        """Whether a blob of the newest checkpoint lacks a fragment, or is on fewer zones than a new
        one would be.
        """
        if not header.checkpoints:
            return False
        down = self._nodes.down
        writable = {
            disk.zone
            for zone in self._nodes.topology.writable_zones
            for disk in zone
            if disk.node_name not in down
        }
        for blob in header.checkpoints[-1].blobs:
            kept, wanted = self._zones(blob, is_up=False), blob.k + blob.m
            if kept.total() < wanted or len(kept) < min(wanted, len(writable | kept.keys())):
                return True
        return False

    def fragments_by_zone(self, blob: records_pb2.BlobRef) -> list[int]:
        """How many fragments of a blob can be read now, for each zone that has any."""
        return list(self._zones(blob, is_up=True).values())

    def _zones(self, blob: records_pb2.BlobRef, *, is_up: bool) -> Counter[str]:
        """Fragments that are not known to be lost; is_up: and whose nodes answer."""
        zones: Counter[str] = Counter()
        for index, disk_id in enumerate(blob.disk_ids):
            disk = self._nodes.topology.disks.get(disk_id)
            if disk is None or not is_kept(disk) or (disk_id, blob.blob_id, index) in self._lost:
                continue
            if not is_up or self._nodes.client_of(disk_id) is not None:
                zones[disk.zone] += 1
        return zones
