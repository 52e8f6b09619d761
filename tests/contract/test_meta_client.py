"""The client against a real service over loopback: one effect per write whatever happens to the
connection; sessions that stay alive, are replaced in time and closed at the end.

Method: a server whose connections the test cuts after an operation was done, a clock that stands.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from inspect import isawaitable

import pytest

from common import faults, limits
from common.clock import ManualClock
from common.frames import Call, FrameClient, FrameServer
from metaservice.client import MetaClient, WriterSession
from metaservice.kv.memory import MemoryStore
from metaservice.server import MetaServer
from metaservice.table import REPLIES, Method
from proto import meta_pb2, records_pb2


class Service:
    """A service whose next calls of a method do their work and then lose the connection."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.calls: list[Method] = []
        self.cuts = 0
        self.busy = 0
        made = MetaServer(self.store, self.clock).handlers()
        self.frames = FrameServer(
            {method: self._watched(Method(method), handler) for method, handler in made.items()}
        )

    def _watched(
        self, method: Method, handler: Callable[[Call], object]
    ) -> Callable[[Call], object]:
        async def run(call: Call) -> object:
            self.calls.append(method)
            if self.busy:
                self.busy -= 1
                raise faults.Busy("too much")
            made = handler(call)
            answer = await made if isawaitable(made) else made
            if self.cuts:
                self.cuts -= 1
                for peer in list(self.frames.peers):
                    peer.abort()
            return answer

        return run


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    yield made
    await made.frames.stop()


@pytest.fixture
async def meta(service: Service) -> AsyncIterator[MetaClient]:
    frames = FrameClient("127.0.0.1", await service.frames.start("127.0.0.1", 0))
    await frames.start()
    await frames.wait_up(5)
    yield MetaClient(frames)
    await frames.stop()


@pytest.fixture
async def session(service: Service, meta: MetaClient) -> AsyncIterator[WriterSession]:
    made = WriterSession(meta, service.clock, "test")
    await made.start()
    await asyncio.sleep(0)
    yield made
    await made.stop()


async def create_bucket(meta: MetaClient, session: WriterSession) -> records_pb2.Bucket:
    bucket = records_pb2.Bucket(name="bucket", owner_account="1" * 12)
    request = meta_pb2.CreateBucket(writer=session.writer(), bucket=bucket)
    return (await meta.create_bucket(request)).bucket


async def put(
    meta: MetaClient, session: WriterSession, bucket: records_pb2.Bucket, data: bytes = b"sealed"
) -> meta_pb2.CommitReply:
    version = records_pb2.Version(is_inline=True, size_bytes=len(data))
    request = meta_pb2.CommitVersion(
        writer=session.writer(),
        bucket="bucket",
        known_epoch=bucket.epoch,
        key=b"key",
        version=version,
    )
    return await meta.commit_version(request, data)


async def rounds(service: Service, condition: Callable[[], bool], step_s: float = 0) -> None:
    """Let the clock and the loop go on until something has come about."""
    for _ in range(1000):
        if condition():
            return
        service.clock.advance(step_s)
        await asyncio.sleep(0.001)
    raise AssertionError("it does not come about")


async def test_data_comes_back(meta: MetaClient, session: WriterSession) -> None:
    bucket = await create_bucket(meta, session)
    await put(meta, session, bucket, b"sealed" * 1000)
    request = meta_pb2.GetVersion(bucket="bucket", known_epoch=bucket.epoch, key=b"key")
    reply, data = await meta.get_version(request)
    assert data == b"sealed" * 1000
    assert records_pb2.Version.FromString(reply.version).size_bytes == 6000
    request.without_data = True
    assert (await meta.get_version(request))[1] == b""


async def test_write_whose_answer_is_lost_is_done_once(
    service: Service, meta: MetaClient, session: WriterSession
) -> None:
    bucket = await create_bucket(meta, session)
    bucket = (
        await meta.update_bucket(
            meta_pb2.UpdateBucket(
                writer=session.writer(),
                name="bucket",
                set_versioning=True,
                versioning=records_pb2.Bucket.ENABLED,
            )
        )
    ).bucket
    service.cuts = 3
    reply = await put(meta, session, bucket)
    assert service.calls.count(Method.COMMIT_VERSION) == 4
    rows = service.store.scan(b"v", b"w", 10)
    assert [row[-16:] for row, _ in rows] == [reply.version_id]


async def test_busy_service_is_asked_again(
    service: Service, meta: MetaClient, session: WriterSession
) -> None:
    service.busy = 3
    await create_bucket(meta, session)
    assert service.calls.count(Method.CREATE_BUCKET) == 4


async def test_fault_is_not_asked_again(
    service: Service, meta: MetaClient, session: WriterSession
) -> None:
    await create_bucket(meta, session)
    with pytest.raises(faults.AlreadyExists) as caught:
        await create_bucket(meta, session)
    assert caught.value.fields["owner"] == "1" * 12
    assert service.calls.count(Method.CREATE_BUCKET) == 2


async def test_service_that_stays_away_is_unavailable_after_the_deadline() -> None:
    frames = FrameClient("127.0.0.1", 1)
    await frames.start()
    with pytest.raises(faults.Unavailable):
        await MetaClient(frames, deadline_s=0.1).get_bucket(meta_pb2.GetBucket(name="bucket"))
    await frames.stop()


async def test_many_deletes_fail_apart(meta: MetaClient, session: WriterSession) -> None:
    bucket = await create_bucket(meta, session)
    await put(meta, session, bucket)
    deletes = [
        meta_pb2.DeleteVersion(
            writer=session.writer(), bucket="bucket", known_epoch=bucket.epoch + stale, key=b"key"
        )
        for stale in (0, 1, 0)
    ]
    results = (await meta.delete_versions(meta_pb2.DeleteVersions(deletes=deletes))).results
    assert [result.fault for result in results] == ["", "Conflict", ""]
    assert results[1].fault_fields[0].value == "bucket_epoch"
    assert sorted(result.reply.existed for result in results) == [False, False, True]


def test_every_method_has_a_handler_and_every_message_a_method() -> None:
    handlers = MetaServer(MemoryStore(), ManualClock()).handlers()
    assert set(handlers) == {int(method) for method in Method} == set(map(int, REPLIES))
    file = meta_pb2.DESCRIPTOR.name
    messages = [message.DESCRIPTOR for pair in REPLIES.values() for message in pair]
    used = {message.name for message in messages if message.file.name == file}
    parts = {
        "Writer", "Conditions", "VersionName", "DeleteResult", "ListEntry", "VersionEntry",
        "ListedPart", "NodeHealth", "GarbageEntry", "Foreground", "FragmentPlace",
        "RepairProgress", "RepairEntry", "ClaimRepair", "StrayEntry", "FragmentName",
    }  # fmt: skip
    assert set(meta_pb2.DESCRIPTOR.message_types_by_name) == used | parts


async def test_client_has_a_method_of_the_right_name_for_each_gateway_call(
    meta: MetaClient,
) -> None:
    workers = {method for method in Method if method >= Method.OPEN_SESSION}
    for method in set(Method) - workers | {Method.HEARTBEAT, Method.GET_TOPOLOGY}:
        assert hasattr(meta, method.name.lower())


# --- writer sessions ------------------------------------------------------------------------------


async def test_blob_ids_are_session_and_counter(session: WriterSession) -> None:
    session_id = session.begin_upload()
    ids = [session.new_blob_id(session_id) for _ in range(3)]
    assert len(set(ids)) == 3
    assert {blob_id[:8] for blob_id in ids} == {session_id.to_bytes(8, "big")}
    session.end_upload(session_id)


async def test_session_is_renewed_in_time(
    service: Service, meta: MetaClient, session: WriterSession
) -> None:
    for _ in range(10):
        seen = service.calls.count(Method.RENEW_SESSION)
        service.clock.advance(limits.SESSION_RENEW_S)
        await rounds(service, lambda: service.calls.count(Method.RENEW_SESSION) > seen)  # noqa: B023
        await meta.call(Method.LIST_ENDED_SESSIONS, meta_pb2.ListEndedSessions())
    await create_bucket(meta, session)


async def test_old_session_is_replaced_but_kept_while_an_upload_is_in_it(
    service: Service, meta: MetaClient, session: WriterSession
) -> None:
    old = session.begin_upload()
    await rounds(service, lambda: session.writer().session_id != old, step_s=limits.SESSION_RENEW_S)
    await rounds(
        service,
        lambda: service.calls[-2:] == [Method.RENEW_SESSION] * 2,
        step_s=limits.SESSION_RENEW_S,
    )
    assert Method.CLOSE_SESSION not in service.calls
    session.end_upload(old)
    await rounds(
        service, lambda: Method.CLOSE_SESSION in service.calls, step_s=limits.SESSION_RENEW_S
    )
    with pytest.raises(faults.Fenced):
        await meta.call(Method.RENEW_SESSION, meta_pb2.RenewSession(session_id=old))
    await create_bucket(meta, session)


async def test_fenced_session_is_replaced(
    service: Service, meta: MetaClient, session: WriterSession
) -> None:
    old = session.writer().session_id
    await meta.call(Method.CLOSE_SESSION, meta_pb2.CloseSession(session_id=old))
    with pytest.raises(faults.Fenced):
        await create_bucket(meta, session)
    await rounds(service, lambda: session.writer().session_id != old, step_s=limits.SESSION_RENEW_S)
    await create_bucket(meta, session)


async def test_sessions_are_closed_at_the_end(service: Service, meta: MetaClient) -> None:
    session = WriterSession(meta, service.clock, "short")
    await session.start()
    session_id = session.writer().session_id
    await session.stop()
    with pytest.raises(faults.Fenced):
        await meta.call(Method.RENEW_SESSION, meta_pb2.RenewSession(session_id=session_id))


async def test_session_ended_by_another_is_not_closed_for_ever(
    service: Service, meta: MetaClient, session: WriterSession
) -> None:
    old = session.begin_upload()
    await rounds(service, lambda: session.writer().session_id != old, step_s=limits.SESSION_RENEW_S)
    await meta.call(Method.CLOSE_SESSION, meta_pb2.CloseSession(session_id=old))
    session.end_upload(old)
    await rounds(
        service,
        lambda: service.calls[-3:] == [Method.RENEW_SESSION] * 3,
        step_s=limits.SESSION_RENEW_S,
    )
    assert service.calls.count(Method.CLOSE_SESSION) <= 2
