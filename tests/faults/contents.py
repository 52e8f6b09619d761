"""What objects hold: bytes that follow from a name, so that any range of any answer can be judged.

A value is a name like "r3-c5-17.65536": who wrote it, and its size in bytes. Every write of a
campaign writes a value of its own.
"""

import hashlib

KIB, MIB = 1024, 1024 * 1024
INLINE_BYTES, SMALL_BYTES, LARGE_BYTES = 1 * KIB, 64 * KIB, 2 * MIB
PART_BYTES = 5 * MIB
PERIOD_BYTES = 8191  # the stream of a value repeats; a prime, so that no stripe or block does


def name(writer: str, number: int, size_bytes: int) -> str:
    """A value."""
    return f"{writer}-{number}.{size_bytes}"


def size_of(value: str) -> int:
    """How many bytes a value stands for. raises ValueError for what is no value"""
    return int(value.rpartition(".")[2])


def contents(value: str) -> bytes:
    """The bytes of a value: the SHA-256 of the rest in front, then a stream made from the name."""
    size = size_of(value)
    stream = hashlib.shake_128(value.encode()).digest(PERIOD_BYTES)
    rest = stream * (size // PERIOD_BYTES + 1)
    digest = hashlib.sha256(rest[: max(0, size - 32)]).digest()
    return (digest + rest)[:size]


def etag_of(data: bytes) -> str:
    """The ETag of an object that was put in one piece."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def etag_of_parts(parts: list[bytes]) -> str:
    """The ETag of an object of several parts."""
    digests = [hashlib.md5(part, usedforsecurity=False).digest() for part in parts]
    whole = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
    return f'"{whole}-{len(parts)}"'
