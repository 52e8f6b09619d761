"""A disk's format file: whose it is, and whether it was closed in order."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from common import faults
from storagenode.store.files import Files

FORMAT = 2  # 1: without a log of deletions
NAME = "format.json"


@dataclass(slots=True)
class Identity:
    """A disk's format file."""

    disk_uuid: bytes
    cluster_id: str = ""
    disk_id: int = 0
    is_clean: bool = False
    format: int = FORMAT


def load_identity(files: Files, folder: Path) -> Identity:
    """Read a disk's identity, or make a new disk's. raises Invalid (newer format, unreadable)"""
    data = files.read_file(folder / NAME)
    if data is None:
        return Identity(disk_uuid=secrets.token_bytes(16))
    try:
        document = json.loads(data)
        if document["format"] > FORMAT:
            raise faults.Invalid("disk", str(folder), "of a newer Ostraka")
        return Identity(
            bytes.fromhex(document["disk_uuid"]),
            document["cluster_id"],
            document["disk_id"],
            document["is_clean"],
            document["format"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise faults.Invalid("disk", str(folder), f"{NAME} is damaged") from error


def save_identity(files: Files, folder: Path, identity: Identity) -> None:
    """Write a disk's identity; durable when this returns, and of the newest format from now on."""
    identity.format = FORMAT
    document = {
        "format": FORMAT,
        "disk_uuid": identity.disk_uuid.hex(),
        "cluster_id": identity.cluster_id,
        "disk_id": identity.disk_id,
        "is_clean": identity.is_clean,
    }
    files.replace_file(folder / NAME, json.dumps(document).encode())
