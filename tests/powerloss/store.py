"""The extent store and its index under power loss: fragments, deletes, extents, identity.

Method: a small disk with real files and the real index; fragments of all shapes, written one by one
and together, deleted, moved by compaction; closed and opened; its index lost and rebuilt.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from common import faults
from common.buffers import BufferPool
from common.checksum import crc32c_blocks
from common.clock import ManualClock
from common.limits import KIB, MIB
from proto import storage_pb2
from storagenode.store.compact import Compactor
from storagenode.store.disk import Disk
from storagenode.store.files import SystemFiles
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.index import row_key
from storagenode.store.rebuild import rebuild
from storagenode.store.settings import DiskSettings
from tests.powerloss.recorder import mark

BLOCK, CELL, EXTENT_BYTES = 4 * KIB, 16 * KIB, 128 * KIB
INDEX, DISK_ID, CLUSTER = 2, 1, "cluster"
SMALL, LARGE = 3000, 3 * CELL - 7
PROBES = 1 << 40  # written after a recovery
MARK_SEPARATOR = " "
PAGE_ROWS = 1000
LIVES = itertools.count()


def blob_id(number: int) -> bytes:
    """A blob's id."""
    return (7).to_bytes(8, "big") + number.to_bytes(8, "big")


def contents(number: int) -> bytes:
    """What a fragment holds; its size follows from its number too."""
    chance = Random(number)
    size = chance.choice((1, SMALL, SMALL, CELL, CELL + 1, LARGE))
    return chance.randbytes(size)


class Node:
    """One disk in one life of its process."""

    def __init__(
        self, folder: Path, *, rebuilds_later: bool = False, tell: Callable[[str], None] = mark
    ) -> None:
        """tell: told what is under way, and what is acknowledged"""
        self._tell = tell
        pool = BufferPool(16 * MIB)
        self.clock = ManualClock()
        self.clock.advance(next(LIVES))  # no two lives are at one time
        settings = DiskSettings(folder, EXTENT_BYTES, 1.0, 0, rebuilds_later=rebuilds_later)
        self.disk = Disk(settings, SystemFiles(), self.clock, pool)
        self.store = FragmentStore([self.disk], self.clock, pool)
        self.compactor = Compactor(self.disk, pool)

    async def rebuild(self) -> None:
        """Build the index anew, at another moment than the last time."""
        self.clock.advance(0.1)
        await rebuild(self.disk, self.clock)

    async def put(self, number: int) -> None:
        """Write a fragment; told when it is on disk."""
        self._tell(f"begin {number}")
        data = contents(number)
        cells = [data[at : at + CELL] for at in range(0, len(data), CELL)]
        for place, cell in enumerate(cells):
            request = storage_pb2.PutCell(
                blob_id=blob_id(number), index=INDEX, disk_id=DISK_ID, cell_index=place,
                last=place == len(cells) - 1, fragment_bytes=len(data),
                cell_bytes=min(CELL, len(data)), block_bytes=BLOCK,
                block_checksums=crc32c_blocks(memoryview(cell), BLOCK), identity=b"whose",
            )  # fmt: skip
            await self.store.put_cell(request, cell, None)
        self._tell(f"put {number}")

    async def get(self, number: int) -> bytes | None:
        """A fragment's bytes, compared with their checksums; None: it is not there."""
        size = len(contents(number))
        ranges = [
            storage_pb2.Range(offset=at, length=min(CELL, size - at)) for at in range(0, size, CELL)
        ]
        request = storage_pb2.ReadFragment(
            blob_id=blob_id(number), index=INDEX, disk_id=DISK_ID, ranges=ranges
        )
        try:
            reply, buffer = await self.store.read(request)
        except faults.NotFound:
            return None
        data = bytes(buffer.view)
        buffer.release()
        cells = [memoryview(data[at : at + CELL]) for at in range(0, size, CELL)]
        assert b"".join(crc32c_blocks(cell, BLOCK) for cell in cells) == reply.block_checksums
        return data

    async def delete(self, *numbers: int) -> None:
        """Delete fragments for good; told when that is on disk."""
        for number in numbers:
            self._tell(f"deleting {number}")
        fragments = [
            storage_pb2.FragmentId(blob_id=blob_id(number), index=INDEX, disk_id=DISK_ID)
            for number in numbers
        ]
        await self.store.delete(storage_pb2.DeleteFragments(fragments=fragments))
        for number in numbers:
            self._tell(f"deleted {number}")

    def listed(self) -> list[int]:
        """Numbers of all fragments that the index names."""
        found: list[int] = []
        after = b""
        while rows := self.disk.page(after, b"", PAGE_ROWS):
            found += [int.from_bytes(record.blob_id[8:], "big") for record, _ in rows]
            after = row_key(rows[-1][0].blob_id, INDEX)
        return found

    async def close(self) -> None:
        await self.store.close()


class StoreWorkload:
    """Fragments come and go on a disk."""

    name = "store"
    is_ordered = False

    def prepare(self, folder: Path) -> None:
        """Nothing is there."""

    def run(self, folder: Path) -> None:
        asyncio.run(self._run(folder / "zone" / "disk"))

    async def _run(self, folder: Path) -> None:
        node = Node(folder)
        node.disk.adopt(CLUSTER, DISK_ID)
        mark("adopted")
        for number in range(3):
            await node.put(number)
        await asyncio.gather(*(node.put(number) for number in range(3, 8)))
        await node.delete(1)
        await asyncio.gather(node.put(8), node.delete(0, 2), node.put(9))
        for number in range(10, 16):  # extents fill up and are closed
            await node.put(number)
        await node.delete(3, 4, 5, 10, 11)
        await node.compactor.run_once()
        await node.close()
        node = Node(folder)
        await node.put(16)
        await node.delete(6, 8, 16)
        await node.compactor.run_once()
        await node.put(17)
        await node.close()

    def recover(self, folder: Path, marks: Sequence[str]) -> object:
        if not folder.joinpath("zone").exists():
            (folder / "zone").mkdir()  # whoever installs a disk does it
        return asyncio.run(self._recover(folder / "zone" / "disk", Told(marks)))

    async def _recover(self, folder: Path, told: "Told") -> object:
        node = Node(folder)
        try:
            return await check(node, told)
        finally:
            await node.close()


class RebuildWorkload(StoreWorkload):
    """A disk whose index cannot be opened; it is rebuilt, while and after the node is in use."""

    name = "rebuild"

    def __init__(self) -> None:
        self._before: list[str] = []

    def prepare(self, folder: Path) -> None:
        asyncio.run(self._prepare(folder / "zone" / "disk"))
        (path,) = (folder / "zone" / "disk" / "index").glob("MANIFEST-*")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    async def _prepare(self, folder: Path) -> None:
        node = Node(folder)
        node.disk.adopt(CLUSTER, DISK_ID)
        for number in range(10):
            await node.put(number)
        await node.delete(1, 3)
        await node.close()

    async def _run(self, folder: Path) -> None:
        node = Node(folder, rebuilds_later=True)
        assert node.disk.is_rebuilding
        await node.rebuild()
        await node.put(20)
        await node.delete(4, 5)
        await node.put(21)
        await node.rebuild()  # doubted again, as scrub may
        await node.delete(20)
        await node.close()

    async def _recover(self, folder: Path, told: "Told") -> object:
        told.put.update(number for number in range(10) if number not in (1, 3))
        told.deleted_before = {1, 3}
        told.is_adopted = True
        node = Node(folder, rebuilds_later=True)
        try:
            if node.disk.is_rebuilding:
                await node.rebuild()
            return await check(node, told)
        finally:
            await node.close()


class Told:
    """What had been acknowledged, and what was under way."""

    def __init__(self, marks: Sequence[str]) -> None:
        self.put: set[int] = set()
        self.begun: set[int] = set()
        self.deleting: set[int] = set()
        self.deleted: set[int] = set()
        self.deleted_before: set[int] = set()  # and of that the index may know nothing any more
        self.is_adopted = "adopted" in marks
        by_word = {
            "put": self.put, "begin": self.begun,
            "deleting": self.deleting, "deleted": self.deleted,
        }  # fmt: skip
        for text in marks:
            word, _, number = text.partition(MARK_SEPARATOR)
            if number:
                by_word[word].add(int(number))


async def check(node: Node, told: Told) -> object:
    """Everything told is so; nothing is half there; the disk can be used. What it holds."""
    disk = node.disk
    assert not told.is_adopted or disk.identity.cluster_id == CLUSTER, "whose the disk is"
    if not disk.identity.cluster_id:
        disk.adopt(CLUSTER, DISK_ID)
    found = await _read_all(node)
    held = set(found)
    assert not (told.put - told.deleting) - held, f"lost {(told.put - told.deleting) - held}"
    gone = told.deleted | told.deleted_before
    assert not gone & held, f"deleted, and back: {gone & held}"
    unknown = {number for number in held if number < PROBES} - told.begun - told.put
    assert not unknown, f"never written: {unknown}"
    for number in told.deleted - told.deleted_before:
        await _assert_refused(node, number)
    probe = max([PROBES, *held]) + 1
    await node.put(probe)
    await node.put(probe + 1)
    await node.delete(probe)
    after = await _read_all(node)
    assert set(after) == held | {probe + 1}, "a new fragment changed what was there"
    assert disk.fragment_count == len(after), "counted wrongly"
    return {number for number in held if number < PROBES}


async def _read_all(node: Node) -> list[int]:
    numbers = node.listed()
    for number in numbers:
        assert await node.get(number) == contents(number), f"fragment {number} is not what it was"
    return numbers


async def _assert_refused(node: Node, number: int) -> None:
    try:
        await node.put(number)
    except faults.Fenced:
        return
    raise AssertionError(f"deleted {number} can be written again")
