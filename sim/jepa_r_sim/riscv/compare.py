"""A trace against the golden model, and its cycles against what was promised."""

from collections import Counter
from collections.abc import Sequence

from attrs import frozen

from jepa_r.safety.core import Core

from ..golden.riscv import BusError, Cause, Csr, Machine, Region, Retired
from .trace import Levels, Trace, Window

__all__ = ["DivergenceError", "Summary", "compare", "cycles_of"]

#: Cycles until an instruction that traps is found out.
_FOUND_OUT = {Cause.FETCH_FAULT: 4, Cause.LOAD_FAULT: 9}
_FOUND_OUT_EXECUTING = 6
_FOUND_OUT_STORE, _FOUND_OUT_STORE_PART = 9, 13


class DivergenceError(AssertionError):
    """The core did something else than the model."""


@frozen(kw_only=True)
class Summary:
    """What was compared.

    Attributes
    ----------
    instructions
        How many, those that trapped included.
    traps
        By cause, how often.
    interrupts
        How many were taken.
    """

    instructions: int
    traps: Counter[Cause]
    interrupts: int


class _Hart(Machine):
    """A machine that takes interrupts when it is told to, and notes writes of its time."""

    wrote_time = False

    def pending(self) -> None:
        return None

    def due(self) -> Cause | None:
        return super().pending()

    def _write_csr(self, number: int, value: int) -> None:
        self.wrote_time |= number in (Csr.MCYCLE, Csr.MCYCLEH)
        super()._write_csr(number, value)


def compare(trace: Trace, windows: Sequence[Window], levels: Sequence[Levels] = ()) -> Summary:
    """Run the model along a trace.

    Registers, memory accesses, addresses, traps and their causes, and the cycle of every
    instruction must be equal; an interrupt must be taken where the model takes it and nowhere else.

    Raises
    ------
    DivergenceError
        With the number of the instruction, and what differs.
    """
    hart = _Hart(regions=[_region(window) for window in windows], cycles_of=lambda word: 0)
    wires = iter(levels)
    coming = next(wires, None)
    now = (False, False)
    fields = {name: values.tolist() for name, values in trace.rvfi.items()}
    stamps, causes = trace.cycle.tolist(), trace.cause.tolist()
    traps: Counter[Cause] = Counter()
    interrupts = 0
    # mcycle is the number of the cycle since reset, until it is written.
    ahead = 0
    begin = 0
    for n, (stamp, cause) in enumerate(zip(stamps, causes, strict=True)):
        got = {name: values[n] for name, values in fields.items()}
        # What changed when the last instruction was told is seen behind this one.
        hart.irq_timer, hart.irq_external = now
        if interrupt := hart.due():
            hart.interrupt(interrupt)
            interrupts += 1
            begin += Core.INTERRUPT_CYCLES
        while coming is not None and coming.after <= n:
            now = (coming.timer, coming.external)
            coming = next(wires, None)
        hart.irq_timer, hart.irq_external = now
        # A register is read in the cycle before the instruction is told.
        hart.cycle = stamp - 1 + ahead
        hart.wrote_time = False
        before = tuple(hart.x)
        expected = hart.step()
        if hart.wrote_time:
            ahead = hart.cycle - stamp
        _fields(n, got, expected, before)
        if cause != (expected.cause or 0):
            raise DivergenceError(f"instruction {n}: cause {cause}, not {expected.cause}")
        if expected.cause is not None:
            traps[expected.cause] += 1
        cycles = cycles_of(expected, hart)
        if stamp != begin + cycles:
            raise DivergenceError(
                f"instruction {n}, {expected.insn:08x}: {stamp - begin} cycles, not {cycles}"
            )
        begin = stamp
    return Summary(instructions=len(stamps), traps=traps, interrupts=interrupts)


def _region(window: Window) -> Region:
    region = Region(
        base=window.base, size=window.size, fetch=window.fetch, load=window.load,
        store=window.store,
    )  # fmt: skip
    region.place(window.contents)
    return region


def _fields(n: int, got: dict[str, int], expected: Retired, before: tuple[int, ...]) -> None:
    """What an instruction did."""
    wanted = {
        "order": n,
        **{
            name: int(getattr(expected, name))
            for name in ("insn", "trap", "intr", "rd_addr", "rd_wdata", "pc_rdata", "pc_wdata")
        },
        # The core tells the fields of the word, whether or not they are registers that are read.
        "rs1_rdata": before[got["rs1_addr"]],
        "rs2_rdata": before[got["rs2_addr"]],
        "mem_rmask": expected.mem_rmask,
        "mem_wmask": expected.mem_wmask,
    }
    # Fields that are of meaning in some cases only.
    if expected.rs1_addr:
        wanted["rs1_addr"] = expected.rs1_addr
    if expected.rs2_addr:
        wanted["rs2_addr"] = expected.rs2_addr
    if expected.mem_rmask or expected.mem_wmask:
        wanted["mem_addr"] = expected.mem_addr
    if expected.mem_rmask:
        wanted["mem_rdata"] = expected.mem_rdata
    if expected.mem_wmask:
        ones = sum(0xFF << 8 * n for n in range(4) if expected.mem_wmask >> n & 1)
        wanted["mem_wdata"] = expected.mem_wdata
        got = got | {"mem_wdata": got["mem_wdata"] & ones}
    for name, value in wanted.items():
        if got[name] != value:
            raise DivergenceError(
                f"instruction {n}, {expected.insn:08x} at {expected.pc_rdata:#x}: "
                f"{name} is {got[name]:#x}, not {value:#x}"
            )


def cycles_of(done: Retired, hart: Machine) -> int:
    """Cycles from the fetch of an instruction to the next fetch."""
    if done.cause is None:
        return Core.cycles_of(done.insn)
    if done.cause != Cause.STORE_FAULT:
        found_out = _FOUND_OUT.get(done.cause, _FOUND_OUT_EXECUTING)
    elif done.insn >> 12 & 7 == 2:
        found_out = _FOUND_OUT_STORE
    else:
        # Found out when the word is loaded, or else when it is stored.
        try:
            hart.read_word(done.value & ~3)
            found_out = _FOUND_OUT_STORE_PART
        except BusError:
            found_out = _FOUND_OUT_STORE
    return found_out + Core.TRAP_CYCLES
