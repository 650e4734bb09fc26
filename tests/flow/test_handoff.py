"""What stands beside the Verilog for the tools behind it."""

import json
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from jepa_r.emit import Emitted
from jepa_r.platform import MemoryShape
from jepa_r_flow.cli import app
from jepa_r_flow.handoff import MACRO_LIBRARIES, macro_map


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Directory and result of ``jepa-r generate --preset nano``, the whole chip."""
    directory = tmp_path_factory.mktemp("handoff") / "nano"
    result = CliRunner().invoke(app, ["generate", "--preset=nano", "--json", "-o", str(directory)])
    assert result.exit_code == 0, result.output
    return directory, json.loads(result.stdout)


def ports_of(directory):
    """Names of the chip's ports as constraints write them, by direction."""
    text = (directory / "chip.v").read_text()
    body = text[text.index("module chip(") :]
    found = re.findall(r"^  (input|output)(?: reg| wire)?( \[\d+:\d+\])? (\w+);", body, re.M)
    return {
        direction: {name + "[*]" * bool(bits) for kind, bits, name in found if kind == direction}
        for direction in ("input", "output")
    }


def test_every_port_is_constrained(generated):
    directory, _ = generated
    text = (directory / "chip.sdc").read_text()
    listed = {
        kind: set(re.search(rf"set timed_{kind}s {{(.*?)}}", text, re.S)[1].split())
        for kind in ("input", "output")
    }
    ports = ports_of(directory)
    assert listed["input"] == ports["input"] - {"clk", "rst"}
    assert listed["output"] == ports["output"]


def test_the_clock_is_the_configurations(generated):
    directory, _ = generated
    text = (directory / "chip.sdc").read_text()
    assert "set period [expr {10.0000 * $ns}]" in text
    assert "create_clock -name clk -period $period [get_ports clk]" in text
    assert json.loads((directory / "librelane.json").read_text())["CLOCK_PERIOD"] == 10.0
    assert 'FREQUENCY PORT "clk" 100 MHZ;' in (directory / "chip.lpf").read_text()


def test_every_false_path_has_its_reason_and_its_port(generated):
    directory, _ = generated
    lines = (directory / "chip.sdc").read_text().splitlines()
    ports = ports_of(directory)
    paths = [n for n, line in enumerate(lines) if line.startswith("set_false_path")]
    assert len(paths) == 3
    for n in paths:
        direction, name = re.match(
            r"set_false_path -(from|to) \[get_ports {(.*)}\]", lines[n]
        ).groups()
        assert name in ports["input" if direction == "from" else "output"]
        assert lines[n - 1].startswith(f"# {name}: ")


def test_a_core_lists_the_files_and_fusesoc_reads_it(generated):
    directory, result = generated
    pytest.importorskip("fusesoc")
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "fusesoc.main",
            "--cores-root",
            ".",
            "core",
            "show",
            "jepa-r:nano:chip",
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "jepa-r:nano:chip:0.1.0" in shown.stdout
    text = (directory / "chip.core").read_text()
    assert re.findall(r"^ +- (\S+\.v)$", text, re.M) == result["files"]


def test_named_files_are_there(generated):
    directory, result = generated
    assert result["handoff"] == [
        "chip.sdc", "chip.core", "librelane.json", "srams.json", "chip.lpf",
    ]  # fmt: skip
    librelane = json.loads((directory / "librelane.json").read_text())
    assert [f"dir::{name}" for name in result["files"]] == librelane["VERILOG_FILES"]
    for name in [*result["handoff"], *result["files"]]:
        assert (directory / name).is_file()


def test_every_memory_is_mapped_or_says_why_not(generated):
    directory, result = generated
    text = json.loads((directory / "srams.json").read_text())
    memories = text["memories"]
    assert set(memories) == {
        name for name in result["modules"] if name.startswith(("sram_array_", "accumulator_bank_"))
    }
    for memory in memories.values():
        macro = memory["macros"]["sg13g2"]
        if macro["macro"] is None:
            assert memory["ports"] == "1r1w"
            assert macro["reason"] == "sg13g2 has no macro that reads and writes at once"
        else:
            words, bits = MACRO_LIBRARIES["sg13g2"][macro["macro"]]
            assert macro["down"] * words >= memory["words"]
            assert macro["across"] * bits >= memory["bits"]
    assert text["bits"] == sum(m["words"] * m["bits"] * m["instances"] for m in memories.values())


def test_the_macros_with_the_least_waste_are_taken():
    shape = MemoryShape(words=500, bits=100, segments=1, ports="1rw")
    emitted = Emitted(files=[], instances={"m": 3}, memories={"m": shape})
    macro = macro_map(emitted)["memories"]["m"]["macros"]["sg13g2"]
    assert macro == {"macro": "RM_IHPSG13_1P_512x64_c2_bm_bist", "across": 2, "down": 1}
