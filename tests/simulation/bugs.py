"""Known bugs, to be planted one at a time: what the simulation must catch.

Each replaces one decision of the product by the one that somebody once made, somewhere, and that
lost data. Nothing of this is in the product.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from gateway.objects.stripes import CellSet
from metaservice import transaction
from metaservice.operations import listing, multipart, objects
from metaservice.transaction import HybridClock, Transactor
from proto import meta_pb2
from storagenode.store.index import Index
from storagenode.store.writes import GroupWriter
from tests.simulation.disk import Medium, SimulatedFiles, Table, apply_batch
from tests.simulation.plan import GATEWAYS, META, ZONES, Action, Kind, Plan, Scale, draw
from workers.garbage import GarbageCollector
from workers.strays import StrayKeeper

Plant = Callable[[], Iterator[None]]


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug, the plans that give it a chance, and in how many of them it must show."""

    plant: Callable[[], Any]
    scale: Scale
    seeds_max: int = 12

    @property
    def name(self) -> str:
        return self.plant.__name__

    def plan(self, seed: int) -> Plan:
        return draw(seed, self.scale)


BUGS: list[Bug] = []


def bug(scale: Scale = Scale(), seeds_max: int = 12) -> Callable[[Plant], Plant]:  # noqa: B008
    """Add a planting to the list."""

    def add(plant: Plant) -> Plant:
        BUGS.append(Bug(contextmanager(plant), scale, seeds_max))
        return plant

    return add


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


@bug(Scale(
    mode="POWER", kinds=(Kind.CRASH_AT_POINT, Kind.SLOW_DISK), targets=(META,), rounds=1,
    points=("commit.before_write", "commit.before_sync"), troubles=12, requests=200, days=0,
    pause_factor=0.2, actions=(Action.PUT, Action.GET, Action.DELETE),
), seeds_max=20)  # fmt: skip
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


@bug(Scale(mode="ZONES", kinds=(Kind.AWAY,), troubles=6, rounds=2, days=35))
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


@bug(Scale(
    mode="POWER", kinds=(Kind.CRASH_AT_POINT,), targets=(META,), points=("commit.before_sync",),
    troubles=12, requests=60, rounds=1, days=0,
))  # fmt: skip
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


@bug(Scale(requests=60, rounds=1, days=0))
def listing_begins_behind_its_marker() -> Iterator[None]:
    """The next page begins after everything that has the marker for a prefix."""

    def begin_after(span: Any, marker: bytes) -> bytes:
        return bytes(listing.keys.after(span.base + marker[:1]))

    with patch.object(listing, "_begin_after", begin_after):
        yield


@bug(Scale(
    mode="POWER", kinds=(Kind.CRASH_AT_POINT,), points=("reply.before_send",), targets=(META,),
    troubles=10, requests=60, rounds=1, actions=(Action.PUT, Action.COPY), days=0,
))  # fmt: skip
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
