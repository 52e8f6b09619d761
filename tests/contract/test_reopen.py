"""A disk that has failed is opened again by its node, and loses nothing by it.

Method: a real folder behind a file layer whose writes, syncs and reads fail when they are told to,
and which after a failed sync shows through the page cache what is not on the medium.
"""

import errno
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common import faults
from common.buffers import BufferPool
from common.checksum import crc32c_blocks
from common.clock import ManualClock
from common.limits import MIB
from proto import storage_pb2
from storagenode.store.disk import Disk
from storagenode.store.files import ExtentFile, SystemFiles
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.index import Index, open_index
from storagenode.store.reopen import Reopener
from storagenode.store.scrub import Scrubber, ScrubSettings
from storagenode.store.settings import DiskSettings
from storagenode.store.tombstones import TombstoneLog
from storagenode.trials import PAUSE_S_MAX, PAUSE_S_MIN, WELL_S

CELL = 65_536
EIO = OSError(5, "injected")


class FailingFile:
    """An extent; what a failed sync was to cover is in the cache, and not on the medium."""

    def __init__(self, file: ExtentFile, files: "FailingFiles") -> None:
        self._file, self._files = file, files
        self.is_direct, self.size_bytes = file.is_direct, file.size_bytes
        self._unsynced: list[tuple[int, int]] = []

    def write(self, pieces: Sequence[memoryview], offset: int) -> None:
        if "write" in self._files.failing:
            raise EIO
        self._unsynced.append((offset, sum(len(piece) for piece in pieces)))
        self._file.write(pieces, offset)

    def read(self, offset: int, into: memoryview) -> None:
        if "read" in self._files.failing:
            raise EIO
        self._file.read(offset, into)

    def read_now(self, offset: int, into: memoryview) -> bool:
        return False

    def read_medium(self, offset: int, into: memoryview) -> None:
        self.read(offset, into)
        for begin, size in self._files.lost:
            for at in range(max(begin, offset), min(begin + size, offset + len(into))):
                into[at - offset] = 0

    def write_durable(self, pieces: Sequence[memoryview], offset: int) -> None:
        self.write(pieces, offset)
        self.sync()

    def sync(self) -> None:
        if "sync" in self._files.failing:
            self._files.lost += self._unsynced
            raise EIO
        self._unsynced.clear()
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class FailingFiles(SystemFiles):
    """Fails the calls that are named in `failing`."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.lost: list[tuple[int, int]] = []  # of the only extent

    def create(self, path: Path, size_bytes: int) -> ExtentFile:
        return FailingFile(super().create(path, size_bytes), self)

    def open(self, path: Path) -> ExtentFile:
        return FailingFile(super().open(path), self)

    def probe(self, folder: Path) -> None:
        if self.failing:
            raise EIO
        super().probe(folder)


class Node:
    """One disk and what opens it again."""

    def __init__(self, folder: Path, files: FailingFiles | None = None) -> None:
        self.folder, self.files = folder, files or FailingFiles()
        self.clock, pool = ManualClock(), BufferPool(64 * MIB)
        settings = DiskSettings(folder, 4 * MIB, 1.0, 0, rebuilds_later=True)
        self.disk = Disk(settings, self.files, self.clock, pool)
        self.disk.adopt("cluster", 1)
        self.pool, self.store = pool, FragmentStore([self.disk], self.clock, pool)
        pace = ScrubSettings(1.0, MIB, 64 * MIB, 300.0)
        self.scrubber = Scrubber(self.disk, self.files, self.clock, pace)
        self.reopener = Reopener(self.disk, self.store, self.scrubber, self.clock)

    async def put(self, blob: int, data: bytes, cell: int = 0) -> None:
        piece = data[cell * CELL : (cell + 1) * CELL]
        request = storage_pb2.PutCell(
            blob_id=blob.to_bytes(16, "big"), index=1, disk_id=1, cell_index=cell,
            last=(cell + 1) * CELL >= len(data), fragment_bytes=len(data),
            cell_bytes=min(CELL, len(data)), block_bytes=CELL,
            block_checksums=crc32c_blocks(memoryview(piece), CELL),
        )  # fmt: skip
        await self.store.begin_put(request, piece, None)

    async def get(self, blob: int, size: int) -> bytes:
        request = storage_pb2.ReadFragment(
            blob_id=blob.to_bytes(16, "big"), index=1, disk_id=1,
            ranges=[storage_pb2.Range(offset=0, length=size)],
        )  # fmt: skip
        _, buffer = await self.store.read(request)
        with buffer:
            return bytes(buffer.view)

    def names(self) -> list[int]:
        reply = self.store.list(storage_pb2.ListFragments(disk_id=1))
        return [int.from_bytes(each.blob_id, "big") for each in reply.fragments]

    async def delete(self, blob: int) -> None:
        fragment = storage_pb2.FragmentId(blob_id=blob.to_bytes(16, "big"), index=1, disk_id=1)
        await self.store.delete(storage_pb2.DeleteFragments(fragments=[fragment]))

    async def pass_time(self, seconds: float) -> None:
        """Let the node see the disk, then wait, then see it again."""
        await self.reopener.step()
        self.clock.advance(seconds)
        await self.reopener.step()

    def descriptors(self) -> list[Path]:
        """Files in the disk's folder that are open, once for each time that they are."""
        found = []
        for number in Path("/proc/self/fd").iterdir():
            try:
                found.append(number.readlink())
            except FileNotFoundError:  # that of the listing
                continue
        return [path for path in found if path.is_relative_to(self.folder)]


@asynccontextmanager
async def failed(folder: Path, call: str) -> AsyncIterator[Node]:
    """A node with three fragments whose disk then fails in a fourth and a fifth."""
    node = Node(folder)
    for blob in (1, 2, 3):
        await node.put(blob, bytes([blob]) * 20_000)
    await node.delete(2)
    node.files.failing = {call}
    with pytest.raises(faults.Unavailable):
        await node.put(4, b"\x04" * 20_000)
    with pytest.raises(faults.Unavailable):
        await node.put(5, b"\x05" * 20_000)
    assert (node.disk.state, node.disk.condition) == ("failed", "failed")
    try:
        yield node
    finally:
        node.files.failing.clear()
        await node.store.close()


@pytest.mark.parametrize("call", ["write", "sync"])
async def test_a_failed_disk_is_used_again_when_it_is_well(tmp_path: Path, call: str) -> None:
    async with failed(tmp_path / "disk", call) as node:
        node.files.failing.clear()
        await node.pass_time(PAUSE_S_MIN)
        assert (node.disk.state, node.disk.failure) == ("up", "")
        # What was refused is not there: after a failed sync only the cache knows of it.
        assert node.names() == [1, 3]
        assert node.disk.fragment_count == 2
        await node.put(4, b"\x04" * 20_000)
        for blob in (1, 3, 4):
            assert await node.get(blob, 20_000) == bytes([blob]) * 20_000
        with pytest.raises(faults.Fenced):
            await node.put(2, b"\x02" * 20_000)
        assert node.pool.bytes_in_flight == 0
    again = Node(tmp_path / "disk", node.files)
    assert again.names() == [1, 3, 4]
    await again.store.close()


async def test_what_a_failed_sync_left_whole_on_the_medium_is_found(tmp_path: Path) -> None:
    async with failed(tmp_path / "disk", "sync") as node:
        node.files.failing.clear()
        node.files.lost.clear()  # it was written all the same
        await node.pass_time(PAUSE_S_MIN)
        assert node.names() == [1, 3, 4]
        assert await node.get(4, 20_000) == b"\x04" * 20_000


async def test_while_it_still_fails_it_is_read_and_tried_more_and_more_seldom(
    tmp_path: Path,
) -> None:
    async with failed(tmp_path / "disk", "sync") as node:
        pauses = []
        for _ in range(14):
            await node.reopener.step()
            now_ns, next_ns = node.clock.now_ns(), node.disk.next_trial_ns
            pauses.append((next_ns - now_ns) / 1e9)
            node.clock.advance(pauses[-1])
            assert await node.get(1, 20_000) == b"\x01" * 20_000
        assert pauses[:3] == [PAUSE_S_MIN, 2 * PAUSE_S_MIN, 4 * PAUSE_S_MIN]
        assert pauses[-1] == PAUSE_S_MAX
        node.files.failing.clear()
        await node.pass_time(PAUSE_S_MAX)
        assert node.disk.state == "up"
        # Failing again at once, it waits as long as before; after an hour without, as at first.
        node.disk.fail("again")
        await node.reopener.step()
        assert node.disk.next_trial_ns - node.clock.now_ns() == PAUSE_S_MAX * 1e9
        await node.pass_time(PAUSE_S_MAX)
        await node.pass_time(WELL_S)
        node.disk.fail("and again")
        await node.reopener.step()
        assert node.disk.next_trial_ns - node.clock.now_ns() == PAUSE_S_MIN * 1e9


@pytest.mark.parametrize("call", ["read", "sync"])
async def test_a_disk_that_could_not_be_opened_is_opened_later(tmp_path: Path, call: str) -> None:
    first = Node(tmp_path / "disk")
    await first.put(1, b"\x01" * 20_000)
    await first.put(2, b"\x02" * 20_000)
    await first.store.close()
    first.files.failing = {call}
    node = Node(tmp_path / "disk", first.files)
    assert node.disk.condition == "failed"
    assert node.names() == [1, 2]
    await node.pass_time(PAUSE_S_MIN)
    assert node.disk.condition == "failed"
    node.files.failing.clear()
    await node.pass_time(2 * PAUSE_S_MIN)
    assert (node.disk.state, node.names()) == ("up", [1, 2])
    await node.put(3, b"\x03" * 20_000)
    assert await node.get(1, 20_000) == b"\x01" * 20_000
    await node.store.close()


async def test_an_index_that_cannot_be_opened_now_is_not_given_up(tmp_path: Path) -> None:
    first = Node(tmp_path / "disk")
    await first.put(1, b"\x01" * 20_000)
    await first.delete(1)
    await first.store.close()
    held = open_index(SystemFiles(), tmp_path / "disk" / "index")
    node = Node(tmp_path / "disk")
    assert node.disk.condition == "failed"
    with pytest.raises(faults.Unavailable):
        node.names()
    with pytest.raises(faults.Unavailable):
        await node.get(1, 20_000)
    with pytest.raises(faults.Unavailable):
        await node.delete(1)
    held.close()
    await node.pass_time(PAUSE_S_MIN)
    assert (node.disk.state, node.names()) == ("up", [])
    with pytest.raises(faults.Fenced):  # its deletion is still known
        await node.put(1, b"\x01" * 20_000)
    assert not list((tmp_path / "disk").glob("index.broken*"))
    await node.store.close()


async def test_an_index_that_fails_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path / "disk")
    await node.put(1, b"\x01" * 20_000)

    def refuse(index: Index, rows: object) -> None:
        raise faults.Unavailable("injected: no log")

    with monkeypatch.context() as patched:
        patched.setattr(Index, "put_all", refuse)
        with pytest.raises(faults.Unavailable):
            await node.put(2, b"\x02" * 20_000)
    assert "no log" in node.disk.failure
    await node.pass_time(PAUSE_S_MIN)
    # The second is on disk, synced, and found; it was never acknowledged, and may be there.
    assert (node.disk.state, node.names()) == ("up", [1, 2])
    await node.store.close()


async def test_a_deletion_that_does_not_sync_fails_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path / "disk")
    await node.put(1, b"\x01" * 20_000)
    await node.put(2, b"\x02" * 20_000)

    def refuse(log: TombstoneLog) -> None:
        raise OSError(errno.EIO, "injected: no sync")

    with monkeypatch.context() as patched:
        patched.setattr(TombstoneLog, "sync_blocking", refuse)
        with pytest.raises(faults.Unavailable):
            await node.delete(1)
    # A sync that succeeds now would prove nothing: the log may have a hole before it.
    with pytest.raises(faults.Unavailable):
        await node.delete(2)
    assert "no sync" in node.disk.failure
    await node.pass_time(PAUSE_S_MIN)
    await node.delete(1)
    await node.delete(2)
    assert (node.disk.state, node.names(), node.disk.used_bytes) == ("up", [], 0)
    await node.store.close()


async def test_an_unfinished_fragment_is_given_up(tmp_path: Path) -> None:
    node = Node(tmp_path / "disk")
    data = bytes(range(256)) * (3 * CELL // 256)
    await node.put(1, data, cell=0)
    await node.put(1, data, cell=1)
    node.disk.fail("injected")
    await node.pass_time(PAUSE_S_MIN)
    assert node.disk.state == "up"
    with pytest.raises(faults.Invalid):
        await node.put(1, data, cell=2)
    assert node.names() == []
    for cell in range(3):
        await node.put(1, data, cell=cell)
    assert node.names() == [1]
    assert all(not each.open_writes for each in node.disk.extents.by_number.values())
    await node.store.close()


async def test_nothing_of_the_dead_instances_is_left(tmp_path: Path) -> None:
    node = Node(tmp_path / "disk")
    await node.put(1, b"\x01" * 20_000)

    async def fail_and_come_back() -> tuple[Counter[str], int]:
        node.disk.fail("injected")
        await node.pass_time(PAUSE_S_MAX)
        assert node.disk.state == "up"
        await node.get(1, 20_000)
        # Tables of the index become more with each opening, until the engine merges them.
        held = Counter(path.suffix for path in node.descriptors() if path.suffix != ".sst")
        assert held[".extent"] == 2, "one to write, one to read"
        return held, threading.active_count()

    before = await fail_and_come_back()
    for _ in range(5):
        assert await fail_and_come_back() == before
    await node.store.close()


async def test_a_disk_with_a_call_under_way_stays_as_it_is(tmp_path: Path) -> None:
    node = Node(tmp_path / "disk")
    await node.put(1, b"\x01" * 20_000)
    serial = node.disk.health.begin()
    for _ in range(3):
        node.disk.health.tick()
    node.disk.fail("injected")
    await node.pass_time(PAUSE_S_MIN)
    assert node.disk.condition == "failed"
    assert await node.get(1, 20_000) == b"\x01" * 20_000
    node.disk.health.end(serial)
    await node.pass_time(2 * PAUSE_S_MIN)
    assert node.disk.state == "up"
    await node.store.close()


async def test_the_scrub_begins_again(tmp_path: Path) -> None:
    node = Node(tmp_path / "disk")
    await node.put(1, b"\x01" * 20_000)
    while not node.scrubber.is_resting:
        await node.scrubber.step()
    node.disk.fail("injected")
    await node.pass_time(PAUSE_S_MIN)
    assert not node.scrubber.is_resting
    while not node.scrubber.is_resting:
        await node.scrubber.step()
    assert not node.disk.damaged
    await node.store.close()
