"""Folders that survive a power loss: a folder is there when the one that names it was synced."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Put a folder's names on disk. raises OSError"""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_durable_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder, with those above it, unless it is there; durable when this returns.

    Its own name is synced in any case: whoever made it may have been killed before the sync.
    raises   OSError
    """
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        path.mkdir(mode=mode if path == folder else 0o777, exist_ok=True)
        sync_folder(path.parent)
