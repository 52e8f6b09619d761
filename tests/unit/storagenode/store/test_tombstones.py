"""The log of deletions: what it says it has, an index that lost it gets back, whatever is torn.

Method: a real folder and real files; indexes are emptied, pages torn and flipped, segments filled.
"""

import errno
from pathlib import Path

import pytest

from common import faults
from common.checksum import crc32c
from storagenode.store.files import PAGE, ExtentFile, SystemFiles
from storagenode.store.index import Index, Tombstone
from storagenode.store.tombstones import ENTRIES_PER_PAGE, ENTRY_BYTES, SEGMENT_BYTES, TombstoneLog

PER_SEGMENT = SEGMENT_BYTES // PAGE * ENTRIES_PER_PAGE


class FailingFiles(SystemFiles):
    """Files that fail to be made, on demand."""

    error = 0

    def create(self, path: Path, size_bytes: int) -> ExtentFile:
        if self.error:
            raise OSError(self.error, "as told")
        return super().create(path, size_bytes)


class World:
    """A log and an index that may be lost."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder / "tombstones", FailingFiles()
        self.failures: list[str] = []
        self._indexes = folder
        self._lives = 0
        self.lose_index()
        self.reopen()

    def reopen(self) -> None:
        self.log = TombstoneLog(self.files, self.folder)
        self.log.on_failed = self.failures.append
        self.log.replay_blocking(self.index)

    def lose_index(self) -> None:
        self._lives += 1
        self.index = Index(self._indexes / f"index-{self._lives}")

    def delete(self, begin: int, end: int, deleted_ns: int = 5, **more: int) -> None:
        names = [name(number) for number in range(begin, end)]
        self.log.delete_blocking(self.index, [(names, Tombstone(deleted_ns, bool(more), **more))])

    def known(self) -> dict[int, Tombstone]:
        return {int.from_bytes(key[0], "big"): stone for key, stone in self.index.tombstones()}

    @property
    def segments(self) -> list[Path]:
        return sorted(self.folder.iterdir())


def name(number: int) -> tuple[bytes, int]:
    return number.to_bytes(16, "big"), number % 6


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_all_sizes_of_groups_come_back(world: World) -> None:
    begin = 0
    for count in (1, 1, ENTRIES_PER_PAGE - 2, 1, 3 * ENTRIES_PER_PAGE, 17 * ENTRIES_PER_PAGE + 5):
        world.delete(begin, begin + count)
        begin += count
        world.lose_index()
        world.reopen()
        assert sorted(world.known()) == list(range(begin)), count
    world.delete(begin, begin + PER_SEGMENT + 1)  # larger than a segment
    world.lose_index()
    world.reopen()
    assert len(world.known()) == begin + PER_SEGMENT + 1
    assert len(world.segments) == 2


def test_a_tombstone_comes_back_as_it_was(world: World) -> None:
    world.delete(1, 2, 7, fence=9)
    world.delete(2, 3, 8)
    world.delete(1, 2, 10, fence=11)
    world.delete(2, 3, 6)  # the clock went back: what was deleted stays deleted
    world.lose_index()
    world.reopen()
    assert world.known() == {1: Tombstone(10, True, 11), 2: Tombstone(8, False)}


def test_a_torn_write_takes_nothing_that_was_told(world: World) -> None:
    world.delete(0, 30)
    (path,) = world.segments
    before = path.read_bytes()
    world.delete(30, 60)
    after = path.read_bytes()
    for sectors in range(1 << (PAGE // 512)):
        torn = b"".join(
            (after if sectors >> (at // 512) & 1 else before)[at : at + 512]
            for at in range(0, PAGE, 512)
        )
        path.write_bytes(torn + after[PAGE:])
        world.lose_index()
        world.reopen()
        assert set(range(30)) <= set(world.known()) <= set(range(60))
    world.delete(100, 101)  # and what is told after it is not written over what is torn
    world.lose_index()
    world.reopen()
    assert {*range(30), 100} <= set(world.known())


def test_a_flipped_byte_costs_one_entry_at_most(world: World) -> None:
    world.delete(0, 250)
    (path,) = world.segments
    before = path.read_bytes()
    for at in range(0, 2 * PAGE + 50 * ENTRY_BYTES, 97):
        path.write_bytes(before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :])
        world.lose_index()
        world.reopen()
        assert len(world.known()) >= 249, at


def test_a_newer_format_is_refused_and_a_flip_of_it_is_not(world: World) -> None:
    world.delete(0, 3)
    (path,) = world.segments
    data = bytearray(path.read_bytes())
    data[PAGE - 12] = 2
    path.write_bytes(data)
    world.reopen()
    data[PAGE - 4 : PAGE] = crc32c(data[PAGE - 16 : PAGE - 4]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(faults.Invalid):
        world.reopen()


def test_full_segments_are_not_read_again_and_go_when_they_are_old(world: World) -> None:
    world.delete(0, PER_SEGMENT, 100)
    world.delete(PER_SEGMENT, 2 * PER_SEGMENT, 200)
    world.delete(2 * PER_SEGMENT, 2 * PER_SEGMENT + 1, 10)
    first, second, third = world.segments
    assert world.index.closed_tombstones() == {1: 100, 2: 200}
    kept = first.read_bytes()
    first.write_bytes(bytes(len(kept)))
    world.reopen()
    assert len(world.known()) == 2 * PER_SEGMENT + 1
    world.log.trim_blocking(world.index, 101)
    assert world.segments == [second, third]
    world.log.trim_blocking(world.index, 300)  # never the last, which is written to
    assert world.segments == [third]
    assert world.index.closed_tombstones() == {}
    world.delete(5, 6)
    assert world.segments == [third]


def test_a_full_disk_still_deletes(world: World) -> None:
    world.files.error = errno.ENOSPC
    world.delete(1, 2)
    assert world.known() == {1: Tombstone(5, False)}
    assert not world.failures
    world.files.error = 0
    world.delete(2, 3)
    assert len(world.segments) == 1


def test_a_disk_that_fails_says_so_and_deletes_no_more(world: World) -> None:
    world.files.error = errno.EIO
    with pytest.raises(faults.Unavailable):
        world.delete(1, 2)
    assert len(world.failures) == 1
    world.files.error = 0
    with pytest.raises(faults.Unavailable):
        world.delete(2, 3)
    assert world.known() == {}
