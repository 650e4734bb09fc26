"""The instruction-set simulator against the standard's tables, other arithmetic, and a compiler."""

import copy
import shutil
import subprocess
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r_sim.golden.riscv import BusError, Cause, Csr, Machine, Region

GCC = "riscv64-unknown-elf-gcc"
DATA = 0x10000
ONES = 0xFFFFFFFF
NOP = 0x13

word32 = st.one_of(
    st.sampled_from([0, 1, 2, 31, 32, 0x7FFFFFFF, 0x80000000, 0x80000001, ONES]),
    st.integers(0, ONES),
)


def register(f7, f3, rd, rs1, rs2):
    return f7 << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | 0x33


def immediate(value, f3, rd, rs1, opcode=0x13):
    return (value & 0xFFF) << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode


def store(value, f3, rs1, rs2):
    high, low = (value >> 5 & 0x7F) << 25, (value & 0x1F) << 7
    return high | rs2 << 20 | rs1 << 15 | f3 << 12 | low | 0x23


def branch(value, f3, rs1, rs2):
    high = (value >> 12 & 1) << 31 | (value >> 5 & 0x3F) << 25
    return (
        high
        | rs2 << 20
        | rs1 << 15
        | f3 << 12
        | (value >> 1 & 15) << 8
        | (value >> 11 & 1) << 7
        | 0x63
    )


def jump(value, rd):
    return (
        (value >> 20 & 1) << 31
        | (value >> 1 & 0x3FF) << 21
        | (value >> 11 & 1) << 20
        | (value >> 12 & 0xFF) << 12
        | rd << 7
        | 0x6F
    )


def csr(number, f3, rd, rs1):
    return number << 20 | rs1 << 15 | f3 << 12 | rd << 7 | 0x73


def machine(*program, **settings):
    code = Region(base=0, size=4096, fetch=True, store=False)
    code.words[:] = [*program, *[NOP] * (1024 - len(program))]
    return Machine(regions=[code, Region(base=DATA, size=4096)], **settings)


def result(word, a=0, b=0):
    """Value in x3 after one instruction, of x1 and x2."""
    hart = machine(word)
    hart.x[1], hart.x[2] = a, b
    assert not hart.step().trap
    return hart.x[3]


# Table 7.1 of the standard, and the products around the ends of the range.
@pytest.mark.parametrize(
    ("f3", "a", "b", "expected"),
    [
        (4, 7, 0, ONES),
        (5, 7, 0, ONES),
        (6, 7, 0, 7),
        (7, 7, 0, 7),
        (4, 0x80000000, 0, ONES),
        (6, 0x80000000, 0, 0x80000000),
        (4, 0x80000000, ONES, 0x80000000),
        (6, 0x80000000, ONES, 0),
        (5, 0x80000000, ONES, 0),
        (7, 0x80000000, ONES, 0x80000000),
        (4, ONES - 6, 2, ONES - 2),
        (6, ONES - 6, 2, ONES),
        (4, 7, ONES - 1, ONES - 2),
        (6, 7, ONES - 1, 1),
        (0, 0x80000000, 0x80000000, 0),
        (1, 0x80000000, 0x80000000, 0x40000000),
        (1, ONES, ONES, 0),
        (1, ONES, 1, ONES),
        (2, 0x80000000, ONES, 0x80000000),
        (2, ONES, ONES, ONES),
        (2, 1, ONES, 0),
        (3, ONES, ONES, ONES - 1),
        (3, 0x80000000, 2, 1),
    ],
)
def test_multiplication_and_division_have_the_values_of_the_standard(f3, a, b, expected):
    assert result(register(1, f3, 3, 1, 2), a, b) == expected


def numpy_result(f7, f3, a, b):
    """The same operations by NumPy's types of fixed width."""
    with np.errstate(over="ignore"):
        u, v = np.uint32(a), np.uint32(b)
        i, j = u.astype(np.int32), v.astype(np.int32)
        shift = np.uint32(b & 31)
        wide = {
            1: (int(i), int(j)),
            2: (int(i), int(v)),
            3: (int(u), int(v)),
        }
        if f7 == 1 and f3 in wide:
            return wide[f3][0] * wide[f3][1] >> 32 & ONES
        value = {
            (0x00, 0): u + v,
            (0x20, 0): u - v,
            (0x00, 1): u << shift,
            (0x00, 2): i < j,
            (0x00, 3): u < v,
            (0x00, 4): u ^ v,
            (0x00, 5): u >> shift,
            (0x20, 5): i >> shift.astype(np.int32),
            (0x00, 6): u | v,
            (0x00, 7): u & v,
            (0x01, 0): u * v,
        }[f7, f3]
    return int(value) & ONES


BASE = [(0, n) for n in range(8)] + [(0x20, 0), (0x20, 5)] + [(1, n) for n in range(4)]


@pytest.mark.parametrize(("f7", "f3"), BASE)
@settings(max_examples=40)
@given(a=word32, b=word32)
def test_operations_agree_with_arithmetic_of_fixed_width(f7, f3, a, b):
    assert result(register(f7, f3, 3, 1, 2), a, b) == numpy_result(f7, f3, a, b)


@given(a=word32, b=word32)
def test_quotient_and_remainder_give_the_dividend_back(a, b):
    def signed(value):
        return value - (value >> 31 << 32)

    quotient, rest = (result(register(1, f3, 3, 1, 2), a, b) for f3 in (4, 6))
    assert (signed(quotient) * signed(b) + signed(rest) - a) & ONES == 0
    if b:
        assert abs(signed(rest)) < abs(signed(b))
        assert rest == 0 or (signed(rest) < 0) == (signed(a) < 0)
    quotient, rest = (result(register(1, f3, 3, 1, 2), a, b) for f3 in (5, 7))
    if b:
        assert quotient * b + rest == a
        assert rest < b


@settings(max_examples=40)
@given(a=word32, value=st.integers(-2048, 2047))
@pytest.mark.parametrize("f3", [0, 2, 3, 4, 6, 7])
def test_immediates_are_sign_extended(f3, a, value):
    assert result(immediate(value, f3, 3, 1), a) == numpy_result(0, f3, a, value & ONES)


@given(a=word32, amount=st.integers(0, 31))
def test_shifts_by_an_immediate(a, amount):
    for f7, f3 in ((0, 1), (0, 5), (0x20, 5)):
        word = immediate(f7 << 5 | amount, f3, 3, 1)
        assert result(word, a) == numpy_result(f7, f3, a, amount)


def test_upper_immediates():
    assert result(0x89ABC000 | 3 << 7 | 0x37) == 0x89ABC000
    hart = machine(NOP, 0xFFFFF000 | 3 << 7 | 0x17)
    hart.run(2)
    assert hart.x[3] == 4 - 0x1000 + (1 << 32)


@given(a=word32, b=word32)
def test_branches_go_by_their_conditions(a, b):
    i, j = np.array([a, b], np.uint32).astype(np.int32)
    taken = {0: a == b, 1: a != b, 4: i < j, 5: i >= j, 6: a < b, 7: a >= b}
    for f3, goes in taken.items():
        for offset in (-4096, 4092):
            hart = machine(branch(offset, f3, 1, 2))
            hart.x[1], hart.x[2] = a, b
            hart.step()
            assert hart.pc == (offset & ONES if goes else 4)


def test_jumps_link_and_clear_bit_0_of_their_target():
    hart = machine(jump(0x7F8, 1))
    hart.step()
    assert (hart.pc, hart.x[1]) == (0x7F8, 4)
    hart = machine(immediate(-1, 0, 1, 1, 0x67))  # the target is read before the link is written
    hart.x[1] = 0x106
    hart.step()
    assert (hart.pc, hart.x[1]) == (0x104, 4)


def test_x0_stays_zero():
    hart = machine(immediate(5, 0, 0, 0), immediate(0, 2, 0, 1, 0x03), register(0, 0, 3, 0, 0))
    hart.x[1], hart.x[3] = DATA, 9
    hart.write_word(DATA, 7)
    assert hart.step().rd_wdata == 0
    hart.run(2)
    assert hart.x[3] == 0


def test_loads_take_bytes_of_the_word_and_extend_them():
    values = {}
    for f3, size in ((0, 1), (4, 1), (1, 2), (5, 2), (2, 4)):
        for offset in range(0, 4, size):
            hart = machine(immediate(offset, f3, 3, 1, 0x03))
            hart.x[1] = DATA
            hart.write_word(DATA, 0x81F27384)
            hart.step()
            values[f3, offset] = hart.x[3]
    assert values == {
        (0, 0): 0xFFFFFF84, (0, 1): 0x73, (0, 2): 0xFFFFFFF2, (0, 3): 0xFFFFFF81,
        (4, 0): 0x84, (4, 1): 0x73, (4, 2): 0xF2, (4, 3): 0x81,
        (1, 0): 0x7384, (1, 2): 0xFFFF81F2, (5, 0): 0x7384, (5, 2): 0x81F2,
        (2, 0): 0x81F27384,
    }  # fmt: skip


def test_stores_change_their_bytes_alone():
    values = {}
    for f3, size in ((0, 1), (1, 2), (2, 4)):
        for offset in range(0, 4, size):
            hart = machine(store(offset, f3, 1, 2))
            hart.x[1], hart.x[2] = DATA, 0xAABBCCDD
            hart.write_word(DATA, 0x11223344)
            hart.step()
            values[f3, offset] = hart.read_word(DATA)
    assert values == {
        (0, 0): 0x112233DD, (0, 1): 0x1122DD44, (0, 2): 0x11DD3344, (0, 3): 0xDD223344,
        (1, 0): 0x1122CCDD, (1, 2): 0xCCDD3344, (2, 0): 0xAABBCCDD,
    }  # fmt: skip


HANDLER = 0x200


def trapped(word, *, x1=0, x2=0, at=0x40):
    """A hart that ran one word, with a handler, and what it told."""
    hart = machine(*[NOP] * (at // 4), word)
    hart.csr[Csr.MTVEC], hart.pc = HANDLER, at
    hart.csr[Csr.MSTATUS] |= 8
    hart.x[1], hart.x[2], hart.x[3] = x1, x2, 77
    return hart, hart.step()


@pytest.mark.parametrize(
    ("word", "x1", "cause", "value"),
    [
        (0x00000073, 0, Cause.ECALL, 0),
        (0x00100073, 0, Cause.BREAKPOINT, 0x40),
        (0x00000000, 0, Cause.ILLEGAL, 0),
        (ONES, 0, Cause.ILLEGAL, ONES),
        (immediate(2, 2, 3, 1, 0x03), DATA, Cause.LOAD_MISALIGNED, DATA + 2),
        (immediate(1, 1, 3, 1, 0x03), DATA, Cause.LOAD_MISALIGNED, DATA + 1),
        (immediate(1, 0, 3, 1, 0x03), DATA + 4095, Cause.LOAD_FAULT, DATA + 4096),
        (immediate(1, 2, 3, 1, 0x03), 0x50000, Cause.LOAD_MISALIGNED, 0x50001),
        (store(3, 2, 1, 2), DATA, Cause.STORE_MISALIGNED, DATA + 3),
        (store(3, 1, 1, 2), DATA, Cause.STORE_MISALIGNED, DATA + 3),
        (store(0, 2, 1, 2), 0x100, Cause.STORE_FAULT, 0x100),
        (store(1, 0, 1, 2), 0x100, Cause.STORE_FAULT, 0x101),
        (store(0, 2, 1, 2), 0x50000, Cause.STORE_FAULT, 0x50000),
        (jump(0x1E, 3), 0, Cause.FETCH_MISALIGNED, 0x5E),
        (branch(0x1E, 0, 0, 0), 0, Cause.FETCH_MISALIGNED, 0x5E),
        (immediate(3, 0, 3, 1, 0x67), 0x100, Cause.FETCH_MISALIGNED, 0x102),
    ],
)
def test_traps_have_cause_value_and_address(word, x1, cause, value):
    hart, done = trapped(word, x1=x1)
    assert (done.trap, done.cause, done.value, done.pc_wdata) == (True, cause, value, HANDLER)
    assert (hart.csr[Csr.MCAUSE], hart.csr[Csr.MTVAL]) == (cause, value)
    assert (hart.csr[Csr.MEPC], hart.pc) == (0x40, HANDLER)
    assert hart.csr[Csr.MSTATUS] == 0x1880  # interrupts off, as they were before: on
    assert hart.x[3] == 77
    assert hart.retired == 0


def test_a_refused_fetch_traps_at_its_target():
    hart = machine(immediate(0, 0, 0, 1, 0x67))
    hart.csr[Csr.MTVEC], hart.x[1] = HANDLER, DATA
    assert not hart.step().trap
    done = hart.step()
    assert (done.cause, done.value, done.insn) == (Cause.FETCH_FAULT, DATA, 0)
    assert hart.csr[Csr.MEPC] == DATA


def test_a_branch_that_is_not_taken_may_have_any_target():
    hart, done = trapped(branch(0x1E, 1, 0, 0))
    assert (done.trap, hart.pc) == (False, 0x44)


def test_mret_returns_and_restores_interrupts():
    hart = machine(0x30200073)
    hart.csr[Csr.MEPC], hart.csr[Csr.MSTATUS] = 0x124, 0x1880
    hart.step()
    assert (hart.pc, hart.csr[Csr.MSTATUS]) == (0x124, 0x1888)


#: Words of every major opcode that are no instructions of the set.
ILLEGAL = [
    register(2, 0, 3, 1, 2), register(0x20, 1, 3, 1, 2), register(0x21, 5, 3, 1, 2),
    immediate(0x020, 1, 3, 1), immediate(0x420, 5, 3, 1), immediate(0x200, 5, 3, 1),
    immediate(0, 3, 3, 1, 0x03), immediate(0, 6, 3, 1, 0x03), immediate(0, 7, 3, 1, 0x03),
    store(0, 3, 1, 2), store(0, 4, 1, 2), branch(8, 2, 1, 2), branch(8, 3, 1, 2),
    immediate(0, 1, 3, 1, 0x67), immediate(0, 2, 0, 0, 0x0F), 0x00000001, 0x0000006B,
    0x10200073, 0x00200073, 0x30200173, 0x30208073, 0x000000F3, 0x10500173, csr(0x340, 4, 3, 1),
]  # fmt: skip


@pytest.mark.parametrize("word", ILLEGAL, ids=hex)
def test_what_is_not_in_the_set_is_illegal(word):
    _, done = trapped(word, x1=DATA)
    assert (done.cause, done.value) == (Cause.ILLEGAL, word)


@pytest.mark.parametrize("number", [0x000, 0x100, 0x302, 0x306, 0x3A0, 0x7C0, 0xB03, 0xC01, 0xFFF])
def test_registers_that_do_not_exist_are_illegal(number):
    for f3 in (1, 2, 3, 5, 6, 7):
        assert trapped(csr(number, f3, 3, 0))[1].cause is Cause.ILLEGAL


@pytest.mark.parametrize("number", [0xF11, 0xF12, 0xF13, 0xF14, 0xF15])
def test_read_only_registers_may_be_read_and_not_written(number):
    for f3, rs1, good in ((2, 0, True), (3, 0, True), (6, 0, True), (1, 0, False), (2, 1, False)):
        assert trapped(csr(number, f3, 3, rs1))[1].trap is not good


def test_the_forms_of_access_write_set_and_clear():
    values = []
    for f3, operand in ((1, 5), (2, 3), (3, 6), (5, 31), (6, 8), (7, 9)):
        hart = machine(csr(Csr.MSCRATCH, f3, 3, operand if f3 & 4 else 1))
        hart.csr[Csr.MSCRATCH], hart.x[1] = 0xF0, operand
        done = hart.step()
        assert (done.rd_wdata, done.rs1_addr) == (0xF0, 0 if f3 & 4 else 1)
        values.append(hart.csr[Csr.MSCRATCH])
    assert values == [5, 0xF3, 0xF0, 31, 0xF8, 0xF0]


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        (Csr.MSTATUS, 0x1888), (Csr.MISA, 0x40001100), (Csr.MIE, 0x880), (Csr.MIP, 0),
        (Csr.MTVEC, 0xFFFFFFFC), (Csr.MEPC, 0xFFFFFFFC), (Csr.MSCRATCH, ONES),
        (Csr.MTVAL, ONES), (Csr.MCAUSE, 0x8000001F), (Csr.MSTATUSH, 0),
    ],
)  # fmt: skip
def test_registers_keep_the_bits_they_have(number, kept):
    hart = machine(csr(number, 1, 0, 1), csr(number, 2, 3, 0))
    hart.x[1] = ONES
    hart.run(2)
    assert hart.x[3] == kept


def test_counters_count_and_may_be_written():
    program = [csr(Csr.MINSTRET, 2, 3, 0), csr(Csr.MINSTRET, 1, 0, 1), csr(Csr.MINSTRET, 2, 4, 0)]
    hart = machine(NOP, *program, csr(Csr.MINSTRETH, 2, 5, 0), csr(Csr.MCYCLE, 2, 6, 0))
    hart.x[1] = ONES
    hart.run(6)
    assert (hart.x[3], hart.x[4], hart.x[5], hart.x[6]) == (1, ONES, 1, 5)
    hart = machine(NOP, csr(Csr.MCYCLE, 2, 3, 0), 0x73, cycles_of=lambda word: 3, trap_cycles=4)
    hart.run(3)
    assert (hart.x[3], hart.cycle) == (3, 13)
    program = [csr(Csr.MCYCLE, 1, 0, 1), csr(Csr.MCYCLEH, 1, 0, 2), csr(Csr.MCYCLEH, 2, 3, 0)]
    hart = machine(*program, csr(Csr.MCYCLE, 2, 4, 0))
    hart.x[1], hart.x[2] = ONES - 3, 8
    hart.run(4)
    assert (hart.x[3], hart.x[4], hart.time) == (8, ONES, 4)


def test_interrupts_are_taken_when_enabled_and_external_comes_first():
    hart = machine(NOP, NOP)
    hart.csr[Csr.MTVEC] = HANDLER
    hart.irq_timer = hart.irq_external = True
    assert hart.step().pc_rdata == 0
    hart.csr[Csr.MSTATUS] |= 8
    assert hart.step().pc_rdata == 4
    hart.csr[Csr.MIE] = 0x880
    done = hart.step()
    assert (done.pc_rdata, done.intr, hart.csr[Csr.MEPC]) == (HANDLER, True, 8)
    assert (hart.csr[Csr.MCAUSE], hart.csr[Csr.MTVAL]) == (0x8000000B, 0)
    assert not hart.step().intr
    hart.csr[Csr.MSTATUS] |= 8
    hart.irq_external = False
    hart.run(1)
    assert hart.csr[Csr.MCAUSE] == 0x80000007


def test_an_interrupt_that_is_asked_for_is_taken():
    hart = machine(NOP)
    hart.csr[Csr.MTVEC] = HANDLER
    assert hart.step(Cause.TIMER).pc_rdata == HANDLER
    assert hart.csr[Csr.MCAUSE] == Cause.TIMER


def test_pending_interrupts_are_seen():
    hart = machine(csr(Csr.MIP, 2, 3, 0), csr(Csr.MIP, 2, 4, 0))
    hart.irq_timer = True
    hart.step()
    hart.irq_timer, hart.irq_external = False, True
    hart.step()
    assert (hart.x[3], hart.x[4]) == (0x80, 0x800)


def test_a_step_tells_what_retired():
    hart = machine(store(1, 0, 1, 2), immediate(1, 0, 3, 1, 0x03))
    hart.x[1], hart.x[2] = DATA, 0x1FE
    hart.write_word(DATA, 0x44332211)
    wrote, read = hart.step(), hart.step()
    assert (wrote.mem_addr, wrote.mem_wmask, wrote.mem_wdata) == (DATA, 2, 0xFE00)
    assert (wrote.rs1_addr, wrote.rs1_rdata, wrote.rs2_addr, wrote.rs2_rdata) == (1, DATA, 2, 0x1FE)
    assert (wrote.rd_addr, wrote.mem_rmask, wrote.order) == (0, 0, 0)
    assert (read.mem_addr, read.mem_rmask, read.mem_rdata) == (DATA, 2, 0x4433FE11)
    assert (read.rd_addr, read.rd_wdata, read.rs2_addr, read.order) == (3, 0xFFFFFFFE, 0, 1)
    assert (read.pc_rdata, read.pc_wdata) == (4, 8)


def test_devices_see_whole_words_and_may_refuse():
    seen = []

    def read(offset):
        if offset == 8:
            raise BusError
        return 0x1000 + offset

    code = Region(base=0, size=4096, fetch=True)
    code.words[:3] = [immediate(4, 2, 3, 1, 0x03), store(4, 2, 1, 2), immediate(8, 2, 4, 1, 0x03)]
    device = Region(base=DATA, size=4096, read=read, write=lambda *what: seen.append(what))
    hart = Machine(regions=[code, device])
    hart.x[1], hart.x[2] = DATA, 99
    hart.run(2)
    assert (hart.x[3], seen) == (0x1004, [(4, 99)])
    assert hart.step().cause is Cause.LOAD_FAULT


def test_events_come_at_their_cycle():
    hart = machine(*[NOP] * 8, cycles_of=lambda word: 3)
    seen = []
    for cycle in (7, 6, 0):
        hart.schedule(cycle, lambda: seen.append(hart.pc))
    hart.run(8)
    assert seen == [0, 8, 12]


def test_a_copy_goes_on_by_itself():
    hart = machine(immediate(1, 0, 3, 3), store(0, 2, 1, 3), jump(-8, 0))
    hart.x[1] = DATA
    hart.run(3)
    twin = copy.deepcopy(hart)
    twin.run(6)
    assert (hart.x[3], hart.read_word(DATA), hart.retired) == (1, 1, 3)
    assert (twin.x[3], twin.read_word(DATA), twin.retired) == (3, 3, 9)


def test_code_that_is_written_runs_as_written():
    code = Region(base=0, size=4096, fetch=True)
    code.words[:3] = [immediate(1, 0, 3, 0), store(0, 2, 0, 2), jump(-8, 0)]
    hart = Machine(regions=[code])
    hart.x[2] = immediate(2, 0, 3, 0)
    hart.run(4)
    assert hart.x[3] == 2


@pytest.mark.parametrize(
    ("regions", "settings", "message"),
    [
        ([(0, 100)], {}, "region of 100 bytes from 0x0; both must be multiples of 4096, and the "
         "size above 0"),
        ([(0, 8192), (4096, 4096)], {}, "two regions hold address 0x1000"),
        ([(0, 4096)], {"reset_vector": 2}, "reset_vector is 0x2; it must be a multiple of 4"),
    ],
)  # fmt: skip
def test_maps_that_cannot_be_are_refused(regions, settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Machine(regions=[Region(base=base, size=size) for base, size in regions], **settings)


def test_a_device_has_both_callbacks():
    with pytest.raises(ValueError, match=r"^region at 0x0 has one of read and write; give both$"):
        Region(base=0, size=4096, read=lambda offset: 0)


PROGRAM = """
typedef unsigned int u32; typedef unsigned long long u64; typedef long long i64;
static unsigned char text[256];
static u32 crc(const unsigned char *p, u32 n)
{
    u32 c = ~0u;
    while (n--) { c ^= *p++; for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0xEDB88320u : 0); }
    return ~c;
}
static void sort(short *v, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && v[k - 1] > v[k]; k--) {
            short t = v[k]; v[k] = v[k - 1]; v[k - 1] = t;
        }
}
void run(u32 *out)
{
    static short values[64];
    u32 seed = 1;
    for (int i = 0; i < 256; i++) { seed = seed * 1664525u + 1013904223u; text[i] = seed >> 24; }
    for (int i = 0; i < 64; i++) values[i] = (short)(text[i] << 8 | text[i + 64]);
    sort(values, 64);
    out[0] = crc(text, 256);
    for (int i = 0; i < 64; i++) out[1 + i] = (u32)values[i];
    u64 n = 0x123456789ABCDEF1ull; i64 m = -0x123456789ABCDEFll;
    out[65] = (u32)(n / 1000003u); out[66] = (u32)(n % 1000003u);
    out[67] = (u32)(m / 12345); out[68] = (u32)(m >> 7);
}
__asm__(".section .init\\n li sp, 0x13000\\n li a0, 0x12000\\n call run\\n ebreak\\n");
"""


@pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not installed")
def test_compiled_programs_give_their_results(tmp_path):
    (tmp_path / "program.c").write_text(PROGRAM)
    compiler = f"{GCC} -march=rv32im -mabi=ilp32 -O2 -ffreestanding -nostdlib -Wl,-e0"
    places = "-Wl,--section-start=.init=0,-Ttext=0x100,-Tbss=0x10000,-Tdata=0x11000"
    copy = "riscv64-unknown-elf-objcopy -O binary -j.init -j.text* -j.rodata*"
    for command in (
        f"{compiler} {places} program.c -lgcc -o program.elf",
        f"{copy} program.elf program.bin",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    code = Region(base=0, size=1 << 16, fetch=True)
    code.place((tmp_path / "program.bin").read_bytes())
    hart = Machine(regions=[code, Region(base=0x10000, size=0x4000)])
    for _ in range(1_000_000):
        if hart.step().trap:
            break
    assert hart.csr[Csr.MCAUSE] == Cause.BREAKPOINT
    text, seed = [], 1
    for _ in range(256):
        seed = (seed * 1664525 + 1013904223) & ONES
        text.append(seed >> 24)
    values = np.array([text[n] << 8 | text[n + 64] for n in range(64)], np.uint16).astype(np.int16)
    out = [hart.read_word(0x12000 + 4 * n) for n in range(69)]
    assert out[0] == zlib.crc32(bytes(text))
    assert out[1:65] == [int(value) & ONES for value in sorted(values)]
    n, m = 0x123456789ABCDEF1, -0x123456789ABCDEF
    assert out[65:] == [n // 1000003 & ONES, n % 1000003, -(-m // 12345) & ONES, m >> 7 & ONES]
