"""A cluster's folder: whose it is, of which format, whether it can be used, and who holds it."""

import json
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.folder import ClusterFolder
from common import faults
from common.limits import GIB


@pytest.fixture
def folder(tmp_path: Path) -> ClusterFolder:
    made = ClusterFolder(tmp_path / "cluster")
    made.prepare()
    return made


def test_identity_comes_back(folder: ClusterFolder) -> None:
    identity = folder.create(6, "eu-west-7", ["s3.example.com"])
    identity.ports["node-1"] = 10_300
    folder.save(identity)
    assert folder.load() == identity


def test_secrets_are_the_owners(folder: ClusterFolder) -> None:
    folder.create(1, "us-east-1", [])
    for path in (folder.keyring_file, folder.secret_file, folder.path / "cluster.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_clusters_differ(tmp_path: Path) -> None:
    folders = [ClusterFolder(tmp_path / name) for name in "ab"]
    for each in folders:
        each.prepare()
    first, second = [each.create(1, "us-east-1", []) for each in folders]
    assert first.cluster_id != second.cluster_id
    assert folders[0].secret_file.read_bytes() != folders[1].secret_file.read_bytes()


def test_absent_cluster_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(faults.NotFound):
        ClusterFolder(tmp_path / "absent").load()
    (tmp_path / "file").write_text("")
    with pytest.raises(faults.NotFound):
        ClusterFolder(tmp_path / "file").load()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ('{"format": 2}', "newer"),
        ('{"format": "1"}', "no cluster"),
        ('{"format": 1}', "no cluster"),
        ('{"format": 1, "colour": "red"}', "no cluster"),
        ("[]", "no cluster"),
        ("{", "no cluster"),
        ("", "no cluster"),
    ],
)
def test_identity_of_others_is_refused(folder: ClusterFolder, document: str, reason: str) -> None:
    (folder.path / "cluster.json").write_text(document)
    with pytest.raises(faults.Invalid, match=reason):
        folder.load()


@pytest.mark.parametrize("name", ["photo.jpg", "meta", "zone-1"])
def test_folder_with_other_files_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(faults.Invalid, match="holds other files"):
        ClusterFolder(tmp_path).prepare()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_what_a_cut_start_left_is_no_obstacle(tmp_path: Path) -> None:
    for name in ("keyring.json.new", "keyring.json", "lost+found"):
        (tmp_path / name).write_text("")
    ClusterFolder(tmp_path).prepare()


@pytest.mark.parametrize("parent", ["/dev/null/cluster", "/proc/cluster", "/sys/cluster"])
def test_folder_that_cannot_be_written_is_refused(parent: str) -> None:
    with pytest.raises(faults.Invalid) as refused:
        ClusterFolder(Path(parent)).prepare()
    assert refused.value.field == "directory" and refused.value.value == parent


def test_name_that_no_configuration_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(faults.Invalid, match="unprintable"):
        ClusterFolder(tmp_path / "a\nb").prepare()


def test_nearly_full_disk_makes_no_cluster(
    folder: ClusterFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2 * GIB))
    with pytest.raises(faults.Full, match="nearly full"):
        folder.create(6, "us-east-1", [])
    assert not folder.exists() and not folder.keyring_file.exists()


def test_lock_is_held_once_and_names_its_holder(folder: ClusterFolder) -> None:
    assert folder.supervisor() is None
    with folder.lock():
        assert folder.supervisor() == os.getpid()
        with pytest.raises(faults.Invalid, match="runs already"):
            folder.lock()
    assert folder.supervisor() is None
    folder.lock().close()


def test_pid_of_an_earlier_holder_is_replaced_whole(folder: ClusterFolder) -> None:
    folder.lock_file.write_text("1" * 30)
    with folder.lock():
        assert folder.supervisor() == os.getpid()


def test_state_is_replaced_whole_or_empty(folder: ClusterFolder) -> None:
    assert folder.read_state() == {}
    folder.write_state({"supervisor": 7})
    assert folder.read_state() == {"supervisor": 7}
    folder.state_file.write_text(json.dumps([1]))
    assert folder.read_state() == {}
    folder.state_file.write_text("{")
    assert folder.read_state() == {}


@pytest.mark.parametrize("name", ["meta", "keyring.json", "secret"])
def test_what_cannot_be_made_again_must_be_there(folder: ClusterFolder, name: str) -> None:
    identity = folder.create(1, "us-east-1", [])
    folder.check_whole(identity)  # never was up: nothing to lose
    identity.was_up = True
    folder.meta.mkdir()
    (folder.meta / "CURRENT").write_text("")
    folder.check_whole(identity)
    path = folder.path / name
    path.rename(folder.path / "elsewhere")
    with pytest.raises(faults.Invalid, match="restore it") as refused:
        folder.check_whole(identity)
    assert refused.value.value == str(path)


def test_metadata_folder_that_is_not_mounted_is_missed(folder: ClusterFolder) -> None:
    identity = folder.create(1, "us-east-1", [])
    identity.was_up = True
    folder.meta.mkdir()
    with pytest.raises(faults.Invalid, match="restore it"):
        folder.check_whole(identity)
