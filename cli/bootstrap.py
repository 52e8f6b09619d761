"""Accounts of a new cluster: from a bootstrap file, or one made up here and kept for its owner."""

import re
import secrets
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import faults
from common.keyring import write_private

ACCOUNT_ID = re.compile(r"[0-9]{12}")
REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
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
    """What a cluster begins with. None: the file does not say."""

    region: str | None
    domains: tuple[str, ...] | None
    accounts: tuple[AccountPlan, ...]


def read_bootstrap(path: Path) -> Bootstrap:
    """Read and check a bootstrap file. raises Invalid with the place of the mistake"""
    document = _read_toml(path, "bootstrap")
    _only(document, {"region", "domains", "accounts"}, "")
    region = _text(document, "region", "") if "region" in document else None
    if region is not None and not REGION.fullmatch(region):
        raise faults.Invalid("region", region, "must be lower-case letters, digits and hyphens")
    domains = _domains(document["domains"]) if "domains" in document else None
    accounts = tuple(_account(entry, where) for where, entry in _tables(document, "accounts", ""))
    _unique([account.account_id for account in accounts], "accounts", "id")
    _unique([key.access_key for account in accounts for key in account.keys], "keys", "access_key")
    _unique([a.canonical_id for a in accounts if a.canonical_id], "accounts", "canonical_id")
    return Bootstrap(region, domains, accounts)


def _account(entry: dict[str, Any], where: str) -> AccountPlan:
    _only(entry, {"id", "canonical_id", "name", "email", "keys"}, where)
    account_id = _text(entry, "id", where)
    if not ACCOUNT_ID.fullmatch(account_id):
        raise faults.Invalid(f"{where}id", account_id, "must be 12 digits, in quotes")
    keys = []
    for place, key in _tables(entry, "keys", where):
        _only(key, {"access_key", "secret_key"}, place)
        pair = KeyPair(_text(key, "access_key", place), _text(key, "secret_key", place))
        if not pair.access_key or not pair.secret_key:
            raise faults.Invalid(place.rstrip("."), "", "needs access_key and secret_key")
        keys.append(pair)
    return AccountPlan(
        account_id,
        _text(entry, "canonical_id", where),
        _text(entry, "name", where) or account_id,
        _text(entry, "email", where),
        tuple(keys),
    )


def _domains(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise faults.Invalid("domains", str(value), "must be a list")
    for domain in value:
        if not isinstance(domain, str) or not DOMAIN.fullmatch(domain):
            raise faults.Invalid("domains", str(domain), "is no lower-case host name")
    return tuple(value)


def _tables(entry: dict[str, Any], name: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables [[name]], each with its place."""
    tables = entry.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise faults.Invalid(f"{where}{name}", "", f"must be tables, [[{name}]]")
    for number, table in enumerate(tables):
        yield f"{where}{name}[{number}].", table


def _text(entry: dict[str, Any], name: str, where: str) -> str:
    value = entry.get(name, "")
    if not isinstance(value, str):
        shown = "" if name == "secret_key" else str(value)
        raise faults.Invalid(f"{where}{name}", shown, "must be text, in quotes")
    return value


def _only(entry: dict[str, Any], known: set[str], where: str) -> None:
    for name in entry:
        if name not in known:
            raise faults.Invalid(f"{where}{name}", "", "unknown setting")


def _unique(values: list[str], where: str, name: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise faults.Invalid(f"{where}.{name}", value, "is given twice")


def root_account(path: Path) -> AccountPlan:
    """The account of a cluster without a bootstrap file; made once, kept in `path` (0600).

    The file is a bootstrap file itself: it can be applied to any cluster.

    raises   Invalid if the file is damaged
    """
    if not path.exists():
        lines = (
            "[[accounts]]",
            f'id = "{secrets.randbelow(9 * 10**11) + 10**11}"',
            f'canonical_id = "{secrets.token_hex(32)}"',
            'name = "root"',
            "[[accounts.keys]]",
            f'access_key = "{"OSTK" + secrets.token_hex(8).upper()}"',
            f'secret_key = "{secrets.token_urlsafe(30)}"',
        )
        write_private(path, ("\n".join(lines) + "\n").encode())
    accounts = read_bootstrap(path).accounts
    if len(accounts) != 1 or not accounts[0].keys:
        raise faults.Invalid("credentials", str(path), "must hold one account with its keys")
    return accounts[0]


def _read_toml(path: Path, what: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise faults.Invalid(what, str(path), (error.strerror or "unreadable").lower()) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise faults.Invalid(what, str(path), str(error)) from error
