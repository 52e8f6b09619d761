"""Parts of a completed upload: numbers and ranges against a plain list of part sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import faults
from gateway.objects.parts import part_span, spans
from proto import records_pb2

# Runs as completions write them: first part number, how many, bytes of each.
runs_of_parts = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(0, 50)), min_size=1, max_size=5
)


def version_of(
    runs: list[tuple[int, int, int]],
) -> tuple[records_pb2.Version, list[tuple[int, int]]]:
    """A version, and its parts in object order: number and size."""
    version = records_pb2.Version()
    parts: list[tuple[int, int]] = []
    first = 1
    for skip, count, size in runs:
        first += skip
        version.parts.runs.add(first_number=first, count=count, part_bytes=size)
        parts += [(first + index, size) for index in range(count)]
        first += count
    version.parts.count = len(parts)
    version.size_bytes = sum(size for _, size in parts)
    return version, parts


@given(runs_of_parts)
def test_the_nth_part_is_where_the_sizes_say(runs: list[tuple[int, int, int]]) -> None:
    version, parts = version_of(runs)
    begin = 0
    for number, (_, size) in enumerate(parts, start=1):
        assert part_span(version, number) == (begin, begin + size)
        begin += size
    for number in (0, -1, len(parts) + 1):
        with pytest.raises(faults.Invalid):
            part_span(version, number)


@given(runs_of_parts, st.data())
def test_a_range_is_made_of_the_parts_it_touches(
    runs: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    version, parts = version_of(runs)
    begin = data.draw(st.integers(0, version.size_bytes))
    end = data.draw(st.integers(begin, version.size_bytes))
    places = [(number, at) for number, size in parts for at in range(size)]
    found = [
        (span.number, at)
        for span in spans(version.parts, begin, end)
        for at in range(span.begin, span.end)
    ]
    assert found == places[begin:end]


def test_a_range_in_one_of_ten_thousand_parts_names_that_part_alone() -> None:
    version, _ = version_of([(0, 10_000, 5 << 20)])
    at = 7_777 * (5 << 20) + 10
    (span,) = spans(version.parts, at, at + 1)
    assert (span.number, span.begin, span.end) == (7_778, 10, 11)


def test_an_object_in_one_piece_is_its_only_part() -> None:
    version = records_pb2.Version(size_bytes=7)
    assert part_span(version, 1) == (0, 7)
    with pytest.raises(faults.Invalid):
        part_span(version, 2)
