"""Fragments on real disks: what was acknowledged is there, whole, after reopening in any state.

Method: a store on a temporary folder with small extents; reopened, with its index lost, with bytes
flipped in its extents, and from a copy taken while it runs (what a killed process leaves).
"""

import os
import shutil
from pathlib import Path

import pytest

from common import faults
from common.buffers import BufferPool
from common.checksum import crc32c_blocks
from common.clock import ManualClock
from common.limits import MIB
from proto import storage_pb2
from storagenode.store.compact import Compactor
from storagenode.store.disk import Disk
from storagenode.store.files import SystemFiles
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.rebuild import rebuild
from storagenode.store.settings import DiskSettings

BLOCK = 65_552
CELL = 4 * BLOCK
EXTENT_BYTES = 4 * MIB
SIZES = [1, 16_388, 65_535, 65_536, CELL, CELL + 1, 3 * CELL - 7]


class Node:
    """A store with one disk."""

    def __init__(self, folder: Path, *, rebuilds_later: bool = False) -> None:
        self.folder = folder
        self.pool = BufferPool(64 * MIB)
        self.clock = ManualClock()
        settings = DiskSettings(folder, EXTENT_BYTES, 1.0, 0, rebuilds_later=rebuilds_later)
        self.disk = Disk(settings, SystemFiles(), self.clock, self.pool)
        self.disk.adopt("cluster", 1)
        self.store = FragmentStore([self.disk], self.clock, self.pool)

    async def put(self, blob: int, data: bytes, last: bool = True) -> None:
        cells = [data[at : at + CELL] for at in range(0, len(data), CELL)]
        for number, cell in enumerate(cells if last else cells[:-1]):
            await self.store.begin_put(
                storage_pb2.PutCell(
                    blob_id=blob_id(blob), index=2, disk_id=1, cell_index=number,
                    last=number == len(cells) - 1, fragment_bytes=len(data),
                    cell_bytes=min(CELL, len(data)), block_bytes=BLOCK,
                    block_checksums=crc32c_blocks(memoryview(cell), BLOCK), identity=b"whose",
                ),
                cell,
                None,
            )  # fmt: skip

    async def get(self, blob: int, size: int) -> bytes:
        ranges = [
            storage_pb2.Range(offset=at, length=min(CELL, size - at)) for at in range(0, size, CELL)
        ]
        reply, buffer = await self.store.read(
            storage_pb2.ReadFragment(blob_id=blob_id(blob), index=2, disk_id=1, ranges=ranges)
        )
        data = bytes(buffer.view)
        buffer.release()
        tables = [
            crc32c_blocks(memoryview(data[at : at + CELL]), BLOCK) for at in range(0, size, CELL)
        ]
        if b"".join(tables) != reply.block_checksums:
            raise faults.Corrupt("fragment")
        return data

    async def delete(self, *blobs: int) -> storage_pb2.DeleteFragmentsReply:
        fragments = [
            storage_pb2.FragmentId(blob_id=blob_id(blob), index=2, disk_id=1) for blob in blobs
        ]
        return await self.store.delete(storage_pb2.DeleteFragments(fragments=fragments))


def blob_id(number: int) -> bytes:
    return (7).to_bytes(8, "big") + number.to_bytes(8, "big")


async def filled(folder: Path) -> tuple[Node, dict[int, bytes]]:
    node, data = Node(folder), {}
    for number, size in enumerate(SIZES * 3):
        data[number] = os.urandom(size)
        await node.put(number, data[number])
    return node, data


async def assert_all(node: Node, data: dict[int, bytes]) -> None:
    for number, expected in data.items():
        assert await node.get(number, len(expected)) == expected, number


async def test_fragments_come_back(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    await assert_all(node, data)
    assert node.disk.fragment_count == len(data)
    assert node.pool.bytes_in_flight == 0
    await node.store.close()


async def test_reopening_finds_everything(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    await node.store.close()
    again = Node(tmp_path / "disk")
    await assert_all(again, data)
    await again.put(1000, b"more")
    assert await again.get(1000, 4) == b"more"
    await again.store.close()


async def test_a_killed_process_leaves_everything_acknowledged(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    await node.put(2000, os.urandom(3 * CELL), last=False)
    shutil.copytree(tmp_path / "disk", tmp_path / "copy")
    await node.store.close()
    again = Node(tmp_path / "copy")
    await assert_all(again, data)
    with pytest.raises(faults.NotFound):
        await again.get(2000, 10)
    await again.store.close()


async def test_a_lost_index_is_rebuilt_and_deleted_stays_deleted(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    await node.delete(0, 5, 7)
    for number in (0, 5, 7):
        del data[number]
    await node.store.close()
    shutil.rmtree(tmp_path / "disk" / "index")
    again = Node(tmp_path / "disk")
    await assert_all(again, data)
    for number in (0, 5, 7):
        with pytest.raises(faults.NotFound):
            await again.get(number, 1)
    await again.store.close()


async def test_an_index_that_opens_but_cannot_be_read_is_rebuilt(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    await node.store.close()
    await Node(tmp_path / "disk").store.close()  # recovery moves the log's rows into a table
    table = max((tmp_path / "disk" / "index").glob("*.sst"), key=lambda path: path.stat().st_size)
    damaged = bytearray(table.read_bytes())
    damaged[100] ^= 1
    table.write_bytes(damaged)
    again = Node(tmp_path / "disk", rebuilds_later=True)  # a node starts all the same
    assert again.disk.condition == "rebuilding"
    assert await rebuild(again.disk, again.clock) == len(data)
    await assert_all(again, data)
    await again.put(1000, b"more")
    await again.store.close()


async def test_deleting_is_idempotent_and_final(tmp_path: Path) -> None:
    node, _ = await filled(tmp_path / "disk")
    assert (await node.delete(3, 4, 900)).deleted == 2
    assert (await node.delete(3, 4)).deleted == 0
    with pytest.raises(faults.Fenced):
        await node.put(3, b"again")
    with pytest.raises(faults.AlreadyExists):
        await node.put(1, b"again")
    await node.store.close()


async def test_flipped_bytes_never_pass_unnoticed(tmp_path: Path) -> None:
    """A flip in an extent is seen by the checksums, or the fragment is not found at all."""
    node, data = await filled(tmp_path / "disk")
    await node.store.close()
    for path in sorted((tmp_path / "disk" / "extents").glob("*.extent")):
        raw = bytearray(path.read_bytes())
        for at in range(100, len(raw), 20_011):
            raw[at] ^= 0xFF
        path.write_bytes(raw)
    again, noticed = Node(tmp_path / "disk"), 0
    for number, expected in data.items():
        try:
            assert await again.get(number, len(expected)) == expected
        except (faults.Corrupt, faults.NotFound):
            noticed += 1
    assert noticed > 0
    await again.store.close()


async def test_a_damaged_header_does_not_give_its_space_away(tmp_path: Path) -> None:
    """The last fragment of an open extent: its bytes are good, so nothing may be written there."""
    node = Node(tmp_path / "disk")
    data = {number: os.urandom(2 * BLOCK) for number in range(3)}
    for number, content in data.items():
        await node.put(number, content)
    last = node.disk.index.get(blob_id(2), 2)
    assert last is not None
    await node.store.close()
    path = tmp_path / "disk" / "extents" / f"{last[0].extent:08d}.extent"
    raw = bytearray(path.read_bytes())
    raw[last[0].offset + 40] ^= 1
    path.write_bytes(raw)
    again = Node(tmp_path / "disk")
    data[7] = os.urandom(2 * BLOCK)
    await again.put(7, data[7])
    assert again.disk.dead_bytes >= 0
    await assert_all(again, data)
    await again.store.close()


async def test_what_was_deleted_stays_deleted_when_its_mark_was_lost(tmp_path: Path) -> None:
    """A power loss takes back the mark in the extent; long after, the tombstone is forgotten.

    The clock was ahead when the fragment was written.
    """
    node = Node(tmp_path / "disk")
    node.clock.advance(3600)
    await node.put(1, os.urandom(BLOCK))
    node.clock.advance(-3600)
    found = node.disk.index.get(blob_id(1), 2)
    assert found is not None
    path = tmp_path / "disk" / "extents" / f"{found[0].extent:08d}.extent"
    before = path.read_bytes()
    await node.delete(1)
    await node.store.close()
    path.write_bytes(before)
    again = Node(tmp_path / "disk")
    assert again.disk.fragment_count == 0
    again.clock.advance(9 * 86_400)
    await again.disk.trim()
    assert again.disk.index.tombstone(blob_id(1), 2) is None
    await again.store.close()
    last = Node(tmp_path / "disk")
    assert last.disk.fragment_count == 0
    await last.store.close()


async def test_an_index_that_failed_in_the_background_is_rebuilt(tmp_path: Path) -> None:
    """Its engine says so again when it is closed; that must not end the rebuilding."""
    node = Node(tmp_path / "disk")
    data = {number: os.urandom(100) for number in range(120)}
    for number, content in data.items():
        await node.put(number, content)
    await node.store.close()
    await Node(tmp_path / "disk").store.close()  # opening writes the log into a table
    for path in (tmp_path / "disk" / "index").glob("*.sst"):
        table = bytearray(path.read_bytes())
        for at in range(100, len(table) // 2, 1000):
            table[at] ^= 0x10
        path.write_bytes(table)
    again = Node(tmp_path / "disk", rebuilds_later=True)
    assert again.disk.is_rebuilding
    with pytest.raises(Exception, match="Corruption"):
        for _ in range(8):  # until tables are merged
            again.disk.index.put_back({b"T%03d" % n: bytes(9) for n in range(100)})
            again.disk.index._database._database.flush()
    with pytest.raises(faults.Corrupt):  # not as a full disk, which its index would survive
        again.disk.index.put_back({b"T": bytes(9)})
    await rebuild(again.disk, again.clock)
    await assert_all(again, data)
    assert again.disk.fragment_count == len(data)
    await again.store.close()


async def test_lost_extents_do_not_harm_what_comes_after(tmp_path: Path) -> None:
    """Rows of fragments whose extent is gone are counted and deleted; new extents are others."""
    node, data = await filled(tmp_path / "disk")
    await node.store.close()
    for path in (tmp_path / "disk" / "extents").glob("*.extent"):
        path.unlink()
    again = Node(tmp_path / "disk")
    newer = {number: os.urandom(CELL) for number in range(500, 504)}
    for number, content in newer.items():
        await again.put(number, content)
    await again.delete(*data)
    await again.disk.drop_empty_extents()
    assert again.disk.fragment_count == len(newer)
    assert 0 < again.disk.used_bytes <= again.disk.extents.total_bytes
    await assert_all(again, newer)
    await again.store.close()


async def test_space_comes_back(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    for number in range(3000, 3040):
        await node.put(number, os.urandom(CELL))
    before = node.disk.extents.total_bytes
    await node.delete(*range(3000, 3040))
    kept = [number for number in data if number % 4 == 0]
    await node.delete(*[number for number in data if number % 4])
    for _ in range(20):
        await Compactor(node.disk, node.pool).run_once()
    assert node.disk.extents.total_bytes < before
    await assert_all(node, {number: data[number] for number in kept})
    await node.store.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"block_checksums": b"1234"},
        {"cell_index": 1},
        {"last": False},
        {"fragment_bytes": 0},
        {"disk_id": 9},
        {"blob_id": b"short"},
        {"identity": b"x" * 10_000},
    ],
)
async def test_wrong_cells_are_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    node = Node(tmp_path / "disk")
    request = storage_pb2.PutCell(
        blob_id=blob_id(1), index=0, disk_id=1, last=True, fragment_bytes=4, cell_bytes=4,
        block_bytes=BLOCK, block_checksums=crc32c_blocks(memoryview(b"data"), BLOCK),
    )  # fmt: skip
    for name, value in changed.items():
        setattr(request, name, value)
    with pytest.raises((faults.Invalid, faults.Corrupt, faults.NotFound)):
        await node.store.put_cell(request, b"data", None)
    assert node.disk.fragment_count == 0
    await node.store.close()


async def test_another_clusters_newer_disk_is_refused(tmp_path: Path) -> None:
    node = Node(tmp_path / "disk")
    await node.store.close()
    path = tmp_path / "disk" / "format.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 99'))
    with pytest.raises(faults.Invalid):
        Node(tmp_path / "disk")


@pytest.mark.parametrize("is_rebuilt_later", [False, True])
@pytest.mark.parametrize("loss", ["gone", "manifest", "log"])
async def test_a_lost_index_loses_no_deletion(
    tmp_path: Path, loss: str, is_rebuilt_later: bool
) -> None:
    """Not even of what never came, which no mark in an extent tells of; twice, and both ways."""
    folder, index = tmp_path / "disk", tmp_path / "disk" / "index"
    node, data = await filled(folder)
    deleted = [0, 5, 7, *range(900, 1150)]  # some with a fragment; more than a page of the log
    await node.delete(*deleted[:100])
    for number in deleted[100:]:
        await node.delete(number)
    await node.store.close()
    for _ in range(2):
        for broken in folder.glob("index.broken-*"):
            shutil.rmtree(broken)  # named by the clock, which begins anew
        if loss == "gone":
            shutil.rmtree(index)
        else:
            for path in index.glob("MANIFEST-*" if loss == "manifest" else "*.log"):
                path.unlink()
        again = Node(folder, rebuilds_later=is_rebuilt_later)
        again.clock.advance(1.0)
        if again.disk.is_rebuilding:
            await rebuild(again.disk, again.clock)
        assert again.disk.fragment_count == len(data) - 3
        for number in deleted:
            with pytest.raises(faults.Fenced):
                await again.put(number, b"late")
        await again.delete(2000 + len(deleted))
        deleted.append(2000 + len(deleted))
        await again.store.close()


async def test_a_disk_of_the_first_format_takes_its_deletions_over(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    node, _ = await filled(folder)
    await node.delete(3, *range(900, 2100))
    await node.store.close()
    shutil.rmtree(folder / "tombstones")
    path = folder / "format.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    await Node(folder).store.close()
    assert '"format": 2' in path.read_text()
    shutil.rmtree(folder / "index")
    again = Node(folder)
    for number in (3, 900, 2099):
        with pytest.raises(faults.Fenced):
            await again.put(number, b"late")
    await again.store.close()
