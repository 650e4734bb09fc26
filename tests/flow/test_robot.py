# amaranth: UnusedElaboratable=no
"""The robot's top: its ports and files, and what ties the accelerator to the island.

Whatever is inside the accelerator, all of it is on its own clock: here it is a box with its ports.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from amaranth import *
from amaranth.lib import wiring
from typer.testing import CliRunner

from jepa_r import robot
from jepa_r.chip import Chip
from jepa_r.clocking import AI, SAFE
from jepa_r.config import PRESETS, ConfigError
from jepa_r.emit import emit_verilog
from jepa_r.safety.island import Island
from jepa_r_flow.cli import app
from jepa_r_flow.handoff import write_handoff

from .test_crossings import CLOCKS, check_crossings, flat_netlist

CONFIG = PRESETS["nano"]


class Box(wiring.Component):
    """Ports of a part, and a register in each of its domains."""

    def __init__(self, part, domains=()):
        self._domains = domains
        super().__init__(dict(part.signature.members))

    def elaborate(self, platform):
        m = Module()
        for name in self._domains:
            value = Signal(name=f"in_{name}", attrs={"keep": 1})
            m.d[name] += value.eq(~value)
        return m


class BoxedIsland(Box):
    """Ports of an island."""

    def __init__(self, *, config, ai_mhz):
        self._island = Island(config=config, ai_mhz=ai_mhz)
        super().__init__(self._island)

    @property
    def crossings(self):
        return self._island.crossings

    def port_clock(self, name):
        return self._island.port_clock(name)


def boxed_chip(*, config, acting):
    return Box(Chip(config=config), ("sync", acting))


def ports_of(text, top):
    """Names of a module's ports as constraints write them, by direction."""
    body = text[re.search(rf"^module {top}\(", text, re.M).start() :]
    body = body[: body.index("endmodule")]
    found = re.findall(r"^  (input|output)(?: reg| wire)?( \[\d+:\d+\])? (\w+);", body, re.M)
    return {
        direction: {name + "[*]" * bool(bits) for kind, bits, name in found if kind == direction}
        for direction in ("input", "output")
    }


@pytest.fixture(scope="module")
def outline(tmp_path_factory):
    """Directory, and the robot: Verilog of the top alone, and its constraints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robot, "Chip", boxed_chip)
        patch.setattr(robot, "Island", BoxedIsland)
        directory = tmp_path_factory.mktemp("outline")
        top = robot.Robot(config=CONFIG)
        emitted = emit_verilog(top, name="robot", into=directory)
        write_handoff(CONFIG, "robot", top, emitted, directory)
    return directory, top


def test_all_ports_of_chip_and_island_are_the_robots_but_what_joins_them(outline):
    directory, _ = outline
    text = {name: (directory / f"{name}.v").read_text() for name in ("robot", "accelerator")}
    both = {
        kind: ports_of(text["accelerator"], "accelerator")[kind]
        | ports_of((directory / "island.v").read_text(), "island")[kind]
        for kind in ("input", "output")
    }
    ports = ports_of(text["robot"], "robot")
    clocks = {"clk", "rst", "acting_rst"}
    assert ports["input"] == both["input"] - clocks - {"ai_verdict[*]"}
    assert ports["output"] == both["output"] - {"state[*]"} | {"island_state[*]", "ai_rst"}


def test_constraints_name_every_port_once_and_every_crossing(outline):
    directory, top = outline
    ports = ports_of((directory / "robot.v").read_text(), "robot")
    text = (directory / "robot.sdc").read_text()
    assert set(re.findall(r"create_clock .*\[get_ports (\w+)\]", text)) == set(CLOCKS)
    timed = re.findall(
        r"^set_(input|output)_delay .* -clock (\w+) \[get_ports {(.*)}\]", text, re.M
    )
    untimed = re.findall(r"^# (.*): .*\nset_false_path -(from|to) \[get_ports {(.*)}\]", text, re.M)
    assert all(name == port for name, _, port in untimed)
    for kind, direction in (("input", "from"), ("output", "to")):
        listed = [port for k, _, port in timed if k == kind]
        listed += [port for _, d, port in untimed if d == direction]
        listed += CLOCKS if kind == "input" else []
        assert sorted(listed) == sorted(ports[kind])
    clocks = {port: clock for _, clock, port in timed}
    assert clocks["action__tdata[*]"] == clocks["commands__tdata[*]"] == AI
    assert clocks["state__tdata[*]"] == clocks["ai_rst"] == AI
    assert clocks["island_state[*]"] == clocks["ai_release"] == SAFE
    for crossing in top.crossings:
        assert f"\n# {crossing.name}, {crossing.source} to {crossing.target}: " in text
    for name in ("accelerator_reset/i", "acting_reset/i", "island/ai_image/i[*]"):
        assert f"set_false_path -through [get_pins {{{name}}}]" in text


def test_tools_behind_are_told_all_clocks(outline):
    directory, _ = outline
    lines = (directory / "robot.lpf").read_text().splitlines()
    assert [line for line in lines if line.startswith("FREQUENCY")] == [
        f'FREQUENCY PORT "safe_clk" {CONFIG.safety.clock_mhz} MHZ;',
        f'FREQUENCY PORT "guard_clk" {CONFIG.safety.guard_mhz} MHZ;',
        f'FREQUENCY PORT "ai_clk" {CONFIG.clock_mhz} MHZ;',
    ]
    librelane = json.loads((directory / "librelane.json").read_text())
    assert librelane["CLOCK_PORT"] == ["safe_clk", "guard_clk", "ai_clk"]


def test_a_robot_without_a_predictor_is_refused():
    with pytest.raises(ConfigError, match=r"^predictor is none; the chip needs one"):
        robot.Robot(config=PRESETS["ecp5"])


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """Files of a robot whose accelerator is a box, and the robot."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robot, "Chip", boxed_chip)
        top = robot.Robot(config=CONFIG)
        emitted = emit_verilog(top, name="robot", into=tmp_path_factory.mktemp("joined"))
    return emitted.files, top


def planted(files, directory, name, pattern, text):
    """Copy files, with a defect in one of them."""
    directory.mkdir()
    copies = [Path(shutil.copy(path, directory)) for path in files]
    path = directory / name
    wrong, count = re.subn(pattern, text, path.read_text(), flags=re.M)
    assert count == 1
    path.write_text(wrong)
    return copies


def check_robot(files, top, directory):
    """The island is reached by listed crossings alone, and holds the accelerator in reset."""
    directory.mkdir(exist_ok=True)
    netlist = flat_netlist(directory, files, "robot", top.port_clock, boxes=("accelerator",))
    resets = {f"island.{domain}_reset": domain for domain in CLOCKS.values()} | {
        "accelerator_reset": AI,
        "acting_reset": AI,
    }
    check_crossings(netlist, top.crossings, resets)
    ports = {name: port["bits"] for name, port in netlist.module["ports"].items()}
    cell = netlist.module["cells"]["chip"]["connections"]
    assert cell["clk"] == ports["ai_clk"]
    for reset, level in (("rst", "ai_load"), ("acting_rst", "ai_release")):
        (bit,) = cell[reset]
        register = netlist.module["cells"][netlist.driver[bit][0]]
        assert register["parameters"]["ARST_VALUE"] == "1" * 16
        assert register["connections"]["Q"][-1] == bit
        assert netlist.begins(register["connections"]["ARST"]) == {
            *ports[level],
            *ports["safe_rst"],
        }


@pytest.mark.slow
def test_the_island_is_reached_by_listed_crossings_and_holds_the_accelerator(joined, tmp_path):
    files, top = joined
    check_robot(files, top, tmp_path)


#: What is wrong: file, what stands there, what stands there instead, and how it is found.
DEFECTS = {
    "a verdict that is a wish of the operator": (
        "robot.v",
        r"\.arm\(arm\)",
        ".arm(verdict[0])",
        r"^island\.operator\..*: from ai to safe",
    ),
    "a verdict past its synchroniser": (
        "island.v",
        r"synchroniser_2x2 ai_image \((?:\n    .*)*\n    \.o\((.*)\),(?:\n    .*)*\n  \);",
        r"assign \1 = ai_verdict;",
        r"^island\.\S*: from ai to safe",
    ),
    "an island that the accelerator resets": (
        "robot.v",
        r"\.safe_rst\(safe_rst\)",
        ".safe_rst(ai_rst)",
        r"^island\.safe_reset\..*: from ai to safe",
    ),
    "the accelerator's clock for the second channel": (
        "robot.v",
        r"\.guard_clk\(guard_clk\)",
        ".guard_clk(ai_clk)",
        r"^island\..* to ai",
    ),
    "what acts is released with the rest": (
        "robot.v",
        r"ai_release & ",
        "ai_load & ",
        r"^assert",
    ),
    "an accelerator without the island's own reset": (
        "robot.v",
        r"ai_load & (\S+) ",
        "ai_load",
        r"^assert",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(joined, defect, tmp_path):
    files, top = joined
    *what, found = DEFECTS[defect]
    wrong = planted(files, tmp_path / "wrong", *what)
    with pytest.raises(AssertionError, match=found):
        check_robot(wrong, top, tmp_path / "netlist")


@pytest.mark.slow
def test_the_command_writes_the_whole_robot(tmp_path):
    directory = tmp_path / "robot"
    result = CliRunner().invoke(
        app, ["generate", "--preset=nano", "--top=robot", "--json", "-o", str(directory)]
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["files"][0] == "robot.v"
    assert told["modules"]["island"] == told["modules"]["accelerator"] == 1
    assert told["modules"]["replica"] == 2
    assert (directory / "robot.f").read_text().split() == told["files"]
    for name in [*told["handoff"], *told["files"], *told["registers"]]:
        assert (directory / name).is_file()
