"""Every kernel computes zfec's code and undoes every loss of up to m cells.

Method: the same suite over geometries and kernels; zfec's own encoder is the oracle.
"""

import itertools
import os

import pytest
import zfec

from common.buffers import BufferPool
from gateway.erasure.code import Codes, ErasureCode, load_codes

GEOMETRIES = [(1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (2, 4), (3, 2), (4, 2), (8, 3), (10, 4)]
LOSSES_MAX = 200


@pytest.fixture(params=["isal", "zfec"])
def codes(request: pytest.FixtureRequest) -> Codes:
    if request.param == "zfec":
        return Codes(None, "zfec")
    loaded = load_codes()
    assert loaded.kernel.startswith("ISA-L"), "the pyeclib wheel brings ISA-L"
    return loaded


def encoded(code: ErasureCode, cell_bytes: int) -> tuple[memoryview, int]:
    buffer = BufferPool(1 << 24).take_now(code.n * cell_bytes)
    buffer.view[:] = os.urandom(code.n * cell_bytes)
    code.encode(buffer.address, cell_bytes)
    return buffer.view, buffer.address


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("cell_bytes", [1, 31, 64, 1000, 65_552])
def test_parity_equals_zfec(codes: Codes, geometry: tuple[int, int], cell_bytes: int) -> None:
    code = codes.get(*geometry)
    view, _ = encoded(code, cell_bytes)
    cells = [bytes(view[i * cell_bytes : (i + 1) * cell_bytes]) for i in range(code.n)]
    oracle = zfec.Encoder(code.k, code.n).encode(cells[: code.k], list(range(code.n)))
    assert cells == [bytes(cell) for cell in oracle]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_any_m_losses_are_undone(codes: Codes, geometry: tuple[int, int]) -> None:
    code, cell_bytes = codes.get(*geometry), 97
    view, address = encoded(code, cell_bytes)
    whole = bytes(view)
    losses = itertools.chain.from_iterable(
        itertools.combinations(range(code.n), count) for count in range(1, code.m + 1)
    )
    for lost in itertools.islice(losses, LOSSES_MAX):
        for index in lost:
            view[index * cell_bytes : (index + 1) * cell_bytes] = bytes(cell_bytes)
        places = {index: address + index * cell_bytes for index in range(code.n)}
        code.reconstruct(
            {index: place for index, place in places.items() if index not in lost},
            {index: places[index] for index in lost},
            cell_bytes,
        )
        assert bytes(view) == whole, lost
