"""`ostraka admin`: accounts and access keys of a running cluster."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.control import call, control_address, with_control
from cli.folder import DEFAULT_DIRECTORY, ClusterFolder
from proto import admin_pb2, records_pb2


def directory_option(function: Callable[..., None]) -> Callable[..., None]:
    """Every admin command names the cluster's folder."""
    return click.option(
        "--directory",
        type=click.Path(path_type=Path),
        default=DEFAULT_DIRECTORY,
        show_default=True,
        help="The cluster's folder.",
    )(function)


def ask(directory: Path, method: str, request: Any) -> Any:
    """Make one call to the cluster's control plane."""
    address = control_address(ClusterFolder(directory))
    return with_control(address, lambda stub: call(getattr(stub, method), request))


@click.group("admin")
def command() -> None:
    """Administer a running cluster."""


@command.group("account")
def account() -> None:
    """Accounts: owners of buckets."""


@account.command("create")
@directory_option
@click.option("--name", required=True, help="Display name.")
@click.option("--email", default="")
@click.option("--id", "account_id", default="", help="12 digits. [default: made up]")
def create_account(directory: Path, name: str, email: str, account_id: str) -> None:
    """Make an account."""
    record = records_pb2.Account(account_id=account_id, name=name, email=email)
    reply = ask(directory, "CreateAccount", admin_pb2.CreateAccountRequest(account=record))
    click.echo(json.dumps(_account(reply.account), indent=1))


@account.command("list")
@directory_option
def list_accounts(directory: Path) -> None:
    """List all accounts."""
    reply = ask(directory, "ListAccounts", admin_pb2.ListAccountsRequest())
    click.echo(json.dumps([_account(record) for record in reply.accounts], indent=1))


@account.command("delete")
@directory_option
@click.argument("account_id")
def delete_account(directory: Path, account_id: str) -> None:
    """Delete an account without buckets, and its keys."""
    ask(directory, "DeleteAccount", admin_pb2.DeleteAccountRequest(account_id=account_id))


@command.group("key")
def key() -> None:
    """Access keys."""


@key.command("create")
@directory_option
@click.argument("account_id")
def create_key(directory: Path, account_id: str) -> None:
    """Make a key pair; the secret is shown this once."""
    reply = ask(directory, "CreateKey", admin_pb2.CreateKeyRequest(account_id=account_id))
    click.echo(json.dumps(_key(reply) | {"secret_key": reply.secret_key}, indent=1))


@key.command("list")
@directory_option
@click.argument("account_id", default="")
def list_keys(directory: Path, account_id: str) -> None:
    """List the keys of an account, or of all."""
    reply = ask(directory, "ListKeys", admin_pb2.ListKeysRequest(account_id=account_id))
    click.echo(json.dumps([_key(record) for record in reply.keys], indent=1))


@key.command("disable")
@directory_option
@click.argument("access_key")
@click.option("--enable", is_flag=True, help="Undo it.")
def disable_key(directory: Path, access_key: str, enable: bool) -> None:
    """Disable a key; within seconds it works nowhere."""
    request = admin_pb2.SetKeyEnabledRequest(access_key=access_key, enabled=enable)
    ask(directory, "SetKeyEnabled", request)


@key.command("delete")
@directory_option
@click.argument("access_key")
def delete_key(directory: Path, access_key: str) -> None:
    """Delete a key."""
    ask(directory, "DeleteKey", admin_pb2.DeleteKeyRequest(access_key=access_key))


def _account(record: records_pb2.Account) -> dict[str, str]:
    return {
        "account_id": record.account_id,
        "canonical_id": record.canonical_id,
        "name": record.name,
        "email": record.email,
    }


def _key(reply: admin_pb2.KeyReply) -> dict[str, Any]:
    return {
        "access_key": reply.access_key,
        "account_id": reply.account_id,
        "enabled": reply.enabled,
    }
