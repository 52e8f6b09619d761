"""Checksums between records and the members of wire shapes."""

import base64
from collections.abc import Iterable
from typing import Any

from proto import records_pb2

FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"


def member_name(algorithm: str) -> str:
    """`CRC32C` is the member checksum_crc32c of every shape that carries it."""
    return f"checksum_{algorithm.lower()}"


def checksum_members(checksums: Iterable[records_pb2.Checksum]) -> dict[str, Any]:
    """Members for a shape's constructor: the values, and their type."""
    members: dict[str, Any] = {}
    for checksum in checksums:
        members[member_name(checksum.algorithm)] = shown_value(checksum)
        members["checksum_type"] = COMPOSITE if checksum.composite else FULL_OBJECT
    return members


def part_members(checksums: Iterable[records_pb2.Checksum]) -> dict[str, Any]:
    """The same for parts, whose shapes have no type."""
    return {member_name(checksum.algorithm): shown_value(checksum) for checksum in checksums}


def shown_value(checksum: records_pb2.Checksum) -> str:
    """Base64, and the number of parts behind a digest of digests."""
    text = base64.b64encode(checksum.value).decode()
    return f"{text}-{checksum.part_count}" if checksum.composite else text
