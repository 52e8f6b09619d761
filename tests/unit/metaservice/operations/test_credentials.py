"""Accounts and keys: made once, made up where left open; secrets sealed in the store, told once."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common import faults
from common.keyring import KeyRing
from metaservice.operations.credentials import SECRET_CONTEXT, CredentialOperations
from metaservice.table import Method
from proto import admin_pb2, meta_pb2, records_pb2
from tests.support.meta import OWNER, MetaBench

RING = KeyRing.make()
OPERATIONS = CredentialOperations(RING)


async def run(bench: MetaBench, operation: Callable[..., Awaitable[Any]], request: Any) -> Any:
    return await bench.server.transactor.write(
        lambda transaction: operation(transaction, request), admin_pb2.KeyReply
    )


async def create_account(bench: MetaBench, **fields: Any) -> records_pb2.Account:
    request = admin_pb2.CreateAccountRequest(account=records_pb2.Account(**fields))
    reply = await run(bench, OPERATIONS.create_account, request)
    account: records_pb2.Account = reply.account
    return account


async def create_key(bench: MetaBench, account_id: str = OWNER, **fields: Any) -> Any:
    request = admin_pb2.CreateKeyRequest(account_id=account_id, **fields)
    return await run(bench, OPERATIONS.create_key, request)


async def get_key(bench: MetaBench, name: str) -> meta_pb2.AccessKeyReply:
    request = meta_pb2.GetAccessKey(access_key=name)
    reply: meta_pb2.AccessKeyReply = await bench.call(Method.GET_ACCESS_KEY, request)
    return reply


async def test_ids_are_made_up_where_left_open(bench: MetaBench) -> None:
    first, second = await create_account(bench), await create_account(bench)
    assert first.account_id != second.account_id
    assert first.account_id.isdigit()
    assert (len(first.account_id), len(first.canonical_id)) == (12, 64)


@pytest.mark.parametrize(
    "account_id", ["1", "12345678901a", "1234567890123", "１２３４５６７８９０１２"]
)
async def test_account_id_is_twelve_digits(bench: MetaBench, account_id: str) -> None:
    with pytest.raises(faults.Invalid):
        await create_account(bench, account_id=account_id)


async def test_same_account_again_changes_nothing(bench: MetaBench) -> None:
    first = await create_account(bench, account_id=OWNER, name="main", canonical_id="c" * 64)
    bench.clock.advance(60)
    sequence = bench.store.sequence
    again = await create_account(bench, account_id=OWNER, name="main", canonical_id="c" * 64)
    open_id = await create_account(bench, account_id=OWNER, name="main")
    assert first == again == open_id
    assert bench.store.sequence == sequence


@pytest.mark.parametrize("other", [{"name": "other"}, {"name": "main", "canonical_id": "d" * 64}])
async def test_taken_id_is_refused(bench: MetaBench, other: Any) -> None:
    await create_account(bench, account_id=OWNER, name="main", canonical_id="c" * 64)
    with pytest.raises(faults.AlreadyExists):
        await create_account(bench, account_id=OWNER, **other)


async def test_made_up_key_works_and_its_secret_is_told_once(bench: MetaBench) -> None:
    await create_account(bench, account_id=OWNER, name="main")
    made = await create_key(bench)
    reply = await get_key(bench, made.access_key)
    assert RING.unwrap(reply.key.sealed_secret, SECRET_CONTEXT).decode() == made.secret_key
    assert reply.key.enabled
    assert reply.account.name == "main"
    listed = await run(bench, OPERATIONS.list_keys, admin_pb2.ListKeysRequest(account_id=OWNER))
    assert [key.access_key for key in listed.keys] == [made.access_key]
    assert not listed.keys[0].secret_key


async def test_store_never_holds_a_secret_in_the_clear(bench: MetaBench) -> None:
    await create_account(bench, account_id=OWNER)
    made = await create_key(bench, secret_key="a secret of the test")
    assert made.secret_key == "a secret of the test"
    for row in bench.store.scan(b"", b"\xff", 1000):
        assert b"a secret of the test" not in b"".join(row)


async def test_chosen_pair_again_changes_nothing(bench: MetaBench) -> None:
    await create_account(bench, account_id=OWNER)
    await create_key(bench, access_key="any/Chars+=", secret_key="s")
    sequence = bench.store.sequence
    await create_key(bench, access_key="any/Chars+=", secret_key="s")
    assert bench.store.sequence == sequence


async def test_taken_access_key_is_refused(bench: MetaBench) -> None:
    await create_account(bench, account_id=OWNER)
    await create_account(bench, account_id="0" * 12)
    await create_key(bench, access_key="key", secret_key="one")
    for account_id, secret in ((OWNER, "two"), ("0" * 12, "one")):
        with pytest.raises(faults.AlreadyExists):
            await create_key(bench, account_id, access_key="key", secret_key=secret)


async def test_key_needs_an_account(bench: MetaBench) -> None:
    with pytest.raises(faults.NotFound):
        await create_key(bench)


async def test_disabled_key_says_so(bench: MetaBench) -> None:
    await create_account(bench, account_id=OWNER)
    name = (await create_key(bench)).access_key
    for enabled in (False, True):
        request = admin_pb2.SetKeyEnabledRequest(access_key=name, enabled=enabled)
        await run(bench, OPERATIONS.set_key_enabled, request)
        assert (await get_key(bench, name)).key.enabled is enabled


async def test_deleted_key_is_unknown(bench: MetaBench) -> None:
    await create_account(bench, account_id=OWNER)
    name = (await create_key(bench)).access_key
    request = admin_pb2.DeleteKeyRequest(access_key=name)
    await run(bench, OPERATIONS.delete_key, request)
    with pytest.raises(faults.NotFound):
        await get_key(bench, name)
    with pytest.raises(faults.NotFound):
        await run(bench, OPERATIONS.delete_key, request)


async def test_account_goes_with_its_keys_but_not_with_buckets(bench: MetaBench) -> None:
    await create_account(bench, account_id=OWNER)
    name = (await create_key(bench)).access_key
    await bench.create_bucket("bucket")
    request = admin_pb2.DeleteAccountRequest(account_id=OWNER)
    with pytest.raises(faults.Invalid):
        await run(bench, OPERATIONS.delete_account, request)
    await get_key(bench, name)
    delete = meta_pb2.DeleteBucket(writer=bench.writer(), name="bucket", owner_account=OWNER)
    await bench.call(Method.DELETE_BUCKET, delete)
    await run(bench, OPERATIONS.delete_account, request)
    with pytest.raises(faults.NotFound):
        await get_key(bench, name)
    accounts = await run(bench, OPERATIONS.list_accounts, admin_pb2.ListAccountsRequest())
    assert not accounts.accounts
