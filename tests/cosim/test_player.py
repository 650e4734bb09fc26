# amaranth: UnusedElaboratable=no
"""Components driven by a loop in C++, whole or with blocks that are compiled once."""

import numpy as np
import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from jepa_r.config import PRESETS
from jepa_r.platform import Macro
from jepa_r.tile.tile import Tile
from jepa_r_sim import cosim, scale
from jepa_r_sim.cosim import build_files
from jepa_r_sim.golden.tile import matmul
from jepa_r_sim.player import Player

#: The smallest tile of a preset.
TILE = PRESETS["nano"].predictor.tile


class Stage(Macro):
    """Adds one a cycle later."""

    def __init__(self):
        super().__init__({"i": In(80), "o": Out(80)}, macro_name="stage")

    def build(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.i + 1)
        return m


class Chain(wiring.Component):
    """Three stages, and what is there at once: ports of every kind that a model has."""

    bit: In(1)
    wide: In(80)
    inverse: Out(1)
    later: Out(80)
    count: Out(33)
    half: Out(12)
    word: Out(32)

    def elaborate(self, platform):
        m = Module()
        m.submodules.a, m.submodules.b, m.submodules.c = stages = [Stage() for _ in range(3)]
        value = self.wide
        for stage in stages:
            m.d.comb += stage.i.eq(value)
            value = stage.o
        m.d.comb += [self.inverse.eq(~self.bit), self.later.eq(value)]
        m.d.comb += [self.half.eq(self.count), self.word.eq(self.count)]
        m.d.sync += self.count.eq(self.count + self.bit)
        return m


@pytest.fixture(scope="module", params=[(), ("st.ge",)], ids=["whole", "blocks"])
def player(request):
    return Player(Chain(), name="chain", blocks=request.param)


def test_every_port_has_its_value_in_every_cycle(player, tmp_path):
    rng = np.random.default_rng(1)
    bit = rng.integers(0, 2, 200)
    wide = rng.integers(0, 256, (200, 10), dtype=np.uint8)
    outputs = player.play({"bit": bit, "wide": wide}, workdir=tmp_path).outputs
    assert (outputs["inverse"][:, 0] == 1 - bit).all()
    values = [int.from_bytes(row.tobytes(), "little") for row in wide]
    later = [int.from_bytes(row.tobytes(), "little") for row in outputs["later"]]
    assert later[3:] == [(value + 3) % 2**80 for value in values[:-3]]
    counted = np.concatenate([[0], np.cumsum(bit)[:-1]])
    for port, kind in (("count", "<u8"), ("half", "<u2"), ("word", "<u4")):
        assert (outputs[port].view(kind)[:, 0] == counted).all()


def test_inputs_that_are_not_the_components_are_refused(player, tmp_path):
    bit, wide = np.zeros(5), np.zeros((5, 10), np.uint8)
    cases = {
        r"^inputs are \['bit'\], not \['bit', 'wide'\]$": {"bit": bit},
        r"^inputs are \[5, 4\] cycles long$": {"bit": bit, "wide": wide[:4]},
        r"^input wide is \[5, 13\], not \[cycles, up to 12 bytes\]$": {
            "bit": bit, "wide": np.zeros((5, 13), np.uint8),
        },
        r"^input wide is \[5\], not \[cycles, up to 12 bytes\]$": {"bit": bit, "wide": wide[:, 0]},
    }  # fmt: skip
    for message, inputs in cases.items():
        with pytest.raises(ValueError, match=message):
            player.play(inputs, workdir=tmp_path)


def test_a_program_that_fails_is_an_error(player, tmp_path):
    with pytest.raises(cosim.SimulationError, match="failed"):
        player.simulation.execute(["no such file", "out", "5"], log=tmp_path / "log")


def test_a_block_that_is_no_module_is_refused(tmp_path):
    path = tmp_path / "top.v"
    path.write_text("module top(input clk, output o); assign o = clk; endmodule\n")
    with pytest.raises(ValueError, match=r"^block 'cell_\.\*' is no module of top$"):
        build_files([path], top="top", blocks=["cell_.*"])


def products(tile, count, *, k, seed=0, value=None):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        a = rng.integers(-128, 128, (tile.acc_rows // 2, k), dtype=np.int8)
        b = rng.integers(-128, 128, (tile.columns, k), dtype=np.int8)
        if value is not None:
            a[:], b[:] = value
        made.append((a, b))
    return made


@pytest.fixture(scope="module")
def tile():
    return scale.build_tile(TILE)


def test_a_chain_on_a_tile_is_exact_and_as_long_as_was_said(tile, tmp_path):
    run = scale.run_chain(tile, TILE, products(TILE, 5, k=3 * TILE.rows - 1), workdir=tmp_path)
    assert run.exact
    passes = 5 * 3
    assert run.cycles == Tile.chain_cycles(
        TILE.acc_rows // 2, TILE.columns, passes, rows=TILE.rows, columns=TILE.columns
    )
    assert run.numbers == 5 * TILE.acc_rows // 2 * TILE.columns
    assert run.macs == run.numbers * (3 * TILE.rows - 1)


def test_a_wrong_sum_is_counted(tile, tmp_path, monkeypatch):
    def wrong(a, b):
        sums = matmul(a, b).copy()
        sums[1, 0] ^= 1
        return sums

    monkeypatch.setattr(scale, "matmul", wrong)
    run = scale.run_chain(tile, TILE, products(TILE, 3, k=TILE.rows), workdir=tmp_path)
    assert not run.exact
    assert (run.numbers - run.equal, run.cycles) == (3, run.cycles_predicted)


@pytest.mark.parametrize("late", [-1, 1])
def test_a_wrong_length_is_seen(tile, tmp_path, monkeypatch, late):
    right = Tile.first_latency(TILE.rows, TILE.columns)
    monkeypatch.setattr(Tile, "first_latency", staticmethod(lambda rows, columns: right + late))
    run = scale.run_chain(tile, TILE, products(TILE, 2, k=4 * TILE.rows), workdir=tmp_path)
    assert not run.exact
    assert run.cycles == run.cycles_predicted - late


def test_an_early_swap_is_a_fault(tile, tmp_path, monkeypatch):
    honest = scale.schedule

    def early(*arguments, **keywords):
        return honest(*arguments, early=1, **keywords)

    monkeypatch.setattr(scale, "schedule", early)
    tile_products = [(a[: TILE.columns], b) for a, b in products(TILE, 2, k=2 * TILE.rows)]
    run = scale.run_chain(tile, TILE, tile_products, workdir=tmp_path)
    assert run.faults
    assert not run.exact


def test_products_are_cut_into_equal_slices():
    rng = np.random.default_rng(0)
    a = rng.integers(-128, 128, (2 * TILE.acc_rows, 3), dtype=np.int8)
    b = rng.integers(-128, 128, (3 * TILE.columns, 3), dtype=np.int8)
    cut = scale.slices(a, b, TILE)
    whole = np.block([
        [matmul(*cut[2 * block + half]) for block in range(3)] for half in range(2)
    ])  # fmt: skip
    assert (whole == matmul(a, b)).all()
    few = np.zeros((TILE.columns + 1, 3), np.int8)
    message = f"^{TILE.columns + 1} columns are not equal blocks of {TILE.columns}$"
    with pytest.raises(ValueError, match=message):
        scale.slices(a, few, TILE)
