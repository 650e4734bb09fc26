# amaranth: UnusedElaboratable=no
"""Emitted Verilog of every top: lint with Verilator, synthesis with yosys."""

import re
import subprocess
from pathlib import Path

import pytest

from jepa_r.config import PRESETS
from jepa_r.emit import emit_verilog
from jepa_r.tops import TOPS
from jepa_r_sim.cosim import verilator_environment
from jepa_r_sim.yosys import SynthesisError, run_yosys

WAIVERS = Path(__file__).parents[2] / "constraints" / "verilator_waivers.vlt"

#: Declaration of a memory: `reg [7:0] mem [0:31];` or `reg [7:0] mem [31:0];`
MEMORY = re.compile(r"^\s*reg\s*(?:\[[^\]]+\])?\s*\S+\s+\[\d+:\d+\];", re.MULTILINE)

#: Cells that must not be in any netlist: latches of all kinds, and flip-flops with two controls.
LATCHES = "t:$dlatch* t:$adlatch* t:$sr t:$_DLATCH* t:$_SR_*"

CHECKS = f"check -assert; select -assert-none {LATCHES}"


class CheckError(AssertionError):
    """Verilog that a tool complains about."""


def lint(files: list[Path], top: str) -> None:
    """Run Verilator with all warnings on; what the waivers do not name is an error."""
    command = ["verilator", "--lint-only", "-Wall", str(WAIVERS), "--top-module", top]
    _execute([*command, *map(str, files)], cwd=files[0].parent, env=verilator_environment())


def examine(files: list[Path], top: str) -> None:
    """Look with yosys for latches, loops, undriven nets and second drivers in the whole design.

    `proc` makes a latch of all that is one, and `check` sees loops and drivers as soon as all
    modules are one; gates, which take minutes, show no more.
    """
    memories = _memories(files, top)
    # Each is a leaf.
    checked = [
        f"design -reset; read_verilog {path.name}; hierarchy -check -top {path.stem}; proc; "
        f"flatten; opt_clean; {CHECKS}; memory -nomap; select -assert-min 1 t:$mem_v2; "
        "check -assert"
        for path in memories
    ]
    # A loop may pass through several modules: look for it with all of them in one.
    whole = f"design -reset; {_read(files, memories, top)} flatten; opt_clean; {CHECKS}"
    _yosys("; ".join([*checked, whole]), cwd=files[0].parent)


def synthesise(files: list[Path], top: str) -> None:
    """Synthesise with yosys to gates, and look again.

    Modules that are memories are left out, as the SRAM macros of a technology would be: `synth`
    makes flip-flops of every bit.
    """
    start = _read(files, _memories(files, top), top)
    _yosys(f"{start} synth -top {top}; {CHECKS}", cwd=files[0].parent)


def _memories(files: list[Path], top: str) -> list[Path]:
    """Files that are a memory and nothing else; queues are parts of what uses them."""
    texts = {path: path.read_text() for path in files if path.stem != top}
    return [
        path for path, text in texts.items() if MEMORY.search(text) and text.count("endmodule") == 1
    ]


def _read(files: list[Path], memories: list[Path], top: str) -> str:
    names = " ".join(path.name for path in files)
    boxes = " ".join(f"blackbox {path.stem};" for path in memories)
    return f"read_verilog {names}; {boxes} hierarchy -check -top {top}; proc;"


def _yosys(script: str, *, cwd: Path) -> None:
    try:
        run_yosys(script.replace(";", "\n") + "\n", directory=cwd, what="check")
    except SynthesisError as error:
        raise CheckError((cwd / "check.log").read_text()[-3000:]) from error


def _execute(command: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> None:
    process = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise CheckError((process.stdout + process.stderr)[-3000:])


#: The robot's modules are those of chip and island.
SLOW = {"robot"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(top, marks=pytest.mark.slow if top in SLOW else ()) for top in sorted(TOPS)
    ],
)
def emitted(request, tmp_path_factory):
    """Files of a top at the smallest preset, and its name."""
    into = tmp_path_factory.mktemp(request.param)
    top = TOPS[request.param](PRESETS["nano"])
    return emit_verilog(top, name=request.param, into=into).files, request.param


def test_top_passes_lint(emitted):
    lint(*emitted)


def test_top_has_no_latches_or_loops(emitted):
    examine(*emitted)


@pytest.mark.slow
def test_top_synthesises_without_latches_or_loops(emitted):
    synthesise(*emitted)


DEFECTS = {
    "latch": "module top(input a, b, output reg c); always @* if (a) c = b; endmodule",
    "loop": "module top(input a, output c); wire d; assign d = a ^ c; assign c = ~d; endmodule",
    "two_drivers": "module top(input a, b, output c); assign c = a; assign c = b; endmodule",
    "undriven": "module top(input a, output c); wire d; assign c = a ^ d; endmodule",
}


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("check", [lint, examine])
def test_defect_is_found(check, defect, tmp_path):
    path = tmp_path / "top.v"
    path.write_text(DEFECTS[defect] + "\n")
    with pytest.raises(CheckError):
        check([path], "top")


def test_loop_through_two_modules_is_found(tmp_path):
    path = tmp_path / "top.v"
    path.write_text(
        "module part(input a, output b); assign b = ~a; endmodule\n"
        "module top(input x, output y); wire z;\n"
        "  part one(.a(y ^ x), .b(z)); part two(.a(z), .b(y)); endmodule\n"
    )
    with pytest.raises(CheckError, match="loop"):
        examine([path], "top")


def test_nothing_in_it_tells_of_the_machine_or_of_every_row(emitted):
    files, _top = emitted
    for path in files:
        text = path.read_text()
        assert not re.search(r"Generated by|/home/|/tmp/|\.py\b|\(\* src", text), path.name
        # Queues have a few rows that begin as zero; memories have no such lines.
        rows = re.findall(r"^\s*\S+\[(\d+)\] = ", text, re.MULTILINE)
        assert all(int(row) < 16 for row in rows), path.name


def test_every_module_is_emitted_once(emitted):
    names = [
        name
        for path in emitted[0]
        for name in re.findall(r"^module (\S+?)[\s(]", path.read_text(), re.M)
    ]
    assert len(names) == len(set(names))


def test_components_are_modules_with_readable_interfaces(emitted):
    """Only queues and codes, which say nothing to a reader, are parts of another's module."""
    files, top = emitted
    for path in files:
        headers = re.findall(r"^module (\S+?)\s?\((.*?)\);", path.read_text(), re.M | re.S)
        assert headers[0][0] == path.stem
        assert "$" not in headers[0][1], path.name
        # A macro has one clock: what has two, or a reset of its own, stays a part of the top.
        if path.stem.endswith(("chip", "accelerator", "cluster", "slice", "planner")) or (
            path.stem == top and top not in {"island", "robot"}
        ):
            # What only compares settings has no clock, which a module of its own would bring.
            others = [name for name, _ports in headers[1:] if not name.endswith(".check")]
            assert not others


def test_memory_is_inferred_and_missing_modules_are_found(tmp_path):
    memory = tmp_path / "bank.v"
    memory.write_text(
        "module bank(input clk, w, input [3:0] a, input [7:0] d, output reg [7:0] q);\n"
        "  reg [7:0] mem [0:15];\n"
        "  always @(posedge clk) begin if (w) mem[a] <= d; q <= mem[a]; end\nendmodule\n"
    )
    top = tmp_path / "top.v"
    top.write_text(
        "module top(input clk, w, input [3:0] a, input [7:0] d, output [7:0] q);\n"
        "  bank bank(.clk(clk), .w(w), .a(a), .d(d), .q(q));\nendmodule\n"
    )
    for check in (lint, examine, synthesise):
        check([top, memory], "top")
    with pytest.raises(CheckError, match="bank"):
        examine([top], "top")
