"""The simulation finds a journal that does not carry what was acknowledged.

Method: runs with a bug in the journal, planted in its class; the comparison of the metadata with
what the nodes give back must complain. Without the bug the same seed is clean.
"""

from collections.abc import Mapping

import pytest

from metaservice.journal.service import MetadataJournal
from tests.simulation.cluster import MetaMember
from tests.simulation.plan import draw
from tests.simulation.world import run

SEED = 3


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
