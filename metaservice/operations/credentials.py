"""Accounts and access keys. Secrets are stored sealed by the key ring and leave only sealed."""

import re
import secrets
import string

from common import faults
from common.keyring import KeyRing
from metaservice import keys
from metaservice.transaction import Transaction
from proto import admin_pb2, meta_pb2, records_pb2

SECRET_CONTEXT = b"ostraka secret key"
ACCESS_KEY_ALPHABET = string.ascii_uppercase + "234567"
ACCOUNT_ID = re.compile(r"[0-9]{12}", re.ASCII)
SECRET_KEY_BYTES = 30  # 40 characters of base64
ROWS_MAX = 100_000


async def get_access_key(
    transaction: Transaction, request: meta_pb2.GetAccessKey
) -> meta_pb2.AccessKeyReply:
    """An access key, its secret sealed, and its account. raises NotFound("access key")"""
    stored = await transaction.get_unchecked(keys.access_key(request.access_key))
    if stored is None:
        raise faults.NotFound("access key", request.access_key)
    key = records_pb2.AccessKey.FromString(stored)
    account = await transaction.get_unchecked(keys.account(key.account_id))
    if account is None:
        raise faults.NotFound("access key", request.access_key)
    return meta_pb2.AccessKeyReply(key=key, account=records_pb2.Account.FromString(account))


class CredentialOperations:
    """What administrators do with accounts and keys."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def create_account(
        self, transaction: Transaction, request: admin_pb2.CreateAccountRequest
    ) -> admin_pb2.AccountReply:
        """Make an account; empty ids are made up; the same again changes nothing.

        raises   AlreadyExists("account") if the id is taken by a different one; Invalid if the id
                 is not 12 digits
        """
        account = records_pb2.Account()
        account.CopyFrom(request.account)
        if not account.account_id:
            account.account_id = str(secrets.randbelow(9 * 10**11) + 10**11)
        if not ACCOUNT_ID.fullmatch(account.account_id):
            raise faults.Invalid("account_id", account.account_id, "not 12 digits")
        if not account.canonical_id:
            account.canonical_id = secrets.token_hex(32)
        stored = await transaction.get(keys.account(account.account_id))
        if stored is not None:
            known = records_pb2.Account.FromString(stored)
            account.created_ns = known.created_ns
            if not request.account.canonical_id:
                account.canonical_id = known.canonical_id
            if known != account:
                raise faults.AlreadyExists("account", account.account_id)
        else:
            account.created_ns = transaction.now_ns
            transaction.put(keys.account(account.account_id), account.SerializeToString())
        return admin_pb2.AccountReply(account=account)

    async def list_accounts(
        self, transaction: Transaction, request: admin_pb2.ListAccountsRequest
    ) -> admin_pb2.ListAccountsReply:
        """All accounts by id."""
        rows = await transaction.scan(b"a", b"b", ROWS_MAX)
        return admin_pb2.ListAccountsReply(
            accounts=[records_pb2.Account.FromString(value) for _, value in rows]
        )

    async def delete_account(
        self, transaction: Transaction, request: admin_pb2.DeleteAccountRequest
    ) -> admin_pb2.DeleteAccountReply:
        """Delete an account without buckets, and its keys. raises NotFound, Invalid"""
        key = keys.account(request.account_id)
        if await transaction.get(key) is None:
            raise faults.NotFound("account", request.account_id)
        prefix = keys.account_bucket(request.account_id, "")
        if await transaction.scan(prefix, keys.after(prefix), 1):
            raise faults.Invalid("account", request.account_id, "it still has buckets")
        for row, access_key in await self._keys(transaction, request.account_id):
            transaction.delete(row)
            assert access_key.account_id == request.account_id
        transaction.delete(key)
        return admin_pb2.DeleteAccountReply()

    async def create_key(
        self, transaction: Transaction, request: admin_pb2.CreateKeyRequest
    ) -> admin_pb2.KeyReply:
        """Make a key pair; empty parts are made up; the same pair again changes nothing.

        raises   NotFound("account"), AlreadyExists("access key") with another secret or account
        """
        if await transaction.get(keys.account(request.account_id)) is None:
            raise faults.NotFound("account", request.account_id)
        name = request.access_key or _new_access_key()
        secret = request.secret_key or _new_secret_key()
        stored = await transaction.get(keys.access_key(name))
        if stored is not None:
            known = records_pb2.AccessKey.FromString(stored)
            same_secret = secrets.compare_digest(self._open(known), secret.encode())
            if known.account_id != request.account_id or not same_secret:
                raise faults.AlreadyExists("access key", name)
            return _shown(known)
        key = records_pb2.AccessKey(
            access_key=name,
            sealed_secret=self._ring.wrap(secret.encode(), SECRET_CONTEXT),
            account_id=request.account_id,
            enabled=True,
            created_ns=transaction.now_ns,
            user_arn=f"arn:aws:iam::{request.account_id}:root",
        )
        transaction.put(keys.access_key(name), key.SerializeToString())
        reply = _shown(key)
        reply.secret_key = secret
        return reply

    async def list_keys(
        self, transaction: Transaction, request: admin_pb2.ListKeysRequest
    ) -> admin_pb2.ListKeysReply:
        """Access keys of an account, or of all; never their secrets."""
        found = await self._keys(transaction, request.account_id)
        return admin_pb2.ListKeysReply(keys=[_shown(key) for _, key in found])

    async def set_key_enabled(
        self, transaction: Transaction, request: admin_pb2.SetKeyEnabledRequest
    ) -> admin_pb2.KeyReply:
        """Disable or enable a key. raises NotFound("access key")"""
        row = keys.access_key(request.access_key)
        stored = await transaction.get(row)
        if stored is None:
            raise faults.NotFound("access key", request.access_key)
        key = records_pb2.AccessKey.FromString(stored)
        key.enabled = request.enabled
        transaction.put(row, key.SerializeToString())
        return _shown(key)

    async def delete_key(
        self, transaction: Transaction, request: admin_pb2.DeleteKeyRequest
    ) -> admin_pb2.DeleteKeyReply:
        """Delete a key. raises NotFound("access key")"""
        row = keys.access_key(request.access_key)
        if await transaction.get(row) is None:
            raise faults.NotFound("access key", request.access_key)
        transaction.delete(row)
        return admin_pb2.DeleteKeyReply()

    async def _keys(
        self, transaction: Transaction, account_id: str
    ) -> list[tuple[bytes, records_pb2.AccessKey]]:
        rows = await transaction.scan(b"k", b"l", ROWS_MAX)
        found = [(row, records_pb2.AccessKey.FromString(value)) for row, value in rows]
        return [entry for entry in found if account_id in ("", entry[1].account_id)]

    def _open(self, key: records_pb2.AccessKey) -> bytes:
        return self._ring.unwrap(key.sealed_secret, SECRET_CONTEXT)


def _new_access_key() -> str:
    return "OSTK" + "".join(secrets.choice(ACCESS_KEY_ALPHABET) for _ in range(16))


def _new_secret_key() -> str:
    return secrets.token_urlsafe(SECRET_KEY_BYTES)


def _shown(key: records_pb2.AccessKey) -> admin_pb2.KeyReply:
    return admin_pb2.KeyReply(
        access_key=key.access_key,
        account_id=key.account_id,
        enabled=key.enabled,
        created_ns=key.created_ns,
    )
