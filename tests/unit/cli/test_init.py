"""`ostraka init`: made once, kept afterwards, owner-only, and never a second key ring."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.bootstrap import read_bootstrap
from cli.init import SharedFiles
from cli.main import main
from common import faults
from common.keyring import KeyRing


def contents(files: SharedFiles) -> list[bytes]:
    return [path.read_bytes() for path in files.all]


def test_everything_is_made_for_its_owner_only(tmp_path: Path) -> None:
    files = SharedFiles(tmp_path)
    assert sorted(files.make()) == sorted(files.all)
    for path in files.all:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    KeyRing.load(files.keyring)
    assert len(files.secret.read_bytes()) >= 32
    assert len(read_bootstrap(files.credentials).accounts) == 1


def test_second_time_changes_nothing(tmp_path: Path) -> None:
    files = SharedFiles(tmp_path)
    files.make()
    before = contents(files)
    assert files.make() == []
    assert contents(files) == before


def test_start_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    files = SharedFiles(tmp_path)
    files.make()
    ring = files.keyring.read_bytes()
    files.credentials.unlink()
    assert files.make() == [files.credentials]
    assert files.keyring.read_bytes() == ring


def test_lost_key_ring_is_never_replaced(tmp_path: Path) -> None:
    files = SharedFiles(tmp_path)
    files.make()
    files.keyring.unlink()
    with pytest.raises(faults.Invalid, match="restore it"):
        files.make()
    assert not files.keyring.exists()


@pytest.mark.parametrize("name", ["keyring", "secret", "credentials"])
def test_file_open_to_others_is_refused(tmp_path: Path, name: str) -> None:
    files = SharedFiles(tmp_path)
    files.make()
    path: Path = getattr(files, name)
    path.chmod(0o640)
    with pytest.raises(faults.Invalid, match="must be"):
        files.make()


def test_two_at_once_make_one_set(tmp_path: Path) -> None:
    files = SharedFiles(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: files.make(), range(8)))
    assert sorted(map(len, made)) == [0] * 7 + [3]


def test_command_prints_no_secret(tmp_path: Path) -> None:
    files = SharedFiles(tmp_path)
    for word in ("made", "kept"):
        done = CliRunner().invoke(main, ["init", "--directory", str(tmp_path)])
        assert done.exit_code == 0
        assert [line.split()[0] for line in done.output.splitlines()] == [word] * 3
        key = read_bootstrap(files.credentials).accounts[0].keys[0]
        secrets = [key.secret_key, key.access_key, files.secret.read_text()]
        assert not any(secret in done.output for secret in secrets)


def test_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ["init", "--directory", str(tmp_path / "file" / "x")])
    assert done.exit_code == 1
    assert done.output.startswith("ostraka: ") and done.output.count("\n") == 1
