"""What is asked of an endpoint: requests by size, method and number of connections."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.s3.signing import Target, signed_head
from common.limits import KIB, MIB

BUCKET = "benchmark"
READ, WRITE, MIXED = "GET", "PUT", "mixed"
UNSIGNED_BYTES_MIN = 64 * MIB  # the payload is not hashed by the client from here on
BYTES_OF_KEYS_MAX = 512 * MIB  # that reads of one size choose from
KEYS_MAX = 2000
MIX = ((4 * KIB, 12), (64 * KIB, 6), (1 * MIB, 2))  # size, share of 20
READS_OF_TEN = 7
MIXED_REQUESTS = 400
SEED = 1


@dataclass(frozen=True, slots=True)
class Request:
    """One request, signed, ready to be sent."""

    head: bytes
    body: bytes = b""
    size_bytes: int = 0  # of the object


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table."""

    kind: str
    size_bytes: int  # of every object; 0: several sizes
    connections: int

    @property
    def title(self) -> str:
        """As the table shows it."""
        streams = "1 stream" if self.connections == 1 else f"{self.connections} connections"
        if self.kind == MIXED:
            return f"mixed, 70 % reads, 4 KiB to 1 MiB, {streams}"
        return f"{self.kind} {named(self.size_bytes)}, {streams}"


DATA = tuple(
    Scenario(kind, size, connections)
    for size, connections in (
        (4 * KIB, 64), (64 * KIB, 32), (1 * MIB, 16), (64 * MIB, 1), (64 * MIB, 4),
    )
    for kind in (WRITE, READ)
) + (Scenario(MIXED, 0, 32),)  # fmt: skip


def named(size: int) -> str:
    """A size in words."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def key_count(size: int) -> int:
    """How many objects of a size there are."""
    return max(8, min(KEYS_MAX, BYTES_OF_KEYS_MAX // size))


def object_path(size: int, number: int) -> str:
    """Where an object of a size is."""
    return f"/{BUCKET}/{size}/{number}"


class Bodies:
    """Random bytes, made once: neither compression nor anything else may help a store."""

    def __init__(self) -> None:
        self._largest = Random(SEED).randbytes(max(scenario.size_bytes for scenario in DATA))
        self._by_size: dict[int, bytes] = {}

    def of(self, size: int) -> bytes:
        """A body of a size."""
        if size not in self._by_size:
            self._by_size[size] = self._largest[:size]
        return self._by_size[size]


def put(target: Target, size: int, number: int, body: bytes) -> Request:
    """Write an object."""
    unsigned = size >= UNSIGNED_BYTES_MIN
    path = object_path(size, number)
    return Request(signed_head(target, WRITE, path, body, unsigned=unsigned), body, size)


def get(target: Target, size: int, number: int) -> Request:
    """Read an object."""
    return Request(signed_head(target, READ, object_path(size, number)), b"", size)


def requests_of(scenario: Scenario, target: Target, bodies: Bodies) -> Sequence[Request]:
    """The requests of a scenario, to be sent one after another, again and again."""
    size = scenario.size_bytes
    if scenario.kind == MIXED:
        return _mixed(target, bodies)
    numbers = range(key_count(size))
    if scenario.kind == READ:
        return [get(target, size, number) for number in numbers]
    return [put(target, size, number, bodies.of(size)) for number in numbers]


def _mixed(target: Target, bodies: Bodies) -> list[Request]:
    random = Random(SEED)
    sizes, shares = zip(*MIX, strict=True)
    chosen = []
    for turn in range(MIXED_REQUESTS):
        size = random.choices(sizes, shares)[0]
        number = random.randrange(key_count(size))
        if turn % 10 < READS_OF_TEN:
            chosen.append(get(target, size, number))
        else:
            chosen.append(put(target, size, number, bodies.of(size)))
    return chosen
