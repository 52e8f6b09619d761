"""Stripe geometry: which cells of which fragments hold which bytes of a blob.

A blob's plaintext is cut into packages of 64 KiB; each is sealed to 16 bytes more. The sealed
packages follow one another in stripes. A full stripe has k cells of CELL_PACKAGES sealed packages:
no package of it straddles cells. Only the last stripe may be shorter; its cells are a k-th of its
sealed bytes, zero-padded to equal length, so small objects stay small. A block, the unit of a
CRC32C, is a sealed package long, counted from each cell's begin: in full stripes one block is one
package, and a range read touches nothing else.

Pure arithmetic: no I/O, no state.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from common import faults
from common.limits import CELL_BYTES, PACKAGE_BYTES, PACKAGE_TAG_BYTES
from proto import records_pb2

LAYOUT_VERSION = 1
SEALED_BYTES = PACKAGE_BYTES + PACKAGE_TAG_BYTES
BLOCK_BYTES = SEALED_BYTES
CELL_PACKAGES = CELL_BYTES // PACKAGE_BYTES
FULL_CELL_BYTES = CELL_PACKAGES * SEALED_BYTES


@dataclass(frozen=True, slots=True)
class Stripe:
    """One stripe of a blob. Offsets of plaintext count from the blob's begin."""

    index: int
    plain_begin: int
    plain_bytes: int
    first_package: int
    packages: int
    sealed_bytes: int
    cell_bytes: int
    fragment_offset: int  # of its cells, in every fragment
    is_last: bool

    @property
    def has_whole_packages(self) -> bool:
        """Whether no package straddles cells: a block of a cell is then a package."""
        return self.cell_bytes % SEALED_BYTES == 0


@dataclass(frozen=True, slots=True)
class StripeRead:
    """What to read of one stripe: packages [first, end), and per data cell the blocks they touch.

    cells      per data cell a byte range [begin, end) within the cell, whole blocks; empty: nothing
    plain_*    the wanted plaintext, within the first of these packages
    """

    stripe: Stripe
    first_package: int
    end_package: int
    cells: tuple[tuple[int, int], ...]
    plain_skip: int
    plain_bytes: int

    @property
    def window(self) -> tuple[int, int]:
        """The bytes of every cell that are needed, if need be to recreate what is wanted."""
        touched = [span for span in self.cells if span[1]]
        if len(touched) == 1 and self.stripe.has_whole_packages:
            return touched[0]
        return 0, self.stripe.cell_bytes

    @property
    def is_whole(self) -> bool:
        """Whether all packages of the stripe are wanted."""
        return self.end_package - self.first_package == self.stripe.packages


@dataclass(frozen=True)
class BlobLayout:
    """Geometry of one blob."""

    k: int
    m: int
    plain_bytes: int
    cell_bytes: int = FULL_CELL_BYTES

    def __post_init__(self) -> None:
        assert self.plain_bytes > 0, "empty blobs are not made"
        assert self.cell_bytes % SEALED_BYTES == 0, "a full cell holds whole packages"

    @property
    def n(self) -> int:
        """Fragments of the blob."""
        return self.k + self.m

    @property
    def stripe_plain_bytes(self) -> int:
        """Plaintext of a full stripe."""
        return self.k * self.cell_bytes // SEALED_BYTES * PACKAGE_BYTES

    @property
    def stripe_count(self) -> int:
        """Stripes, the last may be short."""
        return -(-self.plain_bytes // self.stripe_plain_bytes)

    @cached_property
    def fragment_bytes(self) -> int:
        """Bytes of each fragment: all its cells."""
        last = self.stripe(self.stripe_count - 1)
        return last.fragment_offset + last.cell_bytes

    @cached_property
    def first_stripe(self) -> Stripe:
        """The stripe that every blob has, and small ones have alone."""
        return self.stripe(0)

    def stripe(self, index: int) -> Stripe:
        """Describe one stripe."""
        full = self.stripe_plain_bytes
        begin = index * full
        plain = min(full, self.plain_bytes - begin)
        assert plain > 0, f"no stripe {index}"
        packages = -(-plain // PACKAGE_BYTES)
        sealed = plain + packages * PACKAGE_TAG_BYTES
        return Stripe(
            index=index,
            plain_begin=begin,
            plain_bytes=plain,
            first_package=begin // PACKAGE_BYTES,
            packages=packages,
            sealed_bytes=sealed,
            cell_bytes=-(-sealed // self.k),
            fragment_offset=index * self.cell_bytes,
            is_last=begin + plain == self.plain_bytes,
        )

    def locate(self, begin: int, end: int) -> Iterator[StripeRead]:
        """List what to read for plaintext [begin, end), stripe by stripe, in order.

        0 <= begin < end <= plain_bytes
        """
        assert 0 <= begin < end <= self.plain_bytes, f"[{begin}, {end}) of {self.plain_bytes}"
        full = self.stripe_plain_bytes
        for index in range(begin // full, -(-end // full)):
            stripe = self.stripe(index)
            first = max(0, begin - stripe.plain_begin)
            last = min(stripe.plain_bytes, end - stripe.plain_begin)
            first_package, end_package = first // PACKAGE_BYTES, -(-last // PACKAGE_BYTES)
            yield StripeRead(
                stripe,
                first_package,
                end_package,
                self._cells(stripe, first_package, end_package),
                first - first_package * PACKAGE_BYTES,
                last - first,
            )

    def _cells(
        self, stripe: Stripe, first_package: int, end_package: int
    ) -> tuple[tuple[int, int], ...]:
        sealed_begin = first_package * SEALED_BYTES
        sealed_end = min(end_package * SEALED_BYTES, stripe.sealed_bytes)
        size, cells = stripe.cell_bytes, []
        for cell in range(self.k):
            begin = max(sealed_begin - cell * size, 0)
            end = min(sealed_end - cell * size, size)
            if begin >= end:
                cells.append((0, 0))
            else:
                block_end = min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, size)
                cells.append((begin // BLOCK_BYTES * BLOCK_BYTES, block_end))
        return tuple(cells)


@lru_cache(maxsize=4096)
def layout_of(k: int, m: int, plain_bytes: int, cell_bytes: int) -> BlobLayout:
    """The layout of a geometry and size; few are in use at a time."""
    return BlobLayout(k, m, plain_bytes, cell_bytes)


def layout_of_blob(blob: records_pb2.BlobRef) -> BlobLayout:
    """The layout of a stored blob. raises Unsupported if a newer Ostraka wrote it"""
    if blob.layout != LAYOUT_VERSION:
        raise faults.Unsupported(f"blob layout {blob.layout}")
    return layout_of(blob.k, blob.m, blob.plain_bytes, blob.cell_bytes)
