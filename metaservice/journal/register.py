"""The register: promises and headers on the members, and how many of them are enough.

docs/metadata-journal.md has the argument: a recovery asks more than half of the members, the
running service, which has the header in its own engine too, at least half.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from google.protobuf.message import Message

from common import faults
from common.frames import Reply
from proto import journal_pb2
from storagenode.client import Method

FORMAT = 1
CALL_S = 2.0
Answers = dict[str, bytes | faults.Fault]


class JournalPeer(Protocol):
    """The calls of a node's client that the journal makes."""

    def journal_call(
        self, method: Method, request: Message, payload: bytes = b"", *, deadline_s: float
    ) -> "asyncio.Future[Reply]": ...


class Peers(Protocol):
    """Nodes by name."""

    def peer(self, name: str) -> JournalPeer | None:
        """A node that is connected."""
        ...


def running_quorum(members: int) -> int:
    """Members that the running service needs."""
    return members - members // 2


def recovery_quorum(members: int) -> int:
    """Members that a recovery needs: one of them was in any running quorum."""
    return members // 2 + 1


def age(header: journal_pb2.Header) -> tuple[int, int]:
    """Headers in order."""
    return header.epoch, header.version


def names_of(header: journal_pb2.Header) -> list[str]:
    """The members' names."""
    return [member.name for member in header.members]


def is_joined(header: journal_pb2.Header, checkpoint: journal_pb2.Checkpoint) -> bool:
    """Whether segments without a gap follow a checkpoint, up to now."""
    end = None
    for segment in header.segments:
        if segment.sealed and segment.end_sequence <= checkpoint.sequence + 1:
            continue
        if segment.first_sequence > (checkpoint.sequence + 1 if end is None else end):
            return False
        end = segment.end_sequence
    return end is not None


async def ask(
    peers: Peers,
    names: Iterable[str],
    method: Method,
    request: Message,
    deadline_s: float = CALL_S,
    is_enough: Callable[[Collection[str]], bool] = lambda answered: False,
) -> Answers:
    """Make a call to several nodes at once; every node's answer, or why there is none.

    is_enough   of the names that have answered well: whether to wait for no more. What comes later
                is not seen
    """
    calls: dict[str, asyncio.Future[Reply]] = {}
    answers: Answers = {}
    for name in names:
        peer = peers.peer(name)
        if peer is None:
            answers[name] = faults.Unavailable(f"{name} is not connected")
        else:
            calls[name] = peer.journal_call(method, request, deadline_s=deadline_s)
    pending = dict(calls)
    try:
        while pending:
            await asyncio.wait(pending.values(), return_when=asyncio.FIRST_COMPLETED)
            for name in [name for name, call in pending.items() if call.done()]:
                answers[name] = _outcome(pending.pop(name))
            if is_enough([name for name, answer in answers.items() if isinstance(answer, bytes)]):
                break
    finally:  # also of who is cancelled: calls go on without a listener
        for late in pending.values():
            late.add_done_callback(_forget)
    return answers


def _outcome(call: "asyncio.Future[Reply]") -> bytes | faults.Fault:
    try:
        return call.result().header
    except faults.Fault as fault:
        return fault


def _forget(call: "asyncio.Future[Reply]") -> None:
    if not call.cancelled():
        call.exception()  # seen


async def fence(
    peers: Peers,
    names: Iterable[str],
    caller: journal_pb2.Caller,
    is_enough: Callable[[Collection[str]], bool] = lambda answered: False,
) -> dict[str, journal_pb2.FenceReply]:
    """Ask for a promise, or with epoch 0 only look; the nodes that gave it.

    A node that holds another cluster's journal gives none.
    raises   Fenced if any node has promised a higher epoch
    """
    answers = await ask(
        peers, names, Method.JOURNAL_FENCE, journal_pb2.Fence(caller=caller), is_enough=is_enough
    )
    for answer in answers.values():
        if isinstance(answer, faults.Fenced):
            raise answer
    return {
        name: journal_pb2.FenceReply.FromString(answer)
        for name, answer in answers.items()
        if isinstance(answer, bytes)
    }


def newest_header(replies: Mapping[str, journal_pb2.FenceReply]) -> journal_pb2.Header | None:
    """The newest of what nodes have."""
    headers = [reply.header for reply in replies.values() if reply.header.cluster_id]
    return max(headers, key=age, default=None)


async def write_header(
    peers: Peers,
    caller: journal_pb2.Caller,
    header: journal_pb2.Header,
    names: Collection[str],
    is_enough: Callable[[Collection[str]], bool] = lambda answered: False,
) -> dict[str, bytes]:
    """Write a header to members; journal ids of those that have it now, by name.

    raises   Fenced
    """
    request = journal_pb2.WriteHeader(caller=caller, header=header)
    answers = await ask(peers, names, Method.JOURNAL_WRITE_HEADER, request, is_enough=is_enough)
    for answer in answers.values():
        if isinstance(answer, faults.Fenced):
            raise answer
    return {
        name: journal_pb2.WriteHeaderReply.FromString(answer).journal_id
        for name, answer in answers.items()
        if isinstance(answer, bytes)
    }
