"""Lives of an engine with its journal, with short deadlines."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from metaservice.journal import blobs, ensemble, service
from tests.support.journal import FakeNodes
from tests.support.journal_service import Begin, Service


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SETTLE_S", 0.0)
    monkeypatch.setattr(blobs, "DEADLINE_S", 0.2)
    monkeypatch.setattr(ensemble, "OPEN_S", 0.3)


@pytest.fixture
async def lives(tmp_path: Path, quick: None) -> AsyncIterator[Begin]:
    made: list[Service] = []

    async def begin(nodes: FakeNodes, folder: str = "meta", **options: Any) -> Service:
        life = Service(tmp_path / folder, nodes, **options)
        made.append(life)
        return await life.start()

    yield begin
    for life in made:
        if not life.store._thread.is_ended:
            await life.stop()
