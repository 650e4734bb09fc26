# amaranth: UnusedElaboratable=no
"""The core in Amaranth's simulator: its bus, its time, its reset."""

import random
from itertools import pairwise

import pytest
from amaranth import *
from amaranth.back import rtlil

from jepa_r.safety.core import Core
from jepa_r.safety.csr import Cause, Csr, CsrFile
from jepa_r_sim.drivers.stream import simulate
from jepa_r_sim.formal import mutant
from jepa_r_sim.riscv.encoding import BRANCHES, CSRS, IMMEDIATES, LOADS, REGISTERS, SHIFTS, STORES
from jepa_r_sim.riscv.encoding import encode as i
from jepa_r_sim.yosys import SynthesisError, run_yosys

from .bugs import broken, with_part

DATA = 0x10000
HANDLER = 0x800

#: Operands that shorten a product, a quotient or a shift where there is a way to.
PAIRS = [
    (0, 0), (1, 0), (0x80000000, 0xFFFFFFFF), (0xFFFFFFFF, 31), (0xDEADBEEF, 7), (7, 1),
]  # fmt: skip


class Run:
    """What a core does with a program and a memory, which answers in time and else with noise.

    Stores below 0x10000 and everything from 0x20000 on are refused. In the cycle ``reset`` the core
    is reset and goes on with another program.
    """

    def __init__(self, core, words, *, cycles, irq=lambda cycle: (0, 0), reset=None, then=()):
        self.requests, self.traps = [], []
        self.memory = {4 * n: word for n, word in enumerate(words)}
        self.outputs = []
        rng = random.Random(1)
        rst = Signal()
        dut = ResetInserter(rst)(core)

        async def testbench(ctx):
            answers = {}
            for cycle in range(cycles):
                ctx.set(rst, cycle == reset)
                if cycle == reset:
                    self.memory = {4 * n: word for n, word in enumerate(then)}
                word, error = answers.pop(cycle, (rng.getrandbits(32), rng.getrandbits(1)))
                ctx.set(core.bus_rdata, word)
                ctx.set(core.bus_error, error)
                timer, external = irq(cycle)
                ctx.set(core.irq_timer, timer)
                ctx.set(core.irq_external, external)
                out = {
                    name: ctx.get(getattr(core, name))
                    for name in ("bus_en", "bus_fetch", "bus_write", "bus_addr", "bus_wdata",
                                 "trap", "trap_cause")
                }  # fmt: skip
                self.outputs.append(out)
                if out["trap"]:
                    self.traps.append((cycle, out["trap_cause"]))
                if out["bus_en"]:
                    self.requests.append((cycle, out))
                    answers[cycle + Core.BUS_LATENCY] = self.access(out)
                await ctx.tick()

        simulate(dut, testbench, max_cycles=cycles + 10)

    def access(self, out):
        address = out["bus_addr"]
        if address >= 0x20000 or (out["bus_write"] and address < DATA):
            return 0xBAD, 1
        if out["bus_write"]:
            self.memory[address] = out["bus_wdata"]
        return self.memory.get(address, 0), 0

    @property
    def fetches(self):
        """Cycle and address of each."""
        return [(cycle, out["bus_addr"]) for cycle, out in self.requests if out["bus_fetch"]]

    def times(self):
        """Word and cycles of every instruction but the last."""
        for (begin, address), (end, _address) in pairwise(self.fetches):
            yield self.memory.get(address, 0), end - begin


def constant(register, value):
    upper = value + 0x800 >> 12
    return [i("lui", rd=register, imm=upper), i("addi", rd=register, rs1=register, imm=value)]


def with_handler(words):
    """A program whose traps are skipped."""
    handler = [
        i("csrrs", rd=30, csr=Csr.MEPC), i("addi", rd=30, rs1=30, imm=4),
        i("csrrw", rs1=30, csr=Csr.MEPC), i("mret"),
    ]  # fmt: skip
    words = [*constant(31, HANDLER), i("csrrw", rs1=31, csr=Csr.MTVEC), *words, i("jal")]
    assert len(words) <= HANDLER // 4
    return words + [0] * (HANDLER // 4 - len(words)) + handler


def every_instruction(pairs):
    """Every instruction that returns to the next, with these operands in x5 and x6."""
    for a, b in pairs:
        yield from constant(5, a)
        yield from constant(6, b)
        yield from (i(name, rd=7, rs1=5, rs2=6) for name in REGISTERS)
        yield from (i(name, rd=7, rs1=5, imm=b & 0x7FF) for name in IMMEDIATES)
        yield from (i(name, rd=7, rs1=5, imm=b & 31) for name in SHIFTS)
        yield from (i(name, rs1=5, rs2=6, imm=4) for name in BRANCHES)
    yield from (i("lui", rd=7, imm=DATA >> 12), i("auipc", rd=8), i("jal", rd=8, imm=4))
    yield from (i("auipc", rd=8), i("jalr", rd=8, rs1=8, imm=8))
    for offset in range(4):
        yield from (i(name, rd=8, rs1=7, imm=offset) for name in ("lb", "lbu"))
        yield i("sb", rs1=7, rs2=5, imm=offset)
    for offset in (0, 2):
        yield from (i(name, rd=8, rs1=7, imm=offset) for name in ("lh", "lhu"))
        yield i("sh", rs1=7, rs2=6, imm=offset)
    yield from (i("lw", rd=8, rs1=7), i("sw", rs1=7, rs2=5))
    yield from (i(name, rd=8, rs1=5, csr=Csr.MSCRATCH) for name in CSRS)
    yield from (i(name) for name in ("fence", "fence.i", "wfi"))


def check_times(core, pairs=PAIRS):
    words = list(every_instruction(pairs))
    cycles = sum(Core.cycles_of(word) for word in words)
    run = Run(core, [*words, i("jal")], cycles=cycles + 20)
    seen = set()
    for word, took in run.times():
        assert took == Core.cycles_of(word), f"{word:08x}"
        seen.add(word)
    assert set(words) <= seen


@pytest.mark.parametrize("vector", [2, -4, 1 << 32])
def test_a_reset_vector_that_is_no_address_of_a_word_is_refused(vector):
    message = f"^reset_vector is {vector:#x}; it must be a multiple of 4 of 32 bits$"
    with pytest.raises(ValueError, match=message):
        Core(reset_vector=vector)


def test_the_first_fetch_is_of_the_reset_vector():
    run = Run(Core(reset_vector=0x40), [], cycles=4)
    assert run.fetches == [(1, 0x40)]


def test_every_instruction_takes_the_cycles_that_its_word_says():
    check_times(Core())


@pytest.mark.parametrize(
    "bug", ["a division by a small number ends early", "a product by zero ends early"]
)
def test_time_that_depends_on_operands_is_seen(bug):
    core = broken(bug)()
    with pytest.raises(AssertionError, match=r"^02\w{6}"):
        check_times(core, pairs=[(1, 0)])


def test_kinds_of_instructions_have_their_cycles():
    cycles = {"add": 6, "beq": 6, "lw": 10, "lb": 10, "sw": 9, "sb": 13, "sh": 13, "mul": 39,
              "remu": 39, "csrrw": 6, "fence": 6, "ecall": 6}  # fmt: skip
    assert {name: Core.cycles_of(i(name)) for name in cycles} == cycles


#: What traps, with which cause, and the cycles from its fetch to the handler's. The last one has no
#: next instruction.
TRAPS = [
    ([0], Cause.ILLEGAL, 7),
    ([i("csrrs", csr=0x123)], Cause.ILLEGAL, 7),
    ([i("ecall")], Cause.ECALL, 7),
    ([i("ebreak")], Cause.BREAKPOINT, 7),
    ([i("jal", imm=6)], Cause.FETCH_MISALIGNED, 7),
    ([i("beq", imm=6)], Cause.FETCH_MISALIGNED, 7),
    ([i("lh", imm=1)], Cause.LOAD_MISALIGNED, 7),
    ([i("sw", imm=2)], Cause.STORE_MISALIGNED, 7),
    ([i("lui", rd=7, imm=0x20), i("lb", rs1=7)], Cause.LOAD_FAULT, 10),
    ([i("sw")], Cause.STORE_FAULT, 10),
    ([i("sb")], Cause.STORE_FAULT, 14),
    ([i("lui", rd=7, imm=0x20), i("sb", rs1=7)], Cause.STORE_FAULT, 10),
    ([i("lui", rd=7, imm=0x20), i("jalr", rs1=7)], Cause.FETCH_FAULT, 5),
]


def test_a_trap_has_its_cause_and_its_cycles():
    words = with_handler([word for words, _cause, _cycles in TRAPS for word in words])
    run = Run(Core(), words, cycles=560)
    count = len(TRAPS)
    assert [code for _cycle, code in run.traps][:count] == [cause for _, cause, _ in TRAPS]
    entries = [
        (end, end - begin) for (begin, _), (end, address) in pairwise(run.fetches)
        if address == HANDLER
    ][:count]  # fmt: skip
    assert [took for _cycle, took in entries] == [cycles for _, _, cycles in TRAPS]
    # A trap is told a cycle before the handler's fetch is on the bus.
    assert [cycle for cycle, _took in entries] == [cycle + 1 for cycle, _ in run.traps[:count]]


def test_an_interrupt_takes_its_cycles_and_is_not_told_as_a_trap():
    enable = [*constant(5, 0x880), i("csrrw", rs1=5, csr=Csr.MIE)]
    enable += [i("csrrsi", rs1=8, csr=Csr.MSTATUS)]
    words = with_handler([*enable, *[i("addi")] * 10])
    run = Run(Core(), words, cycles=90, irq=lambda cycle: (cycle >= 70, 0))
    assert not run.traps
    gaps = [end - begin for (begin, _), (end, _) in pairwise(run.fetches)]
    assert sorted(set(gaps)) == [6, 6 + Core.INTERRUPT_CYCLES]
    assert [address for _cycle, address in run.fetches].count(HANDLER) == 1


def test_the_bus_is_asked_for_one_cycle_and_idle_outputs_stay():
    words = list(every_instruction([(3, 5)]))
    run = Run(Core(), words, cycles=sum(map(Core.cycles_of, words)))
    for before, now in pairwise(run.outputs):
        assert not (before["bus_en"] and now["bus_en"])
        assert now["bus_addr"] % 4 == 0
        assert not (now["bus_fetch"] and now["bus_write"])
        if not now["bus_en"]:
            for name in ("bus_fetch", "bus_write", "bus_addr", "bus_wdata"):
                assert now[name] == before[name]


def test_stores_keep_their_distance_from_loads_and_stores():
    stores = [i(name, rs1=7) for name in STORES]
    pairs = [(s, t) for s in stores for t in [*stores, *(i(name, rs1=7) for name in LOADS)]]
    words = [i("lui", rd=7, imm=DATA >> 12), *(word for pair in pairs for word in pair)]
    run = Run(Core(), words, cycles=sum(map(Core.cycles_of, words)))
    data = [(cycle, out["bus_write"]) for cycle, out in run.requests if not out["bus_fetch"]]
    gaps = [
        after - store
        for (store, write), (after, _) in pairwise(data) if write
    ]  # fmt: skip
    # Of each pair, and of each that ends with a store to the next.
    assert len(gaps) == len(pairs) + len(stores) ** 2
    assert min(gaps) == Core.STORE_TO_LOAD


def test_reset_leaves_nothing_behind():
    """After a reset in the midst of things the core does in every cycle what a new one does."""
    numbers = [n for n in Csr if n not in (Csr.MSTATUSH, Csr.MISA)]
    readers = [i("sw", rs2=n) for n in range(32)]
    readers += [word for n in numbers for word in (i("csrrs", rd=1, csr=n), i("sw", rs2=1))]
    readers += [i("mulh", rd=9, rs1=10, rs2=11), i("sw", rs2=9), i("csrrsi", rs1=8, csr=0x300)]
    # Stores to the code trap, whose handler is in the way of none of the words read.
    readers = [word for reader in readers for word in (reader, i("csrrwi", csr=Csr.MSCRATCH))]
    readers = with_handler(readers)
    rng = random.Random(2)
    dirt = [word for n in range(1, 32) for word in constant(n, rng.getrandbits(32))]
    writable = (Csr.MSCRATCH, Csr.MEPC, Csr.MCAUSE, Csr.MTVAL, Csr.MIE, Csr.MTVEC, Csr.MSTATUS,
                Csr.MCYCLEH, Csr.MCYCLE, Csr.MINSTRETH, Csr.MINSTRET)  # fmt: skip
    dirt += [i("csrrw", rs1=n + 1, csr=number) for n, number in enumerate(writable)]
    dirt += [i("lui", rd=7, imm=DATA >> 12), i("sb", rs1=7, rs2=8), i("lh", rd=8, rs1=7)]
    dirt += [i("mulh", rd=9, rs1=10, rs2=11), i("div", rd=9, rs1=10, rs2=11)]
    length = sum(map(Core.cycles_of, dirt))
    cycles = 500
    new = Run(Core(), readers, cycles=cycles)
    for reset in (length - 20, length - 90):
        used = Run(Core(), dirt, cycles=reset + 1 + cycles, reset=reset, then=readers)
        assert used.outputs[reset + 1 :] == new.outputs


def passes_go_well(core, workdir, *passes):
    """Run passes of yosys over a core in one module; whether none failed."""
    (workdir / "core.il").write_text(rtlil.convert(core, name="core", emit_src=False))
    begin = ("read_rtlil core.il", "hierarchy -top core", "proc", "flatten")
    try:
        run_yosys("\n".join([*begin, *passes, ""]), directory=workdir, what="core")
    except SynthesisError:
        return False
    return True


def test_every_flip_flop_is_reset(tmp_path):
    """What is not reset may differ in two cores that are to do the same."""
    passes = ["opt", "select -assert-min 50 t:$sdff*", "select -assert-none t:$dff t:$dffe"]
    assert passes_go_well(Core(), tmp_path, *passes)
    right = "scratch, value, cause = Signal(32)"
    wrong = right.replace("32", "32, reset_less=True")
    forgetful = with_part("CsrFile", mutant(CsrFile, right, wrong))
    assert not passes_go_well(forgetful(), tmp_path, *passes)
