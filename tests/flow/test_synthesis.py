"""Mapping to Liberty files, and timing of what comes out."""

import gzip
import json
import re
import shutil
from pathlib import Path

import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from attrs import evolve
from typer.testing import CliRunner

from jepa_r.emit import emit_verilog
from jepa_r.platform import Macro
from jepa_r_flow.cli import app
from jepa_r_flow.synthesis.ecp5 import Ecp5Result, Resource
from jepa_r_flow.synthesis.flow import Memories, synthesise
from jepa_r_flow.synthesis.liberty import PDKS, LibertyError, find_pdk, read_liberty
from jepa_r_flow.synthesis.mapping import map_unit
from jepa_r_flow.synthesis.netlist import Port, clocks_of, read_hierarchy
from jepa_r_flow.synthesis.recipes import recipes_for
from jepa_r_flow.synthesis.timing import time_unit
from jepa_r_flow.synthesis.treemap import squarified
from jepa_r_sim.yosys import SynthesisError, run_yosys

PDK = Path(__file__).parents[3] / "shared/pdk"
needs_sta = pytest.mark.skipif(
    shutil.which("sta") is None, reason="OpenSTA (Debian's opensta) is not here"
)
SMALL = [
    f"--set={key}"
    for key in (
        "encoder.tile.rows=4",
        "encoder.tile.columns=2",
        "encoder.tile.lanes=2",
        "encoder.tile.acc_rows=4",
    )
]


class Inner(Macro):
    """A parity on its way through, with a register on another."""

    def __init__(self):
        super().__init__(
            {"a": In(4), "parity": Out(1), "held": Out(4)},
            macro_name="inner",
        )

    def build(self, platform):
        m = Module()
        m.d.comb += self.parity.eq(self.a.xor())
        m.d.sync += self.held.eq(self.held ^ self.a)
        return m


class Outer(wiring.Component):
    """Two of them behind each other, between registers: the worst path goes through both."""

    a: In(4)
    parity: Out(1)
    held: Out(8)
    part = Inner

    def elaborate(self, platform):
        m = Module()
        m.submodules.first = first = self.part()
        m.submodules.second = second = self.part()
        a = Signal(4)
        m.d.sync += [a.eq(self.a), self.parity.eq(second.parity)]
        m.d.comb += [
            first.a.eq(a),
            second.a.eq(Cat(first.parity, first.held[:3])),
            self.held.eq(Cat(first.held, second.held)),
        ]
        return m


def emitted_outer(tmp_path: Path, top=Outer):
    return read_hierarchy(emit_verilog(top(), name="outer", into=tmp_path / "verilog").files)


def library(toy: Path, tmp_path: Path):
    return read_liberty([toy], into=tmp_path / "liberty")


def done(units, liberty, *, period_ps=1000.0, **changes):
    options = {
        "liberty": liberty,
        "corner": liberty.files,
        "periods_ps": dict.fromkeys(units, period_ps),
        "memories": Memories(names=frozenset(), access=0.3, setup=0.05),
        "constraints": {},
    }
    return synthesise(units, **options | changes)


def test_a_repeated_module_is_one_unit_with_its_ports(tmp_path):
    units = emitted_outer(tmp_path)
    assert list(units) == ["inner", "outer"]
    assert units["outer"].children == {"inner": 2}
    assert Port(name="held", direction="output", width=8) in units["outer"].ports


def test_a_library_is_cut_down_to_what_can_be_mapped_to(toy, tmp_path):
    liberty = library(toy, tmp_path)
    assert {name for name, cell in liberty.cells.items() if cell.sequential} == {"DFF"}
    assert liberty.buffer() == ("BUF", "A", "Y")
    assert liberty.constant(1) == ("ONE", "Y")
    assert (liberty.time_ns, liberty.load_pf) == (1.0, 1.0)
    assert "leakage" not in liberty.files[0].read_text()


def test_a_packed_library_is_the_same_library(toy, tmp_path):
    packed = tmp_path / "toy.lib.gz"
    packed.write_bytes(gzip.compress(toy.read_bytes()))
    assert library(packed, tmp_path).digest == library(toy, tmp_path).digest


class Mixed(Inner):
    """An output that follows a register and an input alike, as that of no flip-flop or gate."""

    def build(self, platform):
        m = Module()
        m.d.sync += self.held.eq(self.held ^ self.a)
        m.d.comb += self.parity.eq(self.held[0] ^ self.a[0])
        return m


class Chain(Outer):
    """The same parts, with the register of the first before the second."""

    part = Mixed


@needs_sta
@pytest.mark.parametrize("top", [Outer, Chain])
def test_timing_across_modules_is_that_of_the_flat_netlist(toy, tmp_path, top):
    """Delays of the library are constant, so that models lose nothing."""
    liberty = library(toy, tmp_path)
    units = emitted_outer(tmp_path, top)
    result = done(units, liberty)
    netlists = [result[name].mapped.netlist for name in ("inner", "outer")]
    run_yosys(
        "\n".join([
            *(f"read_liberty -lib {file}" for file in liberty.files),
            *(f"read_verilog {netlist}" for netlist in netlists),
            "hierarchy -top outer",
            "flatten",
            "rename -unescape",
            "write_verilog -noattr -noexpr flat.v",
        ]),
        directory=tmp_path / "flat",
        what="flatten",
    )
    flat = time_unit(
        units["outer"],
        tmp_path / "flat" / "flat.v",
        {"inner": result["inner"].timing.model},
        liberty=liberty,
        corner=liberty.files,
        period_ps=1000.0,
        directory=tmp_path / "sta",
    )
    assert result["outer"].timing.worst_ps == pytest.approx(flat.worst_ps, abs=0.01)
    assert result["outer"].timing.worst_ps > result["inner"].timing.worst_ps
    pins = [step.pin for step in result["outer"].timing.path]
    assert any(pin.startswith("first/") for pin in pins)
    assert any(pin.startswith("second/") for pin in pins)


class TwoClocks(wiring.Component):
    """Parts on either clock, one on both, and a level that crosses through a plain submodule."""

    def __init__(self):
        super().__init__({
            "slow_clk": In(1), "fast_clk": In(1), "a": In(4), "slow": Out(4), "fast": Out(4),
            "crossed": Out(4),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        for name in ("slow", "fast"):
            domain = ClockDomain(name)
            m.domains += domain
            m.d.comb += [domain.clk.eq(getattr(self, f"{name}_clk")), domain.rst.eq(0)]
            m.submodules[f"in_{name}"] = part = DomainRenamer(name)(Inner())
            m.d[name] += getattr(self, name).eq(part.held)
            m.d.comb += part.a.eq(self.a)
        m.submodules.outside = outside = Module()
        outside.submodules.held = held = DomainRenamer("slow")(Held())
        m.d.comb += [held.a.eq(self.fast), self.crossed.eq(held.b)]
        return m


class Held(Macro):
    """What crosses."""

    def __init__(self):
        super().__init__({"a": In(4), "b": Out(4)}, macro_name="held")

    def build(self, platform):
        m = Module()
        m.d.sync += self.b.eq(self.a)
        return m


CROSSED = """\
create_clock -name slow -period 4 [get_ports slow_clk]
create_clock -name fast -period 1 [get_ports fast_clk]
set_input_delay 0 -clock fast [get_ports a[*]]
set_output_delay 0.2 -clock slow [get_ports slow[*]]
set_output_delay 0.1 -clock fast [get_ports fast[*]]
set_output_delay 0 -clock slow [get_ports crossed[*]]
"""


@needs_sta
def test_each_clock_has_its_units_and_its_own_worst_path(toy, tmp_path):
    liberty = library(toy, tmp_path)
    units = read_hierarchy(emit_verilog(TwoClocks(), name="two", into=tmp_path / "verilog").files)
    ports = ["slow_clk", "fast_clk"]
    assert clocks_of(units, "two", ports, directory=tmp_path / "clocks") == {
        "held": {"slow_clk"}, "inner": set(ports), "two": set(ports),
    }  # fmt: skip
    sdc = tmp_path / "two.sdc"

    def timed(text):
        sdc.write_text(CROSSED + text)
        return done(
            units, liberty, constraints={"two": sdc}, clocks_ps={"slow": 4000, "fast": 1000}
        )["two"].timing

    cut = timed("set_false_path -through [get_pins {outside_held/a[*]}]\n")
    # From a register, or a port, through the same gates; only what is left of the cycle differs.
    assert cut.clocks["fast"] < 1000
    assert cut.clocks["slow"] < 4000
    assert cut.slack_ps == min(1000 - cut.clocks["fast"], 4000 - cut.clocks["slow"])
    assert cut.tightness == max(cut.clocks["fast"] / 1000, cut.clocks["slow"] / 4000)
    # A crossing that is not cut off has the time between two edges.
    whole = timed("")
    assert whole.clocks["fast"] == cut.clocks["fast"]
    assert whole.clocks["slow"] > 3000
    with pytest.raises(SynthesisError, match=r"constraints of two: .*nowhere"):
        timed("set_false_path -through [get_pins {nowhere/a}]\n")


@needs_sta
def test_a_memory_adds_its_access_time_and_no_area(toy, tmp_path):
    liberty = library(toy, tmp_path)
    units = emitted_outer(tmp_path)

    def worst(access):
        memories = Memories(names=frozenset({"inner"}), access=access, setup=0.05)
        result = done(units, liberty, memories=memories)
        assert result["inner"].mapped is None
        return result["outer"].timing.worst_ps

    assert worst(0.7) - worst(0.6) == pytest.approx(100)


@needs_sta
def test_recipes_are_tried_until_the_clock_is_met(toy, tmp_path):
    units = emitted_outer(tmp_path)
    liberty = library(toy, tmp_path)
    assert {unit.recipe.name for unit in done(units, liberty).values()} == {
        recipes_for(liberty)[0].name
    }
    missed = done(units, liberty, period_ps=50.0)
    fastest = {
        recipe.name: done(units, liberty, period_ps=50.0, recipes=[recipe])["outer"].timing.worst_ps
        for recipe in recipes_for(liberty)
    }
    assert missed["outer"].timing.worst_ps == min(fastest.values())


@needs_sta
def test_another_corner_is_timed_with_the_recipe_of_the_first(toy, tmp_path):
    units = emitted_outer(tmp_path)
    liberty = library(toy, tmp_path)
    slow = tmp_path / "slow.lib"
    text = toy.read_text()
    for value in sorted({"0.02", "0.03", "0.04", "0.06", "0.1"}):
        text = text.replace(f'values ("{value}")', f'values ("{float(value) * 2:g}")')
    slow.write_text(text)
    typical = done(units, liberty)
    timed = done(units, liberty, corner=[slow])
    for name, unit in timed.items():
        assert unit.recipe == typical[name].recipe
        assert unit.mapped == typical[name].mapped
        assert unit.timing.worst_ps > 1.5 * typical[name].timing.worst_ps


def test_a_cell_of_no_library_is_named(toy, tmp_path):
    liberty = library(toy, tmp_path)
    units = emitted_outer(tmp_path)
    poor = evolve(liberty, cells={n: cell for n, cell in liberty.cells.items() if n != "DFF"})
    with pytest.raises(
        LibertyError,
        match=r"^inner needs 4 cells DFF, which no Liberty file has; give the files of the whole",
    ):
        map_unit(
            units["inner"], units, liberty=poor, recipe=recipes_for(liberty)[0], period_ps=1000.0
        )


def test_a_latch_is_refused(toy, tmp_path):
    path = tmp_path / "verilog" / "latch.v"
    path.parent.mkdir()
    path.write_text(
        "module latch(clk, rst, d, q);\n  input clk;\n  input rst;\n  input d;\n  output reg q;\n"
        "  always @* if (clk) q = d;\nendmodule\n"
    )
    units = read_hierarchy([path])
    liberty = library(toy, tmp_path)
    with pytest.raises(SynthesisError, match="D latches are not supported"):
        map_unit(
            units["latch"],
            units,
            liberty=liberty,
            recipe=recipes_for(liberty)[0],
            period_ps=1000.0,
        )


def test_a_pass_that_fails_is_quoted(tmp_path):
    with pytest.raises(SynthesisError, match=r"^yosys, broken: No such command: nonsense"):
        run_yosys("nonsense\n", directory=tmp_path, what="broken")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "toy.lib is not a Liberty file: it does not begin with library (...)"),
        ("library (a) {", "toy.lib is not a whole Liberty file: its braces do not match"),
        ("library (a) { }", "toy.lib has no time_unit that is known; ps, ns, ff and pf are"),
    ],
)
def test_what_is_no_library_is_refused(text, message, tmp_path):
    path = tmp_path / "toy.lib"
    path.write_text(text)
    with pytest.raises(LibertyError, match=re.escape(message)):
        library(path, tmp_path)


def test_the_same_cell_twice_is_refused(toy, tmp_path):
    again = tmp_path / "again.lib"
    again.write_text(toy.read_text())
    with pytest.raises(LibertyError, match=r"cell INV is in two files; give one corner alone$"):
        read_liberty([toy, again], into=tmp_path / "liberty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no target: give --target ecp5, --liberty FILE, or --pdk NAME --pdk-dir DIR"),
        (["--liberty", "none.lib"], "Liberty file none.lib cannot be read: No such file"),
        (["--pdk", "x", "--pdk-dir", "."], "--pdk is 'x'; it must be one of asap7, sg13g2, osu018"),
        (["--pdk", "asap7"], "--pdk asap7 needs --pdk-dir, the directory with its files"),
        (
            ["--pdk", "sg13g2", "--pdk-dir", "rtl"],
            "--pdk-dir rtl has no sg13g2_stdcell_typ_1p20V_25C.lib[.gz], which sg13g2 needs",
        ),
        (
            ["--pdk", "sg13g2", "--pdk-dir", "rtl", "--corner", "hot"],
            "--corner is 'hot'; sg13g2 has slow",
        ),
        (["--target", "asic"], "--target is 'asic'; it must be ecp5"),
        (
            ["--target", "ecp5", "--top", "island"],
            "--target ecp5 is for tops with one clock; island has safe_clk, guard_clk, ai_clk",
        ),
        (["--top", "robot"], "synthesise --top chip and --top island"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    output = tmp_path / "out"
    result = CliRunner().invoke(app, ["synth", "--json", "-o", str(output), *arguments])
    assert result.exit_code == 2
    assert message in json.loads(result.stdout)["error"]
    assert not output.exists()


def test_a_library_without_flip_flops_is_refused(toy_without_flip_flops, tmp_path):
    output = tmp_path / "out"
    arguments = ["synth", "--json", "--top=tile", "-o", str(output), *SMALL]
    result = CliRunner().invoke(app, [*arguments, f"--liberty={toy_without_flip_flops}"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == (
        "no cell of gates.lib is a flip-flop; give the file with them, too"
    )
    assert not output.exists()


def test_a_pattern_without_cells_is_refused(toy, tmp_path):
    arguments = ["synth", "--json", "--top=tile", f"--liberty={toy}", "--dont-use=SLOW*"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == (
        "--dont-use 'SLOW*' matches no cell of the libraries"
    )


@needs_sta
def test_areas_add_up_and_the_picture_is_drawn(toy, tmp_path):
    output = tmp_path / "out"
    arguments = ["synth", "--json", "--top=tile", f"--liberty={toy}", "-o", str(output), *SMALL]
    result = CliRunner().invoke(app, [*arguments, "--clock-mhz=1"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    cell = found["modules"]["cell_18"]
    assert cell["instances"] == 8
    netlist = (output / "netlist" / "cell_18.v").read_text()
    flops = len(re.findall(r"^  DFF ", netlist, re.M))
    assert cell["sequential_um2"] == 5.0 * flops > 0
    assert found["area_um2"] == pytest.approx(
        sum(m["area_um2"] * m["instances"] for m in found["modules"].values()), abs=0.1
    )
    assert found["fits"]
    assert found["memory_bits"] == 4 * 2 * 64
    assert (output / "area.png").read_bytes()[:4] == b"\x89PNG"


@needs_sta
def test_a_clock_that_is_missed_fails_the_check(toy):
    arguments = ["synth", "--json", "--top=tile", f"--liberty={toy}", "--clock-mhz=5000", *SMALL]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["fits"]
    assert found["worst_path"]["ps"] > 200


@needs_sta
def test_the_generated_constraints_are_what_the_top_is_timed_with(toy):
    arguments = ["synth", "--json", "--top=tile", f"--liberty={toy}", *SMALL]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    # At 100 MHz a fifth of a cycle before inputs and after outputs is the worst there is.
    assert 0 < json.loads(result.stdout)["slack_ps"] < 10_000 - 2_000


def test_an_fpga_is_placed_and_routed(tmp_path):
    output = tmp_path / "out"
    arguments = ["synth", "--json", "--target=ecp5", "--top=tile", "-o", str(output), *SMALL]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["mult18"] == 8
    assert found["fits"]
    assert found["modules"]["tile"]["fmax_mhz"] >= 100
    assert found["worst_path"]["steps"]
    assert (output / "design.config").is_file()


def test_what_does_not_fit_an_fpga_leaves_nothing(tmp_path, monkeypatch):
    def too_large(*_, device, freq, seed, **__):
        return Ecp5Result(
            **dict.fromkeys(("lut4", "ccu2c", "ff", "mult18", "bram", "lutram"), 0),
            device=device,
            multipliers_in_logic=(),
            utilisation={"TRELLIS_COMB": Resource(used=30_000, available=24_288)},
            overflow=("TRELLIS_COMB",),
            fits=False,
            freq=freq,
            seed=seed,
            seconds={},
            tools={},
        )

    monkeypatch.setattr("jepa_r_flow.synth.place_and_route", too_large)
    output = tmp_path / "out"
    arguments = ["synth", "--json", "--target=ecp5", "--top=tile", "-o", str(output), *SMALL]
    result = CliRunner().invoke(app, [*arguments, "--device=LFE5U-12F"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"] == (
        "the design does not fit an LFE5U-12F: it needs 30000 TRELLIS_COMB of 24288"
    )
    assert not output.exists()


@pytest.mark.parametrize("areas", [[1.0], [5, 3, 1], [8, 8, 4, 2, 1, 1, 0.5], [1] * 30])
def test_a_treemap_fills_its_frame_with_the_right_areas(areas):
    boxes = squarified(areas, 3.0, 2.0)
    scale = 6.0 / sum(areas)
    assert [width * height for _, _, width, height in boxes] == pytest.approx([
        area * scale for area in areas
    ])
    for x, y, width, height in boxes:
        assert x >= -1e-9
        assert y >= -1e-9
        assert x + width <= 3 + 1e-9
        assert y + height <= 2 + 1e-9


@pytest.mark.skipif(not PDK.is_dir(), reason="the open PDKs' files are not here")
@pytest.mark.parametrize("name", ["asap7", "sg13g2"])
def test_the_open_processes_are_read(name, tmp_path):
    files, _ = find_pdk(name, PDK, None)
    liberty = read_liberty(files, dont_use=PDKS[name].dont_use, into=tmp_path)
    assert any(cell.sequential for cell in liberty.cells.values())
    assert liberty.constant(0)
    assert liberty.constant(1)
