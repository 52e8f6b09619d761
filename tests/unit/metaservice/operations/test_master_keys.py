"""After a rotation nothing in the metadata stays wrapped by an old master key."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common import faults
from common.clock import ManualClock
from common.keyring import DATA_KEY_CONTEXT, KeyRing, change_file, key_id_of
from metaservice import keys
from metaservice.kv.interface import Mutation
from metaservice.kv.memory import MemoryStore
from metaservice.operations.credentials import SECRET_CONTEXT, CredentialOperations
from metaservice.operations.master_keys import PASS
from metaservice.table import Method
from proto import admin_pb2, meta_pb2, records_pb2
from tests.support.meta import OWNER, MetaBench

SECRET = b"d" * 32
BUCKET, KEY = "keys", b"key"


class Cluster:
    """A metadata service with a ring on disk, and a gateway that may know an older one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        KeyRing.make().save(path)
        self.ring, self.gateway = KeyRing.load(path), KeyRing.load(path)
        self.bench = MetaBench(MemoryStore(), ManualClock(), self.ring)
        self.bucket = records_pb2.Bucket()

    async def start(self) -> None:
        await self.bench.start()
        self.bucket = await self.bench.create_bucket(BUCKET)

    def rotate(self) -> str:
        """Rotate on disk; only the metadata service takes it up."""
        change_file(self.path, lambda ring: None if ring.rotate() else None)
        self.ring.refresh()
        return self.ring.active_id

    def sealed(self) -> records_pb2.Encryption:
        wrapped = self.gateway.wrap(SECRET, DATA_KEY_CONTEXT)
        return records_pb2.Encryption(method="AES256", wrapped_key=wrapped)

    async def put(self, key: bytes) -> None:
        await self.bench.commit(self.bucket, key, encryption=self.sealed())

    async def put_part(self, number: int) -> None:
        request = meta_pb2.CreateUpload(
            writer=self.bench.writer(), bucket=BUCKET, known_epoch=self.bucket.epoch,
            upload=records_pb2.Upload(key=KEY),
        )  # fmt: skip
        upload = (await self.bench.call(Method.CREATE_UPLOAD, request)).upload
        part = records_pb2.Part(number=number, encryption=self.sealed(), inline_data=b"x" * 99)
        commit = meta_pb2.CommitPart(
            writer=self.bench.writer(), bucket=BUCKET, known_epoch=self.bucket.epoch, key=KEY,
            upload_id=upload.upload_id, part=part,
        )  # fmt: skip
        await self.bench.call(Method.COMMIT_PART, commit)

    async def make_access_key(self) -> None:
        operations = CredentialOperations(self.ring)
        account = admin_pb2.CreateAccountRequest(account=records_pb2.Account(account_id=OWNER))
        key = admin_pb2.CreateKeyRequest(account_id=OWNER)
        for operation, request in (
            (operations.create_account, account), (operations.create_key, key)
        ):  # fmt: skip
            await self.bench.server.transactor.write(
                lambda transaction, run=operation, asked=request: run(transaction, asked),
                admin_pb2.KeyReply,
            )

    def wrapped(self) -> dict[bytes, bytes]:
        """Every wrapped secret by its row."""
        found: dict[bytes, bytes] = {}
        for key, value in self.bench.store.scan(b"", b"\xff", 10_000):
            if key[:1] == b"v":
                found[key] = records_pb2.Version.FromString(value).encryption.wrapped_key
            elif key[:1] == b"p":
                found[key] = records_pb2.Part.FromString(value).encryption.wrapped_key
            elif key[:1] == b"k":
                found[key] = records_pb2.AccessKey.FromString(value).sealed_secret
        return found

    async def page(self, limit: int) -> meta_pb2.RewrapKeysReply:
        request = meta_pb2.RewrapKeys(limit=limit)
        reply: meta_pb2.RewrapKeysReply = await self.bench.call(Method.REWRAP_KEYS, request)
        return reply

    async def finish(self, limit: int = 3) -> records_pb2.KeyPass:
        while True:
            reply = await self.page(limit)
            if not reply.due:
                return reply.progress


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path / "keyring.json")
    await made.start()
    yield made


async def fill(cluster: Cluster) -> int:
    for number in range(10):
        await cluster.put(b"%d" % number)
    for number in range(1, 4):
        await cluster.put_part(number)
    await cluster.make_access_key()
    return 14


async def test_a_pass_wraps_everything_by_the_active_key(cluster: Cluster) -> None:
    count = await fill(cluster)
    await cluster.finish()
    active = cluster.rotate()
    progress = await cluster.finish()
    assert (progress.rewrapped, progress.active) == (count, active)
    assert not progress.left
    wrapped = cluster.wrapped()
    assert len(wrapped) == count
    for row, secret in wrapped.items():
        assert key_id_of(secret) == active
        if row[:1] == b"k":
            assert len(cluster.ring.unwrap(secret, SECRET_CONTEXT)) == 40
        else:
            assert cluster.ring.unwrap(secret, DATA_KEY_CONTEXT) == SECRET


async def test_another_process_goes_on_where_a_pass_stopped(cluster: Cluster) -> None:
    count = await fill(cluster)
    cluster.rotate()
    reply = await cluster.page(2)
    while reply.progress.rewrapped < count // 2:
        reply = await cluster.page(2)
    session = cluster.bench.session_id
    cluster.bench = MetaBench(cluster.bench.store, cluster.bench.clock, KeyRing.load(cluster.path))
    cluster.bench.session_id = session
    rows = reply.progress.rows
    assert (await cluster.page(1)).progress.rows == rows + 1
    assert (await cluster.finish()).rewrapped == count


async def test_a_rotation_during_a_pass_begins_another(cluster: Cluster) -> None:
    count = await fill(cluster)
    cluster.rotate()
    await cluster.page(4)
    active = cluster.rotate()
    assert (await cluster.finish()).rewrapped == count
    assert {key_id_of(secret) for secret in cluster.wrapped().values()} == {active}


async def test_looking_begins_nothing_and_a_finished_pass_writes_nothing(cluster: Cluster) -> None:
    await fill(cluster)
    cluster.rotate()
    assert (await cluster.page(0)).due
    assert cluster.bench.store.get(PASS) is None
    await cluster.finish()
    sequence = cluster.bench.store.sequence
    assert not (await cluster.page(100)).due
    assert cluster.bench.store.sequence == sequence


async def test_commits_of_a_gateway_that_knows_only_the_old_key_bring_the_new(
    cluster: Cluster,
) -> None:
    active = cluster.rotate()
    await cluster.finish()
    await cluster.put(b"late")
    await cluster.put_part(1)
    wrapped = cluster.wrapped()
    assert {key_id_of(secret) for secret in wrapped.values()} == {active}
    assert {cluster.ring.unwrap(secret, DATA_KEY_CONTEXT) for secret in wrapped.values()} == {
        SECRET
    }


async def test_a_key_that_the_service_does_not_know_yet_stays(cluster: Cluster) -> None:
    change_file(cluster.path, lambda ring: None if ring.rotate() else None)
    cluster.gateway.refresh()
    cluster.ring._path = None  # on a host that the file has not reached
    await cluster.put(b"ahead")
    [secret] = cluster.wrapped().values()
    assert key_id_of(secret) == cluster.gateway.active_id
    assert (await cluster.finish()).left == {cluster.gateway.active_id: 1}


async def test_a_destroyed_key_brings_nothing_in(cluster: Cluster) -> None:
    old = cluster.ring.active_id
    cluster.rotate()

    def end(ring: KeyRing) -> None:
        ring.retire(old)
        ring.destroy(old)

    change_file(cluster.path, end)
    cluster.ring.refresh()
    with pytest.raises(faults.Unavailable, match="out of date"):
        await cluster.put(b"late")
    assert not cluster.wrapped()


async def test_secrets_that_do_not_open_are_counted_and_stay(cluster: Cluster) -> None:
    await cluster.put(b"key")
    [(row, secret)] = cluster.wrapped().items()
    broken = records_pb2.Version.FromString(cluster.bench.store.get(row) or b"")
    broken.encryption.wrapped_key = secret[:-1] + bytes([secret[-1] ^ 1])
    await cluster.bench.store.commit(Mutation(puts={row: broken.SerializeToString()}))
    cluster.rotate()
    progress = await cluster.finish()
    assert progress.left == {key_id_of(secret): 1}
    assert cluster.wrapped()[row] == broken.encryption.wrapped_key
    assert not cluster.bench.server.transactor.is_doubtful


async def test_change_records_and_finished_uploads_are_looked_at(cluster: Cluster) -> None:
    version = records_pb2.Version(encryption=cluster.sealed())
    rows: dict[bytes, Any] = {
        keys.change(1): records_pb2.ChangeRecord(sequence=1, version=version),
        keys.finished_upload(b"u" * 16, 1): records_pb2.Upload(completed=version),
        keys.upload(1, b"k", b"u" * 16): records_pb2.Upload(draft=version),
    }
    puts: dict[bytes, bytes | None] = {key: row.SerializeToString() for key, row in rows.items()}
    await cluster.bench.store.commit(Mutation(puts=puts))
    active = cluster.rotate()
    assert (await cluster.finish()).rewrapped == len(rows)
    for key, row in rows.items():
        row.ParseFromString(cluster.bench.store.get(key) or b"")
        for field in ("version", "completed", "draft"):
            if field in row.DESCRIPTOR.fields_by_name and row.HasField(field):
                assert key_id_of(getattr(row, field).encryption.wrapped_key) == active
