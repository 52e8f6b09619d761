"""What reading a row costs does not grow with its file: index and filter are read in pieces.

Method: a file whose index is larger than what the cache keeps in one piece, made by long keys. The
kernel counts the bytes that this process reads.
"""

import random
from pathlib import Path

import pytest

from common import faults
from common.limits import KIB, MIB
from common.rocks import RocksDatabase

ROWS, READS = 6000, 60
BYTES_PER_READ_MAX = 32 * KIB  # a block each of index, filter and rows, and some air


def read_bytes() -> int:
    """Bytes that were read by this process so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def test_a_row_is_read_without_the_whole_index(tmp_path: Path) -> None:
    database, chance = RocksDatabase(tmp_path / "rows", MIB, 4 * MIB), random.Random(1)
    # Two keys each that differ only at their end: what divides their blocks is as long as they.
    stems = [chance.randbytes(800) for _ in range(ROWS // 2)]
    keys = [stem + end for stem in stems for end in (b"1", b"2")]
    for begin in range(0, ROWS, 500):
        database.write({key: b"v" * 5 * KIB for key in keys[begin : begin + 500]})
    database._database.compact_range(None, None)
    for wanted in (keys, [key + b"absent" for key in keys]):
        database.get(wanted[0])
        before = read_bytes()
        for key in wanted[:: ROWS // READS]:
            database.get(key)
        per_read = (read_bytes() - before) / READS
        assert per_read < BYTES_PER_READ_MAX, f"{per_read:,.0f} bytes for a row"
    database.close()


def test_a_closed_database_is_not_a_damaged_one(tmp_path: Path) -> None:
    """Whoever closes it may do so in another thread, and a damaged index is built anew."""
    database = RocksDatabase(tmp_path / "rows")
    database.write({b"key": b"value"})
    database.close()
    with pytest.raises(faults.Unavailable):
        database.get(b"key")
    with pytest.raises(faults.Unavailable):
        database.scan(b"", b"z", 1)
