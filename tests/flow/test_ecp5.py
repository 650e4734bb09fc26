"""Place and route on an ECP5: small arrays, what does not fit, and what the tools refuse."""

import json
import re
from itertools import product
from pathlib import Path

import pytest
from amaranth.lib import wiring
from attrs import evolve

from jepa_r.emit import emit_verilog
from jepa_r.memory.sram import Sram
from jepa_r.tile.array import SystolicArray
from jepa_r_flow.synthesis import ecp5
from jepa_r_flow.synthesis.ecp5 import (
    DEVICES,
    floorplan,
    measure,
    place_and_route,
    scan_wrapper,
    write_lpf,
)
from jepa_r_flow.synthesis.netlist import Port, Unit
from jepa_r_sim.cosim import MissingToolError
from jepa_r_sim.yosys import SynthesisError, run_yosys

SMALL = "LFE5U-25F"  # loads in a third of the time of the preset's device


def emitted(component: wiring.Component, into: Path) -> list[Path]:
    return emit_verilog(component, name="top", into=into / "verilog").files


def lpf(directory: Path, *, mhz: float = 100) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return write_lpf(
        directory / "top.lpf", top="top", preset="small", config_hash="00ff", clocks={"clk": mhz}
    )


def test_an_array_has_a_multiplier_a_cell_and_no_logic_but_carry_chains(tmp_path):
    files = emitted(SystolicArray(2, 3, width=20), tmp_path)
    result = place_and_route(
        files,
        "top",
        device=SMALL,
        directory=tmp_path / "work",
        lpf=lpf(tmp_path),
        freq=100,
        seed=3,
    )
    assert result.fits
    assert result.reason is None
    assert result.overflow == ()
    assert (result.mult18, result.bram, result.lutram) == (6, 0, 0)
    assert result.lut4 <= 4 * 6
    assert 0 < result.ccu2c <= 10 * 6
    # A, B, shadow, take, swap and sum: the multiplier has a register for the rest.
    assert result.ff == 6 * (3 * 8 + 2 + 20)
    assert result.multipliers_in_logic == ()
    assert result.utilisation["MULT18X18D"] == ecp5.Resource(used=6, available=28)
    # The wrapper's registers are placed, but not counted as the design's.
    assert result.utilisation["TRELLIS_FF"].used > result.ff
    assert result.utilisation["TRELLIS_IO"].used == 7

    assert list(result.fmax_mhz) == ["clk"]
    assert 50 < result.fmax_mhz["clk"] < 500
    assert sum(step.ns for step in result.worst_path) == pytest.approx(
        1000 / result.fmax_mhz["clk"], abs=0.01
    )
    assert next(step.kind for step in result.worst_path) == "clk-to-q"
    assert result.worst_path[-1].kind == "setup"
    assert result.config is not None
    assert "LFE5U-25F" in result.config.read_text()

    figures = json.loads(json.dumps(result.figures()))
    assert figures["mult18"] == 6
    assert figures["seed"] == 3
    assert figures["utilisation"]["MULT18X18D"] == {"used": 6, "available": 28, "percent": 21.4}
    assert re.fullmatch(r"[\d.]+", figures["tools"]["nextpnr"])
    assert re.match(r"\d", figures["tools"]["yosys"])


def test_what_does_not_fit_names_the_resource_and_leaves_no_bitstream(tmp_path):
    memory = Sram(width=32, depth=1 << 15)
    files = emitted(memory, tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    (work / "design.config").write_text("of an earlier run")
    result = place_and_route(
        files, "top", device=SMALL, directory=work, lpf=lpf(tmp_path), freq=100
    )
    assert not result.fits
    assert result.overflow == ("DP16KD",)
    assert result.utilisation["DP16KD"] == ecp5.Resource(used=64, available=56)
    assert result.reason == "the design does not fit an LFE5U-25F: it needs 64 DP16KD of 56"
    assert result.config is None
    assert not (work / "design.config").exists()
    assert result.fmax_mhz == {}
    assert result.worst_path == ()
    assert result.figures()["fits"] is False


def test_products_beyond_the_multipliers_are_made_of_logic(tmp_path, monkeypatch):
    monkeypatch.setitem(DEVICES, SMALL, evolve(DEVICES[SMALL], multipliers=3))
    files = emitted(SystolicArray(2, 2), tmp_path)
    figures = measure(files, "top", directory=tmp_path / "work", device=SMALL, freq=80)
    assert figures["multipliers_in_logic"] == ["cell_17"]
    assert figures["mult18"] == 0
    assert figures["ccu2c"] > 4 * 4 * 5
    assert figures["fits"]
    assert figures["seeds"] == {"1": figures["fmax_mhz"]["clk"]}


@pytest.mark.parametrize(
    ("a_width", "b_width", "signed", "y_width"),
    [
        (a, b, signed, y)
        for (a, b, y), signed in product(
            [(5, 4, 9), (4, 5, 9), (5, 3, 6), (3, 1, 4), (2, 2, 8)], [0, 1]
        )
    ],
)
def test_a_product_of_logic_is_the_product(tmp_path, a_width, b_width, signed, y_width):
    library = Path(ecp5.__file__).parents[3] / "scripts/yosys/ecp5_products.v"
    ports = f"[{a_width - 1}:0] a, input [{b_width - 1}:0] b, output"
    (tmp_path / "product.v").write_text(
        f"""\
module gold(input {ports} [{y_width - 1}:0] y);
  \\$mul #(
    .A_SIGNED({signed}), .B_SIGNED({signed}),
    .A_WIDTH({a_width}), .B_WIDTH({b_width}), .Y_WIDTH({y_width})
  ) product(.A(a), .B(b), .Y(y));
endmodule
module both(input {ports} same);
  wire [{y_width - 1}:0] wanted, given;
  gold one(.a(a), .b(b), .y(wanted));
  gate other(.a(a), .b(b), .y(given));
  assign same = wanted == given;
endmodule
"""
    )
    run_yosys(
        f"""\
read_verilog -icells product.v
copy gold gate
techmap -map {library} gate/t:$mul
select -assert-none gate/t:$mul
select -assert-min 1 gate/t:CCU2C
techmap -autoproc -map +/lattice/ccu2c_sim.vh -map +/lattice/common_sim.vh gate
select -assert-none gate/t:CCU2C
flatten
opt_clean
sat -verify -prove same 1 both
""",
        directory=tmp_path,
        what="product",
    )


#: Two inputs and two outputs, of which one is there twice.
ODD = Unit(
    name="odd",
    file=Path("odd.v"),
    ports=(
        Port(name="clk", direction="input", width=1),
        Port(name="rst", direction="input", width=1),
        Port(name="a", direction="input", width=2),
        Port(name="b.c", direction="input", width=1),
        Port(name="y", direction="output", width=3),
    ),
    children={},
    declaration="",
)


@pytest.mark.parametrize("bits", ["101", "110", "011"])
def test_the_wrapper_brings_every_port_to_pins(tmp_path, bits):
    """``y`` is ``{b, a} ^ 5``: shift in, update, capture, shift out."""
    (tmp_path / "scan.v").write_text(
        "module odd(input clk, input rst, input [1:0] a, input \\b.c , output [2:0] y);\n"
        "  assign y = {\\b.c , a} ^ 3'd5;\nendmodule\n" + scan_wrapper(ODD)
    )
    drive = {name: ["0"] * 9 for name in ("capture", "shift", "update", "data_i")}
    for cycle, bit in enumerate(bits):  # the first goes furthest, to bit 0
        drive["shift"][cycle], drive["data_i"][cycle] = "1", bit
    drive["update"][3] = "1"
    drive["capture"][4] = "1"
    drive["shift"][5] = drive["shift"][6] = "1"
    sets = " ".join(
        f"-set-at {cycle + 1} {name} {value}"
        for name, values in drive.items()
        for cycle, value in enumerate(values)
    )
    log = run_yosys(
        f"read_verilog scan.v\nprep -flatten -top scan\nsat -seq 9 {sets} -show data_o scan\n",
        directory=tmp_path,
        what="scan",
    )
    seen = dict(re.findall(r"^ +(\d+) \\data_o +(\d)", log, re.M))
    out = int(bits[::-1], 2) ^ 5
    assert [seen[str(6 + n)] for n in range(3)] == [str((out >> bit) & 1) for bit in range(3)]


def planned(tmp_path, height, width):
    """What :func:`floorplan` says, and the places of an array's multipliers."""
    cells = {
        f"design.array.part_{r}_{c}.product": {"type": "MULT18X18D", "attributes": {}}
        for r in range(height)
        for c in range(width)
    }
    cells |= {
        "design.lane.product": {"type": "MULT18X18D", "attributes": {}},
        "design.array.part_0_0.sum": {"type": "CCU2C", "attributes": {}},
    }
    netlist = tmp_path / f"{height}x{width}.json"
    netlist.write_text(json.dumps({"modules": {"scan": {"cells": cells}}}))
    count = floorplan(netlist, DEVICES["LFE5U-85F"])
    found = json.loads(netlist.read_text())["modules"]["scan"]["cells"]
    return count, {
        tuple(map(int, re.findall(r"_(\d+)", name))): cell["attributes"]["BEL"]
        for name, cell in found.items()
        if "BEL" in cell["attributes"]
    }


def test_an_array_that_takes_most_multipliers_has_its_columns_along_their_rows(tmp_path):
    count, places = planned(tmp_path, 16, 8)
    assert count == len(places) == len(set(places.values())) == 128
    rows = DEVICES["LFE5U-85F"].multiplier_sites
    assert sum(map(len, rows)) == DEVICES["LFE5U-85F"].multipliers
    at = {site: (n, x) for n, row in enumerate(rows) for x, site in enumerate(row)}
    assert set(places.values()) <= set(at)
    for (r, c), site in places.items():
        row, x = at[site]
        # Neighbours: a sum's next row is as many places on as columns share the row of the device.
        if r < 15:
            assert at[places[r + 1, c]][0] == row
            assert 1 <= at[places[r + 1, c]][1] - x <= 3
        if c < 7 and at[places[r, c + 1]][0] == row:
            assert at[places[r, c + 1]][1] == x + 1


def test_places_are_given_by_whole_columns_while_there_are_rows(tmp_path):
    count, places = planned(tmp_path, 30, 5)
    assert count == len(places) == 90
    assert {c for _, c in places} == {2, 3, 4}
    assert planned(tmp_path, 8, 8) == (0, {})


def test_constraints_name_the_clock_and_place_no_pin(tmp_path):
    text = lpf(tmp_path, mhz=80).read_text()
    assert text.splitlines()[0] == "# Clocks of top, preset small (00ff), for nextpnr-ecp5."
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'FREQUENCY PORT "clk" 80 MHZ;'
    ]


def test_bad_input_and_what_tools_refuse_are_sentences(tmp_path, monkeypatch):
    files = emitted(SystolicArray(1, 1), tmp_path)
    good = {"directory": tmp_path / "work", "lpf": lpf(tmp_path), "freq": 100, "device": SMALL}
    with pytest.raises(
        SynthesisError,
        match=r"^device is 'LFE5U-99F'; it must be one of LFE5U-12F, LFE5U-25F, LFE5U-45F, "
        r"LFE5U-85F$",
    ):
        place_and_route(files, "top", **good | {"device": "LFE5U-99F"})
    with pytest.raises(SynthesisError, match=r"^speed is 5; it must be 6, 7 or 8$"):
        place_and_route(files, "top", speed=5, **good)
    with pytest.raises(SynthesisError, match=r"^top is 'chip'; there are cell_16, top$"):
        place_and_route(files, "chip", **good)

    board = tmp_path / "board.lpf"
    board.write_text('LOCATE COMP "clk" SITE "A99";\n')
    with pytest.raises(SynthesisError, match=r"^nextpnr-ecp5: .*A99"):
        place_and_route(files, "top", **good | {"lpf": board})
    assert not (tmp_path / "work/design.config").exists()

    with pytest.raises(SynthesisError, match=r"^nextpnr-ecp5 was not done after 0.001 seconds$"):
        place_and_route(files, "top", timeout=0.001, **good)

    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(MissingToolError, match=r"^not found: nextpnr-ecp5; install with: pip "):
        place_and_route(files, "top", **good)
