"""Writer sessions: the leased right to make blobs.

A blob id begins with the session that made it, and a commit has the session's row as a condition.
So once a session is fenced nothing it made can become an object any more, and what of it no row
names is garbage, provably. Leases live in the service's memory: after a restart every open session
gets a whole new lease before it may be fenced.
"""

from common import faults, limits
from common.clock import Clock
from metaservice import keys
from metaservice.operations import garbage
from metaservice.transaction import Transaction
from proto import meta_pb2, records_pb2

Session = records_pb2.Session
BEGIN, END = b"s", b"t"
SESSIONS_READ_MAX = 10_000
FENCED_AT_ONCE_MAX = 100  # per commit; the next round goes on


class Leases:
    """When each open session's lease ends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun_s = clock.monotonic_s()
        self._until: dict[int, float] = {}

    def renew(self, session_id: int) -> None:
        """Give a session a whole lease from now."""
        self._until[session_id] = self._clock.monotonic_s() + limits.SESSION_LEASE_S

    def forget(self, session_id: int) -> None:
        """Drop an ended session."""
        self._until.pop(session_id, None)

    def is_over(self, session_id: int) -> bool:
        """Whether the lease has ended; unknown sessions count from the service's start."""
        until = self._until.get(session_id, self._begun_s + limits.SESSION_LEASE_S)
        return self._clock.monotonic_s() > until


class SessionOperations:
    """Open, renew, close, fence."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    async def open_session(
        self, transaction: Transaction, request: meta_pb2.OpenSession
    ) -> meta_pb2.SessionReply:
        """Make a session with a whole lease."""
        session_id = transaction.next_order()
        session = Session(session_id=session_id, holder=request.holder, state=Session.OPEN)
        transaction.put(keys.session(session_id), session.SerializeToString())
        self._leases.renew(session_id)
        return meta_pb2.SessionReply(session_id=session_id, lease_s=int(limits.SESSION_LEASE_S))

    async def renew_session(
        self, transaction: Transaction, request: meta_pb2.RenewSession
    ) -> meta_pb2.SessionReply:
        """Extend a lease. raises Fenced"""
        await _open(transaction, request.session_id)
        self._leases.renew(request.session_id)
        return meta_pb2.SessionReply(
            session_id=request.session_id, lease_s=int(limits.SESSION_LEASE_S)
        )

    async def close_session(
        self, transaction: Transaction, request: meta_pb2.CloseSession
    ) -> meta_pb2.SessionReply:
        """End a session of one's own; nothing of it is in flight."""
        session = await _open(transaction, request.session_id)
        _end(transaction, session, Session.CLOSED)
        self._leases.forget(request.session_id)
        return meta_pb2.SessionReply(session_id=request.session_id)

    async def list_ended_sessions(
        self, transaction: Transaction, request: meta_pb2.ListEndedSessions
    ) -> meta_pb2.ListEndedSessionsReply:
        """Fence sessions whose lease is over; list those that ended longer than the grace ago."""
        ended: list[Session] = []
        horizon = transaction.now_ns - transaction.garbage_grace_ns
        fenced = 0
        for key, value in await transaction.scan(BEGIN, END, SESSIONS_READ_MAX):
            session = Session.FromString(value)
            if session.state == Session.OPEN:
                if fenced < FENCED_AT_ONCE_MAX and self._leases.is_over(session.session_id):
                    transaction.require(key, value)
                    _end(transaction, session, Session.FENCED)
                    self._leases.forget(session.session_id)
                    fenced += 1
            elif session.ended_ns <= horizon and len(ended) < request.limit:
                ended.append(session)
        return meta_pb2.ListEndedSessionsReply(sessions=ended)


async def mark_walked(
    transaction: Transaction, request: meta_pb2.MarkWalked
) -> meta_pb2.MarkWalkedReply:
    """Note on which nodes an ended session's orphans are gone; finished: forget the session.

    Disks that are away are remembered by a row of their own, so that no session waits for them.
    raises   Invalid for a session that is still open: its blobs are no orphans
    """
    key = keys.session(request.session_id)
    stored = await transaction.get(key)
    if stored is None:
        return meta_pb2.MarkWalkedReply()
    session = Session.FromString(stored)
    if session.state == Session.OPEN:
        raise faults.Invalid("session", str(request.session_id), "it is open")
    if request.finished:
        for disk_id in request.away_disk_ids:
            garbage.keep_walk(transaction, disk_id, request.session_id)
        transaction.delete(key)
        return meta_pb2.MarkWalkedReply()
    walked = sorted({*session.walked_nodes, *request.nodes})
    del session.walked_nodes[:]
    session.walked_nodes.extend(walked)
    transaction.put(key, session.SerializeToString())
    return meta_pb2.MarkWalkedReply()


async def _open(transaction: Transaction, session_id: int) -> Session:
    stored = await transaction.get(keys.session(session_id))
    session = Session.FromString(stored) if stored is not None else None
    if session is None or session.state != Session.OPEN:
        raise faults.Fenced("session", str(session_id))
    return session


def _end(
    transaction: Transaction, session: Session, state: "records_pb2.Session.State.ValueType"
) -> None:
    session.state = state
    session.ended_ns = transaction.now_ns
    transaction.put(keys.session(session.session_id), session.SerializeToString())
