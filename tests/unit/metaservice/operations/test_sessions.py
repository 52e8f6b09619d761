"""Writer sessions: leased, renewed, fenced before they are called ended, never fenced too early."""

import pytest

from common import faults, limits
from metaservice.table import Method
from proto import meta_pb2, records_pb2
from tests.support.meta import MetaBench

Session = records_pb2.Session
BEYOND_S = limits.SESSION_LEASE_S + 1


async def renew(bench: MetaBench, session_id: int) -> None:
    await bench.call(Method.RENEW_SESSION, meta_pb2.RenewSession(session_id=session_id))


async def close(bench: MetaBench, session_id: int) -> None:
    await bench.call(Method.CLOSE_SESSION, meta_pb2.CloseSession(session_id=session_id))


async def ended(bench: MetaBench, limit: int = 100) -> list[int]:
    reply = await bench.call(Method.LIST_ENDED_SESSIONS, meta_pb2.ListEndedSessions(limit=limit))
    return [session.session_id for session in reply.sessions]


async def walked(bench: MetaBench, session_id: int, *nodes: str, finished: bool = False) -> None:
    request = meta_pb2.MarkWalked(session_id=session_id, nodes=nodes, finished=finished)
    await bench.call(Method.MARK_WALKED, request)


async def test_session_ids_are_new(bench: MetaBench) -> None:
    ids = [await bench.open_session() for _ in range(5)]
    assert ids == sorted(set(ids))


async def test_renewed_session_stays(bench: MetaBench) -> None:
    for _ in range(5):
        bench.clock.advance(limits.SESSION_LEASE_S - 1)
        await renew(bench, bench.session_id)
        await ended(bench)
    await renew(bench, bench.session_id)


async def test_silent_session_is_fenced_by_the_collector(bench: MetaBench) -> None:
    bench.clock.advance(BEYOND_S)
    await renew(bench, bench.session_id)  # late, but nobody had fenced it
    bench.clock.advance(BEYOND_S)
    await ended(bench)
    with pytest.raises(faults.Fenced):
        await renew(bench, bench.session_id)


async def test_fenced_session_cannot_commit(bench: MetaBench) -> None:
    bucket = await bench.create_bucket("bucket")
    bench.clock.advance(BEYOND_S)
    await ended(bench)
    with pytest.raises(faults.Fenced):
        await bench.commit(bucket, b"key")


async def test_session_is_listed_only_when_the_grace_is_over(bench: MetaBench) -> None:
    bench.clock.advance(BEYOND_S)
    assert await ended(bench) == []
    bench.clock.advance(limits.GARBAGE_GRACE_S - 1)
    assert await ended(bench) == []
    bench.clock.advance(2)
    assert await ended(bench) == [bench.session_id]


async def test_closed_session_is_listed_after_the_grace(bench: MetaBench) -> None:
    await close(bench, bench.session_id)
    with pytest.raises(faults.Fenced):
        await renew(bench, bench.session_id)
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    assert await ended(bench) == [bench.session_id]


async def test_closing_twice_is_refused(bench: MetaBench) -> None:
    await close(bench, bench.session_id)
    with pytest.raises(faults.Fenced):
        await close(bench, bench.session_id)


async def test_restart_gives_every_open_session_a_whole_lease(bench: MetaBench) -> None:
    bench.clock.advance(BEYOND_S)
    revived = bench.restart()
    await ended(revived)
    await renew(revived, bench.session_id)
    again = revived.restart()
    again.clock.advance(BEYOND_S)
    await ended(again)
    with pytest.raises(faults.Fenced):
        await renew(again, bench.session_id)


async def test_fence_survives_a_restart(bench: MetaBench) -> None:
    bench.clock.advance(BEYOND_S)
    await ended(bench)
    with pytest.raises(faults.Fenced):
        await renew(bench.restart(), bench.session_id)


async def test_list_is_limited_and_fencing_goes_on_in_rounds(bench: MetaBench) -> None:
    ids = [bench.session_id] + [await bench.open_session() for _ in range(250)]
    bench.clock.advance(BEYOND_S)
    for _ in range(3):
        await ended(bench)
    for session_id in ids:
        with pytest.raises(faults.Fenced):
            await renew(bench, session_id)
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    assert await ended(bench, limit=7) == ids[:7]
    assert await ended(bench, limit=0) == []


async def test_walked_nodes_are_remembered_until_all_is_done(bench: MetaBench) -> None:
    await close(bench, bench.session_id)
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    await walked(bench, bench.session_id, "node-2")
    await walked(bench, bench.session_id, "node-1", "node-2")
    reply = await bench.call(Method.LIST_ENDED_SESSIONS, meta_pb2.ListEndedSessions(limit=1))
    assert list(reply.sessions[0].walked_nodes) == ["node-1", "node-2"]
    await walked(bench, bench.session_id, finished=True)
    assert await ended(bench) == []
    await walked(bench, bench.session_id, "node-3")
    assert await ended(bench) == [], "a forgotten session does not come back"


async def test_open_session_is_not_forgotten(bench: MetaBench) -> None:
    with pytest.raises(faults.Invalid):
        await walked(bench, bench.session_id, finished=True)
    await renew(bench, bench.session_id)
