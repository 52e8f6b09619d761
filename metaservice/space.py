"""Room on the disk of the metadata: nothing new is taken before the engine fails for want of it.

An engine that cannot write ends the service, and with it everything, deletes too. So below a
reserve calls that store something new are refused (Full), while reads and deletes go on.
"""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from common import faults

log = logging.getLogger(__name__)

Operation = Callable[..., Awaitable[Any]]


class SpaceGuard:
    """Knows whether there is room. Without a directory (memory engine) there always is."""

    def __init__(self, directory: Path | None = None, reserve_bytes: int = 0) -> None:
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self.is_low = False

    async def look(self) -> None:
        """Ask the file system."""
        if self._directory is None:
            return
        usage = await asyncio.get_running_loop().run_in_executor(
            None, shutil.disk_usage, self._directory
        )
        was_low, self.is_low = self.is_low, usage.free < self._reserve_bytes
        if self.is_low != was_low:
            words = "nearly full: nothing new is taken" if self.is_low else "no longer full"
            log.warning("the disk of the metadata is %s", words, extra={"free": usage.free})

    def guarded(self, run: Operation) -> Operation:
        """An operation that stores something new, refused while there is no room. raises Full"""

        async def guarded(*arguments: Any) -> Any:
            if self.is_low:
                raise faults.Full("the disk of the metadata")
            return await run(*arguments)

        return guarded
