"""Every class of damage is found by verifying and by the scrub, and lost rows are put back.

Method: real disks with small extents; bytes flipped, zeroed, swapped, cut in the extents' files.
"""

import errno
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from common import fault_points, faults
from common.clock import ManualClock
from common.limits import MIB
from common.rocks import RocksDatabase
from proto import scrub_pb2, storage_pb2
from storagenode.store.disk import Disk
from storagenode.store.files import ExtentFile, SystemFiles
from storagenode.store.index import FRAGMENT, row_key
from storagenode.store.rebuild import rebuild
from storagenode.store.record import Record
from storagenode.store.scrub import Scrubber, ScrubSettings
from tests.contract.test_fragment_store import CELL, Node, assert_all, blob_id, filled

SETTINGS = ScrubSettings(14 * 86_400.0, 64 * MIB, 64 * MIB, 0.0)
# Blobs of `filled` by shape: one packed page, a packed fragment, one cell, several cells.
SHAPES = {"tiny": 0, "packed": 1, "cell": 4, "cells": 6}


def scrubber_of(node: Node) -> Scrubber:
    return Scrubber(node.disk, SystemFiles(), node.clock, SETTINGS)


async def scrub_pass(scrubber: Scrubber) -> None:
    number = scrubber.progress.pass_number
    for _ in range(1000):
        if scrubber.progress.pass_number != number:
            return
        await scrubber.step()
    raise AssertionError("the pass does not end")


def record_of(disk: Disk, blob: int) -> Record:
    found = disk.lookup(blob_id(blob), 2)
    assert found is not None
    return found[0]


def damage(disk: Disk, record: Record, change: Callable[[bytearray], None]) -> None:
    """Change a record's bytes in its extent's file."""
    path = disk.extents.by_number[record.extent].path
    with path.open("r+b") as file:
        file.seek(record.offset)
        data = bytearray(file.read(record.record_bytes))
        change(data)
        file.seek(record.offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def places(record: Record) -> dict[str, tuple[int, str]]:
    """A byte of each class in a record, and what its flip is called."""
    return {
        "magic": (0, "bad_header"),
        "version": (8, "bad_header"),
        "blob id": (14, "bad_header"),
        "identity": (93, "bad_header"),
        "first byte": (record.cell_offset(0) - record.offset, "bad_block"),
        "last byte": (
            record.cell_offset(record.cell_count - 1) - record.offset
            + record.cell_size(record.cell_count - 1) - 1,
            "bad_block",
        ),
        "trailer": (record.trailer_offset, "bad_trailer"),
        "table": (record.trailer_offset + 32, "bad_trailer"),
    }  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "place",
    ["magic", "version", "blob id", "identity", "first byte", "last byte", "trailer", "table"],
)
async def test_a_flipped_byte_of_each_class_is_found(
    tmp_path: Path, shape: str, place: str
) -> None:
    node, data = await filled(tmp_path / "disk")
    record = record_of(node.disk, SHAPES[shape])
    at, expected = places(record)[place]

    def flip(raw: bytearray) -> None:
        raw[at] ^= 1

    damage(node.disk, record, flip)
    reply = await node.store.verify(
        scrub_pb2.VerifyFragments(
            fragments=[
                storage_pb2.FragmentId(blob_id=blob_id(blob), index=2, disk_id=1) for blob in data
            ][:21]
        )
    )
    found = {blob: v.fault for blob, v in zip(data, reply.verdicts, strict=False) if v.fault}
    assert found == {SHAPES[shape]: expected}
    await scrub_pass(scrubber_of(node))
    assert node.disk.damaged == {(record.blob_id, 2): expected}
    assert set(node.disk.reports) == {(record.blob_id, 2, expected)}
    await node.store.close()


@pytest.mark.parametrize("what", ["zeroed", "torn", "misdirected"])
async def test_whole_records_gone_wrong_are_found(tmp_path: Path, what: str) -> None:
    node, _ = await filled(tmp_path / "disk")
    record, other = record_of(node.disk, 3), record_of(node.disk, 10)
    assert record.record_bytes == other.record_bytes
    pieces: list[bytes] = []
    damage(node.disk, other, lambda raw: pieces.append(bytes(raw)))

    def change(raw: bytearray) -> None:
        if what == "zeroed":
            raw[:] = bytes(len(raw))
        elif what == "torn":
            raw[4096:] = bytes(len(raw) - 4096)
        else:  # a write that went to the wrong place
            raw[:] = pieces[0]

    damage(node.disk, record, change)
    await scrub_pass(scrubber_of(node))
    assert set(node.disk.damaged) == {(record.blob_id, 2)}
    await node.store.close()


@pytest.mark.parametrize("what", ["removed", "empty", "cut"])
async def test_a_lost_extent_is_found(tmp_path: Path, what: str) -> None:
    node, data = await filled(tmp_path / "disk")
    await node.store.close()
    path = sorted((tmp_path / "disk" / "extents").glob("*.extent"))[0]
    if what == "removed":
        path.unlink()
    else:
        os.truncate(path, 0 if what == "empty" else 4096 * 100)
    again = Node(tmp_path / "disk")
    await scrub_pass(scrubber_of(again))
    lost = {blob for blob in data if (blob_id(blob), 2) in again.disk.damaged}
    assert lost
    await assert_all(again, {blob: raw for blob, raw in data.items() if blob not in lost})
    for blob in lost:
        with pytest.raises(faults.Fault):
            await again.get(blob, len(data[blob]))
    await again.store.close()


async def test_a_whole_disk_has_nothing_to_report(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    await node.delete(0, 5, 7)
    scrubber = scrubber_of(node)
    for _ in range(2):
        await scrub_pass(scrubber)
    assert not node.disk.damaged and not node.disk.reports
    assert node.disk.fragment_count == len(data) - 3
    assert scrubber.progress.finished_ns
    await node.store.close()


async def test_a_lost_row_is_put_back_and_a_deleted_one_is_not(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    await node.delete(8)
    closed = [
        blob
        for blob in data
        if blob != 8 and node.disk.extents.by_number[record_of(node.disk, blob).extent].is_closed
    ]
    await node.store.close()
    database = RocksDatabase(tmp_path / "disk" / "index")
    database.write({}, [FRAGMENT + row_key(blob_id(blob), 2) for blob in closed[:3]])
    database.close()
    again = Node(tmp_path / "disk")
    assert again.disk.fragment_count == len(data) - 4
    await scrub_pass(scrubber_of(again))
    assert again.disk.fragment_count == len(data) - 1
    del data[8]
    await assert_all(again, data)
    await again.store.close()


async def test_deleting_or_writing_anew_ends_the_damage(tmp_path: Path) -> None:
    node, _ = await filled(tmp_path / "disk")
    node.disk.note_damage(blob_id(4), 2, "bad_block")
    await node.delete(4)
    assert not node.disk.damaged
    await node.store.close()


async def test_the_place_of_a_pass_survives(tmp_path: Path) -> None:
    node, _ = await filled(tmp_path / "disk")
    slow = ScrubSettings(14 * 86_400.0, 200_000, 64 * MIB, 0.0)
    scrubber = Scrubber(node.disk, SystemFiles(), node.clock, slow)
    node.disk.counters.bytes_written = 0
    for _ in range(3):
        await scrubber.step()
    await scrubber.save()
    assert scrubber.progress.after
    again = Scrubber(node.disk, SystemFiles(), node.clock, slow)
    assert again.progress == scrubber.progress
    path = tmp_path / "disk" / "scrub.json"
    for text in ("{", "[]", json.dumps({"format": 99}), json.dumps({"format": 1, "x": 2})):
        path.write_text(text if text != "[]" else "{}")
        assert Scrubber(node.disk, SystemFiles(), node.clock, slow).progress.after == ""
    await node.store.close()


async def test_a_pass_that_ends_in_its_middle_finds_everything_in_the_next_life(
    tmp_path: Path,
) -> None:
    """The process ends after fragments were verified and before anybody noted how far."""
    node, _ = await filled(tmp_path / "disk")
    record = record_of(node.disk, SHAPES["cells"])

    def flip(raw: bytearray) -> None:
        raw[record.cell_offset(0) - record.offset] ^= 1

    damage(node.disk, record, flip)
    first = scrubber_of(node)
    fault_points.arm("scrub.after_verify=raise+")
    try:
        with pytest.raises(faults.Unavailable):
            await scrub_pass(first)
        await first.save()
    finally:
        fault_points.disarm()
    node.disk.damaged.clear()  # what only the memory of that life knew
    node.disk.reports.clear()
    await scrub_pass(scrubber_of(node))
    assert node.disk.damaged == {(record.blob_id, 2): "bad_block"}
    await node.store.close()


async def test_a_damaged_index_is_rebuilt_while_the_node_says_so(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    await node.delete(2)
    del data[2]
    index = node.disk.index

    class Damaged:
        def get(self, blob: bytes, number: int) -> None:
            raise faults.Corrupt("database")

        def __getattr__(self, name: str) -> object:
            return getattr(index, name)

    node.disk.index = Damaged()  # type: ignore[assignment]
    with pytest.raises(faults.Unavailable):
        await node.get(1, 10)
    assert (node.disk.condition, node.disk.state) == ("rebuilding", "read_only")
    with pytest.raises(faults.Unavailable):
        await node.put(500, b"new")
    with pytest.raises(faults.Unavailable):
        node.store.list(storage_pb2.ListFragments(disk_id=1))
    assert await node.disk.drop_empty_extents() == 0
    assert await rebuild(node.disk, ManualClock()) == len(data)
    assert (node.disk.condition, node.disk.fragment_count) == ("", len(data))
    await assert_all(node, data)
    with pytest.raises(faults.NotFound):
        await node.get(2, 10)
    with pytest.raises(faults.Fenced):
        await node.put(2, b"x" * CELL)
    await node.put(500, b"new")
    await node.store.close()
    again = Node(tmp_path / "disk")
    await assert_all(again, data)
    await again.store.close()


async def test_a_slow_disk_takes_nothing_new_and_a_hung_one_is_failed(tmp_path: Path) -> None:
    node, _ = await filled(tmp_path / "disk")
    health = node.disk.health
    with health.call():
        health.tick()
        health.tick()
        with pytest.raises(faults.Unavailable):
            await node.delete(1)
        for _ in range(5):
            health.tick()
        assert (node.disk.condition, node.disk.state) == ("slow", "read_only")
        with pytest.raises(faults.Unavailable):
            await node.put(500, b"new")
        for _ in range(10):
            health.tick()
        assert (node.disk.condition, node.disk.state) == ("hung", "failed")
    assert (node.disk.condition, node.disk.state) == ("", "up")
    await node.put(500, b"new")
    await node.store.close()


class FailingFile:
    """An extent's file whose calls fail when told to."""

    def __init__(self, file: ExtentFile, failing: set[str]) -> None:
        self._file, self._failing = file, failing
        self.is_direct, self.size_bytes = file.is_direct, file.size_bytes

    def read_now(self, offset: int, into: memoryview) -> bool:
        return False

    def write_durable(self, pieces: Sequence[memoryview], offset: int) -> None:
        if self._failing & {"write", "sync"}:
            raise OSError(errno.EIO, "injected")
        self._file.write_durable(pieces, offset)

    def __getattr__(self, name: str) -> object:
        if name in self._failing:
            raise OSError(errno.EIO, "injected")
        return getattr(self._file, name)


async def test_a_read_error_is_an_erasure_and_told(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    failing = {"read", "read_medium"}
    for extent in node.disk.extents.by_number.values():
        extent.file = FailingFile(extent.file, failing)  # type: ignore[assignment]
    with pytest.raises(faults.Fault):
        await node.get(4, CELL)
    assert node.disk.damaged == {(blob_id(4), 2): "unreadable"}
    assert (node.disk.health.read_errors, node.disk.condition) == (1, "")
    failing.clear()
    await assert_all(node, data)
    await node.store.close()


@pytest.mark.parametrize("call", ["write", "sync"])
async def test_a_failed_write_or_sync_is_for_ever(tmp_path: Path, call: str) -> None:
    node, data = await filled(tmp_path / "disk")
    active = node.disk.extents.active
    assert active is not None
    failing = {call}
    active.file = FailingFile(active.file, failing)  # type: ignore[assignment]
    with pytest.raises(faults.Unavailable):
        await node.put(600, b"never acknowledged")
    failing.clear()
    with pytest.raises(faults.Unavailable):
        await node.put(601, b"nor this")
    assert (node.disk.condition, node.disk.state) == ("failed", "failed")
    assert node.disk.health.write_errors == 1
    await assert_all(node, data)
    await node.store.close()
    again = Node(tmp_path / "disk")
    with pytest.raises(faults.NotFound):
        await again.get(601, 1)
    await assert_all(again, data)
    await again.put(602, b"well again")
    await again.store.close()


async def test_an_index_that_cannot_be_written_fails_its_disk(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    index = node.disk.index

    class Full:
        def put_all(self, rows: list[tuple[Record, bytes]]) -> None:
            raise faults.Unavailable("write failed: no space left on device")

        def __getattr__(self, name: str) -> object:
            return getattr(index, name)

    node.disk.index = Full()  # type: ignore[assignment]
    with pytest.raises(faults.Unavailable):
        await node.put(600, b"never acknowledged")
    assert (node.disk.condition, node.disk.state) == ("failed", "failed")
    assert all(extent.open_writes == 0 for extent in node.disk.extents.by_number.values())
    node.disk.index = index
    await assert_all(node, data)
    await node.store.close()


async def test_a_full_disk_takes_nothing_deletes_and_recovers(tmp_path: Path) -> None:
    node, data = await filled(tmp_path / "disk")
    files = node.disk._files
    space = files.space
    files.space = lambda folder: (1 << 40, 0)  # type: ignore[method-assign]
    with pytest.raises(faults.Full):
        for number in range(700, 760):
            await node.put(number, os.urandom(3 * CELL))
            data[number] = b""
    assert (node.disk.condition, node.disk.state) == ("full", "read_only")
    await node.delete(*[number for number in data if number >= 700], 0, 4)
    data = {number: raw for number, raw in data.items() if number < 700 and number not in (0, 4)}
    await assert_all(node, data)
    files.space = space  # type: ignore[method-assign]
    await node.put(800, os.urandom(3 * CELL))
    assert (node.disk.condition, node.disk.state) == ("", "up")
    await assert_all(node, data)
    await node.store.close()
