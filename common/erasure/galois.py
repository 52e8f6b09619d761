"""Arithmetic in GF(2^8) for erasure codes: the code's generator matrix, and inverses.

Field and matrix are zfec's: polynomial 0x11d; a Vandermonde matrix over the powers of the
generator 2, made systematic. source: L. Rizzo, Effective Erasure Codes for Reliable Computer
Communication Protocols, CCR 27(2), 1997
"""

from collections.abc import Sequence
from functools import cache

POLYNOMIAL = 0x11D
Matrix = list[list[int]]


def _tables() -> tuple[list[int], list[int]]:
    exponents, logarithms = [0] * 510, [0] * 256
    value = 1
    for power in range(255):
        exponents[power] = exponents[power + 255] = value
        logarithms[value] = power
        value <<= 1
        if value & 0x100:
            value ^= POLYNOMIAL
    return exponents, logarithms


_EXPONENTS, _LOGARITHMS = _tables()


def multiply(a: int, b: int) -> int:
    """Product of two field elements."""
    if a == 0 or b == 0:
        return 0
    return _EXPONENTS[_LOGARITHMS[a] + _LOGARITHMS[b]]


def inverse(a: int) -> int:
    """The element whose product with `a` is 1; a is not 0."""
    assert a != 0, "zero has no inverse"
    return _EXPONENTS[255 - _LOGARITHMS[a]]


def product(left: Matrix, right: Matrix) -> Matrix:
    """Matrix product."""
    columns = list(zip(*right, strict=True))
    result = []
    for row in left:
        line = []
        for column in columns:
            total = 0
            for a, b in zip(row, column, strict=True):
                total ^= multiply(a, b)
            line.append(total)
        result.append(line)
    return result


def invert(matrix: Sequence[Sequence[int]]) -> Matrix:
    """Inverse of a regular square matrix, by Gauss and Jordan."""
    size = len(matrix)
    work = [[*row, *(int(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(row for row in range(column, size) if work[row][column])
        work[column], work[pivot] = work[pivot], work[column]
        scale = inverse(work[column][column])
        work[column] = [multiply(scale, value) for value in work[column]]
        for row in range(size):
            factor = work[row][column]
            if row != column and factor:
                work[row] = [
                    value ^ multiply(factor, other)
                    for value, other in zip(work[row], work[column], strict=True)
                ]
    return [row[size:] for row in work]


@cache
def generator(k: int, n: int) -> Matrix:
    """The systematic n x k generator matrix: k unit rows, then the rows of the parity cells."""
    vandermonde = [[1] + [0] * (k - 1)]
    vandermonde += [
        [_EXPONENTS[(row * column) % 255] for column in range(k)] for row in range(n - 1)
    ]
    return product(vandermonde, invert(vandermonde[:k]))
