"""The field is a field, inverses invert, and the generator matrix is zfec's."""

import pytest
import zfec
from hypothesis import given
from hypothesis import strategies as st

from common.erasure.galois import generator, inverse, invert, multiply, product

elements = st.integers(0, 255)


def slow_product(a: int, b: int) -> int:
    """Multiply bit by bit and reduce by x^8 + x^4 + x^3 + x^2 + 1."""
    total = 0
    while b:
        if b & 1:
            total ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11D
        b >>= 1
    return total


def test_all_products_and_inverses() -> None:
    for a in range(256):
        for b in range(256):
            assert multiply(a, b) == slow_product(a, b)
        if a:
            assert multiply(a, inverse(a)) == 1


@given(elements, elements, elements)
def test_products_distribute_over_sums(a: int, b: int, c: int) -> None:
    assert multiply(a, b ^ c) == multiply(a, b) ^ multiply(a, c)
    assert multiply(a, multiply(b, c)) == multiply(multiply(a, b), c)


@pytest.mark.parametrize(
    ("k", "n"), [(1, 1), (1, 3), (2, 3), (2, 4), (4, 6), (8, 11), (10, 14), (20, 40), (128, 256)]
)
def test_the_generator_matrix_is_zfecs(k: int, n: int) -> None:
    encoder = zfec.Encoder(k, n)
    columns = []
    for column in range(k):
        unit = [bytes([int(row == column)]) for row in range(k)]
        columns.append([cell[0] for cell in encoder.encode(unit, list(range(n)))])
    assert generator(k, n) == [list(row) for row in zip(*columns, strict=True)]


@given(st.data())
def test_any_k_rows_of_a_generator_invert(data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 8))
    n = data.draw(st.integers(k, k + 6))
    rows = data.draw(st.permutations(range(n)))[:k]
    matrix = [generator(k, n)[row] for row in rows]
    unit = [[int(row == column) for column in range(k)] for row in range(k)]
    assert product(matrix, invert(matrix)) == unit
    assert product(invert(matrix), matrix) == unit


def test_zero_has_no_inverse() -> None:
    with pytest.raises(AssertionError):
        inverse(0)
