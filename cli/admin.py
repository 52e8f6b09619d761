"""`ostraka admin`: accounts, access keys and disks of a running cluster."""

import json
from pathlib import Path
from typing import Any

import click

from cli import keyring
from cli.bootstrap import read_bootstrap
from cli.control import make_account, wait_until_up, with_control
from cli.disks import disk
from cli.target import Target, for_cluster
from common import faults
from proto import admin_pb2, records_pb2


@click.group("admin")
def command() -> None:
    """Administer a running cluster."""


command.add_command(disk)
command.add_command(keyring.command)


@command.command("bootstrap")
@for_cluster
@click.option("--wait", "wait_s", type=click.FloatRange(0, 3600), default=0.0,
              help="Seconds to wait for a metadata service that does not answer yet.")  # fmt: skip
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def bootstrap(target: Target, wait_s: float, files: tuple[Path, ...]) -> None:
    """Make the accounts and keys of bootstrap files.

    What is there already stays: applying a file twice changes nothing. Exit code 1 if an account
    or key of the same name is another one.
    """
    plans = [(file, read_bootstrap(file)) for file in files]
    for file, plan in plans:
        if plan.region is not None or plan.domains is not None:
            raise faults.Invalid(
                "region" if plan.region is not None else "domains", str(file),
                "belongs into the configuration of a running cluster's processes",
            )  # fmt: skip
    accounts = [account for _, plan in plans for account in plan.accounts]

    async def make_all(stub: Any) -> None:
        await wait_until_up(stub, wait_s)
        for account in accounts:
            await make_account(stub, account)

    with_control(target.address, make_all)
    keys = sum(len(account.keys) for account in accounts)
    click.echo(f"accounts: {len(accounts)}, keys: {keys}; all there")


@command.group("account")
def account() -> None:
    """Accounts: owners of buckets."""


@account.command("create")
@for_cluster
@click.option("--name", required=True, help="Display name.")
@click.option("--email", default="")
@click.option("--id", "account_id", default="", help="12 digits. [default: made up]")
def create_account(target: Target, name: str, email: str, account_id: str) -> None:
    """Make an account."""
    record = records_pb2.Account(account_id=account_id, name=name, email=email)
    reply = target.ask("CreateAccount", admin_pb2.CreateAccountRequest(account=record))
    click.echo(json.dumps(_account(reply.account), indent=1))


@account.command("list")
@for_cluster
def list_accounts(target: Target) -> None:
    """List all accounts."""
    reply = target.ask("ListAccounts", admin_pb2.ListAccountsRequest())
    click.echo(json.dumps([_account(record) for record in reply.accounts], indent=1))


@account.command("delete")
@for_cluster
@click.argument("account_id")
def delete_account(target: Target, account_id: str) -> None:
    """Delete an account without buckets, and its keys."""
    target.ask("DeleteAccount", admin_pb2.DeleteAccountRequest(account_id=account_id))


@command.group("key")
def key() -> None:
    """Access keys."""


@key.command("create")
@for_cluster
@click.argument("account_id")
def create_key(target: Target, account_id: str) -> None:
    """Make a key pair; the secret is shown this once."""
    reply = target.ask("CreateKey", admin_pb2.CreateKeyRequest(account_id=account_id))
    click.echo(json.dumps(_key(reply) | {"secret_key": reply.secret_key}, indent=1))


@key.command("list")
@for_cluster
@click.argument("account_id", default="")
def list_keys(target: Target, account_id: str) -> None:
    """List the keys of an account, or of all."""
    reply = target.ask("ListKeys", admin_pb2.ListKeysRequest(account_id=account_id))
    click.echo(json.dumps([_key(record) for record in reply.keys], indent=1))


@key.command("disable")
@for_cluster
@click.argument("access_key")
@click.option("--enable", is_flag=True, help="Undo it.")
def disable_key(target: Target, access_key: str, enable: bool) -> None:
    """Disable a key; within seconds it works nowhere."""
    request = admin_pb2.SetKeyEnabledRequest(access_key=access_key, enabled=enable)
    target.ask("SetKeyEnabled", request)


@key.command("delete")
@for_cluster
@click.argument("access_key")
def delete_key(target: Target, access_key: str) -> None:
    """Delete a key."""
    target.ask("DeleteKey", admin_pb2.DeleteKeyRequest(access_key=access_key))


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
