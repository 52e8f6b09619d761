"""The journal of the metadata: a real engine over nodes in memory, and recoveries from them.

Goal: what was acknowledged comes back from the nodes alone, whatever two nodes do; a service that
was taken over acknowledges nothing; what is not complete is said. Method: an engine with its
journal, commits while nodes are cut, frozen, wiped or lose answers; recoveries into an empty
folder, compared with what was acknowledged.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from common import faults
from common.buffers import BufferPool
from common.clock import SystemClock
from common.erasure.code import load_codes
from common.keyring import KeyRing
from common.limits import MIB
from common.rocks import RocksDatabase
from metaservice.journal import blobs, ensemble, service
from metaservice.journal.blobs import BlobKeeper
from metaservice.journal.recovery import Recovery, Report
from metaservice.journal.service import JournalOptions, MetadataJournal
from metaservice.journal.wrapping import is_current, master_keys
from metaservice.kv.interface import CommitOutcome, Mutation
from metaservice.kv.rocks import RocksStore
from metaservice.operations.nodes import CLUSTER_ID
from storagenode.client import Method
from tests.support.journal import FakeNodes

APPLIED, UNKNOWN = CommitOutcome.APPLIED, CommitOutcome.UNKNOWN
RING = KeyRing({b"key1": bytes(32)}, b"key1")
CODES = load_codes()
Rows = dict[bytes, bytes]


class Service:
    """One life of an engine with its journal."""

    def __init__(self, folder: Path, nodes: FakeNodes, **options: Any) -> None:
        settings = {
            "copies_min": 1, "patience_s": 0.3, "checkpoint_bytes": MIB, "keep_s": 0.0, **options,
        }  # fmt: skip
        self.failures: list[str] = []
        self.store = RocksStore(folder, lambda: self.failures.append("poisoned"))
        self.nodes = nodes
        self.journal = MetadataJournal(
            self.store,
            nodes,
            RING,
            SystemClock(),
            CODES,
            JournalOptions(**settings),  # type: ignore[arg-type]
        )
        self.acknowledged: Rows = {}

    async def start(self) -> "Service":
        """Begin the journal, and store the first checkpoint; or go on with it."""
        if self.store.get(CLUSTER_ID) is None:
            await self.store.commit(Mutation(puts={CLUSTER_ID: b"cluster"}))
        await self.journal.start()
        if self.journal._resuming is not None:
            await self.journal._resuming
            return self
        await self.until(lambda: self.journal._is_running)
        await self.journal.checkpoint_step()
        return self

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.journal.step()
                await asyncio.sleep(0.01)

    async def put(self, key: str, value: bytes) -> CommitOutcome:
        outcome = await self.store.commit(
            Mutation(puts={b"x" + key.encode(): value}, adds={b"counter": 1})
        )
        if outcome is APPLIED:
            self.acknowledged[b"x" + key.encode()] = value
        return outcome

    async def put_many(self, count: int, prefix: str = "") -> None:
        values = [Random(f"{prefix}{number}").randbytes(300) for number in range(count)]
        outcomes = await asyncio.gather(
            *[self.put(f"{prefix}{number}", value) for number, value in enumerate(values)]
        )
        assert outcomes == [APPLIED] * count

    async def stop(self) -> None:
        await self.journal.stop()
        await self.store.close()
        await self.journal.disconnect()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SETTLE_S", 0.0)
    monkeypatch.setattr(blobs, "DEADLINE_S", 0.2)
    monkeypatch.setattr(ensemble, "OPEN_S", 0.3)


@pytest.fixture
async def lives(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Service]]]:
    made: list[Service] = []

    async def begin(nodes: FakeNodes, folder: str = "meta", **options: Any) -> Service:
        life = Service(tmp_path / folder, nodes, **options)
        made.append(life)
        return await life.start()

    yield begin
    for life in made:
        if life.store._thread._shutdown is False:
            await life.stop()


async def recover(
    folder: Path, nodes: FakeNodes, names: list[str] | None = None, **how: Any
) -> tuple[Rows, Report]:
    """Bring metadata back into a folder; its rows of the tests."""
    keeper = BlobKeeper(nodes, CODES, BufferPool(64 * MIB))
    recovery = Recovery(nodes, RING, keeper, SystemClock(), "cluster")
    await recovery.take_over(sorted(nodes.all) if names is None else names)
    database = RocksDatabase(folder)
    await recovery.restore(database, **how)
    recovery.finish(database)
    await recovery.announce()
    rows = dict(database.scan(b"x", b"y", 10**6))
    database.close()
    return rows, recovery.report


Begin = Callable[..., Awaitable[Service]]


async def test_everything_acknowledged_comes_back_from_the_nodes(
    lives: Begin, tmp_path: Path
) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(50)
    await life.put("0", b"again")
    await life.store.commit(Mutation(puts={b"x1": None}))
    del life.acknowledged[b"x1"]
    await life.stop()
    rows, report = await recover(tmp_path / "recovered", nodes)
    assert rows == life.acknowledged
    assert report.losses == [] and report.group_count > 0


async def test_checkpoint_and_journal_join(lives: Begin, tmp_path: Path) -> None:
    nodes = FakeNodes()
    life = await lives(nodes, checkpoint_bytes=10_000)
    for number in range(6):
        await life.put_many(40, f"{number}/")
        await life.journal.checkpoint_step()
    await life.put_many(10, "last/")
    header = life.journal.writer.header
    assert header is not None and header.checkpoints[-1].sequence > 1
    blobs = {blob.blob_id for each in header.checkpoints for blob in each.blobs}
    for node in nodes.all.values():
        assert {blob_id for blob_id, _ in node.fragments} <= blobs, "old ones are dropped"
    await life.stop()
    rows, report = await recover(tmp_path / "recovered", nodes)
    assert rows == life.acknowledged
    assert report.losses == [] and report.checkpoint_sequence > 1


@pytest.mark.parametrize("lost", [0, 1])
async def test_one_journal_node_may_be_lost_with_the_disk(
    lives: Begin, tmp_path: Path, lost: int
) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(30)
    await life.stop()
    nodes.all[life.journal.writer.segment.nodes[lost]].wipe()
    rows, report = await recover(tmp_path / "recovered", nodes)
    assert rows == life.acknowledged and report.losses == []


async def test_a_recovered_folder_goes_on(lives: Begin, tmp_path: Path) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(30)
    await life.stop()
    await recover(tmp_path / "second", nodes)
    second = await lives(nodes, "second")
    second.acknowledged.update(life.acknowledged)
    await second.put_many(20, "more/")
    await second.stop()
    rows, report = await recover(tmp_path / "third", nodes)
    assert rows == second.acknowledged and report.losses == []


async def test_a_journal_without_a_commit_is_recovered_and_goes_on(
    lives: Begin, tmp_path: Path
) -> None:
    nodes = FakeNodes()
    await (await lives(nodes)).stop()
    _, report = await recover(tmp_path / "second", nodes)
    assert report.losses == []
    second = await lives(nodes, "second")
    await second.put_many(3)


async def test_a_service_that_was_taken_over_acknowledges_nothing(
    lives: Begin, tmp_path: Path
) -> None:
    nodes = FakeNodes()
    zombie = await lives(nodes)
    await zombie.put_many(10)
    rows, report = await recover(tmp_path / "second", nodes)
    assert rows == zombie.acknowledged and report.losses == []
    assert await zombie.put("late", b"1") is UNKNOWN
    assert not zombie.store.is_usable and zombie.failures
    await zombie.stop()
    with pytest.raises(faults.Unavailable):
        again = await lives(nodes, "meta")  # its old folder
        assert not again.store.is_usable
        await again.store.settle()


async def test_a_taken_over_service_notices_without_a_write(lives: Begin, tmp_path: Path) -> None:
    nodes = FakeNodes()
    zombie = await lives(nodes)
    await recover(tmp_path / "second", nodes)
    await zombie.journal.step()
    assert not zombie.store.is_usable


async def test_a_zombie_cut_off_with_a_minority_acknowledges_nothing(
    lives: Begin, tmp_path: Path
) -> None:
    nodes = FakeNodes()
    zombie = await lives(nodes)
    await zombie.put_many(10)
    kept = zombie.journal.writer.segment.nodes[0]
    cut_off = [name for name in nodes.all if name != kept][:2]
    names = sorted({*nodes.all} - {*cut_off})
    rows, _ = await recover(tmp_path / "second", nodes, names)
    assert rows == zombie.acknowledged
    for name in names:
        nodes.all[name].is_up = False
    late = asyncio.ensure_future(zombie.put("late", b"1"))
    done, _ = await asyncio.wait([late], timeout=1.5)
    assert not done, "it cannot be acknowledged"
    await zombie.stop()
    assert await late is UNKNOWN


@pytest.mark.parametrize("trouble", ["is_up", "is_frozen", "drops_answers", "fails_writes"])
async def test_a_bad_journal_node_is_replaced(lives: Begin, tmp_path: Path, trouble: str) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(10)
    first = list(life.journal.writer.segment.nodes)
    bad = nodes.all[first[0]]
    if trouble == "fails_writes":
        bad.medium.fails_writes = True
    else:
        setattr(bad, trouble, trouble != "is_up")
    await life.put_many(10, "after/")
    second = list(life.journal.writer.segment.nodes)
    assert first[0] not in second and first[1] in second and len(second) == 2
    await life.stop()
    names = [name for name in nodes.all if name != first[0]]
    rows, report = await recover(tmp_path / "recovered", nodes, names)
    assert rows == life.acknowledged and report.losses == []


async def test_commits_wait_while_too_few_nodes_answer(lives: Begin) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    for name in list(nodes.all)[:5]:
        nodes.all[name].is_up = False
    waiting = asyncio.ensure_future(life.put("a", b"1"))
    done, _ = await asyncio.wait([waiting], timeout=0.7)
    assert not done
    assert any("wait" in problem for problem in life.journal.picture().problems)
    for node in nodes.all.values():
        node.is_up = True
    assert await asyncio.wait_for(waiting, 10) is APPLIED
    await life.until(lambda: not life.journal.writer.is_short)
    await life.journal.checkpoint_step()
    assert not life.journal.picture().problems


async def test_fewer_copies_are_told_and_made_up_for(lives: Begin, tmp_path: Path) -> None:
    nodes = FakeNodes(3, k=1, m=2)
    life = await lives(nodes)
    assert life.journal.picture().copies == 2
    gone = life.journal.writer.segment.nodes[0]
    third = next(name for name in nodes.all if name not in life.journal.writer.segment.nodes)
    nodes.all[third].medium.is_full = True
    nodes.all[gone].is_up = False
    await life.put_many(5)
    assert len(life.journal.writer.segment.nodes) == 1
    picture = life.journal.picture()
    assert (picture.state, picture.copies) == ("short", 1)
    assert "own disk" in picture.survives and "and any" not in picture.survives
    nodes.all[third].medium.is_full = False
    nodes.all[gone].is_up = True
    life.journal.writer._ensembles.forgive()
    await life.until(lambda: len(life.journal.writer.segment.nodes) == 2)
    assert life.journal.picture().copies == 1, "the commits of before"
    await life.journal.checkpoint_step()
    assert life.journal.picture().state == "running"


async def test_the_copies_of_an_emptied_node_are_replaced(lives: Begin, tmp_path: Path) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(5)
    emptied = life.journal.writer.segment.nodes[0]
    nodes.all[emptied].wipe()
    await life.journal.step()
    assert life.journal.picture().copies == 1
    await life.put_many(5, "after/")
    await life.journal.step()
    assert life.journal.picture().copies == 1, "the commits of before"
    await life.journal.checkpoint_step()
    assert life.journal.picture().copies == 2
    await life.stop()
    other = next(name for name in life.journal.writer.segment.nodes if name != emptied)
    nodes.all[other].wipe()
    rows, report = await recover(tmp_path / "recovered", nodes)
    assert rows == life.acknowledged and report.losses == []


async def test_a_damaged_copy_is_left_and_replaced(lives: Begin, tmp_path: Path) -> None:
    """A node's scrub finds damage in the open segment."""
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(5)
    segment = life.journal.writer.segment
    damaged, other = segment.nodes
    nodes.all[damaged].journal._segments[segment.segment_id].is_damaged = True
    await life.journal.step()
    assert damaged not in life.journal.writer.segment.nodes
    await life.put_many(5, "after/")
    await life.journal.step()
    assert life.journal.picture().copies == 1, "the commits of before"
    await life.journal.checkpoint_step()
    assert life.journal.picture().copies == 2
    await life.stop()
    nodes.all[other].wipe()
    rows, report = await recover(tmp_path / "recovered", nodes)
    assert rows == life.acknowledged and report.losses == []


async def test_commits_whose_nodes_are_all_away_get_a_checkpoint(
    lives: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "URGENT_S", 0.0)
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(5)
    away = list(life.journal.writer.segment.nodes)
    for name in away:
        nodes.all[name].is_up = False
    await life.put_many(5, "after/")
    assert "own disk" not in life.journal.picture().survives
    await life.journal.step()
    await life.journal.checkpoint_step()
    assert "own disk" in life.journal.picture().survives
    await life.stop()
    names = [name for name in nodes.all if name not in away]
    rows, report = await recover(tmp_path / "recovered", nodes, names)
    assert rows == life.acknowledged and report.losses == []


async def test_going_on_alone_is_noted_and_ends_with_a_checkpoint(
    lives: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metaservice.journal.writer.GIVE_UP_S", 0.3)
    nodes = FakeNodes()
    life = await lives(nodes, copies_min=0)
    for node in nodes.all.values():
        node.is_up = False
    await life.put_many(10, "alone/")
    assert "one disk" in life.journal.picture().survives
    for node in nodes.all.values():
        node.is_up = True
    await life.until(lambda: life.journal._is_running)
    assert "one disk" in life.journal.picture().survives, "until it has a checkpoint"
    await life.journal.checkpoint_step()
    assert "one disk" not in life.journal.picture().survives
    await life.stop()
    rows, report = await recover(tmp_path / "recovered", nodes)
    assert rows == life.acknowledged and report.losses == []


async def test_a_restarted_engine_sends_its_last_group_again(lives: Begin, tmp_path: Path) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(10)
    for node in nodes.all.values():
        node.is_frozen = True
    unknown = asyncio.ensure_future(life.put("local", b"here"))
    await asyncio.sleep(0.1)
    await life.stop()
    assert await unknown is UNKNOWN
    for node in nodes.all.values():
        node.is_frozen = False
    again = await lives(nodes)
    assert again.store.get(b"xlocal") == b"here"
    await again.store.settle()  # from now on somebody may have read it
    await again.stop()
    rows, report = await recover(tmp_path / "recovered", nodes)
    assert rows[b"xlocal"] == b"here" and report.losses == []


async def test_an_emptied_folder_does_not_begin_anew(lives: Begin) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(5)
    await life.stop()
    emptied = Service(life.store._database.folder.parent / "empty", nodes)
    await emptied.store.commit(Mutation(puts={CLUSTER_ID: b"cluster"}))
    await emptied.journal.start()
    await emptied.journal.step()
    await emptied.journal.step()
    assert not emptied.store.is_usable
    await emptied.stop()


async def test_an_old_copy_of_the_folder_does_not_start(lives: Begin) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    stored = life.store.get(b"Wheader")
    assert stored is not None
    nodes.all[life.journal.writer.segment.nodes[0]].is_up = False
    await life.put_many(5)
    await life.stop()
    nodes.all = {name: node for name, node in nodes.all.items() if node.is_up}
    database = RocksDatabase(life.store._database.folder)
    database.write({b"Wheader": stored})
    database.sync_blocking()
    database.close()
    again = await lives(nodes)
    assert not again.store.is_usable


async def test_recovery_says_what_it_cannot_prove(lives: Begin, tmp_path: Path) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(10)
    on = list(life.journal.writer.segment.nodes)
    await life.stop()
    off = [name for name in nodes.all if name not in on]
    _, report = await recover(tmp_path / "a", nodes, [*on, off[0]])
    assert any("members" in loss for loss in report.losses)
    for name in on:
        nodes.all[name].wipe()
    _, report = await recover(tmp_path / "b", nodes)
    assert report.losses


async def test_a_moment_can_be_restored(lives: Begin, tmp_path: Path) -> None:
    nodes = FakeNodes()
    life = await lives(nodes, keep_s=3600.0, checkpoint_bytes=1000)
    await life.put_many(10, "before/")
    await life.journal.checkpoint_step()
    await life.put_many(10, "then/")
    wanted, moment_ns = dict(life.acknowledged), SystemClock().now_ns()
    await asyncio.sleep(0.01)
    await life.put_many(10, "later/")
    await life.journal.checkpoint_step()
    await life.put_many(10, "last/")
    await life.stop()
    rows, _ = await recover(tmp_path / "recovered", nodes, until_ns=moment_ns)
    assert rows == wanted


async def test_groups_beyond_a_frame_are_carried_in_parts(lives: Begin, tmp_path: Path) -> None:
    nodes = FakeNodes()
    life = await lives(nodes, patience_s=5.0)
    outcomes = await asyncio.gather(
        *[life.put(str(n), Random(n).randbytes(60_000)) for n in range(120)]
    )
    assert outcomes == [APPLIED] * 120
    await life.stop()
    rows, report = await recover(tmp_path / "recovered", nodes)
    assert rows == life.acknowledged and report.losses == []


@pytest.mark.parametrize("seed", range(6))
async def test_random_troubles_lose_nothing_acknowledged(
    lives: Begin, tmp_path: Path, seed: int
) -> None:
    chance = Random(seed)
    nodes = FakeNodes()
    life = await lives(nodes, checkpoint_bytes=20_000, patience_s=0.05)
    known: Rows = {}
    for turn in range(12):
        node = nodes.all[chance.choice(sorted(nodes.all))]
        trouble = chance.choice(["down", "frozen", "deaf", "restart", "life", "none"])
        if trouble == "down":
            node.is_up = False
        elif trouble == "frozen":
            node.is_frozen = True
        elif trouble == "deaf":
            node.drops_answers = True
        elif trouble == "restart":
            node.start()
        elif trouble == "life":
            await life.stop()
            known.update(life.acknowledged)
            life = await lives(nodes, checkpoint_bytes=20_000, patience_s=0.05)
        await life.put_many(chance.randrange(1, 40), f"{turn}/")
        if chance.random() < 0.3:
            try:
                await life.journal.step()
                await life.journal.checkpoint_step()
            except faults.Unavailable:
                pass
        node.is_up, node.is_frozen, node.drops_answers = True, False, False
    await life.stop()
    known.update(life.acknowledged)
    nodes.all[chance.choice(sorted(nodes.all))].wipe()
    rows, report = await recover(tmp_path / "recovered", nodes)
    assert {key: rows.get(key) for key in known} == known
    assert report.losses == [], f"seed {seed}"
    assert Method.JOURNAL_APPEND in {call for n in nodes.all.values() for call in n.calls}


async def test_after_a_rotation_the_header_needs_only_the_new_master_key(
    lives: Callable[..., Awaitable[Service]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, nodes = KeyRing({b"key1": bytes(32)}, b"key1"), FakeNodes()
    monkeypatch.setattr(sys.modules[__name__], "RING", ring)
    service = await lives(nodes)
    await service.put_many(20)
    ring.rotate()
    header = service.journal.writer.header
    assert header is not None and header.checkpoints and not is_current(header, ring)
    await service.journal.step()
    header = service.journal.writer.header
    assert header is not None and master_keys(header) == {ring.active_id}
    version = header.version
    await service.journal.step()
    assert service.journal.writer.header.version == version
    await service.put_many(20, "after")
    await service.stop()
    new = bytes.fromhex(ring.active_id)
    alone = KeyRing({new: ring._keys[new]}, new)  # the old key is gone for good
    monkeypatch.setattr(sys.modules[__name__], "RING", alone)
    rows, _ = await recover(tmp_path / "copy", nodes)
    assert rows.items() >= service.acknowledged.items()
