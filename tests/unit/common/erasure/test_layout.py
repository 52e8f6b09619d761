"""Layout against a naive model: the sealed stream of a whole blob, cut up by hand.

The model lists for every sealed byte the fragment and offset it is at; a read must touch the
blocks of the wanted packages' bytes and no others.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import faults
from common.erasure.layout import (
    BLOCK_BYTES,
    FULL_CELL_BYTES,
    LAYOUT_VERSION,
    SEALED_BYTES,
    BlobLayout,
    layout_of_blob,
)
from common.limits import BLOB_BYTES_MAX, PACKAGE_BYTES, PACKAGE_TAG_BYTES
from proto import records_pb2

SMALL_CELL_BYTES = 2 * SEALED_BYTES  # stripes of a few packages, so that blobs have many

layouts = st.builds(
    BlobLayout,
    k=st.integers(1, 10),
    m=st.integers(0, 4),
    plain_bytes=st.one_of(
        st.integers(1, 3 * PACKAGE_BYTES),
        st.integers(1, 60).map(lambda packages: packages * PACKAGE_BYTES),
        st.integers(1, 60 * PACKAGE_BYTES),
    ),
    cell_bytes=st.sampled_from([SEALED_BYTES, SMALL_CELL_BYTES, FULL_CELL_BYTES]),
)


def package_places(layout: BlobLayout, number: int) -> set[tuple[int, int]]:
    """Fragment and block of every sealed byte of a package, told from the description alone."""
    per_stripe = layout.k * layout.cell_bytes // SEALED_BYTES
    stripe, within = divmod(number, per_stripe)
    packages = -(-layout.plain_bytes // PACKAGE_BYTES)
    in_stripe = min(per_stripe, packages - stripe * per_stripe)
    plain = min(in_stripe * PACKAGE_BYTES, layout.plain_bytes - stripe * per_stripe * PACKAGE_BYTES)
    sealed = plain + in_stripe * PACKAGE_TAG_BYTES
    cell_bytes = -(-sealed // layout.k)
    begin = within * SEALED_BYTES
    end = min(begin + SEALED_BYTES, sealed)
    return {
        (
            place // cell_bytes,
            stripe * layout.cell_bytes // BLOCK_BYTES + place % cell_bytes // BLOCK_BYTES,
        )
        for place in {*range(begin, end, min(64, cell_bytes)), end - 1}
    }


def blocks_read(layout: BlobLayout, begin: int, end: int) -> set[tuple[int, int]]:
    """Fragment and block, counted from the fragment's begin, of all that a range asks for."""
    blocks = set()
    for read in layout.locate(begin, end):
        for cell, (first, last) in enumerate(read.cells):
            assert first % BLOCK_BYTES == 0
            assert last % BLOCK_BYTES == 0 or last == read.stripe.cell_bytes or last == 0
            offset = read.stripe.fragment_offset
            for at in range(offset + first, offset + last, BLOCK_BYTES):
                assert at % BLOCK_BYTES == 0
                blocks.add((cell, at // BLOCK_BYTES))
    return blocks


@settings(deadline=None)
@given(layouts)
def test_stripes_hold_every_byte_once(layout: BlobLayout) -> None:
    stripes = [layout.stripe(index) for index in range(layout.stripe_count)]
    assert stripes[0].plain_begin == stripes[0].first_package == stripes[0].fragment_offset == 0
    for before, after in zip(stripes, stripes[1:], strict=False):
        assert after.plain_begin == before.plain_begin + before.plain_bytes
        assert after.first_package == before.first_package + before.packages
        assert after.fragment_offset == before.fragment_offset + before.cell_bytes
        assert before.cell_bytes == layout.cell_bytes, "only the last stripe is short"
        assert not before.is_last
    assert stripes[-1].is_last
    assert stripes[-1].plain_begin + stripes[-1].plain_bytes == layout.plain_bytes
    assert layout.fragment_bytes == stripes[-1].fragment_offset + stripes[-1].cell_bytes
    for stripe in stripes:
        padding = layout.k * stripe.cell_bytes - stripe.sealed_bytes
        assert 0 <= padding < layout.k
        assert stripe.sealed_bytes == stripe.plain_bytes + stripe.packages * PACKAGE_TAG_BYTES


@settings(deadline=None)
@given(layouts, st.data())
def test_a_range_touches_the_blocks_of_its_packages_and_no_others(
    layout: BlobLayout, data: st.DataObject
) -> None:
    begin = data.draw(st.integers(0, layout.plain_bytes - 1))
    end = data.draw(st.integers(begin + 1, layout.plain_bytes))
    needed: set[tuple[int, int]] = set()
    for number in range(begin // PACKAGE_BYTES, -(-end // PACKAGE_BYTES)):
        needed |= package_places(layout, number)
    assert blocks_read(layout, begin, end) == needed


@settings(deadline=None)
@given(layouts, st.data())
def test_a_range_is_read_in_order_without_gaps(layout: BlobLayout, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, layout.plain_bytes - 1))
    end = data.draw(st.integers(begin + 1, layout.plain_bytes))
    at = begin
    for read in layout.locate(begin, end):
        first = read.stripe.plain_begin + read.first_package * PACKAGE_BYTES
        assert first + read.plain_skip == at
        assert read.plain_skip < PACKAGE_BYTES
        at += read.plain_bytes
        assert at <= first + (read.end_package - read.first_package) * PACKAGE_BYTES
        assert read.end_package <= read.stripe.packages
        assert read.is_whole == (read.end_package - read.first_package == read.stripe.packages)
    assert at == end


def test_one_byte_of_a_large_blob_costs_one_block() -> None:
    layout = BlobLayout(4, 2, BLOB_BYTES_MAX)
    for at in (0, PACKAGE_BYTES - 1, PACKAGE_BYTES, 33_333_333, BLOB_BYTES_MAX - 1):
        assert len(blocks_read(layout, at, at + 1)) == 1


def test_sizes_of_the_default_profile() -> None:
    """On disk for ever: a change here needs a new layout version."""
    large = BlobLayout(4, 2, BLOB_BYTES_MAX)
    assert (large.stripe_count, large.fragment_bytes) == (16, 16_781_312)
    assert large.stripe(0).cell_bytes == FULL_CELL_BYTES == 1_048_832
    small = BlobLayout(4, 2, 65_536)
    assert (small.stripe_count, small.fragment_bytes) == (1, 16_388)
    assert BlobLayout(4, 2, 1).fragment_bytes == 5
    assert LAYOUT_VERSION == 1


def test_a_stored_blob_names_its_layout() -> None:
    blob = records_pb2.BlobRef(k=4, m=2, plain_bytes=100, cell_bytes=FULL_CELL_BYTES, layout=1)
    assert layout_of_blob(blob) == BlobLayout(4, 2, 100)
    blob.layout = 2
    with pytest.raises(faults.Unsupported):
        layout_of_blob(blob)


@pytest.mark.parametrize(("begin", "end"), [(0, 0), (5, 5), (5, 4), (-1, 1), (0, 101)])
def test_ranges_outside_are_programmers_errors(begin: int, end: int) -> None:
    with pytest.raises(AssertionError):
        list(BlobLayout(4, 2, 100).locate(begin, end))
