"""Metadata lost in the middle of simulated runs, and journals that do not carry everything.

Goal: histories over the loss of the metadata's disk and its recovery are linearizable, and nothing
acknowledged is missing; the simulation finds a journal that does not carry what was acknowledged.
Method: under requests and troubles the metadata service is killed, its disk emptied, and its rows
brought back from the nodes; then the run goes on, with all its checks. And runs with a bug in the
journal, planted in its class.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from common import faults
from metaservice.journal.service import MetadataJournal
from tests.simulation.cluster import ROWS, MetaMember, NodeMember
from tests.simulation.disk import Table
from tests.simulation.loop import SimulatedLoop
from tests.simulation.plan import META, Kind, Plan, draw
from tests.simulation.recovery import recover
from tests.simulation.world import World, run

SEED = 3
POWER_SEEDS = [seed for seed in range(1, 40) if draw(seed).mode == "POWER"][:5]
LOSS_S = 12.0  # after the round's begin
RETRY_S = 2.0


class LosingWorld(World):
    """In every round the metadata's disk is lost under load, and recovered from the nodes."""

    losses = 0

    async def _round(self, number: int) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(super()._round(number))
            group.create_task(self._lose_metadata())

    async def _lose_metadata(self) -> None:
        await asyncio.sleep(LOSS_S)
        disks = {name: node.store.disks[0].identity.disk_id for name, node in self.nodes.items()}
        self.nemesis.crash(self.meta)
        self.meta.medium.wipe()
        while True:
            try:
                sink, losses = await recover(disks, self.meta.clock, self._kit)
            except faults.Fault:  # a node is down just now
                await asyncio.sleep(RETRY_S)
                continue
            break
        for loss in losses:
            self.history.violate("metadata was lost", loss)
        self.meta.medium.tables[ROWS] = Table(rows=sink.rows)
        self.losses += 1
        self.start(self.meta)


@pytest.mark.parametrize("seed", POWER_SEEDS)
def test_metadata_lost_under_load_and_recovered(seed: int) -> None:
    plan = draw(seed)
    troubles = tuple(
        trouble
        for trouble in plan.troubles
        if trouble.target != META and trouble.kind is not Kind.BLACKOUT
    )
    worlds: list[LosingWorld] = []

    def make(loop: SimulatedLoop, plan: Plan, node: type[NodeMember]) -> World:
        worlds.append(LosingWorld(loop, plan, node))
        return worlds[0]

    outcome = run(replace(plan, troubles=troubles), make_world=make)
    assert worlds[0].losses == plan.rounds
    assert not outcome.violations, "\n".join(map(str, outcome.violations))


class WithoutDeletes(MetadataJournal):
    """Journals what is written, and not what is deleted."""

    def begin(self, rows: Mapping[bytes, bytes | None]) -> tuple[bytes, bytes]:
        return super().begin({key: row for key, row in rows.items() if row is not None})


class WithoutLastWord(MetadataJournal):
    """Acknowledges without waiting for the nodes, and never sends what is not sent at once."""

    count = 0

    async def send(self) -> None:
        self.count += 1
        if self.count % 5:
            await super().send()


@pytest.mark.parametrize("bug", [WithoutDeletes, WithoutLastWord])
def test_a_planted_bug_is_found(
    monkeypatch: pytest.MonkeyPatch, bug: type[MetadataJournal]
) -> None:
    monkeypatch.setattr(MetaMember, "journal", bug)
    found = {violation.kind for violation in run(draw(SEED)).violations}
    assert any("metadata" in kind for kind in found), found
