"""The journal of the metadata while its nodes are cut, frozen, emptied, damaged or lose answers.

Goal: commits go on or wait, copies are made up for, the picture tells how many there are, and all
that was acknowledged comes back. Method: a real engine with its journal over nodes in memory.
"""

import asyncio
from pathlib import Path
from random import Random

import pytest

from common import faults
from metaservice.journal import service
from storagenode.client import Method
from tests.support.journal import FakeNodes
from tests.support.journal_service import APPLIED, UNKNOWN, Begin, Rows, recover


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


async def test_records_that_left_before_the_segment_changed_are_on_the_next_one(
    lives: Begin, tmp_path: Path
) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    writer = life.journal.writer
    before = writer.segment
    writer.begin({b"xlate": b"1"})
    await writer.leave([before.nodes[0]])
    await writer.send()
    assert writer.segment.segment_id != before.segment_id
    await life.stop()
    rows, _ = await recover(tmp_path / "recovered", nodes)
    assert rows[b"xlate"] == b"1"


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
