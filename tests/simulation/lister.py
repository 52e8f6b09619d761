"""Listings: each page is a read of every key of its range, and of every version it shows."""

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.s3.model.listing import ListObjectsV2Request, ListObjectVersionsRequest
from tests.simulation.asking import AMBIGUOUS
from tests.simulation.history import History
from tests.simulation.loop import SimulatedLoop
from tests.simulation.plan import KEYS, Action, Request
from tests.support.linearizability import Kind, Marker, Operation

PAGE_KEYS = 2
PAGE_VERSIONS = 3
DELIMITER = "/"

Ask = Callable[[str, Any], Awaitable[tuple[Any, bytes]]]


class Lister:
    """Makes listings and writes down what they showed."""

    def __init__(self, loop: SimulatedLoop, history: History) -> None:
        self._loop, self._history = loop, history

    async def walk(self, request: Request, call: Ask) -> None:
        """Make one listing, all of its pages."""
        kinds = {
            Action.LIST: self._list_keys,
            Action.LIST_ROLLED: self._list_rolled,
            Action.LIST_VERSIONS: self._list_versions,
        }
        try:
            await kinds[request.action](request, call)
        except AMBIGUOUS:
            return
        self._loop.seen[f"{request.action.name} answered"] += 1

    async def _list_keys(self, request: Request, call: Ask) -> None:
        """Walk all pages, now and then from a marker on."""
        after, token = request.key if request.chance < 0.3 else "", None
        start_after = after or None
        while True:
            begin_s = self._loop.now_s
            shape = ListObjectsV2Request(
                bucket=request.bucket,
                max_keys=PAGE_KEYS,
                continuation_token=token,
                start_after=start_after,
            )
            page, _ = await call("ListObjectsV2", shape)
            shown = {entry.key: entry.etag.strip('"') for entry in page.contents or ()}
            last = max(shown) if page.is_truncated else None
            if any(key <= after for key in shown):
                self._history.violate("wrong page", f"{sorted(shown)} after {after!r}")
            times = (begin_s, self._loop.now_s)
            self._history.add_page(request.bucket, shown, after, last, times)
            if not page.is_truncated:
                return
            after, token = last or "", page.next_continuation_token

    async def _list_rolled(self, request: Request, call: Ask) -> None:
        """One page with a delimiter: a prefix that is not shown has no key."""
        begin_s = self._loop.now_s
        shape = ListObjectsV2Request(bucket=request.bucket, delimiter=DELIMITER)
        page, _ = await call("ListObjectsV2", shape)
        times = (begin_s, self._loop.now_s)
        shown = {entry.key: entry.etag.strip('"') for entry in page.contents or ()}
        rolled = {entry.prefix for entry in page.common_prefixes or ()}
        if any(DELIMITER in key for key in shown):
            self._history.violate("wrong page", f"{sorted(shown)} should be rolled up")
        wanted = {key.split(DELIMITER)[0] + DELIMITER for key in KEYS if DELIMITER in key}
        if not rolled <= wanted:
            self._history.violate("wrong page", f"unknown prefixes {rolled - wanted}")
        self._history.add_page(request.bucket, shown, "", None, times, delimiter=DELIMITER)
        for prefix in sorted(wanted - rolled):
            self._history.add_absent(request.bucket, prefix, times)

    async def _list_versions(self, request: Request, call: Ask) -> None:
        """Walk all pages: each shows versions that are there, and which of them are newest."""
        key_marker, version_marker = None, None
        while True:
            begin_s = self._loop.now_s
            known = {key: dict(self._versions(request, key)) for key in KEYS}
            shape = ListObjectVersionsRequest(
                bucket=request.bucket,
                max_keys=PAGE_VERSIONS,
                key_marker=key_marker,
                version_id_marker=version_marker,
            )
            page, _ = await call("ListObjectVersions", shape)
            times = (begin_s, self._loop.now_s)
            markers = {(each.key, each.version_id) for each in page.delete_markers or ()}
            entries = [*(page.versions or ()), *(page.delete_markers or ())]
            end = page.next_key_marker if page.is_truncated else None
            for key in KEYS:
                mine = [each for each in entries if each.key == key]
                self._note(request, key, mine, markers, times)
                is_whole = (key_marker is None or key > key_marker) and (end is None or key < end)
                if is_whole:
                    self._note_absent(request, key, mine, known[key], times)
            if not page.is_truncated:
                return
            key_marker, version_marker = page.next_key_marker, page.next_version_id_marker

    def _versions(self, request: Request, key: str) -> dict[str, Any]:
        return self._history.versions.get((request.bucket, key), {})

    def _note(
        self,
        request: Request,
        key: str,
        entries: list[Any],
        markers: set[tuple[str, str]],
        times: tuple[float, float],
    ) -> None:
        """Each version shown is there; the newest is what a read finds."""
        history, place = self._history, (request.bucket, key)
        for entry in entries:
            if (key, entry.version_id) in markers:
                if entry.is_latest:
                    history.add(place, Operation(Kind.READ, *times, label="version listing"))
                continue
            values = history.writers(place, entry.etag.strip('"'))
            if not values:
                history.violate("unknown value", f"ETag {entry.etag} was listed", place)
            if len(values) != 1:
                continue
            value = values[0]
            if entry.is_latest:
                history.add(place, Operation(Kind.READ, *times, value, label="version listing"))
            if entry.version_id != "null":
                history.add(
                    place,
                    Operation(Kind.READ_VERSION, *times, value, value, label="version listing"),
                )

    def _note_absent(
        self,
        request: Request,
        key: str,
        entries: list[Any],
        known: dict[str, Any],
        times: tuple[float, float],
    ) -> None:
        """All versions of a key were to be shown: what was known and is not there is gone."""
        place, shown = (request.bucket, key), {entry.version_id for entry in entries}
        if not any(entry.is_latest for entry in entries):
            self._history.add(place, Operation(Kind.READ, *times, label="version listing"))
        for version_id, value in known.items():
            if version_id not in shown and not isinstance(value, Marker):
                self._history.add(
                    place,
                    Operation(Kind.READ_VERSION, *times, None, value, label="version listing"),
                )
