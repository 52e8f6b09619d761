"""Recovery of the metadata from its journal's nodes, and services that were taken over.

Goal: what was acknowledged comes back from the nodes alone; a service that was taken over
acknowledges nothing; what cannot be proven is said. Method: commits through a real engine over
nodes in memory, recoveries into an empty folder, compared with what was acknowledged.
"""

import asyncio
from pathlib import Path
from random import Random

import pytest

from common import faults
from common.clock import SystemClock
from common.keyring import KeyRing
from common.rocks import RocksDatabase
from metaservice.journal.wrapping import is_current, master_keys
from metaservice.journal.writer import JournalWriter
from metaservice.kv.interface import Mutation
from metaservice.operations.nodes import CLUSTER_ID
from tests.support.journal import FakeNodes
from tests.support.journal_service import APPLIED, UNKNOWN, Begin, Service, recover


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


async def test_a_service_that_dies_while_it_starts_leaves_its_last_group_on_the_nodes(
    lives: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group is sent again to a new segment: the header must not name that before it has it."""
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(10)
    await life.stop()
    reached, never = asyncio.Event(), asyncio.Event()

    async def stall(*_: object) -> set[str]:
        reached.set()
        await never.wait()
        return set()

    monkeypatch.setattr(JournalWriter, "_try", stall)
    starting = asyncio.ensure_future(lives(nodes))
    await asyncio.wait_for(reached.wait(), 10)
    rows, report = await recover(tmp_path / "recovered", nodes)  # and its disk is lost
    assert rows == life.acknowledged and report.losses == []
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


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


async def test_after_a_rotation_the_header_needs_only_the_new_master_key(
    lives: Begin, tmp_path: Path
) -> None:
    ring, nodes = KeyRing({b"key1": bytes(32)}, b"key1"), FakeNodes()
    life = await lives(nodes, ring=ring)
    await life.put_many(20)
    ring.rotate()
    header = life.journal.writer.header
    assert header is not None and header.checkpoints and not is_current(header, ring)
    await life.journal.step()
    header = life.journal.writer.header
    assert header is not None and master_keys(header) == {ring.active_id}
    version = header.version
    await life.journal.step()
    assert life.journal.writer.header.version == version
    await life.put_many(20, "after")
    await life.stop()
    new = bytes.fromhex(ring.active_id)
    alone = KeyRing({new: ring._keys[new]}, new)  # the old key is gone for good
    rows, _ = await recover(tmp_path / "copy", nodes, ring=alone)
    assert rows.items() >= life.acknowledged.items()
