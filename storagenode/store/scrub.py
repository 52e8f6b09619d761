"""The scrub of one disk: everything is read again and again, slowly, before anybody needs it.

A pass has two halves. First all fragments of the index, in its order: header, every block, trailer
against the index. Then all closed extents: a whole fragment that has neither row nor tombstone has
lost its row, which is put back. What is found bad is reported, and stays in the list of damaged
fragments until it is deleted or written anew. The place where a pass stands survives a restart.

The rate is what a pass in `pass_s` needs, at least `bytes_per_s_min`; while others use the disk,
a part of it.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice

from prometheus_client import Counter

from common import fault_points, faults, limits
from common.clock import Clock
from storagenode.store.disk import Disk
from storagenode.store.extents import Extent, find_blocking
from storagenode.store.files import Files
from storagenode.store.index import row_key
from storagenode.store.record import Record

log = logging.getLogger(__name__)

FORMAT = 1
STEP_S = 1.0  # of work that one step does
SAVE_S = 30.0  # so much of a pass is done again after a crash
ROWS_PER_SCAN = 64
FOUND_PER_HOP = 64
HOP_BYTES_MAX = limits.MIB  # verified at once: about a millisecond of a thread
BUSY_BYTES_PER_S = 2 * limits.MIB  # of others: beyond it the scrub gives way
BUSY_SHARE = 0.25
DAMAGED_MAX = 10_000

VERIFIED = Counter("ostraka_scrub_bytes", "Bytes that the scrub has read", ["disk"])
FOUND = Counter("ostraka_scrub_found", "Fragments that the scrub found bad", ["disk", "reason"])
RESTORED = Counter("ostraka_scrub_rows_restored", "Index rows put back from extents", ["disk"])


@dataclass(frozen=True, slots=True)
class ScrubSettings:
    """How fast; see StorageNodeConfig."""

    pass_s: float
    bytes_per_s_min: int
    bytes_per_s_max: int
    pause_s: float


@dataclass(slots=True)
class Progress:
    """Where a disk's scrub stands; a small file on the disk."""

    pass_number: int = 1
    after: str = ""  # hex of the last fragment id of the index
    extent: int = 0  # closed extents up to this one are done, once the index is
    is_index_done: bool = False
    begun_ns: int = 0
    finished_ns: int = 0  # of the last whole pass
    bytes_done: int = 0
    found: int = 0  # in this pass
    format: int = FORMAT


class Scrubber:
    """Scrubs one disk; `step` is called again and again, with a pause of STEP_S between."""

    def __init__(self, disk: Disk, files: Files, clock: Clock, settings: ScrubSettings) -> None:
        self._disk = disk
        self._files = files
        self._clock = clock
        self._settings = settings
        self._path = disk.settings.folder / "scrub.json"
        self.progress = self._load()
        self._saved_s = clock.monotonic_s()
        self._others_bytes = 0
        self._resting_until_s = 0.0
        self._extent: Extent | None = None
        self._finding: Iterator[tuple[Record, bytes | None]] | None = None

    @property
    def share(self) -> float:
        """How much of the pass is done, about."""
        used = max(self._disk.used_bytes, 1)
        return min(self.progress.bytes_done / used, 1.0) if not self.is_resting else 1.0

    @property
    def is_resting(self) -> bool:
        """Whether a pass is done and the next one has not begun."""
        return self._clock.monotonic_s() < self._resting_until_s

    async def step(self) -> None:
        """Do about STEP_S's worth. raises Unavailable while the disk cannot be read"""
        with self._disk.in_use():
            await self._step()

    async def _step(self) -> None:
        disk = self._disk
        if (
            not disk.fragment_count
            or self.is_resting
            or disk.state == "failed"
            or disk.is_rebuilding
        ):
            return
        progress = self.progress
        if not progress.begun_ns:
            progress.begun_ns = self._clock.now_ns()
        budget = self._budget()
        while budget > 0:
            done = await (self._find_some() if progress.is_index_done else self._verify_some())
            if done is None:
                self._finish()
                break
            budget -= done
            progress.bytes_done += done
            VERIFIED.labels(str(disk.identity.disk_id)).inc(done)
        if self._clock.monotonic_s() - self._saved_s >= SAVE_S:
            await self.save()

    def _budget(self) -> float:
        """Bytes of this step: less while others use the disk."""
        settings, counters = self._settings, self._disk.counters
        rate = max(self._disk.used_bytes / settings.pass_s, settings.bytes_per_s_min)
        rate = min(rate, settings.bytes_per_s_max)
        others = counters.bytes_read + counters.bytes_written
        used, self._others_bytes = others - self._others_bytes, others
        is_busy = used > BUSY_BYTES_PER_S * STEP_S
        return rate * STEP_S * (BUSY_SHARE if is_busy else 1.0)

    # --- the index against the extents ----------------------------------------------------------

    async def _verify_some(self) -> int | None:
        """Verify the next rows; returns the bytes read."""
        disk, progress = self._disk, self.progress
        rows = disk.page(bytes.fromhex(progress.after), b"", ROWS_PER_SCAN)
        if not rows:
            progress.is_index_done, progress.extent = True, 0
            return 0
        rows = _some(rows)
        done = 0
        for (record, table), verdict in zip(rows, await disk.verify(*rows), strict=True):
            done += verdict.bytes_read or record.header_bytes
            if verdict.fault:
                await self._judge(record, table)
        fault_points.reach("scrub.after_verify")
        last = rows[-1][0]
        progress.after = row_key(last.blob_id, last.index).hex()
        return done

    async def _judge(self, record: Record, table: bytes) -> None:
        """Note a bad fragment, if it is still where it was read."""
        disk = self._disk
        known = disk.lookup(record.blob_id, record.index)
        if known is None or known != (record, table):
            return  # deleted or moved meanwhile
        # A second look: memory and buses flip bits too, and those are no damage of the disk.
        (verdict,) = await disk.verify((record, table))
        if verdict.fault and disk.lookup(record.blob_id, record.index) == (record, table):
            self.progress.found += 1
            FOUND.labels(str(disk.identity.disk_id), verdict.fault).inc()
            disk.note_damage(record.blob_id, record.index, verdict.fault)

    # --- the extents against the index ----------------------------------------------------------

    async def _find_some(self) -> int | None:
        """Look at the next fragments of the extents; None: the pass is done."""
        disk = self._disk
        if self._finding is None:
            self._extent = self._next_extent()
            if self._extent is None:
                return None
            self._finding = find_blocking(self._extent)
        extent = self._extent
        assert extent is not None, "set with the finding"
        if disk.extents.by_number.get(extent.number) is not extent:  # removed since the last step
            self.progress.extent, self._finding = extent.number, None
            return 0
        extent.readers += 1
        try:
            found: list[tuple[Record, bytes | None]] = await disk.run_scrub(
                list, islice(self._finding, FOUND_PER_HOP)
            )
        except (OSError, faults.Corrupt) as error:
            log.error("an extent cannot be read: %s", error, extra={"extent": extent.number})
            found = []
        finally:
            extent.readers -= 1
        done = 0
        for record, table in found:
            done += min(record.record_bytes, limits.MIB)
            if table is not None:
                await self._restore(record, table)
        if len(found) < FOUND_PER_HOP:
            self.progress.extent, self._finding = extent.number, None
        return done

    def _next_extent(self) -> Extent | None:
        numbers = [
            number
            for number, extent in self._disk.extents.by_number.items()
            if number > self.progress.extent and extent.is_closed
        ]
        return self._disk.extents.by_number[min(numbers)] if numbers else None

    async def _restore(self, record: Record, table: bytes) -> None:
        """Put back the row of a whole fragment that nothing in the index explains."""
        disk = self._disk
        if self._is_explained(record):
            return
        (verdict,) = await disk.verify((record, table))
        if verdict.fault or self._is_explained(record):
            return
        disk.restore(record, table)
        RESTORED.labels(str(disk.identity.disk_id)).inc()
        log.error("a lost index row was put back", extra={"blob": record.blob_id.hex()})

    def _is_explained(self, record: Record) -> bool:
        """Whether the index says why a fragment found in an extent is there: a row, a tombstone."""
        name, disk = (record.blob_id, record.index), self._disk
        return disk.lookup(*name) is not None or disk.index.tombstone(*name) is not None

    # --- progress -------------------------------------------------------------------------------

    def _finish(self) -> None:
        progress = self.progress
        log.info("scrubbed", extra={"disk": str(self._path.parent), "found": progress.found})
        self.progress = Progress(
            pass_number=progress.pass_number + 1, finished_ns=self._clock.now_ns()
        )
        self._saved_s = 0.0
        self._resting_until_s = self._clock.monotonic_s() + self._settings.pause_s

    def begin_again(self) -> None:
        """Begin the pass anew: the disk was closed and opened again."""
        self.progress = Progress(self.progress.pass_number, finished_ns=self.progress.finished_ns)
        self._extent = self._finding = None
        self._resting_until_s = 0.0

    def _load(self) -> Progress:
        data = self._files.read_file(self._path)
        try:
            document = json.loads(data) if data is not None else {}
            return Progress(**document) if document.get("format") == FORMAT else Progress()
        except (ValueError, TypeError):
            return Progress()  # only the place in a pass is lost

    async def save(self) -> None:
        """Put the place where the pass stands on disk."""
        data = json.dumps(asdict(self.progress)).encode()
        self._saved_s = self._clock.monotonic_s()
        await self._disk.run_scrub(self._files.replace_file, self._path, data)


def _some(rows: list[tuple[Record, bytes]]) -> list[tuple[Record, bytes]]:
    """The first rows, at least one, within HOP_BYTES_MAX."""
    held = 0
    for count, (record, _) in enumerate(rows):
        held += record.record_bytes
        if held > HOP_BYTES_MAX:
            return rows[: max(count, 1)]
    return rows
