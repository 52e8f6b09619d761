"""Metadata and disks compared, both ways: what is named must be there, what is there must be named.

The cluster goes on meanwhile: blobs are deleted, moved and made between two looks. So whatever
looks wrong is looked at a second time, from the metadata's row on, before it counts.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf.message import Message

from common import faults, limits
from common.erasure.layout import layout_of_blob
from metaservice.client import Method
from proto import records_pb2, scrub_pb2, storage_pb2

LOST, UNREADABLE, DAMAGED, AWAY, MISPLACED = "lost", "unreadable", "damaged", "away", "misplaced"
ORPHAN, METADATA, ELSEWHERE = "orphan", "metadata", "moved"
REPAIRABLE = (DAMAGED, MISPLACED)
INCOMPLETE, MISSING, WRONG_SIZE = "incomplete", "missing", "wrong_size"
VERIFIED_AT_ONCE_MAX = 32
VERIFIED_BYTES_MAX = 64 * limits.MIB  # of one call
GRACE_NS = int(limits.GARBAGE_GRACE_S * 1e9)

Located = scrub_pb2.Located


class MetaCalls(Protocol):
    """The metadata service: metaservice.client.MetaClient, or its control plane."""

    async def call(self, method: Method, request: Message) -> Any: ...


class NodeCalls(Protocol):
    """A storage node: storagenode.client.NodeClient, or its control plane."""

    async def list_fragments(
        self, request: storage_pb2.ListFragments
    ) -> storage_pb2.ListFragmentsReply: ...

    async def stat_fragments(
        self, request: storage_pb2.StatFragments
    ) -> storage_pb2.StatFragmentsReply: ...

    async def verify_fragments(
        self, request: scrub_pb2.VerifyFragments
    ) -> scrub_pb2.VerifyFragmentsReply: ...


class Disks(Protocol):
    """All disks, and the nodes that have them."""

    def disks(self) -> list[records_pb2.Disk]: ...

    def client_of(self, disk_id: int) -> NodeCalls | None: ...


@dataclass(slots=True)
class Finding:
    """One thing that is not as it should be.

    reasons  by fragment index: missing, incomplete (never written), wrong_size, away (its node does
             not answer), misplaced, or what reading it found (bad_header, bad_block, ...)
    words    what there is to say beyond that
    """

    kind: str
    named: scrub_pb2.NamedBlob
    reasons: dict[int, str] = field(default_factory=dict)
    words: str = ""
    index: int = 0  # of an orphan

    @property
    def bad(self) -> list[scrub_pb2.BadFragment]:
        """What repair should be asked for."""
        blob = self.named.blob
        return [
            scrub_pb2.BadFragment(
                blob_id=blob.blob_id, index=index, disk_id=blob.disk_ids[index], reason=reason
            )
            for index, reason in sorted(self.reasons.items())
            if reason != AWAY
        ]


@dataclass(slots=True)
class Seen:
    """What a comparison went through."""

    rows: int = 0
    blobs: int = 0
    fragments_named: int = 0
    fragments_on_disks: int = 0
    bytes_verified: int = 0
    pending: dict[str, int] = field(default_factory=dict)  # unnamed, and rightly so for now


class Comparison:
    """Compares pages of rows with disks and pages of disks with rows."""

    def __init__(self, meta: MetaCalls, disks: Disks, now_ns: int, *, with_data: bool) -> None:
        """with_data   nodes read every fragment whole, else their indexes are believed"""
        self._meta = meta
        self._disks = disks
        self._now_ns = now_ns
        self._with_data = with_data
        self.seen = Seen()
        self.elsewhere: list[storage_pb2.FragmentInfo] = []  # of blobs that lie on other disks

    async def check_blobs(self, named: Sequence[scrub_pb2.NamedBlob]) -> list[Finding]:
        """Judge blobs as the metadata names them; suspects twice."""
        self.seen.blobs += len(named)
        self.seen.fragments_named += sum(len(entry.blob.disk_ids) for entry in named)
        suspects = await self._judge(named)
        if not suspects:
            return []
        return await self.look_again(suspects)

    async def look_again(self, findings: Sequence[Finding]) -> list[Finding]:
        """Judge blobs of findings as they are named now; what is named no longer is no finding."""
        located = await self._locate([finding.named.blob.blob_id for finding in findings])
        return await self._judge([entry.named for entry in located if entry.state == Located.NAMED])

    async def check_fragments(
        self, disk_id: int, fragments: Sequence[storage_pb2.FragmentInfo]
    ) -> list[Finding]:
        """Judge what a disk has: each fragment is named, or there is a reason why it is not yet."""
        self.seen.fragments_on_disks += len(fragments)
        unnamed = []
        located = await self._locate([fragment.blob_id for fragment in fragments])
        for fragment, entry in zip(fragments, located, strict=True):
            state = self._state_of(disk_id, fragment, entry)
            if state == ORPHAN:
                unnamed.append(fragment)
            elif state:
                if state == ELSEWHERE:
                    self.elsewhere.append(fragment)
                self.seen.pending[state] = self.seen.pending.get(state, 0) + 1
        return await self._still_there(disk_id, unnamed) if unnamed else []

    def _state_of(self, disk_id: int, fragment: storage_pb2.FragmentInfo, located: Located) -> str:
        """Empty: as it should be; orphan: nothing knows of it; else what it waits for."""
        if located.state == Located.NAMED:
            disk_ids = located.named.blob.disk_ids
            is_home = fragment.index < len(disk_ids) and disk_ids[fragment.index] == disk_id
            return "" if is_home else ELSEWHERE
        if located.state == Located.CONDEMNED:
            return "deleted"
        if located.state == Located.IN_FLIGHT:
            return "in_flight"
        if located.state == Located.CHECKPOINT:
            return "checkpoint"
        if located.state == Located.ENDED or self._now_ns - fragment.written_ns < GRACE_NS:
            return "ended"
        return ORPHAN

    async def _still_there(
        self, disk_id: int, fragments: Sequence[storage_pb2.FragmentInfo]
    ) -> list[Finding]:
        there = await self._stat(disk_id, [(f.blob_id, f.index) for f in fragments])
        located = await self._locate([fragment.blob_id for fragment in fragments])
        findings = []
        for fragment, entry in zip(fragments, located, strict=True):
            is_there = there is None or (fragment.blob_id, fragment.index) in there
            if entry.state == Located.UNKNOWN and is_there:
                blob = records_pb2.BlobRef(blob_id=fragment.blob_id)
                named = scrub_pb2.NamedBlob(blob=blob)
                words = f"fragment {fragment.index} on disk {disk_id}: no row names its blob"
                findings.append(Finding(ORPHAN, named, words=words, index=fragment.index))
        return findings

    async def _locate(self, blob_ids: Sequence[bytes]) -> list[Located]:
        request = scrub_pb2.LocateBlobs(blob_ids=dict.fromkeys(blob_ids))
        reply: scrub_pb2.LocateBlobsReply = await self._meta.call(Method.LOCATE_BLOBS, request)
        by_id = dict(zip(request.blob_ids, reply.blobs, strict=True))
        return [by_id[blob_id] for blob_id in blob_ids]

    # --- judging --------------------------------------------------------------------------------

    async def _judge(self, named: Sequence[scrub_pb2.NamedBlob]) -> list[Finding]:
        by_disk: dict[int, list[tuple[int, int]]] = {}  # disk -> place in `named`, fragment index
        reasons: list[dict[int, str]] = [{} for _ in named]
        for place, entry in enumerate(named):
            for index, disk_id in enumerate(entry.blob.disk_ids):
                if disk_id:
                    by_disk.setdefault(disk_id, []).append((place, index))
                else:
                    reasons[place][index] = INCOMPLETE
        judged = await asyncio.gather(
            *[self._judge_on_disk(disk_id, named, where) for disk_id, where in by_disk.items()]
        )
        for where, verdicts in zip(by_disk.values(), judged, strict=True):
            for (place, index), verdict in zip(where, verdicts, strict=True):
                if verdict:
                    reasons[place][index] = verdict
        zones = {disk.disk_id: disk.zone for disk in self._disks.disks() if _is_home(disk)}
        findings = []
        for entry, found in zip(named, reasons, strict=True):
            finding = _finding(entry, found) if found else _spread(entry, zones)
            if finding is not None:
                findings.append(finding)
        return findings

    async def _judge_on_disk(
        self, disk_id: int, named: Sequence[scrub_pb2.NamedBlob], where: list[tuple[int, int]]
    ) -> list[str]:
        """What is wrong with each fragment that should be on a disk; empty: nothing."""
        names = [(named[place].blob.blob_id, index) for place, index in where]
        there = await self._stat(disk_id, names)
        if there is None:
            return [AWAY] * len(where)
        verdicts = []
        for (place, _), name in zip(where, names, strict=True):
            size = there.get(name)
            if size is None:
                verdicts.append(MISSING)
            else:
                wanted = layout_of_blob(named[place].blob).fragment_bytes
                verdicts.append("" if size == wanted else WRONG_SIZE)
        if self._with_data:
            await self._verify(disk_id, names, there, verdicts)
        return verdicts

    async def _stat(
        self, disk_id: int, names: Sequence[tuple[bytes, int]]
    ) -> dict[tuple[bytes, int], int] | None:
        """Sizes of those fragments that are on a disk; None: it cannot be asked."""
        client = self._disks.client_of(disk_id)
        if client is None:
            return None
        request = storage_pb2.StatFragments(fragments=[_fragment(name, disk_id) for name in names])
        try:
            reply = await client.stat_fragments(request)
        except (faults.Unavailable, faults.Busy):
            return None
        except faults.NotFound:  # the node has another disk in its place
            return {}
        return {(info.blob_id, info.index): info.fragment_bytes for info in reply.fragments}

    async def _verify(
        self,
        disk_id: int,
        names: Sequence[tuple[bytes, int]],
        sizes: dict[tuple[bytes, int], int],
        verdicts: list[str],
    ) -> None:
        """Let the node read those that passed so far; put what it finds into `verdicts`."""
        client = self._disks.client_of(disk_id)
        places = [place for place, verdict in enumerate(verdicts) if not verdict]
        for some in _batches(places, [sizes[names[place]] for place in places]):
            request = scrub_pb2.VerifyFragments(
                fragments=[_fragment(names[place], disk_id) for place in some]
            )
            try:
                if client is None:
                    raise faults.Unavailable("not connected")
                reply = await client.verify_fragments(request)
            except (faults.Unavailable, faults.Busy, faults.NotFound):
                for place in some:
                    verdicts[place] = AWAY
                continue
            for place, verdict in zip(some, reply.verdicts, strict=True):
                verdicts[place] = verdict.fault
                self.seen.bytes_verified += verdict.bytes


def _fragment(name: tuple[bytes, int], disk_id: int) -> storage_pb2.FragmentId:
    return storage_pb2.FragmentId(blob_id=name[0], index=name[1], disk_id=disk_id)


def _batches(places: Sequence[int], sizes: Sequence[int]) -> Iterable[list[int]]:
    batch: list[int] = []
    held = 0
    for place, size in zip(places, sizes, strict=True):
        if batch and (held + size > VERIFIED_BYTES_MAX or len(batch) == VERIFIED_AT_ONCE_MAX):
            yield batch
            batch, held = [], 0
        batch.append(place)
        held += size
    if batch:
        yield batch


def _is_home(disk: records_pb2.Disk) -> bool:
    return disk.state not in (records_pb2.Disk.REMOVED, records_pb2.Disk.FAILED)


def _finding(named: scrub_pb2.NamedBlob, reasons: dict[int, str]) -> Finding:
    blob = named.blob
    count = blob.k + blob.m
    away = sum(reason == AWAY for reason in reasons.values())
    if count - (len(reasons) - away) < blob.k:
        kind = LOST
    elif count - len(reasons) < blob.k:
        kind = UNREADABLE
    else:
        kind = AWAY if away == len(reasons) else DAMAGED
    return Finding(kind, named, reasons)


def _spread(named: scrub_pb2.NamedBlob, zones: dict[int, str]) -> Finding | None:
    """Whether a whole blob could lie in more zones than it does."""
    blob = named.blob
    possible = min(blob.k + blob.m, len(set(zones.values())))
    used: set[str] = set()
    doubled: dict[int, str] = {}
    for index, disk_id in enumerate(blob.disk_ids):
        zone = zones.get(disk_id, "")
        if zone in used or not zone:
            doubled[index] = MISPLACED
        used.add(zone)
    if len(used - {""}) >= possible:
        return None
    return Finding(MISPLACED, named, doubled)
