"""The load's own account of what every object must hold."""

from random import Random

import pytest

from benchmarks.faults.contents import Filler, Slot


@pytest.fixture
def filler() -> Filler:
    return Filler(1000, Random(1))


def test_a_content_names_its_write(filler: Filler) -> None:
    for slot, write in ((0, 1), (7, 2), (511, 99)):
        content = bytearray(filler.make(slot, write))
        assert len(content) == 1000
        assert filler.read(content, slot) == write


def test_another_slots_content_is_wrong(filler: Filler) -> None:
    assert filler.read(bytearray(filler.make(3, 1)), 4) == -1


def test_every_flipped_byte_is_noticed(filler: Filler) -> None:
    good = filler.make(3, 1)
    for at in range(len(good)):
        content = bytearray(good)
        content[at] ^= 0x40
        assert filler.read(content, 3) != 1


def test_contents_of_two_writes_differ(filler: Filler) -> None:
    assert filler.make(3, 1)[24:] != filler.make(3, 2)[24:]


def test_tiny_objects_are_stamps(filler: Filler) -> None:
    tiny = Filler(1, Random(1))
    assert tiny.read(bytearray(tiny.make(1, 5)), 1) == 5


def test_an_acknowledged_write_is_the_only_right_one() -> None:
    slot = Slot(1)
    assert slot.may_be_absent
    slot.acknowledge(slot.begin_write())
    slot.acknowledge(slot.begin_write())
    assert slot.acceptable == {2}
    assert not slot.may_be_absent


def test_a_write_in_doubt_leaves_both_and_a_new_key() -> None:
    slot = Slot(1)
    slot.acknowledge(slot.begin_write())
    before = slot.key("load")
    slot.doubt(slot.begin_write())
    old = slot.retire()
    assert old.key("load") == before != slot.key("load")
    assert old.acceptable == {1, 2}
    assert not old.may_be_absent
    assert slot.acceptable == set()
    assert slot.may_be_absent
    assert slot.begin_write() == 3, "numbers go on: contents never repeat"


def test_a_new_key_in_doubt_may_be_absent() -> None:
    slot = Slot(1)
    slot.doubt(slot.begin_write())
    assert slot.retire().may_be_absent
