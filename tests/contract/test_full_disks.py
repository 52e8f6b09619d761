"""Full disks give their space back: the reserve is enough to compact, and is not lost to races.

Method: stores on temporary folders that share a small file system, whose figures are computed from
the extents that are there; filled, thinned out, compacted; extents left open by a killed process.
"""

import asyncio
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from common import faults
from common.buffers import BufferPool
from common.clock import ManualClock
from common.limits import MIB
from storagenode.store.compact import compact_all
from storagenode.store.disk import Disk
from storagenode.store.extents import Extent
from storagenode.store.files import ExtentFile, SystemFiles
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.settings import DiskSettings
from tests.contract.test_fragment_store import Node, assert_all

EXTENT_BYTES = 4 * MIB
RESERVE_BYTES = 4 * MIB
FRAGMENT_BYTES = 200_000


class SmallFiles(SystemFiles):
    """A file system of a size, shared by all disks below a folder."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder, self.size_bytes = folder, size_bytes

    def space(self, folder: Path) -> tuple[int, int]:
        used = sum(path.stat().st_size for path in self.folder.rglob("*.extent"))
        return self.size_bytes, self.size_bytes - used


class UnsyncedFiles(SmallFiles):
    """Extents that are opened do not sync."""

    def open(self, path: Path) -> ExtentFile:
        file = super().open(path)

        def fail() -> None:
            raise OSError(errno.EIO, "sync failed")

        file.sync = fail  # type: ignore[method-assign]
        return file


class RacingFiles(SmallFiles):
    """Two extents are made at the same moment, each after a look at the room."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        super().__init__(folder, size_bytes)
        self._both = threading.Barrier(2, timeout=30)

    def create(self, path: Path, size_bytes: int) -> ExtentFile:
        self._both.wait()
        return super().create(path, size_bytes)


class SmallNode(Node):
    """A store with one disk on it."""

    def __init__(self, folder: Path, files: SmallFiles) -> None:
        self.folder = folder
        self.pool = BufferPool(64 * MIB)
        self.clock = ManualClock()
        settings = DiskSettings(folder, EXTENT_BYTES, 1.0, RESERVE_BYTES)
        self.disk = Disk(settings, files, self.clock, self.pool)
        self.disk.adopt("cluster", 1)
        self.store = FragmentStore([self.disk], self.clock, self.pool)


async def fill(node: SmallNode, begin: int = 0) -> dict[int, bytes]:
    data: dict[int, bytes] = {}
    for number in range(begin, begin + 1000):
        content = os.urandom(FRAGMENT_BYTES)
        try:
            await node.put(number, content)
        except faults.Full:
            return data
        data[number] = content
    raise AssertionError("it is never full")


@pytest.mark.parametrize("eaten_bytes", [0, 2 * MIB])
async def test_a_full_disk_with_little_of_its_reserve_left_is_compacted(
    tmp_path: Path, eaten_bytes: int
) -> None:
    """Less is left than a whole extent needs: what moves is given as much as it needs."""
    files = SmallFiles(tmp_path, 5 * EXTENT_BYTES + RESERVE_BYTES)
    node = SmallNode(tmp_path / "disk", files)
    data = await fill(node)
    files.size_bytes -= eaten_bytes
    for number in list(data):
        if number % 4:
            await node.delete(number)
            del data[number]
    assert len(node.disk.extents.by_number) == 5
    while await compact_all([node.disk], node.pool):
        assert files.space(tmp_path)[1] > 0
    more = await fill(node, 1000)
    assert len(more) > len(data) * 2
    await assert_all(node, data | more)
    await node.store.close()


async def test_disks_that_share_a_file_system_leave_its_reserve_alone(tmp_path: Path) -> None:
    """Both see room for one extent; who finds that another came too gives it back."""
    files = RacingFiles(tmp_path, EXTENT_BYTES + RESERVE_BYTES)
    nodes = [SmallNode(tmp_path / name, files) for name in "ab"]
    outcomes = await asyncio.gather(
        *[node.put(1, bytes(FRAGMENT_BYTES)) for node in nodes], return_exceptions=True
    )
    assert any(isinstance(outcome, faults.Full) for outcome in outcomes)
    assert files.space(tmp_path)[1] >= RESERVE_BYTES
    for node in nodes:
        await node.store.close()


async def test_extents_left_open_by_a_killed_process_are_closed(tmp_path: Path) -> None:
    """Or they would neither be compacted nor removed, whatever is deleted in them."""
    files = SmallFiles(tmp_path, 100 * MIB)
    node = SmallNode(tmp_path / "disk", files)

    def never(extent: Extent) -> None:
        """It is killed before."""

    node.disk.close_if_done = never  # type: ignore[method-assign]
    for number in range(60):
        await node.put(number, bytes(FRAGMENT_BYTES))
    shutil.copytree(tmp_path / "disk", tmp_path / "copy")
    await node.store.close()
    again = SmallNode(tmp_path / "copy", files)
    extents = list(again.disk.extents.by_number.values())
    assert len(extents) > 2
    assert [extent for extent in extents if not extent.is_closed] == [again.disk.extents.active]
    await again.delete(*range(60))
    assert list(again.disk.extents.by_number.values()) == [again.disk.extents.active]
    await again.store.close()


async def test_a_disk_that_fails_while_it_is_opened_knows_what_it_holds(tmp_path: Path) -> None:
    """What is deleted there is counted down, from what there was and never below nothing."""
    node = SmallNode(tmp_path / "disk", SmallFiles(tmp_path, 100 * MIB))
    await node.put(1, bytes(FRAGMENT_BYTES))
    await node.put(2, bytes(FRAGMENT_BYTES))
    used_bytes = node.disk.used_bytes
    await node.store.close()
    again = SmallNode(tmp_path / "disk", UnsyncedFiles(tmp_path, 100 * MIB))
    assert again.disk.state == "failed"
    assert (again.disk.used_bytes, again.disk.fragment_count) == (used_bytes, 2)
    await again.delete(1)
    assert (again.disk.used_bytes, again.disk.fragment_count) == (used_bytes // 2, 1)
    await again.store.close()
