"""The programs of riscv-tests, from a package that carries them, on the compiled core."""

import shutil
import subprocess
from pathlib import Path

import pytest

from jepa_r_sim.riscv.trace import TracedCore, Window

HERE = Path(__file__).parent / "riscv_tests"
COMPILER = "riscv64-unknown-elf-gcc"

ibex = pytest.importorskip(
    "pythondata_cpu_ibex", reason="extra 'safety-tests' is not installed: pythondata-cpu-ibex"
)
if shutil.which(COMPILER) is None:
    pytest.skip(f"{COMPILER} is not installed", allow_module_level=True)

VENDOR = Path(ibex.data_location) / "vendor"
ISA = VENDOR / "riscv-tests" / "isa"
SUITES = ("rv32ui", "rv32um", "rv32mi")
PROGRAMS = [path for suite in SUITES for path in sorted((ISA / suite).glob("*.S"))]

#: Where link.ld has it.
TOHOST, RAM_BYTES = 0x1FFFC, 0x20000


@pytest.fixture(scope="module")
def core():
    return TracedCore()


def image(source, workdir):
    """Bytes of a program from address 0 on."""
    elf, binary = workdir / "program.elf", workdir / "program.bin"
    includes = (HERE, ISA / "macros" / "scalar", VENDOR / "riscv-test-env")
    subprocess.run(
        [
            COMPILER, "-march=rv32im_zicsr_zifencei", "-mabi=ilp32", "-nostdlib", "-nostartfiles",
            "-static", "-mcmodel=medany", *(f"-I{path}" for path in includes),
            f"-T{HERE / 'link.ld'}", "-Wl,--no-warn-rwx-segments", "-o", elf, source,
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    subprocess.run(
        [COMPILER.replace("gcc", "objcopy"), "-O", "binary", elf, binary],
        check=True,
        capture_output=True,
    )
    return binary.read_bytes()


def test_all_programs_are_there():
    assert len(PROGRAMS) == 61


def name(path):
    return f"{path.parent.name}-{path.stem}"


#: Those of machine mode, and one of each kind of the others, run always.
ALWAYS = ("rv32ui-simple", "rv32ui-fence_i", "rv32um-rem", "rv32um-mulhsu")


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            path, id=name(path),
            marks=[] if name(path) in ALWAYS or "rv32mi" in name(path) else pytest.mark.slow,
        )
        for path in PROGRAMS
    ],
)  # fmt: skip
def test_program_passes(core, tmp_path, source):
    memory = Window(base=0, size=RAM_BYTES, contents=image(source, tmp_path))
    trace = core.run([memory], workdir=tmp_path, stop=TOHOST, cycles=200_000)
    assert trace.stopped, f"no end in {trace.cycles} cycles"
    assert trace.stopped == 1, f"case {trace.stopped >> 1} failed"
