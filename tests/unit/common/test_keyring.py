"""The key ring keeps its keys to its owner, opens what it wrapped, and says why it cannot."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common import faults
from common.keyring import (
    KEY_ID_BYTES,
    NONCE_BYTES,
    KeyRing,
    KeyState,
    change_file,
    write_private,
)

CONTEXT = b"test"
SECRET = b"s" * 32


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "keyring.json"
    KeyRing.make().save(path)
    return path


def test_a_saved_ring_opens_what_it_wrapped(tmp_path: Path) -> None:
    ring, path = KeyRing.make(), tmp_path / "keyring.json"
    wrapped = ring.wrap(SECRET, CONTEXT)
    ring.save(path)
    assert KeyRing.load(path).unwrap(wrapped, CONTEXT) == SECRET


def test_only_the_owner_can_read_it_whatever_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    for name in ("keyring.json", "keyring.json.new"):
        (tmp_path / name).write_text("left behind")
        (tmp_path / name).chmod(0o666)
    KeyRing.make().save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["keyring.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_can_read_is_refused(saved: Path, mode: int) -> None:
    saved.chmod(mode)
    with pytest.raises(faults.Invalid, match="600"):
        KeyRing.load(saved)


def test_a_failed_write_leaves_the_old_ring(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fail(_descriptor: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        KeyRing.make().save(saved)
    assert saved.read_bytes() == before


def test_rotation_wraps_with_a_new_key_and_opens_with_the_old(tmp_path: Path) -> None:
    ring = KeyRing.make()
    old = ring.wrap(SECRET, CONTEXT)
    ring.rotate()
    new = ring.wrap(SECRET, CONTEXT)
    assert old[:KEY_ID_BYTES] != new[:KEY_ID_BYTES]
    ring.save(tmp_path / "keyring.json")
    loaded = KeyRing.load(tmp_path / "keyring.json")
    assert [loaded.unwrap(wrapped, CONTEXT) for wrapped in (old, new)] == [SECRET, SECRET]
    assert loaded.wrap(SECRET, CONTEXT)[:KEY_ID_BYTES] == new[:KEY_ID_BYTES]


def test_an_unknown_master_key_is_named() -> None:
    wrapped = KeyRing.make().wrap(SECRET, CONTEXT)
    with pytest.raises(faults.NotFound, match=wrapped[:KEY_ID_BYTES].hex()):
        KeyRing.make().unwrap(wrapped, CONTEXT)


@pytest.mark.parametrize("place", [KEY_ID_BYTES, KEY_ID_BYTES + NONCE_BYTES, -1])
def test_changed_wrapping_is_corrupt(place: int) -> None:
    ring = KeyRing.make()
    wrapped = bytearray(ring.wrap(SECRET, CONTEXT))
    wrapped[place] ^= 1
    with pytest.raises(faults.Corrupt):
        ring.unwrap(bytes(wrapped), CONTEXT)


def test_cut_wrapping_and_another_context_are_refused() -> None:
    ring = KeyRing.make()
    wrapped = ring.wrap(SECRET, CONTEXT)
    for size in range(len(wrapped)):
        with pytest.raises((faults.Corrupt, faults.NotFound)):
            ring.unwrap(wrapped[:size], CONTEXT)
    with pytest.raises(faults.Corrupt):
        ring.unwrap(wrapped, b"other")


def test_equal_secrets_are_wrapped_differently() -> None:
    ring = KeyRing.make()
    assert ring.wrap(SECRET, CONTEXT) != ring.wrap(SECRET, CONTEXT)


def test_keys_are_never_shown(saved: Path) -> None:
    key = json.loads(saved.read_text())["keys"][0]["key"]
    ring = KeyRing.load(saved)
    assert key not in repr(ring)
    assert key not in str(ring)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"active": "00000000"},
        {"active": "zz"},
        {"keys": []},
        {"keys": [{"id": "00000001", "key": "AAAA"}], "active": "00000001"},
        {"keys": [{"id": "00000001", "key": "!" * 44}], "active": "00000001"},
        {"keys": [{"id": "00000001"}]},
        {"keys": None},
        {"keys": 7},
    ],
)
def test_a_damaged_ring_is_refused_in_words(saved: Path, change: dict[str, object]) -> None:
    write_private(saved, json.dumps(json.loads(saved.read_text()) | change).encode())
    with pytest.raises(faults.Invalid, match="key ring"):
        KeyRing.load(saved)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"7", b"\xff\xfe\xfd"])
def test_what_is_no_ring_is_refused_in_words(tmp_path: Path, text: bytes) -> None:
    write_private(tmp_path / "keyring.json", text)
    with pytest.raises(faults.Invalid, match="key ring"):
        KeyRing.load(tmp_path / "keyring.json")


def test_a_missing_ring_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(faults.Invalid, match="No such file"):
        KeyRing.load(tmp_path / "keyring.json")


def rotate_file(path: Path) -> str:
    return change_file(path, lambda ring: None if ring.rotate() else None).active_id


def test_rotation_is_on_disk_and_old_secrets_stay_readable(saved: Path) -> None:
    before = KeyRing.load(saved)
    old = before.wrap(SECRET, CONTEXT)
    active = rotate_file(saved)
    after = KeyRing.load(saved)
    assert (after.active_id, before.active_id == active) == (active, False)
    assert saved.stat().st_mode & 0o777 == 0o600
    assert after.unwrap(old, CONTEXT) == SECRET
    assert after.wrap(SECRET, CONTEXT)[:KEY_ID_BYTES].hex() == active


def test_running_process_learns_a_key_when_it_meets_it(saved: Path) -> None:
    running = KeyRing.load(saved)
    active = rotate_file(saved)
    new = KeyRing.load(saved).wrap(SECRET, CONTEXT)
    assert running.unwrap(new, CONTEXT) == SECRET
    assert running.active_id == active


def test_ring_on_disk_that_lost_a_key_teaches_nothing(saved: Path) -> None:
    running = KeyRing.load(saved)
    old = running.wrap(SECRET, CONTEXT)
    other = KeyRing.make()
    other.save(saved)
    with pytest.raises(faults.NotFound):
        running.unwrap(other.wrap(SECRET, CONTEXT), CONTEXT)
    assert running.unwrap(old, CONTEXT) == SECRET


def test_running_process_takes_a_changed_file_up(saved: Path) -> None:
    running = KeyRing.load(saved)
    assert not running.refresh()
    active = rotate_file(saved)
    assert running.refresh()
    assert running.active_id == active
    assert not running.refresh()


@pytest.mark.parametrize("text", [b"", b"{}", b'{"format": 1, "keys": []}'])
def test_a_ring_spoiled_on_disk_teaches_nothing(saved: Path, text: bytes) -> None:
    running = KeyRing.load(saved)
    before = running.active_id
    saved.write_bytes(text)
    assert not running.refresh()
    saved.unlink()
    assert not running.refresh()
    assert running.active_id == before


def test_a_prepared_key_wraps_nothing_until_the_rotation(saved: Path) -> None:
    before = KeyRing.load(saved)
    ring = change_file(saved, lambda ring: None if ring.prepare() else None)
    assert ring.active_id == before.active_id
    assert list(ring.states().values()) == [KeyState.ACTIVE, KeyState.PREPARED]
    prepared = list(ring.states())[1]
    assert rotate_file(saved) == prepared
    after = KeyRing.load(saved)
    assert after.states() == {before.active_id: KeyState.OLD, prepared: KeyState.ACTIVE}
    assert before.refresh()


def test_the_life_of_a_key(saved: Path) -> None:
    running = KeyRing.load(saved)
    first, wrapped = running.active_id, running.wrap(SECRET, CONTEXT)
    with pytest.raises(faults.Invalid, match="is active, not old"):
        change_file(saved, lambda ring: ring.retire(first))
    rotate_file(saved)
    with pytest.raises(faults.Invalid, match="is old, not retired"):
        change_file(saved, lambda ring: ring.destroy(first))
    change_file(saved, lambda ring: ring.retire(first))
    retired = KeyRing.load(saved)
    assert retired.states()[first] is KeyState.RETIRED
    assert retired.unwrap(wrapped, CONTEXT) == SECRET
    change_file(saved, lambda ring: ring.destroy(first))
    assert first not in KeyRing.load(saved).states()
    assert running.refresh()
    assert running.is_destroyed(wrapped)
    with pytest.raises(faults.NotFound):
        running.unwrap(wrapped, CONTEXT)
    with pytest.raises(faults.NotFound):
        change_file(saved, lambda ring: ring.retire(first))


def test_a_key_that_vanished_without_being_destroyed_is_not_forgotten(saved: Path) -> None:
    backup = saved.read_bytes()
    rotate_file(saved)
    running = KeyRing.load(saved)
    write_private(saved, backup)
    assert not running.refresh()
    assert len(running.states()) == 2


def test_what_an_old_key_wrapped_is_wrapped_anew(saved: Path) -> None:
    ring = KeyRing.load(saved)
    wrapped = ring.wrap(SECRET, CONTEXT)
    assert ring.is_current(wrapped)
    ring.rotate()
    assert not ring.is_current(wrapped)
    anew = ring.rewrap(wrapped, CONTEXT)
    assert ring.is_current(anew)
    assert ring.unwrap(anew, CONTEXT) == SECRET


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_change_that_dies_anywhere_loses_no_key(
    saved: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = KeyRing.load(saved).states()

    class Died(Exception):
        pass

    def die(*_arguments: object, **_options: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        if step == "replace":
            patched.setattr(Path, "replace", die)
        else:
            real = getattr(os, step)
            made = str(saved.with_name(saved.name + ".new"))
            patched.setattr(
                os,
                step,
                lambda *a, **o: die() if step == "fsync" or str(a[0]) == made else real(*a, **o),
            )
        with pytest.raises(Died):
            rotate_file(saved)
    assert KeyRing.load(saved).states() == before
    rotate_file(saved)
    assert list(KeyRing.load(saved).states().values()) == [KeyState.OLD, KeyState.ACTIVE]


def test_changes_at_the_same_time_all_count(saved: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        active = set(pool.map(lambda _: rotate_file(saved), range(16)))
    assert len(active) == 16
    assert active < set(KeyRing.load(saved).states())
