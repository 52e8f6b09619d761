"""Bootstrap files: what is read, and that every mistake names its place and shows no secret."""

import stat
from pathlib import Path

import pytest

from cli.bootstrap import AccountPlan, KeyPair, read_bootstrap, root_account
from common import faults

GOOD = """
region = "eu-west-7"
domains = ["s3.example.com"]
[[accounts]]
id = "111111111111"
canonical_id = "abc"
name = "alice"
email = "alice@example.com"
[[accounts.keys]]
access_key = "A/1+="
secret_key = "a secret key"
[[accounts.keys]]
access_key = "A2"
secret_key = "another"
[[accounts]]
id = "222222222222"
"""
SECRET = "must-never-be-shown"
KEYS = '[[accounts]]\nid = "111111111111"\n[[accounts.keys]]\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "bootstrap.toml"
    path.write_text(text)
    return path


def test_file_is_read_whole(tmp_path: Path) -> None:
    found = read_bootstrap(written(tmp_path, GOOD))
    assert (found.region, found.domains) == ("eu-west-7", ("s3.example.com",))
    alice, other = found.accounts
    keys = (KeyPair("A/1+=", "a secret key"), KeyPair("A2", "another"))
    assert alice == AccountPlan("111111111111", "abc", "alice", "alice@example.com", keys)
    assert (other.name, other.keys) == ("222222222222", ())


def test_empty_file_says_nothing(tmp_path: Path) -> None:
    found = read_bootstrap(written(tmp_path, ""))
    assert (found.region, found.domains, found.accounts) == (None, None, ())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('region = "EU"', "region"),
        ("region = 7", "region"),
        ('region = ""', "region"),
        ('domains = "s3.example.com"', "domains"),
        ('domains = ["S3.example.com"]', "domains"),
        ("domains = [3]", "domains"),
        ("colour = 1", "colour"),
        ("accounts = 3", "accounts"),
        ("[accounts]\nid = '111111111111'", "accounts"),
        ("[[accounts]]", "accounts[0].id"),
        ("[[accounts]]\nid = '1111'", "accounts[0].id"),
        ("[[accounts]]\nid = 111111111111", "accounts[0].id"),
        ("[[accounts]]\nid = '１１１１１１１１１１１１'", "accounts[0].id"),
        ("[[accounts]]\nid = '111111111111'\nname = 3", "accounts[0].name"),
        ("[[accounts]]\nid = '111111111111'\nnick = 'x'", "accounts[0].nick"),
        ("[[accounts]]\nid = '111111111111'\nkeys = 'x'", "accounts[0].keys"),
        (KEYS + "access_key = 'A'", "accounts[0].keys[0]"),
        (KEYS + f"secret_key = '{SECRET}'", "accounts[0].keys[0]"),
        (KEYS + f"access_key = ''\nsecret_key = '{SECRET}'", "accounts[0].keys[0]"),
        (KEYS + f"access_key = 'A'\nsecret_key = ['{SECRET}']", "accounts[0].keys[0].secret_key"),
        (KEYS + f"access_key = 'A'\nsecret = '{SECRET}'", "accounts[0].keys[0].secret"),
        (f"secret_key = '{SECRET}'", "secret_key"),
        ("[[accounts]]\nid = '111111111111'\n[[accounts]]\nid = '111111111111'", "accounts.id"),
        (
            KEYS + f"access_key = 'A'\nsecret_key = '{SECRET}'\n[[accounts.keys]]\n"
            f"access_key = 'A'\nsecret_key = '{SECRET}2'",
            "keys.access_key",
        ),
    ],
)
def test_mistake_is_told_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(faults.Invalid) as refused:
        read_bootstrap(written(tmp_path, text))
    assert refused.value.field == place
    assert SECRET not in faults.in_words(refused.value) and SECRET not in str(refused.value)


def test_syntax_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, f"region = 'eu-west-7'\n\nsecret_key = {SECRET}\n")
    with pytest.raises(faults.Invalid) as refused:
        read_bootstrap(path)
    told = faults.in_words(refused.value)
    assert "line 3" in told and str(path) in told and SECRET not in told


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_unreadable_file_is_told_with_its_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(faults.Invalid) as refused:
        read_bootstrap(tmp_path / name)
    assert str(tmp_path) in faults.in_words(refused.value)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(faults.Invalid):
        read_bootstrap(tmp_path / "binary")


def test_secrets_have_no_representation(tmp_path: Path) -> None:
    assert "a secret key" not in repr(read_bootstrap(written(tmp_path, GOOD)))


def test_root_account_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "credentials.toml"
    made = root_account(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert root_account(path) == made
    assert root_account(tmp_path / "other.toml") != made
    assert read_bootstrap(path).accounts == (made,)
    assert made.name == "root" and len(made.keys[0].secret_key) >= 40


@pytest.mark.parametrize("text", ["", "x = 1", "[[accounts]]\nid = '111111111111'", GOOD])
def test_damaged_root_account_is_not_replaced(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(faults.Invalid):
        root_account(path)
    assert path.read_text() == text
