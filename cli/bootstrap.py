"""Accounts of a new cluster: from a bootstrap file, or one made up here and kept for its owner."""

import re
import secrets
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.folder import ClusterFolder
from common import faults
from common.keyring import write_private

ACCOUNT_ID = re.compile(r"[0-9]{12}")
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An access key and its secret."""

    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """An account that must exist, with its keys."""

    account_id: str
    canonical_id: str
    name: str
    email: str
    keys: tuple[KeyPair, ...]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What a cluster begins with."""

    region: str
    domains: tuple[str, ...]
    accounts: tuple[AccountPlan, ...]


def read_bootstrap(path: Path) -> Bootstrap:
    """Read and check a bootstrap file. raises Invalid with the place of the mistake"""
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise faults.Invalid("bootstrap", str(path), error.strerror or "unreadable") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise faults.Invalid("bootstrap", str(path), str(error)) from error
    _only(document, {"region", "domains", "accounts"}, "bootstrap")
    accounts = tuple(
        _account(entry, f"accounts[{number}]")
        for number, entry in enumerate(document.get("accounts", []))
    )
    return Bootstrap(
        document.get("region", DEFAULT_REGION), tuple(document.get("domains", ())), accounts
    )


def _account(entry: dict[str, Any], where: str) -> AccountPlan:
    _only(entry, {"id", "canonical_id", "name", "email", "keys"}, where)
    account_id = str(entry.get("id", ""))
    if not ACCOUNT_ID.fullmatch(account_id):
        raise faults.Invalid(f"{where}.id", account_id, "must be 12 digits")
    keys = []
    for number, key in enumerate(entry.get("keys", [])):
        _only(key, {"access_key", "secret_key"}, f"{where}.keys[{number}]")
        if not key.get("access_key") or not key.get("secret_key"):
            raise faults.Invalid(f"{where}.keys[{number}]", "", "needs access_key and secret_key")
        keys.append(KeyPair(str(key["access_key"]), str(key["secret_key"])))
    return AccountPlan(
        account_id,
        str(entry.get("canonical_id", "")),
        str(entry.get("name", account_id)),
        str(entry.get("email", "")),
        tuple(keys),
    )


def _only(entry: dict[str, Any], known: set[str], where: str) -> None:
    for name in entry:
        if name not in known:
            raise faults.Invalid(f"{where}.{name}", "", "unknown setting")


def root_account(folder: ClusterFolder) -> AccountPlan:
    """The account of a cluster without a bootstrap file; made once, kept in credentials.toml."""
    path = folder.credentials_file
    if not path.exists():
        lines = (
            f'account_id = "{secrets.randbelow(9 * 10**11) + 10**11}"',
            f'canonical_id = "{secrets.token_hex(32)}"',
            f'access_key = "{"OSTK" + secrets.token_hex(8).upper()}"',
            f'secret_key = "{secrets.token_urlsafe(30)}"',
        )
        write_private(path, ("\n".join(lines) + "\n").encode())
    found = tomllib.loads(path.read_text())
    return AccountPlan(
        found["account_id"],
        found["canonical_id"],
        "root",
        "",
        (KeyPair(found["access_key"], found["secret_key"]),),
    )
