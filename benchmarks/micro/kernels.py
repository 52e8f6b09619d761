"""Speed of the byte kernels on one core: hashes, sealing, coding, and whole stripes.

    python -m benchmarks.micro.kernels [--seconds 0.2] [--only stripe]

Each line is the best of several rounds, so that other work on the machine disturbs little. MB/s
count user data (plaintext, or data cells), 10^6 bytes; what has no bytes is given in microseconds.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from common import checksum, limits
from common.buffers import Buffer, BufferPool
from common.erasure.code import Codes, ErasureCode, load_codes
from common.erasure.layout import BLOCK_BYTES, FULL_CELL_BYTES, BlobLayout, StripeRead
from common.keyring import KeyRing
from common.placement.choose import choose_disks
from common.placement.topology import Profile, Topology
from gateway.objects.encryption import BlobCipher, DataKey
from gateway.objects.stripes import CellSet, encode_blocking, open_checked_blocking
from proto import records_pb2

ROUNDS = 5
PROFILES = ((1, 2), (2, 1), (2, 2), (4, 2), (8, 3))
ZFEC_CELL_BYTES = 64 * limits.KIB  # it is slow: a full cell would take seconds


@dataclass(frozen=True, slots=True)
class Measure:
    """One line: what is run, and how many bytes of user data it handles; 0: none."""

    name: str
    run: Callable[[], object]
    size_bytes: int = 0


def best_s(run: Callable[[], object], round_s: float) -> float:
    """Seconds of one call, in the best round."""
    run()
    begin = time.perf_counter()
    run()
    count = max(1, int(round_s / max(time.perf_counter() - begin, 1e-7)))
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(count):
            run()
        best = min(best, (time.perf_counter() - begin) / count)
    return best


def filled(pool: BufferPool, size: int) -> Buffer:
    """A buffer of random bytes."""
    buffer = pool.take_now(size)
    buffer.view[:] = os.urandom(size)
    return buffer


def hashes(pool: BufferPool) -> Iterator[Measure]:
    """Digests of 1 MiB, and the CRCs of a cell's blocks."""
    data = filled(pool, limits.MIB).view
    for algorithm in sorted(checksum.ALGORITHMS):
        yield Measure(
            f"hash {algorithm}",
            partial(checksum.digest, algorithm, data),
            limits.MIB,
        )
    cell = filled(pool, FULL_CELL_BYTES).view
    yield Measure(
        "hash blocks of a cell", lambda: checksum.crc32c_blocks(cell, BLOCK_BYTES), FULL_CELL_BYTES
    )


def codes(pool: BufferPool) -> Iterator[Measure]:
    """Encoding, and recreating one or two data cells, with both kernels."""
    best, reference = load_codes(), Codes(None, "zfec")
    for loaded, cell_bytes in ((best, FULL_CELL_BYTES), (reference, ZFEC_CELL_BYTES)):
        for k, m in PROFILES:
            code = loaded.get(k, m)
            stripe = filled(pool, code.n * cell_bytes)
            yield Measure(
                f"code {k}+{m} encode, {loaded.kernel}",
                partial(code.encode, stripe.address, cell_bytes),
                k * cell_bytes,
            )
            if k > 1:
                yield from _reconstructions(code, stripe, cell_bytes, loaded.kernel)


def _reconstructions(
    code: ErasureCode, stripe: Buffer, cell_bytes: int, kernel: str
) -> Iterator[Measure]:
    places = {index: stripe.address + index * cell_bytes for index in range(code.n)}
    for lost in range(1, min(code.m, 2) + 1):
        available = {index: place for index, place in places.items() if index >= lost}
        wanted = {index: places[index] for index in range(lost)}
        yield Measure(
            f"code {code.k}+{code.m} recreate {lost}, {kernel}",
            partial(code.reconstruct, available, wanted, cell_bytes),
            code.k * cell_bytes,
        )


def stripes(pool: BufferPool) -> Iterator[Measure]:
    """Whole stripes of 4+2: sealed, coded, checksummed; and verified, opened, decoded around."""
    code = load_codes().get(4, 2)
    for size in (64 * limits.KIB, limits.MIB, 4 * limits.MIB):
        layout = BlobLayout(4, 2, size)
        stripe, read = layout.stripe(0), next(layout.locate(0, size))
        plain, opened = filled(pool, size), pool.take_now(size)
        coded = pool.take_now(code.n * stripe.cell_bytes)
        cipher = DataKey.make().sealer(bytes(16), 0, stripe.packages)
        encode = partial(encode_blocking, code, cipher, stripe, plain.view, coded)
        tables = encode()
        cells = CellSet(code, stripe, coded)
        cells.spans = {index: (0, stripe.cell_bytes) for index in range(2, code.n)}
        open_healthy = partial(_open, cells, cipher, read, opened.view, tables)
        name = f"{size // limits.KIB} KiB"
        yield Measure(f"stripe encode {name}", encode, size)
        yield Measure(f"stripe open {name}", open_healthy, size)
        yield Measure(
            f"stripe open, two cells lost, {name}", partial(_open_around, cells, open_healthy), size
        )


def _open(
    cells: CellSet, cipher: BlobCipher, read: StripeRead, plain: memoryview, tables: list[bytes]
) -> None:
    """Verify and open the data cells of a stripe."""
    for index in range(cells.code.k):
        cells.spans[index], cells.unverified[index] = (0, read.stripe.cell_bytes), tables[index]
    assert not open_checked_blocking(cells, cipher, read, plain), "as it was written"


def _open_around(cells: CellSet, open_healthy: Callable[[], None]) -> None:
    """Recreate two data cells first. They are verified too: as many bytes as the two others."""
    span = (0, cells.stripe.cell_bytes)
    cells.reconstruct_blocking({0: span, 1: span}, span)
    open_healthy()


def small_steps(_: BufferPool) -> Iterator[Measure]:
    """What every request pays: keys, inline data, geometry, placement."""
    ring, key, data = KeyRing.make(), DataKey.make(), os.urandom(4 * limits.KIB)
    wrapped, sealed = key.wrap(ring), key.seal_inline(data)
    record = records_pb2.Topology(epoch=1)
    for number in range(1, 7):
        record.disks.add(
            disk_id=number, disk_uuid=os.urandom(16), node_name=f"n{number}", zone=f"z{number}",
            capacity_bytes=limits.TIB,
        )  # fmt: skip
    topology, profile = Topology(record), Profile("STANDARD", 4, 2, limits.CELL_BYTES)
    blob_id, layout = os.urandom(16), BlobLayout(4, 2, limits.BLOB_BYTES_MAX)
    yield Measure("step make and wrap a key", lambda: DataKey.make().wrap(ring))
    yield Measure("step unwrap a key", lambda: DataKey.unwrap(wrapped, ring))
    yield Measure("step seal 4 KiB inline", lambda: key.seal_inline(data))
    yield Measure("step open 4 KiB inline", lambda: key.open_inline(sealed))
    yield Measure("step choose 6 of 6 disks", lambda: choose_disks(topology, profile, blob_id))
    yield Measure(
        "step choose, a zone down", lambda: choose_disks(topology, profile, blob_id, ("n3",))
    )
    yield Measure("step locate 1 byte", lambda: list(layout.locate(33_000_000, 33_000_001)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one round of five")
    parser.add_argument("--only", default="", help="lines that begin with this: hash code stripe")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, {load_codes().kernel}\n")
    print("| kernel | MB/s | us per call |")
    print("|---|---:|---:|")
    pool = BufferPool(limits.GIB)
    for group in (hashes, codes, stripes, small_steps):
        for measure in group(pool):
            if measure.name.startswith(arguments.only):
                seconds = best_s(measure.run, arguments.seconds)
                rate = f"{measure.size_bytes / seconds / 1e6:,.0f}" if measure.size_bytes else ""
                print(f"| {measure.name} | {rate} | {seconds * 1e6:,.1f} |", flush=True)


if __name__ == "__main__":
    main()
