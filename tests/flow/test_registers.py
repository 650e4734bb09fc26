# amaranth: UnusedElaboratable=no
"""One description, four readers: decoder, C header, HTML page, model of the tests."""

import json
import subprocess

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from jepa_r.config import PRESETS
from jepa_r.control.axi_lite import AxiLite
from jepa_r.registers import DESCRIPTION, Registers, chip_parameters
from jepa_r_flow import generate as generate_module
from jepa_r_flow.console import stages_on_stderr
from jepa_r_flow.registers import write_registers
from jepa_r_sim.registers import RegisterModel

#: Addresses that software has compiled in: no change of the description may move them.
FIXED = {
    "ID": 0x000, "VERSION": 0x004, "CONFIG_HASH_LOW": 0x008, "CONFIG_HASH_HIGH": 0x00C,
    "CONTROL": 0x010, "STATUS": 0x014, "INTERRUPT_STATUS": 0x018, "INTERRUPT_ENABLE": 0x01C,
    "FAULT": 0x020, "LOCK": 0x024, "CORRECTED": 0x028, "SLIPPED": 0x02C, "STATES_RECEIVED": 0x030,
    "STATES_DROPPED": 0x034, "STATE_GAPS": 0x038, "ACTION_OVERRUNS": 0x03C,
    "DEADLINES_MISSED": 0x040, "COMMANDS_REFUSED": 0x044, "TIME_LOW": 0x048, "TIME_HIGH": 0x04C,
    "ENCODER_PROGRAM": 0x050, "PREDICTOR_PROGRAM": 0x054, "FRAME": 0x058, "GOAL_FRAME": 0x05C,
    "TRACE_BASE": 0x060, "CONTROL_PERIOD": 0x064, "PLAN_PERIOD": 0x068, "PLAN_DEADLINE": 0x06C,
    "MAX_AGE": 0x070, "SAMPLES": 0x080, "ELITES": 0x084, "ITERATIONS": 0x088, "HORIZON": 0x08C,
    "WARM": 0x090, "SEED": 0x094, "MOMENTUM_MEAN": 0x098, "MOMENTUM_DEVIATION": 0x09C,
    "THRESHOLD": 0x0A0, "NEXT_PLAN": 0x0A4, "DEVIATION_XYZ[0]": 0x0B0, "DEVIATION_GRIPPER": 0x0BC,
    "CLIP_XYZ[0]": 0x0C0, "CLIP_GRIPPER": 0x0CC, "ENCODER_WINDOW[1].BASE": 0x108,
    "ENCODER_WINDOW[1].LIMIT": 0x10C, "PREDICTOR_WINDOW[3].BASE": 0x138,
    "PREDICTOR_WINDOW[3].LIMIT": 0x13C, "STATE_SEQUENCE": 0x140, "STATE_TIME": 0x144,
    "POSE[0]": 0x148, "PLAN": 0x180, "PLAN_AGE": 0x184, "ACTION[0]": 0x188, "PLAN_CYCLES": 0x1A4,
    "BEST_COST_LOW": 0x1A8, "BEST_COST_HIGH": 0x1AC, "ENCODER_CYCLES": 0x1B0,
}  # fmt: skip

#: What the planner does if nobody sets anything.
DEFAULTS = {
    "SAMPLES": 800, "ITERATIONS": 10, "ELITES": 10, "HORIZON": 1, "WARM": 0,
    "MOMENTUM_MEAN": 4915, "MOMENTUM_DEVIATION": 4915, "THRESHOLD": 4096,
    "DEVIATION_XYZ[2]": 1229, "DEVIATION_GRIPPER": 16384, "CLIP_XYZ[0]": 1229,
    "CLIP_GRIPPER": 12288,
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("registers")
    write_registers(PRESETS["nano"], directory)
    return directory


@pytest.fixture(scope="module")
def model():
    return RegisterModel.compile(**chip_parameters(PRESETS["nano"]))


def fields(model):
    """Each field of each register: name, lowest bit, mask, reset value."""
    for name in model:
        for field in model.nodes[name].fields():
            part = field.inst_name
            yield name, part, field.low, model.mask(name, part), field.get_property("reset") or 0


def test_decoder_has_every_register(model):
    registers = Registers(**chip_parameters(PRESETS["nano"])).registers
    assert {r.name: r.address for r in registers} == {name: model.address(name) for name in model}
    decoded = [
        (r.name, f.name, f.low, ((1 << f.width) - 1) << f.low, f.reset)
        for r in registers
        for f in r.fields
    ]
    assert decoded == list(fields(model))


def test_header_compiles_and_says_the_same(written, model, tmp_path):
    prints, expected = [], []
    for name in model:
        prints.append(f'printf("%zx\\n", offsetof(jepa_r_t, {name}));')
        expected.append(f"{model.address(name):x}")
    for name, part, low, mask, reset in fields(model):
        # All elements of an array share one set of names.
        shared = "".join("X" if c == "[" else c for c in name if c not in "]0123456789")
        macro = "JEPA_R__" + f"{shared.replace('.', '__')}__{part}".upper()
        values = f"{macro}_bm, {macro}_bp"
        prints.append(f'printf("%x %d\\n", {values});')
        expected.append(f"{mask:x} {low}")
        if reset:
            prints.append(f'printf("%x\\n", {macro}_reset);')
            expected.append(f"{reset:x}")
    body = "\n  ".join(prints)
    source, program = tmp_path / "main.c", tmp_path / "main"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{written / "registers.h"}"\n'
        f"int main(void) {{\n  {body}\n  return 0;\n}}\n"
    )
    compiler = ["gcc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", str(source), "-o", str(program)]
    subprocess.run(compiler, check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert printed.split("\n")[:-1] == expected


def test_page_has_every_register(written, model):
    page = written / "registers.html"
    assert "Registers of nano" in (page / "index.html").read_text()
    nodes = json.loads((page / "data" / "ral-data-0.json").read_text())
    shown = {}

    def walk(number, path, offset):
        node = nodes[number]
        counts = node.get("dims", [None])
        for n in range(counts[0] or 1):
            here = [*path, node["name"] if counts[0] is None else f"{node['name']}[{n}]"]
            at = offset + int(node["offset"], 16) + n * int(node.get("stride", "0"), 16)
            for child in node["children"]:
                walk(child, here, at)
            for field in node.get("fields", []):
                key = (".".join(here[1:]), field["name"])
                shown[key] = (at, field["lsb"], field["msb"], int(field["reset"], 16))

    walk(0, [], 0)
    assert shown == {
        (name, part): (model.address(name), low, mask.bit_length() - 1, reset)
        for name, part, low, mask, reset in fields(model)
    }
    text = "".join(path.read_text() for path in (page / "content").iterdir())
    for name in model:
        assert model.nodes[name].get_property("name") in text


def test_description_is_given_along(written):
    assert (written / "registers.rdl").read_bytes() == DESCRIPTION.read_bytes()


def test_addresses_stay(model):
    assert {name: model.address(name) for name in FIXED} == FIXED


def test_planner_begins_with_the_published_settings(model):
    assert {name: model.reset(name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("preset", PRESETS)
def test_chip_tells_its_configuration(preset):
    config = PRESETS[preset]
    model = RegisterModel.compile(**chip_parameters(config))
    told = model.reset("CONFIG_HASH_HIGH") << 32 | model.reset("CONFIG_HASH_LOW")
    assert f"{told:016x}" == config.hash
    # A packet each millisecond.
    assert model.reset("CONTROL_PERIOD") == config.clock_mhz * 1000
    assert model.reset("MAX_AGE") == 2 * model.reset("PLAN_PERIOD")


class WithRegisters(wiring.Component):
    """Smallest top that has registers."""

    def __init__(self):
        super().__init__({"lite": In(AxiLite(address_bits=12))})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.lite.bvalid.eq(self.lite.awvalid)
        return m


def test_top_with_registers_is_generated_with_their_files(monkeypatch, tmp_path):
    tops = {"chip": lambda config: WithRegisters()}
    monkeypatch.setattr(generate_module, "TOPS", tops)
    with stages_on_stderr() as stages:
        found = generate_module.generate(
            preset="nano", top="chip", output=tmp_path / "chip", stages=stages
        )
    assert found["registers"] == ["registers.h", "registers.html/index.html", "registers.rdl"]
    for name in found["registers"]:
        assert (tmp_path / "chip" / name).is_file()


def test_words_are_made_of_values_that_fit(model):
    assert model.encode("FAULT", encoder=3, planner=15) == 0xF0003
    assert model.decode("FAULT", 0x10F0003) == {
        "encoder": 3, "predictor": 0, "planner": 15, "period": 1,
    }  # fmt: skip
    assert model.encode("POSE[0]", value=-5) == 0xFFFB
    assert model.decode("POSE[0]", 0xFFFB) == {"value": -5}
    with pytest.raises(ValueError, match=r"^ELITES\.value is 256; it must be from 0 to 255$"):
        model.encode("ELITES", value=256)
    with pytest.raises(KeyError, match="there is no register ELITE"):
        model.address("ELITE")
    with pytest.raises(KeyError, match="register ELITES has no field most"):
        model.encode("ELITES", most=1)
