"""Commits that the engine's own log has lost come back from the journal's nodes.

Goal: what was acknowledged is there although the engine forgot its last groups, as a flipped bit at
the end of its log makes it do; nothing is answered from the engine that lacks them. Method: a copy
of a running engine's folder takes the place of the folder, some groups later.
"""

import shutil
from pathlib import Path

import pytest

from common import exit_codes, faults
from metaservice.kv.interface import CommitOutcome, Mutation
from tests.support.journal import FakeNodes
from tests.support.journal_service import Begin, Service


async def forget_groups(life: Service, folder: Path, count: int) -> None:
    """Acknowledge some groups that the folder does not have when this returns."""
    await life.put("deleted", b"old")
    shutil.copytree(folder, folder.with_name("old"))
    await life.store.commit(Mutation(puts={b"xdeleted": None}))
    for number in range(count):
        assert await life.put(f"late-{number}", b"acknowledged") is CommitOutcome.APPLIED
    await life.stop()
    shutil.rmtree(folder)
    folder.with_name("old").rename(folder)


@pytest.mark.parametrize("away", [(), ("first",), ("second",)])
async def test_groups_that_the_engine_forgot_come_back(
    lives: Begin, tmp_path: Path, away: tuple[str, ...]
) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    ensemble = dict(zip(("first", "second"), life.journal.writer.segment.nodes, strict=True))
    await life.put_many(20)
    await forget_groups(life, tmp_path / "meta", 3)
    for name in away:
        nodes.all[ensemble[name]].is_up = False

    behind = await lives(nodes)
    assert behind.failures == [exit_codes.AGAIN], "it must not go on from what it has read"
    with pytest.raises(faults.Unavailable):
        await behind.store.settle()
    await behind.stop()

    again = await lives(nodes)
    assert again.failures == []
    for number in range(3):
        assert again.store.get(f"xlate-{number}".encode()) == b"acknowledged"
    assert again.store.get(b"xdeleted") is None
    assert await again.put("after", b"1") is CommitOutcome.APPLIED


async def test_what_cannot_be_read_is_not_passed_over(lives: Begin, tmp_path: Path) -> None:
    """Nodes that say they have more, and do not give it: the service waits for them."""
    nodes = FakeNodes()
    life = await lives(nodes)
    ensemble = list(life.journal.writer.segment.nodes)
    await forget_groups(life, tmp_path / "meta", 1)
    for name in ensemble:
        nodes.all[name].refuses_reads = True
    behind = await lives(nodes)
    assert behind.failures == [exit_codes.FAILED]
    await behind.stop()
    for name in ensemble:
        nodes.all[name].refuses_reads = False
    for _ in range(2):
        again = await lives(nodes)
        if not again.failures:
            break
        await again.stop()
    assert again.store.get(b"xlate-0") == b"acknowledged"
