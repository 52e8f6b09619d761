"""Known bugs, to be planted one at a time: what the simulation must catch.

Each replaces one decision of the product by the one that somebody once made, somewhere, and that
lost data. Nothing of this is in the product.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

from gateway.objects.blob_writer import BlobWriter
from gateway.objects.stripes import CellSet
from metaservice import transaction
from metaservice.kv.rocks import RocksStore
from metaservice.operations import conditions, listing, multipart, objects, placements
from metaservice.operations.naming import find_naming
from metaservice.operations.repairs import Job, put_job
from metaservice.transaction import HybridClock, Transactor
from proto import meta_pb2
from storagenode.store.index import Index
from storagenode.store.writes import GroupWriter
from tests.simulation.disk import Medium, SimulatedFiles, Table, apply_batch
from tests.simulation.plan import (
    GATEWAYS,
    KIB,
    META,
    WORKERS,
    ZONES,
    Action,
    Kind,
    Plan,
    Scale,
    Trouble,
    draw,
)
from workers.garbage import GarbageCollector
from workers.strays import StrayKeeper

Plant = Callable[[], Iterator[None]]


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug, the plans that give it a chance, and in how many of them it must show.

    troubles   beside those that are drawn
    """

    plant: Callable[[], Any]
    scale: Scale
    seeds_max: int = 12
    troubles: tuple[Trouble, ...] = ()

    @property
    def name(self) -> str:
        return self.plant.__name__

    def plan(self, seed: int) -> Plan:
        plan = draw(seed, self.scale)
        troubles = (*plan.troubles, *self.troubles)
        ordered = sorted(troubles, key=lambda trouble: (trouble.round, trouble.at_s))
        return replace(plan, troubles=tuple(ordered))


BUGS: list[Bug] = []


def bug(
    scale: Scale = Scale(),  # noqa: B008
    seeds_max: int = 12,
    troubles: tuple[Trouble, ...] = (),
) -> Callable[[Plant], Plant]:
    """Add a planting to the list."""

    def add(plant: Plant) -> Plant:
        BUGS.append(Bug(contextmanager(plant), scale, seeds_max, troubles))
        return plant

    return add


def crashes_at(point: str) -> tuple[Trouble, ...]:
    """The metadata service dies again and again at a fault point, while clients are busy."""
    return tuple(
        Trouble(0, 2.0 + 3 * number, Kind.CRASH_AT_POINT, META, 0.3, 0.0, point)
        for number in range(9)
    )


POWER = Scale(
    mode="POWER", kinds=(Kind.CRASH, Kind.CRASH_AT_WRITE, Kind.BLACKOUT), troubles=6, rounds=1,
    days=0,
)  # fmt: skip


@bug(POWER)
def node_acknowledges_before_fsync() -> Iterator[None]:
    """A fragment counts as on disk when it was handed to the kernel."""

    def write(self: GroupWriter, group: list[Any]) -> None:
        for each in group:
            each.extent.file.write(each.pieces, each.offset)

    with patch.object(GroupWriter, "store_blocking", write):
        yield


# Commits take most of a second, and the power fails everywhere while some are on their way.
SLOW_COMMITS = tuple(
    trouble
    for at_s in (2.0, 7.0, 12.0, 17.0, 22.0, 27.0)
    for trouble in (
        *(Trouble(0, at_s, Kind.SLOW_DISK, name, 3.0, 40.0) for name in (META, *ZONES)),
        Trouble(0, at_s + 2.5, Kind.BLACKOUT, META, 0.5, 0.0),
    )
)
# Whoever reads a version that was lost, or none where one was, shows it: before others write.
FEW_SMALL_OBJECTS = Scale(
    mode="POWER", troubles=0, requests=600, rounds=1, days=0, pause_factor=0.1, idle_factor=0.3,
    actions=(Action.PUT, Action.GET, Action.GET), keys=2, bytes_range=(0, 4 * KIB),
)  # fmt: skip


@bug(FEW_SMALL_OBJECTS, seeds_max=10, troubles=SLOW_COMMITS)
def overlay_read_answered_before_durable() -> Iterator[None]:
    """A read shows a commit that is on its way to the disk, and does not wait for it."""

    async def settle(self: Transactor, pending_reads: int) -> None:
        return

    with patch.object(Transactor, "_settle", settle):
        yield


@bug(Scale(
    mode="POWER", kinds=(Kind.FREEZE_AT_POINT,), points=("put.before_commit",), targets=GATEWAYS,
    troubles=4, requests=24, actions=(Action.PUT,), rounds=1, idle_factor=1.5, days=0,
))  # fmt: skip
def collector_without_fencing() -> Iterator[None]:
    """Commits do not ask whether their session is still open when its orphans are deleted."""

    async def require(each: transaction.Transaction, session_id: int) -> None:
        return

    with patch.object(transaction, "require_session", require):
        yield


@bug(
    Scale(
        mode="POWER", troubles=0, requests=60, rounds=2, days=35, bytes_range=(24 * KIB, 64 * KIB),
    ),
    troubles=(Trouble(1, 8.0, Kind.AWAY, ZONES[0], 0.0, 0.0),),
)  # fmt: skip
def stale_fragments_after_a_month_away() -> Iterator[None]:
    """Who was away while something was deleted is not told, and not searched when he returns."""
    delete_blobs = GarbageCollector._delete_blobs

    async def delete(self: GarbageCollector, blobs: Any) -> set[int]:
        await delete_blobs(self, blobs)
        return set()

    async def walk(self: StrayKeeper) -> None:
        return

    with (
        patch.object(GarbageCollector, "_delete_blobs", delete),
        patch.object(StrayKeeper, "walk", walk),
    ):
        yield


@bug(POWER)
def lost_directory_fsync() -> Iterator[None]:
    """A new extent's data is synced, its folder's entry is not."""
    with patch.object(SimulatedFiles, "sync_folder", lambda self, path: None):
        yield


@bug(Scale(mode="ZONES", kinds=(Kind.FLIP, Kind.MISDIRECT), troubles=12, rounds=1, days=0))
def reader_trusts_fragments_without_checksum() -> Iterator[None]:
    """What a node sends is taken for what was written."""
    with patch.object(CellSet, "is_intact", lambda *_: True):
        yield


@bug(Scale(mode="POWER", kinds=(Kind.CLOCK_JUMP,), troubles=12, targets=GATEWAYS, rounds=1, days=0))
def version_order_by_gateway_clock() -> Iterator[None]:
    """The newest version is the one whose gateway's clock says so."""
    commit_version, next_order = objects.commit_version, HybridClock.next_order
    now: list[int] = []

    async def commit(
        each: transaction.Transaction, request: meta_pb2.CommitVersion, data: bytes
    ) -> meta_pb2.CommitReply:
        now.append(int.from_bytes(request.writer.transaction_id[:8], "big"))
        try:
            return await commit_version(each, request, data)
        finally:
            now.pop()

    def order(self: HybridClock) -> int:
        return now[-1] if now else next_order(self)

    with (
        patch.object(objects, "commit_version", commit),
        patch.object(HybridClock, "next_order", order),
    ):
        yield


@bug(
    Scale(
        mode="POWER", troubles=0, requests=400, rounds=1, days=0, pause_factor=0.2,
        actions=(Action.PUT, Action.GET, Action.DELETE), keys=2, bytes_range=(0, 4 * KIB),
    ),
    troubles=crashes_at("commit.before_sync"),
)  # fmt: skip
def torn_tail_of_the_log_accepted() -> Iterator[None]:
    """Recovery takes half a batch at the log's end, as a log without checksums would."""
    lose_power = Medium.lose_power

    def lose(self: Medium) -> None:
        torn: list[tuple[Table, Mapping[bytes, bytes]]] = []
        for table in self.tables.values():
            if table.log:
                puts = list(table.log[0][0].items())
                torn.append((table, dict(puts[: len(puts) // 2])))
        lose_power(self)
        for table, puts in torn:
            apply_batch(table.rows, (puts, []))

    with patch.object(Medium, "lose_power", lose):
        yield


@bug(Scale(
    mode="POWER", kinds=(Kind.CRASH,), troubles=30, requests=80, targets=ZONES, days=0,
))  # fmt: skip
def tombstones_forgotten() -> Iterator[None]:
    """What was deleted while it was being written, or marked in vain, may come (back)."""
    with patch.object(Index, "tombstone", lambda *_: None):
        yield


@bug(Scale(
    mode="POWER", kinds=(Kind.CRASH_AT_POINT,), points=("complete.after_commit",), troubles=8,
    targets=GATEWAYS, requests=24, rounds=1, days=0,
    actions=(Action.UPLOAD, Action.CREATE_BY_UPLOAD),
))  # fmt: skip
def completion_not_idempotent() -> Iterator[None]:
    """Completing an upload again says that there is no such upload."""
    finished_upload = multipart.keys.finished_upload

    def elsewhere(upload_id: bytes, bucket_id: int) -> bytes:
        return bytes(finished_upload(upload_id, bucket_id)) + secrets.token_bytes(4)

    with patch.object(multipart.keys, "finished_upload", elsewhere):
        yield


@bug(Scale(
    mode="POWER", troubles=0, requests=120, rounds=1, days=0, pause_factor=0.2,
    actions=(Action.PUT, *(Action.LIST, Action.LIST_VERSIONS) * 4), bytes_range=(0, 4 * KIB),
))  # fmt: skip
def listing_begins_behind_its_marker() -> Iterator[None]:
    """The next page begins after everything that has the marker for a prefix."""

    def begin_after(span: Any, marker: bytes) -> bytes:
        return bytes(listing.keys.after(span.base + marker[:1]))

    with patch.object(listing, "_begin_after", begin_after):
        yield


@bug(
    Scale(
        mode="POWER", troubles=0, requests=400, rounds=1, days=0, pause_factor=0.2,
        actions=(Action.PUT, Action.COPY), bytes_range=(0, 4 * KIB),
    ),
    troubles=crashes_at("reply.before_send"),
)  # fmt: skip
def repeated_commit_takes_effect_twice() -> Iterator[None]:
    """A commit whose answer was lost is sent again and made again."""
    write = Transactor._write

    async def forgetful(self: Transactor, body: Any, reply_type: Any, writer: Any = None) -> Any:
        if writer is not None and writer.transaction_id:
            writer.transaction_id = secrets.token_bytes(16)
        return await write(self, body, reply_type, writer)

    with patch.object(Transactor, "_write", forgetful):
        yield


@bug(Scale(mode="ZONES", kinds=(Kind.WRITE_ERRORS,), troubles=10, rounds=1, days=0))
def disk_goes_on_after_a_failed_write() -> Iterator[None]:
    """A failed write or sync is logged, and acknowledged."""

    def ignore(self: GroupWriter, error: OSError, group: list[Any]) -> None:
        for each in group:
            if not each.done.done():
                each.done.set_result(None)

    with patch.object(GroupWriter, "poison", ignore):
        yield


@bug(
    Scale(mode="ONE", troubles=0, requests=30, rounds=1, actions=(Action.PUT,), days=0),
    seeds_max=3,
    troubles=(
        Trouble(0, 5.0, Kind.CUT, ZONES[1], 12.0, 0.0),
        Trouble(0, 5.0, Kind.CUT, ZONES[2], 12.0, 0.0),
        Trouble(0, 12.0, Kind.WIPE, ZONES[0], 1.0, 0.0),
    ),
)
def commit_at_k_fragments() -> Iterator[None]:
    """A blob is acknowledged when it could just be read: one disk lost, and it cannot."""
    make = BlobWriter.__init__

    def begin(self: BlobWriter, *values: Any, **named: Any) -> None:
        make(self, *values, **named)
        self._quorum = self._k

    with patch.object(BlobWriter, "__init__", begin):
        yield


@bug(
    Scale(
        mode="POWER", troubles=0, requests=120, rounds=1, days=0, workers=2, pause_factor=3.0,
        idle_factor=1.5, actions=(Action.CREATE,), keys=2, bytes_range=(24 * KIB, 64 * KIB),
    ),
    seeds_max=10,
    troubles=(
        # One worker alone repairs what a zone has that is away for too long, and stops before it
        # names what it wrote. The zone comes back, and the other worker has less to do.
        Trouble(0, 10.0, Kind.CRASH, WORKERS[1], 65.0, 0.0),
        Trouble(0, 15.0, Kind.CRASH, ZONES[0], 60.0, 0.0),
        Trouble(0, 45.0, Kind.FREEZE_AT_POINT, WORKERS[0], 0.0, 0.0, "repair.before_commit"),
    ),
)  # fmt: skip
def repair_without_generation_check() -> Iterator[None]:
    """A worker names what it has written, whoever has repaired, moved or deleted it since."""
    commit_placement = placements.commit_placement

    async def commit(
        each: transaction.Transaction, request: meta_pb2.CommitPlacement
    ) -> meta_pb2.CommitPlacementReply:
        naming = await find_naming(each, request.blob_id)
        if naming is not None:
            await put_job(each, naming.blob, [], "planted")
            stored = await each.get(placements.keys.repair(request.blob_id))
            request.generation = naming.blob.placement_generation
            request.token = Job.FromString(stored or b"").token
        return await commit_placement(each, request)

    with patch.object(placements, "commit_placement", commit):
        yield


@bug(Scale(
    mode="POWER", troubles=0, requests=160, rounds=1, pause_factor=0.1, days=0, keys=2,
    actions=(Action.CREATE, Action.DELETE), bytes_range=(0, 4 * KIB),
), seeds_max=10)  # fmt: skip
def condition_outside_the_commit() -> Iterator[None]:
    """If-None-Match and If-Match are looked at first, and the commit comes a moment later."""
    commit_version, check = objects.commit_version, conditions.check
    is_early: list[bool] = []

    async def commit(
        each: transaction.Transaction, request: meta_pb2.CommitVersion, data: bytes
    ) -> meta_pb2.CommitReply:
        early = transaction.Transaction(each._store, each._clock)
        await commit_version(early, request, data)  # refuses, or its rows are thrown away
        await asyncio.sleep(0.02)
        is_early.append(True)
        try:
            return await commit_version(each, request, data)
        finally:
            is_early.pop()

    def check_not(*values: Any) -> None:
        if not is_early:
            check(*values)

    with (
        patch.object(objects, "commit_version", commit),
        patch.object(conditions, "check", check_not),
    ):
        yield


@bug(FEW_SMALL_OBJECTS, seeds_max=10, troubles=SLOW_COMMITS)
def metadata_acknowledges_before_its_fsync() -> Iterator[None]:
    """A group of commits counts when it can be read; its sync and its journal come after that."""
    write_everywhere = RocksStore._write_everywhere
    persisting: WeakKeyDictionary[RocksStore, asyncio.Task[None]] = WeakKeyDictionary()

    async def write(self: RocksStore, group: Any) -> None:
        if self in persisting:
            await persisting.pop(self)
        gone = [key for key, value in group.rows.items() if value is None]
        puts = {key: value for key, value in group.rows.items() if value is not None}
        self._database.write(puts, gone)
        persisting[self] = asyncio.get_running_loop().create_task(write_everywhere(self, group))

    with patch.object(RocksStore, "_write_everywhere", write):
        yield
