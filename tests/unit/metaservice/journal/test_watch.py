"""A checkpoint that loses fragments is replaced before too few are left to recover from.

Method: a real engine with its journal over nodes in memory, which lose or damage what they hold.
"""

from pathlib import Path

import pytest

from common import faults
from common.placement.topology import Topology
from metaservice.journal import checkpoint, watch
from tests.support.journal import FakeNodes
from tests.support.journal_service import Begin, Service, recover


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.0)
    monkeypatch.setattr(watch, "PAUSE_S", 0.0)


def holders(life: Service) -> list[int]:
    """Disks of the newest checkpoint's only blob, in fragment order."""
    header = life.journal.writer.header
    assert header is not None
    (blob,) = header.checkpoints[-1].blobs
    return list(blob.disk_ids)


async def look(life: Service) -> None:
    await life.journal.step()
    await life.journal.checkpoint_step()


@pytest.mark.parametrize("how", ["lost", "damaged"])
async def test_losses_one_after_another_do_not_add_up(
    lives: Begin, tmp_path: Path, how: str
) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    await life.put_many(20)
    for name in ["node-1", "node-4", "node-2", "node-6", "node-3"]:
        node = nodes.all[name]
        if how == "lost":
            node.fragments.clear()
        else:
            node.damaged |= {*node.fragments}
            for data, _ in node.fragments.values():
                data[:] = bytes(len(data))
        await life.journal.step()
        assert any("has lost fragments" in words for words in life.journal.picture().problems)
        await look(life)
        assert life.journal.picture().problems == []
    await life.stop()
    rows, report = await recover(tmp_path / "recovered", nodes)
    assert rows == life.acknowledged and report.losses == []


async def test_what_is_lost_is_not_counted_as_a_copy(
    lives: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    assert life.journal.picture().copies == 2
    for disk_id in holders(life)[:2]:
        nodes.all[f"node-{disk_id}"].fragments.clear()
    await life.journal.step()
    assert life.journal.picture().copies == 1
    nodes.all[f"node-{holders(life)[2]}"].fragments.clear()
    await life.journal.step()
    assert "one disk" in life.journal.picture().survives
    await life.journal.checkpoint_step()
    assert life.journal.picture().copies == 2


async def test_a_checkpoint_made_while_a_zone_was_away_is_spread_wider_later(
    lives: Begin,
) -> None:
    nodes = FakeNodes()
    nodes.all["node-5"].is_up = False
    life = await lives(nodes)
    assert 5 not in holders(life)
    await look(life)
    assert 5 not in holders(life), "no checkpoint would be better now"
    nodes.all["node-5"].is_up = True
    await look(life)
    assert sorted(holders(life)) == [1, 2, 3, 4, 5, 6]


async def test_a_fragment_is_missed_also_where_its_zone_has_another(lives: Begin) -> None:
    nodes = FakeNodes()
    for number, disk in enumerate(nodes.topology.record.disks):  # three zones of two disks
        disk.zone = f"zone-{number // 2}"
    nodes.topology = Topology(nodes.topology.record)
    life = await lives(nodes)
    assert sorted(holders(life)) == [1, 2, 3, 4, 5, 6]
    before = life.journal.picture().survives
    nodes.all["node-2"].fragments.clear()
    await life.journal.step()
    assert life.journal.picture().survives != before
    await life.journal.checkpoint_step()
    assert nodes.all["node-2"].fragments and life.journal.picture().survives == before
    assert life.journal.picture().problems == []


async def test_a_checkpoint_that_no_disk_takes_is_not_tried_again_at_once(
    lives: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    nodes.all["node-3"].fragments.clear()
    await life.journal.step()
    monkeypatch.setattr(watch, "PAUSE_S", 3600.0)

    def refuse(*_: object) -> None:
        raise faults.Full("too few disks take new data")

    monkeypatch.setattr(checkpoint, "choose_disks", refuse)
    with pytest.raises(faults.Full):
        await life.journal.checkpoint_step()
    await life.journal.checkpoint_step()  # it is thin still, and nothing is tried
    assert life.journal.picture().problems != []


async def test_a_zone_that_is_only_away_is_waited_for(lives: Begin) -> None:
    nodes = FakeNodes(7)
    life = await lives(nodes)
    before = holders(life)
    nodes.all[f"node-{before[0]}"].is_up = False
    await look(life)
    assert holders(life) == before
    nodes.all[f"node-{before[0]}"].is_up = True
    await look(life)
    assert holders(life) == before


async def test_checkpoints_that_do_not_become_whole_are_made_less_and_less_often(
    lives: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = FakeNodes()
    life = await lives(nodes)
    found = life.journal._watch
    header = life.journal.writer.header
    assert header is not None
    held = dict(nodes.all["node-3"].fragments)
    nodes.all["node-3"].fragments.clear()
    await life.journal.step()
    assert found.is_due(header)
    monkeypatch.setattr(watch, "PAUSE_MAX_S", 3600.0)
    found._pause_s = 1800.0
    found.stored()
    assert found.is_thin(header) and not found.is_due(header) and found._pause_s == 3600.0
    nodes.all["node-3"].fragments.update(held)
    await life.journal.step()
    assert not found.is_thin(header) and found._pause_s == watch.PAUSE_S
