"""What the techmaps of ``scripts/yosys`` make of the cell computes what the cell does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jepa_r.emit import emit_verilog
from jepa_r.tile.cell import Cell
from jepa_r_flow.synthesis.liberty import PDKS, find_pdk, read_liberty
from jepa_r_flow.synthesis.mapping import map_unit
from jepa_r_flow.synthesis.netlist import read_hierarchy
from jepa_r_flow.synthesis.recipes import recipes_for
from jepa_r_sim.yosys import run_yosys

PDK = Path(__file__).parents[3] / "shared/pdk"
SCRIPTS = Path(__file__).parents[2] / "scripts" / "yosys"
WIDTH = 19

#: What the cells that the techmaps name do. Of the multiplier, what is used of it.
MODELS = """
module FAx1_ASAP7_75t_R (input A, B, CI, output CON, SN);
  assign SN = ~(A ^ B ^ CI);
  assign CON = ~((A & B) | (A & CI) | (B & CI));
endmodule
module NOR2x1_ASAP7_75t_R (input A, B, output Y); assign Y = ~(A | B); endmodule
module OR2x2_ASAP7_75t_R (input A, B, output Y); assign Y = A | B; endmodule
module sg13g2_xor2_1 (input A, B, output X); assign X = A ^ B; endmodule
module sg13g2_xnor2_1 (input A, B, output Y); assign Y = ~(A ^ B); endmodule
module sg13g2_nand2_1 (input A, B, output Y); assign Y = ~(A & B); endmodule
module sg13g2_nor2_1 (input A, B, output Y); assign Y = ~(A | B); endmodule
module sg13g2_a22oi_1 (input A1, A2, B1, B2, output Y);
  assign Y = ~((A1 & A2) | (B1 & B2));
endmodule
"""

FUNCTIONS = {
    "$_NOT_": lambda a: ~a,
    "$_AND_": lambda a, b: a & b,
    "$_OR_": lambda a, b: a | b,
    "$_XOR_": lambda a, b: a ^ b,
    "$_XNOR_": lambda a, b: ~(a ^ b),
    "$_MUX_": lambda a, b, s: np.where(s, b, a),
}


class Gates:
    """A netlist of gates and flip-flops, evaluated for many stimuli at once."""

    def __init__(self, commands, directory, top):
        (directory / "models.v").write_text(MODELS)
        run_yosys(
            f"{commands}\n"
            "techmap -map models.v\n"
            "techmap -map +/techmap.v\n"
            "opt\n"
            "dfflegalize -cell $_DFF_P_ 01\n"
            f"simplemap\nopt_clean\nhierarchy -top {top} -purge_lib\n"
            "write_json gates.json\n",
            directory=directory,
            what="gates",
        )
        module = json.loads((directory / "gates.json").read_text())["modules"][top]
        self._ports = {name: port["bits"] for name, port in module["ports"].items()}
        self._drivers, self._flops = {}, {}
        for cell in module["cells"].values():
            pins = {name: bits[0] for name, bits in cell["connections"].items()}
            if cell["type"] == "$_DFF_P_":
                self._flops[pins["Q"]] = pins["D"]
            elif cell["type"] != "$scopeinfo":
                out = pins.pop("Y")
                self._drivers[out] = FUNCTIONS[cell["type"]], [pins[pin] for pin in sorted(pins)]
        self._state = {}

    def step(self, **inputs):
        """Apply arrays of integers; returns outputs before the clock's edge, then clocks."""
        lanes = len(next(iter(inputs.values())))
        known = {"0": np.zeros(lanes, bool), "1": np.ones(lanes, bool)}
        known["x"] = known["0"]
        for name, values in inputs.items():
            for n, bit in enumerate(self._ports[name]):
                known[bit] = (values >> n & 1).astype(bool)
        for flop in self._flops:
            known[flop] = self._state.get(flop, known["0"])

        def value(bit):
            stack = [bit]
            while stack:
                bit = stack[-1]
                if bit in known:
                    stack.pop()
                    continue
                function, pins = self._drivers[bit]
                unknown = [pin for pin in pins if pin not in known]
                if unknown:
                    stack += unknown
                else:
                    known[bit] = function(*(known[pin] for pin in pins))
            return known[bit]

        outputs = {}
        for name, bits in self._ports.items():
            if name not in inputs and name not in ("clk", "rst"):
                columns = [value(bit).astype(np.int64) << n for n, bit in enumerate(bits)]
                outputs[name] = np.sum(columns, axis=0)
        self._state = {flop: value(d) for flop, d in self._flops.items()}
        return outputs


def wrapped(values, width):
    return values & (2**width - 1)


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    into = tmp_path_factory.mktemp("cell")
    emit_verilog(Cell(width=WIDTH), name="cell", into=into)
    return into / "cell.v"


def check_cell(gates, *, cycles=40, lanes=256):
    """Drive random operands, takes and swaps, and follow the cell's definition."""
    rng = np.random.default_rng(0)
    a = shadow = stationary = product = total = None
    for cycle in range(cycles):
        values = {
            "a_i": rng.integers(-128, 128, lanes),
            "b_i": rng.choice([-128, -127, -1, 0, 1, 127, *range(-60, 60, 7)], lanes),
            "take_i": rng.integers(0, 2, lanes) | (cycle == 0),
            "swap_i": rng.integers(0, 2, lanes) | (cycle == 1),
            "sum_i": rng.integers(-(2 ** (WIDTH - 1)), 2 ** (WIDTH - 1), lanes),
        }
        got = gates.step(**values, rst=np.zeros(lanes, int))
        if cycle > 3:
            np.testing.assert_array_equal(got["sum_o"], wrapped(total, WIDTH))
            np.testing.assert_array_equal(got["a_o"], wrapped(a, 8))
        if cycle > 2:
            total = values["sum_i"] + product
        if cycle > 1:
            product = a * stationary
        if cycle > 0:
            stationary = np.where(values["swap_i"], shadow, 0 if cycle == 1 else stationary)
            shadow = np.where(values["take_i"], values["b_i"], shadow)
        else:
            shadow = values["b_i"]
        a = values["a_i"]


FLAVOURS = ["generic", "asap7_fast", "asap7_small", "sg13g2_fast", "sg13g2_small"]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_multiplier_is_right_for_all_operands(flavour, tmp_path):
    (tmp_path / "top.v").write_text(
        "module top (input signed [7:0] a, b, output signed [15:0] y);"
        " assign y = a * b; endmodule\n"
    )
    gates = Gates(
        "read_verilog top.v\nwreduce\nopt_clean\n"
        f"techmap -map {SCRIPTS}/multiplier_{flavour}.v t:$mul\n"
        "select -assert-none t:$mul\n",
        tmp_path,
        "top",
    )
    a, b = (half.ravel() for half in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    np.testing.assert_array_equal(gates.step(a=a, b=b)["y"], wrapped(a * b, 16))


@pytest.mark.parametrize("library", ["generic", "asap7", "sg13g2"])
@pytest.mark.parametrize("segment", [1, 2, 5, 6, 1024])
def test_adder_is_right(library, segment, tmp_path):
    # Sums, differences and comparisons: carry in, inverted operand, carry out.
    (tmp_path / "top.v").write_text(
        "module top (input signed [12:0] a, input signed [8:0] b, input [8:0] c,"
        " output [14:0] plus, output [13:0] minus, output less, below);\n"
        "assign plus = a + b;\nassign minus = a - b;\nassign less = a < b;\n"
        "assign below = b[8:0] < c;\nendmodule\n"
    )
    gates = Gates(
        "read_verilog top.v\nalumacc\nselect -assert-min 3 t:$alu\n"
        f"techmap -D SEGMENT={segment} -map {SCRIPTS}/alu_{library}.v t:$alu\n"
        "select -assert-none t:$alu\n",
        tmp_path,
        "top",
    )
    rng = np.random.default_rng(segment)
    a = rng.integers(-(2**12), 2**12, 20_000)
    b = rng.integers(-(2**8), 2**8, 20_000)
    c = rng.integers(0, 2**9, 20_000)
    a[:6000] = rng.integers(-3, 4, 6000) + rng.choice([-4093, -256, 0, 255, 4092], 6000)
    c[:6000] = wrapped(b[:6000] + rng.integers(-1, 2, 6000), 9)
    got = gates.step(a=a, b=b, c=c)
    np.testing.assert_array_equal(got["plus"], wrapped(a + b, 15))
    np.testing.assert_array_equal(got["minus"], wrapped(a - b, 14))
    np.testing.assert_array_equal(got["less"], a < b)
    np.testing.assert_array_equal(got["below"], wrapped(b, 9) < c)


PREPARE = "proc\nopt_expr\nopt_clean\nopt\nwreduce\nopt_clean\n"


@pytest.mark.parametrize(
    ("flavour", "library", "segment"),
    [
        ("asap7_fast", "asap7", 5),
        ("asap7_small", "asap7", 1024),
        ("sg13g2_fast", "sg13g2", 10),
        ("sg13g2_small", "sg13g2", 1024),
        ("generic", "generic", 10),
    ],
)
def test_cell_of_full_adders_is_the_cell(flavour, library, segment, cell, tmp_path):
    gates = Gates(
        f"read_verilog {cell}\nhierarchy -top cell\n{PREPARE}"
        "alumacc t:$add\nselect -assert-count 1 t:$alu\n"
        f"techmap -D SEGMENT={segment} -map {SCRIPTS}/alu_{library}.v t:$alu\n"
        "select -assert-count 1 t:$mul\n"
        f"techmap -map {SCRIPTS}/multiplier_{flavour}.v t:$mul\n"
        "select -assert-none t:$mul\n",
        tmp_path,
        "cell",
    )
    check_cell(gates)


# A MULT18X18D as used: registers of A, of B with an enable, and of the product.
MULTIPLIER = """
module MULT18X18D ({ports});
  parameter REG_INPUTA_CLK = "NONE"; parameter REG_INPUTA_CE = "CE0";
  parameter REG_INPUTA_RST = "RST0"; parameter REG_INPUTB_CLK = "NONE";
  parameter REG_INPUTB_CE = "CE0"; parameter REG_INPUTB_RST = "RST0";
  parameter REG_OUTPUT_CLK = "NONE"; parameter REG_OUTPUT_CE = "CE0";
  parameter REG_OUTPUT_RST = "RST0";
  input {inputs}, SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, CE1, RST0;
  output {outputs};
  wire ce_b = REG_INPUTB_CE == "CE1" ? CE1 : CE0;
  reg signed [17:0] a, b;
  reg signed [35:0] p;
  always @(posedge CLK0) begin
    if (CE0) a <= {{{a}}};
    if (ce_b) b <= {{{b}}};
    if (CE0) p <= a * b;
  end
  assign {{{p}}} = p;
endmodule
"""


def multiplier_model():
    widths = {"A": 18, "B": 18, "P": 36}
    bits = {port: [f"{port}{n}" for n in range(width)] for port, width in widths.items()}
    control = ["SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB", "CLK0", "CE0", "CE1", "RST0"]
    return MULTIPLIER.format(
        ports=", ".join(bits["A"] + bits["B"] + bits["P"] + control),
        inputs=", ".join(bits["A"] + bits["B"]),
        outputs=", ".join(bits["P"]),
        a=", ".join(reversed(bits["A"])),
        b=", ".join(reversed(bits["B"])),
        p=", ".join(reversed(bits["P"])),
    )


def test_cell_with_the_multipliers_own_registers_is_the_cell(cell, tmp_path):
    (tmp_path / "multiplier.v").write_text(multiplier_model())
    gates = Gates(
        f"read_verilog {SCRIPTS}/ecp5_product_pattern.v\nproc\nopt\nwreduce\nopt_clean\n"
        "design -stash pattern\n"
        "read_verilog -lib -specify +/lattice/cells_sim_ecp5.v +/lattice/cells_bb_ecp5.v\n"
        f"read_verilog {cell}\nhierarchy -top cell\n{PREPARE}"
        "extract -map %pattern\nselect -assert-count 1 t:cell_product\n"
        f"techmap -autoproc -map {SCRIPTS}/ecp5_product_map.v t:cell_product\n"
        "select -assert-count 1 t:MULT18X18D\nselect -assert-none t:$mul\n"
        "techmap -autoproc -map multiplier.v t:MULT18X18D\n",
        tmp_path,
        "cell",
    )
    check_cell(gates)


@pytest.mark.skipif(not PDK.is_dir(), reason="the open PDKs' files are not here")
@pytest.mark.parametrize("name", ["asap7", "sg13g2"])
def test_cells_mapped_to_a_library_are_the_cell(name, cell, tmp_path):
    files, _ = find_pdk(name, PDK, None)
    liberty = read_liberty(files, dont_use=PDKS[name].dont_use, into=tmp_path / "liberty")
    functions = "".join(
        f"read_liberty -overwrite -ignore_miss_func {file}\n" for file in liberty.files
    )
    units = read_hierarchy([cell])
    for recipe in recipes_for(liberty):
        mapped = map_unit(units["cell"], units, liberty=liberty, recipe=recipe, period_ps=500.0)
        gates = Gates(
            f"{functions}read_verilog {mapped.netlist}\nhierarchy -top cell\nflatten\n",
            tmp_path,
            "cell",
        )
        check_cell(gates)


def test_techmaps_are_what_their_generator_writes(tmp_path):
    written = {path.name: path.read_text() for path in SCRIPTS.glob("multiplier_*.v")}
    assert sorted(written) == sorted(f"multiplier_{flavour}.v" for flavour in FLAVOURS)
    (tmp_path / "multiplier.py").write_text((SCRIPTS / "multiplier.py").read_text())
    subprocess.run([sys.executable, tmp_path / "multiplier.py"], check=True)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.v")} == written
