"""What every object must hold, so that a wrong, old or lost byte is noticed.

An object is a stamp, which names its slot and the number of the write, and then filler that the
stamp picks from shared random bytes. A key belongs to one client, so there is one write of it at
a time. Once an attempt of a write has failed, its key is never written again: that attempt may
still arrive, late. If no attempt was acknowledged, the old and the new content are both right.
"""

import struct
from dataclasses import dataclass, field
from random import Random

STAMP = struct.Struct(">8sQQ")
MAGIC = b"ostraka\n"
OFFSETS = 4093  # filler begins at one of so many places


class Filler:
    """Makes and checks contents of one size."""

    def __init__(self, size_bytes: int, random: Random) -> None:
        self.size_bytes = max(size_bytes, STAMP.size)
        self._bytes = random.randbytes(self.size_bytes + OFFSETS)

    def make(self, slot: int, write: int) -> bytes:
        """The content of the n-th write of a slot's key."""
        offset = (slot * 31 + write) % OFFSETS
        end = offset + self.size_bytes - STAMP.size
        return STAMP.pack(MAGIC, slot, write) + self._bytes[offset:end]

    def read(self, content: bytearray, slot: int) -> int:
        """Which write of a slot made this content; -1: none, it is wrong or another's."""
        magic, named, write = STAMP.unpack_from(content)
        if magic != MAGIC or named != slot:
            return -1
        return int(write) if content.startswith(self.make(slot, write)) else -1


@dataclass(slots=True)
class Slot:
    """A place in the load, and the key that stands there now.

    acceptable       writes that a read may find
    may_be_absent    no write of this key was ever acknowledged
    """

    number: int
    writes: int = 0
    generation: int = 0
    acceptable: set[int] = field(default_factory=set)
    may_be_absent: bool = True

    def key(self, prefix: str) -> str:
        """The key's name."""
        return f"{prefix}/{self.number}/{self.generation}"

    def begin_write(self) -> int:
        """Number the next write."""
        self.writes += 1
        return self.writes

    def acknowledge(self, write: int) -> None:
        """The store has said that it keeps this write: nothing older may be read from now on."""
        self.acceptable = {write}
        self.may_be_absent = False

    def doubt(self, write: int) -> None:
        """The outcome of a write is unknown: a read may find it, or what was there before."""
        self.acceptable = self.acceptable | {write}

    def retire(self) -> "Slot":
        """Take a new key for further writes; returns the old one as it stays."""
        old = Slot(self.number, self.writes, self.generation, self.acceptable, self.may_be_absent)
        self.generation += 1
        self.acceptable = set()
        self.may_be_absent = True
        return old
