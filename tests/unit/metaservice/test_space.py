"""Room on the metadata's disk: what is refused below the reserve, and that it ends."""

from pathlib import Path

import pytest

from common import faults
from metaservice.space import SpaceGuard


async def store() -> str:
    return "stored"


async def test_below_the_reserve_nothing_new_is_taken(tmp_path: Path) -> None:
    guard = SpaceGuard(tmp_path, 2**62)
    run = guard.guarded(store)
    assert await run() == "stored"  # not looked yet
    await guard.look()
    with pytest.raises(faults.Full):
        await run()
    guard._reserve_bytes = 0
    await guard.look()
    assert await run() == "stored"


async def test_without_a_directory_there_is_always_room() -> None:
    guard = SpaceGuard()
    await guard.look()
    assert await guard.guarded(store)() == "stored"
