"""Which master key wraps what, and the pass that wraps everything by the active one.

Whatever a commit brings is wrapped by the active key in that commit, whatever its gateway knew.
So a pass over all rows that began after a rotation leaves nothing that names an older key, and
what it found nowhere stays nowhere. The pass reads a page per commit from a cursor that is a row
itself: whoever goes on begins there. It begins whenever the active key is another than the last
pass wrapped by.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from google.protobuf.message import Message

from common import faults, limits
from common.keyring import DATA_KEY_CONTEXT, KeySource, key_id_of
from metaservice import keys
from metaservice.operations.credentials import SECRET_CONTEXT
from metaservice.transaction import Transaction
from proto import admin_pb2, meta_pb2, records_pb2

PASS = keys.single("key_pass")
# Change records last: they are written from versions.
KINDS: dict[bytes, type[Message]] = {
    b"k": records_pb2.AccessKey,
    b"u": records_pb2.Upload,
    b"f": records_pb2.Upload,
    b"p": records_pb2.Part,
    b"v": records_pb2.Version,
    b"c": records_pb2.ChangeRecord,
}
ORDER = tuple(KINDS)
ROWS_PER_PAGE_MAX = 500
REWRAPPED_PER_PAGE_MAX = limits.TRANSACTION_OPERATIONS_MAX - 8

Operation = Callable[..., Awaitable[Any]]


class _Secret:
    """One wrapped secret in a record."""

    def __init__(self, record: Any, field: str, context: bytes) -> None:
        self._record, self._field, self._context = record, field, context

    @property
    def wrapped(self) -> bytes:
        value: bytes = getattr(self._record, self._field)
        return value

    def rewrap(self, ring: KeySource) -> None:
        """Wrap it by the active key. raises NotFound, Corrupt"""
        setattr(self._record, self._field, ring.rewrap(self.wrapped, self._context))


class MasterKeys:
    """Operations of the pass, and guards of commits."""

    def __init__(self, ring: KeySource | None) -> None:
        """ring   None: nothing is wrapped anew"""
        self._ring = ring

    # --- what commits bring ---------------------------------------------------------------------

    def version_by_active(self, commit: Operation) -> Operation:
        """`commit_version` that stores no data key wrapped by another key than the active one."""
        return self._by_active(commit, lambda request: request.version.encryption)

    def part_by_active(self, commit: Operation) -> Operation:
        """The same for `commit_part`."""
        return self._by_active(commit, lambda request: request.part.encryption)

    def _by_active(
        self, commit: Operation, encryption_of: Callable[[Any], records_pb2.Encryption]
    ) -> Operation:
        ring = self._ring
        if ring is None:
            return commit

        def run(transaction: Transaction, request: Any, *data: bytes) -> Awaitable[Any]:
            encryption = encryption_of(request)
            if encryption.wrapped_key and not ring.is_current(encryption.wrapped_key):
                _renew(ring, encryption)
            return commit(transaction, request, *data)

        return run

    # --- the pass -------------------------------------------------------------------------------

    async def rewrap_keys(
        self, transaction: Transaction, request: meta_pb2.RewrapKeys
    ) -> meta_pb2.RewrapKeysReply:
        """Look at the next page of rows; wrap by the active key what is wrapped by another."""
        ring = self._ring
        progress = records_pb2.KeyPass.FromString(await transaction.get(PASS) or b"")
        if ring is None or not request.limit or _is_done(progress, ring):
            due = ring is not None and not _is_done(progress, ring)
            return meta_pb2.RewrapKeysReply(progress=progress, due=due)
        if progress.active != ring.active_id:
            progress = records_pb2.KeyPass(active=ring.active_id, cursor=ORDER[0])
        await self._page(transaction, ring, progress, min(request.limit, ROWS_PER_PAGE_MAX))
        transaction.put(PASS, progress.SerializeToString())
        return meta_pb2.RewrapKeysReply(progress=progress, due=not progress.done)

    async def picture(
        self, transaction: Transaction, _request: admin_pb2.MasterKeysRequest
    ) -> admin_pb2.MasterKeysReply:
        """Where the pass is."""
        stored = await transaction.get_unchecked(PASS)
        progress = records_pb2.KeyPass.FromString(stored or b"")
        ring = self._ring
        if ring is None:
            raise faults.Unsupported("the service has no key ring")
        return admin_pb2.MasterKeysReply(
            active=ring.active_id, progress=progress, due=not _is_done(progress, ring)
        )

    async def _page(
        self, transaction: Transaction, ring: KeySource, progress: records_pb2.KeyPass, limit: int
    ) -> None:
        kind = progress.cursor[:1]
        record_type, rewrapped = KINDS[kind], 0
        rows = await transaction.scan(progress.cursor, keys.after(kind), limit)
        for key, value in rows:
            progress.rows += 1
            progress.cursor = key + b"\x00"
            record = record_type.FromString(value)
            if _rewrap_all(kind, record, ring, progress):
                transaction.require(key, value)
                transaction.put(key, record.SerializeToString())
                rewrapped += 1
                if rewrapped == REWRAPPED_PER_PAGE_MAX:
                    return
        if len(rows) == limit:
            return
        place = ORDER.index(kind) + 1
        if place < len(ORDER):
            progress.cursor = ORDER[place]
        else:
            progress.done, progress.ended_ns = True, transaction.now_ns


def _is_done(progress: records_pb2.KeyPass, ring: KeySource) -> bool:
    return progress.done and progress.active == ring.active_id


def _renew(ring: KeySource, encryption: records_pb2.Encryption) -> None:
    """Wrap a data key by the active key; one that is newer than this service's ring stays.

    raises   Unavailable if the key was destroyed: the gateway must read its key ring again
    """
    try:
        encryption.wrapped_key = ring.rewrap(encryption.wrapped_key, DATA_KEY_CONTEXT)
    except faults.NotFound:
        if ring.is_destroyed(encryption.wrapped_key):
            raise faults.Unavailable("the gateway's key ring is out of date") from None


def _rewrap_all(kind: bytes, record: Any, ring: KeySource, progress: records_pb2.KeyPass) -> bool:
    """Wrap all secrets of a record by the active key; whether one was wrapped anew."""
    is_changed = False
    for secret in _secrets_of(kind, record):
        if not secret.wrapped or ring.is_current(secret.wrapped):
            continue
        try:
            secret.rewrap(ring)
        except (faults.NotFound, faults.Corrupt):  # stays as it is, and is told of
            progress.left[key_id_of(secret.wrapped)] += 1
        else:
            progress.rewrapped += 1
            is_changed = True
    return is_changed


def _secrets_of(kind: bytes, record: Any) -> Iterator[_Secret]:
    if kind == b"k":
        yield _Secret(record, "sealed_secret", SECRET_CONTEXT)
    elif kind in (b"p", b"v"):
        yield _Secret(record.encryption, "wrapped_key", DATA_KEY_CONTEXT)
    elif kind == b"c":
        yield _Secret(record.version.encryption, "wrapped_key", DATA_KEY_CONTEXT)
    else:
        yield _Secret(record.draft.encryption, "wrapped_key", DATA_KEY_CONTEXT)
        yield _Secret(record.completed.encryption, "wrapped_key", DATA_KEY_CONTEXT)
