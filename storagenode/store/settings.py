"""How a disk is used."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DiskSettings:
    """How one disk is used.

    share          of the file system's free space that this disk counts as its own
    reserve_bytes  kept free: no new fragments below it
    rebuilds_later  a lost index is rebuilt by rebuild.py while the disk is in use; else at once
    """

    folder: Path
    extent_bytes: int
    share: float
    reserve_bytes: int
    rebuilds_later: bool = False
