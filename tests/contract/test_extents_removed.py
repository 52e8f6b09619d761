"""An extent that holds nothing is removed once, and nobody reads its file afterwards.

Method: a real disk; the thread that removes is held up, so that everything else comes in between.
"""

import asyncio
import logging
import threading
from pathlib import Path
from unittest.mock import patch

import pytest

from storagenode.store.disk import Disk
from tests.contract.test_fragment_store import CELL, Node, filled
from tests.contract.test_scrub import scrubber_of


async def emptied(folder: Path) -> Node:
    """A node whose closed extents hold nothing any more, and are there still."""
    node, data = await filled(folder)
    for number in range(1000, 1040):
        data[number] = bytes([number % 256]) * CELL
        await node.put(number, data[number])

    async def nothing(disk: Disk) -> int:
        return 0

    # The marks in the extents are no promise: without them, a scan finds what was deleted.
    with (
        patch.object(Disk, "drop_empty_extents", nothing),
        patch.object(Disk, "_mark_dead_blocking", lambda *_: None),
    ):
        await node.delete(*data)
    await node.put(2000, b"kept")  # the scrub looks at a disk that holds something
    closed = [each for each in node.disk.extents.by_number.values() if each.is_closed]
    assert len(closed) > 1 and not any(extent.live_bytes for extent in closed)
    return node


async def test_two_who_find_an_extent_empty_remove_it_once(tmp_path: Path) -> None:
    node = await emptied(tmp_path / "disk")
    goes_on = threading.Event()
    holding = asyncio.ensure_future(node.disk.run_in_order(goes_on.wait))
    before = node.disk.extents.total_bytes
    removing = [asyncio.ensure_future(node.disk.drop_empty_extents()) for _ in range(2)]
    for _ in range(3):
        await asyncio.sleep(0)  # both have looked
    goes_on.set()
    await holding
    given_back = await asyncio.gather(*removing)
    assert sum(given_back) == before - node.disk.extents.total_bytes > 0
    left = {path.name for path in (tmp_path / "disk" / "extents").glob("*.extent")}
    assert left == {extent.path.name for extent in node.disk.extents.by_number.values()}
    await node.store.close()


async def test_the_scrub_goes_on_when_its_extent_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = await emptied(tmp_path / "disk")
    scrubber = scrubber_of(node)
    scrubber.progress.is_index_done = True
    with patch("storagenode.store.scrub.FOUND_PER_HOP", 1):
        await scrubber._find_some()  # the first fragment of the first extent
        extent = scrubber._extent
        assert extent is not None
        await node.disk.drop_empty_extents()
        assert extent.number not in node.disk.extents.by_number
        with caplog.at_level(logging.ERROR):
            while await scrubber._find_some() is not None:
                pass
    assert not caplog.records
    await node.store.close()
