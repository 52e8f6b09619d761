"""A disk that has failed is tried again by its node: closed, opened as at a start, and scrubbed.

Nobody else would do it, and what a failed disk holds is doubled on others after a grace time. What
may be trusted afterwards, after a failed fsync above all:

- Acknowledged fragments and deletions were synced by a sync that succeeded, before the failure;
  nothing that a failed sync was to cover has ever been acknowledged. So no sync is repeated here:
  what was under way has been refused, and unfinished fragments are given up.
- What such a sync has left behind may be in the page cache and not on the medium. A fragment
  without a row in the index gets one only if it is whole on the medium, read past the cache, and a
  sync of its extent then succeeds (`recover.py`). Rows of the index itself are written anew into
  new files by the engine when it opens.
- All the rest is read back from the medium by a scrub that begins again.

That is no more than a new start of the process would do, and no less. Before the disk is closed a
small file is written, synced and read, so that one that still fails goes on serving what can be
read from it.
"""

import logging

from prometheus_client import Counter

from common import faults
from common.clock import Clock
from storagenode.store.disk import Disk
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.scrub import Scrubber
from storagenode.trials import Trials

log = logging.getLogger(__name__)

TRIALS = Counter("ostraka_disk_reopened", "Trials to open a failed disk again", ["disk", "outcome"])


class Reopener:
    """Opens one disk again whenever it has failed; `step` is called again and again."""

    def __init__(self, disk: Disk, store: FragmentStore, scrubber: Scrubber, clock: Clock) -> None:
        self._disk, self._store, self._scrubber = disk, store, scrubber
        self._trials = Trials(clock)

    async def step(self) -> None:
        """Try the disk if it has failed and its pause is over. raises nothing of the disk's"""
        disk, trials = self._disk, self._trials
        # One whose index is being rebuilt is in use; that ends by itself.
        if trials.is_due(is_failed=bool(disk.failure)) and not disk.is_rebuilding:
            outcome = await self._try()
            TRIALS.labels(str(disk.identity.disk_id), "failed" if outcome else "opened").inc()
            folder = {"disk": str(disk.settings.folder)}
            if outcome:
                trials.wait_longer()
                log.error("the disk still fails: %s", outcome, extra=folder)
            else:
                log.warning("the disk was opened again and is used", extra=folder)
        disk.next_trial_ns = trials.next_ns

    async def _try(self) -> str:
        """Returns why the disk still fails; empty: it does not."""
        disk = self._disk
        try:
            await disk.probe()
            if disk.health.is_waiting:  # closing would wait for it, and nothing be read meanwhile
                return "a call has not come back"
            await disk.withdraw()
            self._store.give_up(disk)
            await disk.open_again()
            self._scrubber.begin_again()
        except OSError as error:
            return str(error)
        except faults.Fault as fault:
            return faults.in_words(fault)
        return disk.failure
