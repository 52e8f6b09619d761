"""A metadata service in memory for every test of operations."""

import pytest

from common.clock import ManualClock
from metaservice.kv.memory import MemoryStore
from tests.support.meta import MetaBench


@pytest.fixture
async def bench() -> MetaBench:
    made = MetaBench(MemoryStore(), ManualClock())
    await made.start()
    return made
