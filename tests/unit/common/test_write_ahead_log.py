"""A log's torn end is cut off, damage in what was synced is not.

Method: a real database's log, torn where only the last write can be, and flipped elsewhere.
"""

import shutil
from pathlib import Path
from random import Random

import pytest

from common import faults
from common.rocks import RocksDatabase
from common.write_ahead_log import cut_torn_end

VALUE_BYTES = 9000
ENOUGH = b"\xff"


def written(folder: Path, synced: int, unsynced: int) -> Path:
    """A database as a power loss may leave it: its log."""
    database = RocksDatabase(folder.with_name("alive"))
    for number in range(synced + unsynced):
        database.write({b"%d" % number: Random(number).randbytes(VALUE_BYTES)})
        if number < synced:
            database.sync_blocking()
    shutil.copytree(folder.with_name("alive"), folder)
    database.close()
    (log,) = folder.glob("*.log")
    return log


def flip(log: Path, offset: int) -> None:
    data = bytearray(log.read_bytes())
    data[offset] ^= 1
    log.write_bytes(data)


def keys(folder: Path) -> list[bytes]:
    database = RocksDatabase(folder)
    found = [key for key, _ in database.scan(b"", ENOUGH, 100)]
    database.close()
    return found


@pytest.mark.parametrize("unsynced", [1, 3])
def test_a_write_that_arrived_in_part_is_cut_off(tmp_path: Path, unsynced: int) -> None:
    log = written(tmp_path / "rows", 3, unsynced)
    size = log.stat().st_size
    flip(log, size - (unsynced - 1) * VALUE_BYTES - VALUE_BYTES // 2)
    assert keys(tmp_path / "rows") == [b"0", b"1", b"2"]
    assert list((tmp_path / "rows").glob("*.cut-*")), "kept for those who look into it"


def test_zeros_in_place_of_the_last_write_are_cut_off(tmp_path: Path) -> None:
    log = written(tmp_path / "rows", 4, 1)
    data = log.read_bytes()
    log.write_bytes(data[:-VALUE_BYTES] + bytes(VALUE_BYTES))
    assert keys(tmp_path / "rows") == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("place", [100, VALUE_BYTES, 2 * VALUE_BYTES + 50, 3 * VALUE_BYTES])
def test_damage_in_what_was_synced_is_an_error(tmp_path: Path, place: int) -> None:
    log = written(tmp_path / "rows", 4, 1)
    flip(log, place)
    before = log.read_bytes()
    with pytest.raises(faults.Corrupt):
        RocksDatabase(tmp_path / "rows")
    assert log.read_bytes() == before


def test_damage_in_the_last_synced_write_is_an_error(tmp_path: Path) -> None:
    log = written(tmp_path / "rows", 4, 0)
    flip(log, log.stat().st_size - VALUE_BYTES // 2)
    with pytest.raises(faults.Corrupt):
        RocksDatabase(tmp_path / "rows")


def test_a_whole_log_is_left_alone(tmp_path: Path) -> None:
    log = written(tmp_path / "rows", 3, 2)
    before = log.read_bytes()
    assert not cut_torn_end(tmp_path / "rows")
    assert not cut_torn_end(tmp_path / "nothing")
    assert log.read_bytes() == before
