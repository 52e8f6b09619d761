"""Reads that wait for no disk give the same bytes, or say that they cannot.

Method: a real file, read right after it was read the waiting way, so that it is cached.
"""

import os
from pathlib import Path

import pytest

from storagenode.store.files import PAGE, SystemExtentFile, SystemFiles

PAGES = 16


@pytest.fixture
def extent(tmp_path: Path) -> SystemExtentFile:
    file = SystemFiles().create(tmp_path / "1.extent", PAGES * PAGE)
    assert isinstance(file, SystemExtentFile)
    (tmp_path / "1.extent").write_bytes(os.urandom(PAGES * PAGE))
    return file


@pytest.mark.parametrize(("offset", "size"), [(0, PAGES * PAGE), (5, 7), (PAGE - 1, 2 * PAGE)])
def test_what_is_cached_is_read_at_once(extent: SystemExtentFile, offset: int, size: int) -> None:
    waited, at_once = memoryview(bytearray(size)), memoryview(bytearray(size))
    extent.read(offset, waited)
    if extent.read_now(offset, at_once):  # not every file system can tell
        assert at_once == waited
    extent.close()


def test_beyond_the_end_is_no_read(extent: SystemExtentFile) -> None:
    assert not extent.read_now((PAGES - 1) * PAGE, memoryview(bytearray(2 * PAGE)))
    extent.close()


def test_a_failure_is_left_to_the_read_that_waits(extent: SystemExtentFile) -> None:
    extent.close()
    with pytest.raises(OSError, match="Bad file"):
        extent.read(0, memoryview(bytearray(PAGE)))
    assert not extent.read_now(0, memoryview(bytearray(PAGE)))
