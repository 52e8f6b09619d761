"""What would differ from run to run, made to come from the seed.

Random ids, nonces and jitter are drawn from the standard library's modules, and sets are walked in
the order of their members' hashes: both are replaced while a simulation runs. So are a few sizes,
that small runs meet what only large objects and long times would.
"""

import gc
import itertools
import os
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from common import fault_points, limits
from common.frames.client_peer import LendingFuture
from common.frames.peer import Peer
from metaservice import transaction
from storagenode.store import index
from tests.simulation.disk import Medium, SimulatedDatabase
from tests.simulation.loop import PROCESS

PART_BYTES_MIN = 20 * limits.KIB  # so that an upload has parts without having megabytes


def _reach(name: str) -> None:
    """Be at a fault point: of this process, not of all."""
    happen = PROCESS.get().points.pop(name, None)
    if happen is not None:
        happen()


@contextmanager
def deterministic(seed: str, media: dict[str, Medium]) -> Iterator[None]:
    """Run the product's code on the seed's random numbers and on simulated databases.

    media   by the first part of a database's folder
    """
    chance, serials = random.Random(seed), itertools.count()

    def number(self: Any) -> int:
        serial: int | None = getattr(self, "_simulated_serial", None)
        if serial is None:
            serial = self._simulated_serial = next(serials)
        return serial

    def open_index(folder: Path, *_: int) -> SimulatedDatabase:
        return SimulatedDatabase(media[folder.parts[1]], PROCESS.get(), folder)

    was_enabled, state = gc.isenabled(), random.getstate()
    gc.disable()  # a collection in the middle would run finalizers at its own times
    random.seed(seed)
    try:
        with (
            patch.object(secrets, "token_bytes", chance.randbytes),
            patch.object(secrets, "token_hex", lambda size: chance.randbytes(size).hex()),
            patch.object(transaction, "token_bytes", chance.randbytes),
            patch.object(os, "urandom", chance.randbytes),
            patch.object(LendingFuture, "__hash__", number),
            patch.object(Peer, "__hash__", number),
            patch.object(index, "RocksDatabase", open_index),
            patch.object(fault_points, "reach", _reach),
            patch.object(limits, "PART_BYTES_MIN", PART_BYTES_MIN),
        ):
            yield
    finally:
        random.setstate(state)
        if was_enabled:
            gc.enable()
