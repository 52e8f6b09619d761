"""Access keys as gateways know them: looked up once, kept for a short while."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from common.clock import Clock

KEEP_S = 5.0  # a disabled or deleted key works no longer than this
KEEP_UNKNOWN_S = 1.0
ENTRIES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Credential:
    """An access key and whom it stands for."""

    access_key: str
    secret_key: str = field(repr=False)
    account_id: str
    canonical_id: str
    display_name: str
    user_arn: str
    is_enabled: bool = True


Lookup = Callable[[str], Awaitable[Credential | None]]


class CredentialCache:
    """Keeps found keys KEEP_S, unknown ones KEEP_UNKNOWN_S; asks once for many waiting requests."""

    def __init__(self, lookup: Lookup, clock: Clock) -> None:
        self._lookup = lookup
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, Credential | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Credential | None]] = {}

    async def get(self, access_key: str) -> Credential | None:
        """Find a key; None if there is none, or it is disabled."""
        entry = self._entries.get(access_key)
        if entry is not None and entry[0] > self._clock.monotonic_s():
            return entry[1]
        asking = self._asking.get(access_key)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(self._ask(access_key))
            self._asking[access_key] = asking
        return await asyncio.shield(asking)

    async def _ask(self, access_key: str) -> Credential | None:
        try:
            found = await self._lookup(access_key)
        finally:
            del self._asking[access_key]
        if found is not None and not found.is_enabled:
            found = None
        keep_s = KEEP_S if found is not None else KEEP_UNKNOWN_S
        self._entries[access_key] = (self._clock.monotonic_s() + keep_s, found)
        self._entries.move_to_end(access_key)
        if len(self._entries) > ENTRIES_MAX:
            self._entries.popitem(last=False)
        return found
