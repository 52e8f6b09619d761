"""What may be left of a few recorded operations: the model itself.

Method: hand-written recordings; all choices of what is kept, compared with what POSIX promises.
"""

import os
from pathlib import Path
from random import Random

from tests.powerloss.explore import choices
from tests.powerloss.medium import KEPT, ZEROS, Medium
from tests.powerloss.recorder import Kind, Operation

ROOT = Path("/disk")
FOLDER, FILE = 3, 4
CREATE = Operation(Kind.OPEN, FILE, os.O_CREAT | os.O_RDWR, 0, b"/disk/new")
OPEN_FOLDER = Operation(Kind.OPEN, FOLDER, 0, 1, b"/disk")
SYNC_FILE = Operation(Kind.SYNC, FILE, 0, 0, b"")
SYNC_FOLDER = Operation(Kind.SYNC, FOLDER, 0, 0, b"")
RENAME = Operation(Kind.RENAME, 0, 0, 0, b"/disk/new\0/disk/old")


def write(offset: int, data: bytes) -> Operation:
    return Operation(Kind.WRITE, FILE, offset, 0, data)


def left(*operations: Operation, **image: bytes) -> set[tuple[tuple[str, bytes], ...]]:
    """All that may be found after these."""
    medium = Medium(ROOT, image)
    for number, operation in enumerate(operations):
        medium.play(number, operation)
    found = choices(medium.pending, Random(1))
    return {tuple(sorted(medium.image(fates).items())) for fates in found}


def test_a_new_file_may_be_missing_until_its_folder_is_synced() -> None:
    assert () in left(OPEN_FOLDER, CREATE, write(0, b"data"), SYNC_FILE)
    assert left(OPEN_FOLDER, CREATE, write(0, b"data"), SYNC_FILE, SYNC_FOLDER) == {
        (("new", b"data"),)
    }


def test_a_name_may_come_without_its_bytes() -> None:
    states = left(OPEN_FOLDER, CREATE, SYNC_FOLDER, write(0, b"data"))
    assert states >= {(("new", b""),), (("new", b"data"),), (("new", bytes(4)),)}


def test_writes_arrive_in_any_order() -> None:
    states = left(OPEN_FOLDER, CREATE, SYNC_FOLDER, write(0, b"aa"), write(2, b"bb"))
    assert (("new", b"\0\0bb"),) in states
    assert (("new", b"aa"),) in states


def test_a_durable_write_is_there_and_says_nothing_of_others() -> None:
    durable = Operation(Kind.SYNC, FILE, 2, 2, b"")
    states = left(OPEN_FOLDER, CREATE, SYNC_FOLDER, write(0, b"aa"), write(2, b"bb"), durable)
    assert states >= {(("new", b"\0\0bb"),), (("new", b"aabb"),)}
    assert all(dict(state)["new"][2:] == b"bb" for state in states)


def test_a_rename_is_old_or_new() -> None:
    states = left(OPEN_FOLDER, CREATE, write(0, b"2"), SYNC_FILE, SYNC_FOLDER, RENAME, old=b"1")
    assert states == {(("new", b"2"), ("old", b"1")), (("old", b"2"),)}


def test_an_unsynced_file_may_be_empty_under_its_new_name() -> None:
    assert (("old", b""),) in left(OPEN_FOLDER, CREATE, write(0, b"2"), RENAME, old=b"1")


def test_a_large_write_is_torn() -> None:
    data = Random(2).randbytes(8192)
    states = left(OPEN_FOLDER, CREATE, SYNC_FOLDER, write(0, data))
    contents = {dict(state)["new"] for state in states}
    assert len(contents - {b"", data, bytes(8192)}) > 0
    medium = Medium(ROOT, {"new": b""})
    medium.play(0, Operation(Kind.OPEN, FILE, 0, 1, b"/disk/new"))
    medium.play(1, write(0, data))
    assert medium.image({1: KEPT}) == {"new": data}
    assert medium.image({1: ZEROS}) == {"new": bytes(8192)}
