"""A journal whose disk has failed is opened anew by its node, when that disk is well again.

It is the same as a new start of the process: the metadata service has taken another node for its
segments meanwhile, and may take this one for later ones. A record whose sync failed was refused; if
it is found all the same, that is what recovery has to expect of any node that died.
"""

import logging

from common.clock import Clock
from storagenode.journal.journal import NodeJournal
from storagenode.trials import Trials

log = logging.getLogger(__name__)


class JournalReopener:
    """Opens a journal anew whenever it has failed; `step` is called again and again."""

    def __init__(self, journal: NodeJournal, clock: Clock) -> None:
        self._journal, self._trials = journal, Trials(clock)

    async def step(self) -> None:
        """Try it if it has failed and its pause is over."""
        if not self._trials.is_due(is_failed=self._journal.is_failed):
            return
        try:
            await self._journal.reopen()
            log.warning("the journal was opened anew and is used")
        except OSError as error:
            self._trials.wait_longer()
            log.error("the journal's disk still fails: %s", error)  # noqa: TRY400 - no bug
