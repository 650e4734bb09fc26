import re

import pytest

from jepa_r.emit import emit_verilog
from jepa_r.tile.accumulator import Accumulator
from jepa_r.tile.array import SystolicArray, block_size
from jepa_r.tile.cell import sum_width
from jepa_r.tile.tile import Tile


def test_every_module_is_written_once_and_instantiated(tmp_path):
    emitted = emit_verilog(Tile(rows=32, columns=32, acc_rows=64), name="tile", into=tmp_path)
    assert emitted.instances == {
        "tile": 1,
        "steering_32": 1,
        "array_32x32_21_of_16x16": 1,
        "array_16x16_21": 4,
        "cell_21": 1024,
        "accumulator_32x64_21": 1,
        "accumulator_bank_1024x32": 4,
        "accumulator_block_8_21": 4,
    }
    texts = {path.stem: path.read_text() for path in emitted.files}
    modules = re.findall(r"^module ([^\s(]+)", "\n".join(texts.values()), re.MULTILINE)
    assert sorted(modules) == sorted(emitted.instances)
    assert texts["array_16x16_21"].count("  cell_21 ") == 256
    # Four times the cells of 16 x 16 are not four times the text.
    assert sum(map(len, texts.values())) < 500_000


def test_the_text_of_a_module_is_the_same_below_any_top(tmp_path):
    """So that what was built or mapped of it stays good when the design around it grows."""
    tile = emit_verilog(Tile(rows=4, columns=4, acc_rows=16), name="tile", into=tmp_path / "tile")
    accumulator = Accumulator(columns=4, rows=16, width=18)
    emitted = emit_verilog(accumulator, name=accumulator.macro_name, into=tmp_path / "alone")
    assert len(emitted.files) == 3
    for path in emitted.files:
        assert path.read_text() == (tmp_path / "tile" / path.name).read_text()
    assert "\\$auto" not in "".join(path.read_text() for path in tile.files)


def test_a_deep_accumulator_is_no_longer_in_verilog(tmp_path):
    sizes = []
    for acc_rows in (16, 2048):
        tile = Tile(rows=4, columns=4, acc_rows=acc_rows)
        emitted = emit_verilog(tile, name="tile", into=tmp_path / str(acc_rows))
        sizes.append(sum(len(path.read_text().splitlines()) for path in emitted.files))
    assert abs(sizes[1] - sizes[0]) <= 4


@pytest.mark.slow
def test_the_largest_tile_is_written_in_seconds(tmp_path):
    emitted = emit_verilog(Tile(rows=128, columns=128, acc_rows=192), name="tile", into=tmp_path)
    assert emitted.instances["cell_23"] == 128 * 128
    assert len(emitted.files) == 7
    assert sum(path.stat().st_size for path in emitted.files) < 2_000_000


def test_blocks_are_the_divisor_nearest_to_16():
    sizes = (1, 5, 7, 8, 12, 16, 17, 20, 32, 34, 48, 64, 128)
    assert [block_size(n) for n in sizes] == [1, 5, 7, 8, 12, 16, 17, 20, 16, 17, 16, 16, 16]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 16, 31, 128])
def test_partial_sums_are_as_wide_as_they_must_be(rows):
    largest = rows * 128 * 128
    width = sum_width(rows)
    assert largest <= 2 ** (width - 1) - 1
    assert largest > 2 ** (width - 2) - 1


def test_a_block_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"^array size 20 is not a multiple of block size 16$"):
        SystolicArray(32, 20, block=(16, 16))
