"""Ranges of reads and of copied parts.

Method: the forms of RFC 9110 by table, and Hypothesis against slicing of real bytes.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3 import errors
from gateway.s3.range import ByteRange, parse_copy_source_range, parse_range


@pytest.mark.parametrize(
    ("header", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=3-5", 3, 6),
        ("bytes=3-", 3, 10),
        ("bytes=3-99999999999999999999999", 3, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-10", 0, 10),
        ("bytes=-99", 0, 10),
        ("bytes = 1 - 2 ", 1, 3),
        ("Bytes=00001-2", 1, 3),
    ],
)
def test_single_ranges(header: str, begin: int, end: int) -> None:
    assert parse_range(header, 10) == ByteRange(begin, end, 10)


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes=", "bytes=-", "bytes=5-3", "bytes=0-1,3-4", "items=0-1", "bytes=a-b",
     "bytes=0-1-2", "bytes=+1-2", "bytes=٣-٤", "0-1"],
)  # fmt: skip
def test_what_is_ignored(header: str | None) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=10-", 10), ("bytes=10-20", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0),
     ("bytes=" + "9" * 6000 + "-", 10)],
)  # fmt: skip
def test_what_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(errors.InvalidRange) as caught:
        parse_range(header, size)
    assert caught.value.status == 416
    assert caught.value.details == {"RangeRequested": header, "ActualObjectSize": str(size)}


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_ranges_agree_with_slices(data: bytes, first: int, last: int) -> None:
    header = f"bytes={first}-{last}"
    if first < len(data) and first <= last:
        found = parse_range(header, len(data))
        assert found is not None
        assert data[found.begin : found.end] == data[first : last + 1]
        assert found.length == len(data[first : last + 1])
        assert found.content_range == f"bytes {first}-{found.end - 1}/{len(data)}"
    elif first > last:
        assert parse_range(header, len(data)) is None
    else:
        with pytest.raises(errors.InvalidRange):
            parse_range(header, len(data))


@given(st.text(max_size=30), st.integers(0, 100))
def test_no_text_breaks_the_parser(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except errors.InvalidRange:
        return
    assert found is None or 0 <= found.begin < found.end <= size


def test_copy_source_ranges() -> None:
    assert parse_copy_source_range("bytes=0-9", 10) == ByteRange(0, 10, 10)
    for header in ("0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=hello-",
                   "bytes=0-2,3-5", "bytes=5-", "bytes=-5", "bytes=3-2", "bytes=0-10"):  # fmt: skip
        with pytest.raises(errors.InvalidArgument):
            parse_copy_source_range(header, 10)
