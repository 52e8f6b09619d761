"""Keys: rows sort as object keys do, kinds never mix, prefixes end where they should."""

from hypothesis import given
from hypothesis import strategies as st

from metaservice import keys

object_keys = st.binary(min_size=1, max_size=12) | st.lists(
    st.sampled_from([b"\x00", b"\xff", b"a", b"/"]), min_size=1, max_size=6
).map(b"".join)
rows = st.binary(min_size=16, max_size=16)
ids = st.integers(0, 2**64 - 1)


@given(object_keys, object_keys)
def test_escaping_keeps_the_order(first: bytes, second: bytes) -> None:
    assert (first < second) == (keys.escape(first) < keys.escape(second))


@given(object_keys, object_keys)
def test_no_escaped_key_begins_another(first: bytes, second: bytes) -> None:
    assert first == second or not keys.escape(first).startswith(keys.escape(second))


@given(object_keys)
def test_unescape_turns_back(key: bytes) -> None:
    assert keys.unescape(keys.escape(key)) == key


@given(ids, object_keys, rows, object_keys, rows)
def test_versions_sort_by_key_then_row(
    bucket_id: int, key: bytes, row: bytes, other_key: bytes, other_row: bytes
) -> None:
    first, second = keys.version(bucket_id, key, row), keys.version(bucket_id, other_key, other_row)
    assert (first < second) == ((key, row) < (other_key, other_row))
    assert keys.split_key_row(first) == (key, row)
    assert first.startswith(keys.versions(bucket_id, key))


@given(ids, ids)
def test_newer_versions_sort_first(first: int, second: int) -> None:
    random = b"r" * 8
    assert (first < second) == (keys.version_row(first, random) > keys.version_row(second, random))
    assert keys.order_of(keys.version_row(first, random)) == first


@given(st.binary(max_size=6), st.binary(max_size=6))
def test_after_is_the_end_of_a_prefix(prefix: bytes, rest: bytes) -> None:
    end = keys.after(prefix)
    if end:
        assert prefix + rest < end
        assert not end.startswith(prefix)
    else:
        assert prefix == b"\xff" * len(prefix)


@given(ids, ids, object_keys)
def test_buckets_do_not_mix(first: int, second: int, key: bytes) -> None:
    for kind in (b"h", b"v", b"n", b"u"):
        prefix = keys.bucket_rows(kind, first)
        row = kind + keys.uint64(second) + key
        assert (prefix <= row < keys.after(prefix)) == (first == second)
