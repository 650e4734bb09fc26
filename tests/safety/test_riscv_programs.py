"""The programs of riscv-tests on the instruction-set simulator."""

import shutil
import subprocess
from pathlib import Path

import pytest

from jepa_r_sim.golden.riscv import Csr, Machine, Region

GCC = "riscv64-unknown-elf-gcc"

#: Environment of the programs: a pass is ``ecall`` with 0 in ``gp`` after 1, a failure any other.
HEADER = """
#include "encoding.h"
#define TESTNUM gp
#define RVTEST_RV32U .macro init; .endm
#define RVTEST_RV32M .macro init; .endm
#define RVTEST_CODE_BEGIN .section .text.init; .globl _start; _start: \\
    la t0, trap; csrw mtvec, t0; li TESTNUM, 0; j begin; .align 2; .weak mtvec_handler; \\
    trap: csrr t5, mcause; li t6, CAUSE_MACHINE_ECALL; beq t5, t6, done; \\
    la t5, mtvec_handler; beqz t5, done; jr t5; done: j done; .globl done; \\
    begin: init
#define RVTEST_CODE_END unimp
#define RVTEST_PASS li TESTNUM, 1; li a7, 93; li a0, 0; la t5, done; jr t5
#define RVTEST_FAIL sll TESTNUM, TESTNUM, 1; or TESTNUM, TESTNUM, 1; la t5, done; jr t5
#define EXTRA_DATA
#define RVTEST_DATA_BEGIN EXTRA_DATA .align 4; .global begin_signature; begin_signature:
#define RVTEST_DATA_END .align 4; .global end_signature; end_signature:
"""

LINK = (
    "SECTIONS { . = 0; .text.init : { *(.text.init) } .text : { *(.text*) } . = ALIGN(4096);"
    " .data : { *(.data*) *(.bss*) *(COMMON) } }"
)

#: Programs that test what the island's core leaves out: triggers, counters of user mode, misaligned
#: accesses in hardware.
OUTSIDE = {
    "breakpoint", "zicntr", "lh-misaligned", "lw-misaligned", "sh-misaligned", "sw-misaligned",
    "ma_data",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not installed")
@pytest.mark.parametrize("suite", ["rv32ui", "rv32um", "rv32mi"])
def test_programs_of_riscv_tests_pass(suite, tmp_path):
    package = pytest.importorskip("pythondata_cpu_ibex")
    vendor = Path(package.data_location) / "vendor"
    isa = vendor / "riscv-tests" / "isa"
    (tmp_path / "riscv_test.h").write_text(HEADER)
    (tmp_path / "link.ld").write_text(LINK)
    programs = [path for path in sorted((isa / suite).glob("*.S")) if path.stem not in OUTSIDE]
    assert len(programs) >= 8
    failed = []
    for path in programs:
        paths = [tmp_path, isa / "macros" / "scalar", vendor / "riscv-test-env"]
        command = [GCC, "-march=rv32im_zicsr_zifencei", "-mabi=ilp32", "-nostdlib", "-Tlink.ld"]
        command += [f"-I{place}" for place in paths] + [str(path), "-o", "program.elf"]
        subprocess.run(command, cwd=tmp_path, check=True)
        command = ["riscv64-unknown-elf-objcopy", "-O", "binary", "program.elf", "program.bin"]
        subprocess.run(command, cwd=tmp_path, check=True)
        ram = Region(base=0, size=1 << 16, fetch=True)
        ram.place((tmp_path / "program.bin").read_bytes())
        hart = Machine(regions=[ram])
        hart.run(100_000)
        stopped = hart.step()
        if hart.x[3] != 1 or stopped.pc_rdata != stopped.pc_wdata:
            failed.append((path.stem, hart.x[3], hart.csr[Csr.MCAUSE], hart.pc))
    assert not failed
