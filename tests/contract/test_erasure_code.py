"""Every kernel computes zfec's code and undoes every loss of up to m cells.

Method: the same suite over geometries and kernels; zfec's own encoder is the oracle.
"""

import ctypes.util
import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import zfec

from common.buffers import BufferPool
from common.erasure.code import Codes, ErasureCode, load_codes

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


@pytest.mark.parametrize("geometry", [(1, 0), (1, 2), (4, 2), (8, 3)])
def test_surplus_cells_and_nothing_wanted_change_nothing(
    codes: Codes, geometry: tuple[int, int]
) -> None:
    code, cell_bytes = codes.get(*geometry), 64
    view, address = encoded(code, cell_bytes)
    whole = bytes(view)
    places = {index: address + index * cell_bytes for index in range(code.n)}
    code.reconstruct(places, {}, cell_bytes)
    code.reconstruct(places, {code.n - 1: places[code.n - 1]}, cell_bytes)
    assert bytes(view) == whole


def test_fewer_than_k_cells_are_a_programmers_error(codes: Codes) -> None:
    code = codes.get(4, 2)
    _, address = encoded(code, 16)
    with pytest.raises(AssertionError):
        code.reconstruct({0: address, 1: address + 16, 2: address + 32}, {3: address + 48}, 16)


def test_a_code_is_made_once(codes: Codes) -> None:
    assert codes.get(4, 2) is codes.get(4, 2)
    with pytest.raises(AssertionError):
        codes.get(200, 57)


def test_data_coded_by_one_kernel_is_read_by_the_other() -> None:
    cell_bytes = 1000
    view, address = encoded(load_codes().get(4, 2), cell_bytes)
    whole = bytes(view)
    view[: 2 * cell_bytes] = bytes(2 * cell_bytes)
    places = {index: address + index * cell_bytes for index in range(6)}
    available = {index: places[index] for index in range(2, 6)}
    Codes(None, "zfec").get(4, 2).reconstruct(available, {0: places[0], 1: places[1]}, cell_bytes)
    assert bytes(view) == whole


def test_without_isal_zfec_takes_over(tmp_path: Path) -> None:
    other = ctypes.util.find_library("c")
    assert other is not None
    (tmp_path / "libbroken.so").write_bytes(b"no library")
    codes = load_codes([str(tmp_path / "libabsent.so"), str(tmp_path / "libbroken.so"), other])
    assert codes.kernel == "zfec"


def test_a_library_of_another_code_is_not_used(tmp_path: Path) -> None:
    """One that exports the names and does nothing: without the probe it would be chosen."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, library = tmp_path / "other.c", tmp_path / "libisal-other.so"
    source.write_text("void ec_init_tables(void) {}\nvoid ec_encode_data(void) {}\n")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    assert load_codes([str(library)]).kernel == "zfec"
