"""The journal of a running service: begun when there are nodes, kept up, told about.

Two background loops drive it: `step` every second (begin, grow, heal the members' headers, notice
that another service took over), and `checkpoint_step`.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from common import exit_codes, faults
from common.buffers import BufferPool
from common.clock import Clock
from common.erasure.code import Codes
from common.keyring import KeySource
from common.limits import MIB
from metaservice.journal import register
from metaservice.journal.blobs import SESSION, BlobKeeper
from metaservice.journal.checkpoint import PROFILE, CheckpointWriter
from metaservice.journal.nodes import JournalNodes, Place
from metaservice.journal.register import is_joined, names_of
from metaservice.journal.survival import JournalPicture, picture_of
from metaservice.journal.tail import CaughtUp
from metaservice.journal.watch import CheckpointWatch
from metaservice.journal.writer import Ended, JournalWriter, WriterSettings
from metaservice.kv.rocks import RocksStore
from proto import journal_pb2, storage_pb2
from storagenode.client import Method

log = logging.getLogger(__name__)

MEMBERS_MAX = 7
SETTLE_S = 1.0  # no zone came or went for so long: the members of a new journal can be chosen
REFRESH_S = 60.0  # a node with a needed copy is away for so long: a checkpoint replaces the copy
URGENT_S = 5.0  # the same, if it is true of all nodes with a copy
BEGIN_S = 10.0
SEGMENTS_MAX = 16  # since the last checkpoint
BUFFER_BYTES = 64 * MIB
LIST_MAX = 1000


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """What an operator decides; see MetaServiceConfig."""

    copies_min: int
    patience_s: float
    checkpoint_bytes: int
    keep_s: float


class MetadataJournal:
    """Ties the writer to the store and the nodes."""

    def __init__(
        self,
        store: RocksStore,
        nodes: JournalNodes,
        ring: KeySource,
        clock: Clock,
        codes: Codes,
        options: JournalOptions,
    ) -> None:
        self._store, self._nodes, self._clock = store, nodes, clock
        self._options = options
        settings = WriterSettings(0, options.copies_min, options.patience_s)
        self.writer = JournalWriter(store, nodes, ring, clock, settings)
        self._thread = ThreadPoolExecutor(1, "snapshot")
        self._keeper = BlobKeeper(nodes, codes, BufferPool(BUFFER_BYTES))
        self._checkpoints = CheckpointWriter(self._keeper, ring, clock, self._thread)
        self._watch = CheckpointWatch(nodes, clock)
        self._resuming: asyncio.Task[None] | None = None
        self._is_running = False  # groups go to the nodes
        self._zones_seen: set[str] = set()
        self._zones_since_s = clock.monotonic_s()
        self._away_since_s: dict[str, float] = {}
        self._held: dict[str, set[int]] = {}  # segments by node, as it said last
        self._newest_asked_for = 0

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Hold all answers until the journal of an earlier life goes on; returns at once."""
        if self.writer.is_known:
            self._store.hold()
            self._resuming = asyncio.get_running_loop().create_task(self._resume())

    async def stop(self) -> None:
        """Wait for nothing any more; before the store is closed."""
        self._store.leave()
        self.writer.close()
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.gather(self._resuming, return_exceptions=True)

    async def disconnect(self) -> None:
        """Close connections; after the store is closed."""
        await self._nodes.stop()
        self._thread.shutdown()

    async def _resume(self) -> None:
        """Go on with the journal; whatever else happens, nothing is ever answered."""
        is_over = False
        try:
            await self._adopt_profile()
            try:
                await self.writer.resume()
            except Ended as ended:
                await self._go_on_alone(str(ended))
            else:
                self._attach()
            self._store.open()
            is_over = True
        except CaughtUp as caught_up:
            words = f"{caught_up}; the service starts again with them"
            self._store.fail(words, exit_codes.AGAIN)
        except faults.Fault as fault:
            self._store.fail(faults.in_words(fault))
        finally:
            if not is_over:
                self._store.fail("its journal could not go on")

    def _attach(self) -> None:
        self._is_running = True
        self._store.attach(self)

    async def _go_on_alone(self, why: str) -> None:
        log.error("the service goes on without a journal: %s", why)
        self._is_running = False
        self._store.attach(None)
        await self.writer.end()

    async def _adopt_profile(self) -> None:
        """As many copies as the standard profile has parity."""
        await self._nodes.refresh()
        profile = self._nodes.topology.profiles.get(PROFILE)
        copies = profile.m if profile is not None else 0
        options = self._options
        self.writer.settings = WriterSettings(
            copies, min(options.copies_min, max(copies, 1)), options.patience_s
        )

    # --- what the store calls -------------------------------------------------------------------

    def begin(self, rows: Mapping[bytes, bytes | None]) -> tuple[bytes, bytes]:
        """See GroupLog."""
        return self.writer.begin(rows)

    async def send(self) -> None:
        """See GroupLog."""
        try:
            await self.writer.send()
        except Ended as ended:
            await self._go_on_alone(str(ended))

    # --- every second ---------------------------------------------------------------------------

    async def step(self) -> None:
        """Look after the journal. raises Unavailable"""
        if self._resuming is not None and not self._resuming.done():
            return
        if not self._store.is_usable:
            return
        await self._adopt_profile()
        try:
            if not self._is_running:
                await self._begin_if_possible()
            else:
                await self._watch_members()
                assert self.writer.header is not None, "running"
                await self._watch.look(self.writer.header)
                await self.writer.grow()
                await self.writer.rewrap()
        except Ended as ended:
            await self._go_on_alone(str(ended))
        except (faults.Fenced, faults.Invalid) as fault:
            self._store.fail(faults.in_words(fault))

    async def _begin_if_possible(self) -> None:
        zones = self._nodes.live_zones
        now_s = self._clock.monotonic_s()
        if set(zones) != self._zones_seen:
            self._zones_seen, self._zones_since_s = set(zones), now_s
        self._held.clear()
        copies = self.writer.settings.copies
        if not copies or len(zones) < copies or now_s - self._zones_since_s < SETTLE_S:
            return
        members = [_member(places[0]) for places in zones.values()][:MEMBERS_MAX]
        try:
            async with asyncio.timeout(BEGIN_S):
                await self.writer.begin_new(members)
        except TimeoutError:
            raise faults.Unavailable("the journal could not begin") from None
        self._attach()
        log.info("the journal begins", extra={"members": [member.name for member in members]})

    async def _watch_members(self) -> None:
        """See whether members still have what they had; give it to them again if not.

        raises   Fenced if another service has taken over
        """
        header = self.writer.header
        assert header is not None, "running"
        looker = journal_pb2.Caller(cluster_id=header.cluster_id)
        holders = {name for segment in header.segments for name in segment.nodes}
        everyone = sorted({*names_of(header), *holders})
        newest = header.segments[-1].segment_id
        replies = await register.fence(self._nodes, everyone, looker)
        for name, reply in replies.items():
            self._held[name] = _whole_segments(header, reply)
            if reply.promised > self.writer.caller.epoch:
                raise faults.Fenced("journal epoch", str(self.writer.caller.epoch))
            if register.age(reply.header) < register.age(header):
                self.writer.forget_header_of(name)
        self._newest_asked_for = newest
        damaged = _damaged_copies(header.segments[-1], replies)
        if damaged and self.writer.segment.segment_id == newest:
            log.error("journal copies are damaged", extra={"nodes": sorted(damaged)})
            await self.writer.leave(damaged)
            return
        self._note_away(header)
        members = self._members_wanted(header, replies)
        if members != list(header.members):

            def edit(changed: journal_pb2.Header) -> None:
                del changed.members[:]
                changed.members.extend(members)

            await self.writer.change(edit)
        else:
            await self.writer.spread(names_of(header))

    def _members_wanted(
        self, header: journal_pb2.Header, replies: dict[str, journal_pb2.FenceReply]
    ) -> list[journal_pb2.Member]:
        """Members that are still in the cluster, as they are now, and one of each new zone."""
        places = self._nodes.places
        members = []
        for known in header.members:
            place = places.get(known.name)
            if place is None:
                continue
            member = _member(place)
            reply = replies.get(known.name)
            member.journal_id = reply.journal_id if reply is not None else known.journal_id
            members.append(member)
        zones = {member.zone for member in members}
        for zone, live in self._nodes.live_zones.items():
            if zone not in zones and len(members) < MEMBERS_MAX:
                members.append(_member(live[0]))
        return members or list(header.members)

    def _note_away(self, header: journal_pb2.Header) -> None:
        now_s = self._clock.monotonic_s()
        needed = {name for segment in header.segments for name in segment.nodes}
        needed |= {self._nodes.topology.node_of(disk_id) for disk_id in _disks_of(header)}
        away = {name for name in needed if name and self._nodes.peer(name) is None}
        self._away_since_s = {name: self._away_since_s.get(name, now_s) for name in away}

    # --- checkpoints ----------------------------------------------------------------------------

    async def checkpoint_step(self) -> None:
        """Store a checkpoint if one is due. raises Unavailable, Full, Corrupt"""
        if not self._is_running or not self._is_checkpoint_due():
            return
        try:
            await self._checkpoint()
        except Ended as ended:
            await self._go_on_alone(str(ended))
        except faults.Fenced as fault:
            self._store.fail(faults.in_words(fault))

    async def _checkpoint(self) -> None:
        written = self.writer.bytes_since_checkpoint
        header = self.writer.header
        assert header is not None
        self._watch.begun()
        snapshot = await self._store.snapshot()
        checkpoint = await self._checkpoints.write(
            snapshot,
            self.writer.caller.epoch,
            lambda: (self._nodes.topology, self._nodes.down),
            header.cluster_id,
        )
        await self.writer.change(lambda changed: self._name(changed, checkpoint))
        self.writer.bytes_since_checkpoint -= written
        self._away_since_s.clear()
        self._watch.stored()
        log.info(
            "a checkpoint is stored",
            extra={"sequence": checkpoint.sequence, "size_bytes": checkpoint.size_bytes},
        )
        await self._trim()

    def _is_checkpoint_due(self) -> bool:
        header = self.writer.header
        assert header is not None, "running"
        last = header.checkpoints[-1] if header.checkpoints else None
        if last is None or not is_joined(header, last) or len(header.segments) > SEGMENTS_MAX:
            return True
        written = self.writer.bytes_since_checkpoint
        if written > max(self._options.checkpoint_bytes, last.size_bytes):
            return True
        if not self.writer.is_short and self._has_thin_segment(header, last):
            return True
        if self._watch.is_due(header):
            return True
        now_s = self._clock.monotonic_s()
        long_away = {
            name for name, since_s in self._away_since_s.items() if now_s - since_s > URGENT_S
        }
        if any(
            long_away.issuperset(segment.nodes)
            and (not segment.sealed or segment.end_sequence > last.sequence + 1)
            for segment in header.segments
        ):
            return True
        return any(now_s - since_s > REFRESH_S for since_s in self._away_since_s.values())

    def _has_thin_segment(self, header: journal_pb2.Header, last: journal_pb2.Checkpoint) -> bool:
        """Whether a recovery needs commits that never had all copies, or have lost one."""
        return any(
            sum(self._holds(name, segment.segment_id) for name in segment.nodes)
            < self.writer.settings.copies
            and segment.end_sequence > max(segment.first_sequence, last.sequence + 1)
            for segment in header.segments
            if segment.sealed
        )

    def _holds(self, name: str, segment_id: int) -> bool:
        """Whether a node has its copy of a segment, as far as it has told."""
        held = self._held.get(name)
        return held is None or segment_id in held or segment_id > self._newest_asked_for

    def _name(self, header: journal_pb2.Header, checkpoint: journal_pb2.Checkpoint) -> None:
        """Add a checkpoint to a header; leave out what is older than what is kept."""
        horizon_ns = self._clock.now_ns() - int(self._options.keep_s * 1e9)
        kept = [each for each in header.checkpoints if is_joined(header, each)]
        # The last one before the horizon is where a restoring to the horizon begins.
        while self._options.keep_s and len(kept) > 1 and kept[1].time_ns < horizon_ns:
            kept.pop(0)
        if not self._options.keep_s:
            kept = []
        del header.checkpoints[:]
        header.checkpoints.extend([*kept, checkpoint])
        first = header.checkpoints[0].sequence
        segments = [
            segment
            for segment in header.segments
            if not segment.sealed or segment.end_sequence > first + 1
        ]
        del header.segments[:]
        header.segments.extend(segments)

    async def _trim(self) -> None:
        """Let nodes forget what the header does not name any more."""
        header = self.writer.header
        assert header is not None
        trim = journal_pb2.Trim(
            caller=self.writer.caller,
            before_sequence=header.checkpoints[0].sequence + 1,
            segment_ids=[segment.segment_id for segment in header.segments],
        )
        live = [place.name for places in self._nodes.live_zones.values() for place in places]
        await register.ask(self._nodes, live, Method.JOURNAL_TRIM, trim)
        named = {blob.blob_id for each in header.checkpoints for blob in each.blobs}
        for disk in self._nodes.topology.record.disks:
            await self._drop_unnamed(disk.disk_id, named)

    async def _drop_unnamed(self, disk_id: int, named: set[bytes]) -> None:
        client = self._nodes.client_of(disk_id)
        if client is None:
            return
        listing = storage_pb2.ListFragments(disk_id=disk_id, blob_prefix=SESSION, limit=LIST_MAX)
        try:
            page = await client.list_fragments(listing)
            old = [
                storage_pb2.FragmentId(blob_id=each.blob_id, index=each.index, disk_id=disk_id)
                for each in page.fragments
                if each.blob_id not in named
            ]
            if old:
                await client.delete_fragments(storage_pb2.DeleteFragments(fragments=old))
        except faults.Fault as fault:
            log.info("old checkpoints stay for now: %s", fault, extra={"disk": disk_id})

    # --- telling --------------------------------------------------------------------------------

    def picture(self) -> JournalPicture:
        """What the metadata survives now, and why not more."""
        zones = {place.zone for place in self._nodes.places.values()}
        picture = picture_of(
            self.writer.header if self._is_running or self.writer.is_known else None,
            self.writer.settings.copies,
            lambda name, segment_id: (
                self._nodes.peer(name) is not None and self._holds(name, segment_id)
            ),
            self._watch.fragments_by_zone,
            len(zones),
        )
        header = self.writer.header
        if self._is_running and header is not None and self._watch.is_thin(header):
            picture.problems.append(
                "metadata: its checkpoint has lost fragments: another one will replace it"
            )
        if self.writer.waits_for:
            picture.problems.append(f"metadata: commits wait: {self.writer.waits_for}")
        return picture


def _member(place: Place) -> journal_pb2.Member:
    return journal_pb2.Member(name=place.name, zone=place.zone, address=place.address)


def _whole_segments(header: journal_pb2.Header, reply: journal_pb2.FenceReply) -> set[int]:
    """Segments of which a node has all that counts."""
    ends = {each.segment_id: each.end_sequence for each in header.segments if each.sealed}
    return {
        each.segment_id
        for each in reply.segments
        if not each.damaged and each.end_sequence >= ends.get(each.segment_id, 0)
    }


def _damaged_copies(
    segment: journal_pb2.Segment, replies: Mapping[str, journal_pb2.FenceReply]
) -> set[str]:
    """Nodes of a segment that say of their own copy that it is damaged."""
    return {
        name
        for name in segment.nodes
        if name in replies
        and any(
            each.damaged for each in replies[name].segments
            if each.segment_id == segment.segment_id
        )
    }  # fmt: skip


def _disks_of(header: journal_pb2.Header) -> Sequence[int]:
    if not header.checkpoints:
        return ()
    return [disk_id for blob in header.checkpoints[-1].blobs for disk_id in blob.disk_ids]
