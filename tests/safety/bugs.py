"""Cores with a planted bug, to see the checks fail."""

from jepa_r.safety.alu import Alu
from jepa_r.safety.core import Core
from jepa_r.safety.csr import CsrFile
from jepa_r.safety.muldiv import MulDiv
from jepa_r.safety.registers import RegisterFile
from jepa_r_sim.formal import mutant

__all__ = ["BUGS", "broken", "with_part"]

#: By name: the class, what its module says, and what it says with the bug.
BUGS = {
    "slt compares as sltu": (Alu, "Mux(self.unsigned, b[31], a[31])", "b[31]"),
    "sra of 31 keeps no sign": (Alu, "self.arithmetic & a[31] & ~left", "0"),
    "beq is taken as blt": (Alu, "Mux(self.function[2], less, a == b)", "less"),
    "misaligned words are loaded": (Core, "misaligned.eq(address[:2].any())", "misaligned.eq(0)"),
    "misaligned jumps are taken": (Core, "alu.condition & target[1]", "0"),
    "x0 can be written": (
        RegisterFile,
        "every = Array([C(0, 32), *registers])",
        "registers.insert(0, Signal(32)); every = Array(registers); registers = [*registers]\n"
        "        with m.If(self.w_en & (self.w_addr == 0)):\n"
        "            m.d.sync += registers[0].eq(self.w_data)\n"
        "        registers = registers[1:]",
    ),
    "a refused store retires": (
        Core,
        "with m.Case(_State.STORE_ANSWER):\n                with m.If(self.bus_error):",
        "with m.Case(_State.STORE_ANSWER):\n                with m.If(0):",
    ),
    "a byte is merged as a half word": (Core, "a, b, value[:2], insn[12])", "a, b, value[:2], 1)"),
    "a division by a small number ends early": (
        MulDiv, "left.eq(width + 1),", "left.eq(Mux(divide & ~self.b[2:].any(), 9, width + 1)),",
    ),
    "a product by zero ends early": (
        MulDiv, "left.eq(width + 1),", "left.eq(Mux(self.b.any(), width + 1, 2)),",
    ),
    "the quotient by zero is negated": (MulDiv, "(~divide | self.b.any())", "1"),
    "mulhsu takes both as signed": (MulDiv, "self.b[-1] & Mux(divide, ~self.function[0], "
                                    "~self.function[1])", "self.b[-1] & ~self.function[0]"),
    "a trap leaves interrupts on": (CsrFile, "enable.eq(0),", "enable.eq(enable),"),
    "mret does not restore": (CsrFile, "enable.eq(previous), previous.eq(1)", "previous.eq(1)"),
    "the counters can be written by their user names": (
        CsrFile, "self.modifies & self.address[10:].all()", "0",
    ),
    "minstret counts its own write": (
        CsrFile, "retired.eq(Cat(new, retired[32:]))", "retired.eq(Cat(new, retired[32:]) + 1)",
    ),
}  # fmt: skip


#: Parts that the core's class names itself; of the others its module knows the names.
_ATTRIBUTES = {"MulDiv": "muldiv", "RegisterFile": "register_file"}


def with_part(part, cls):
    """Class of cores that use ``cls`` as ``part``."""
    if part in _ATTRIBUTES:
        return type("Core", (Core,), {_ATTRIBUTES[part]: cls})
    core = mutant(Core, "def build(self, platform):", "def build(self, platform):")
    core.build.__globals__[part] = cls
    return core


def broken(name):
    """Class of cores with the bug of this name."""
    cls, old, new = BUGS[name]
    bad = mutant(cls, old, new)
    return bad if cls is Core else with_part(cls.__name__, bad)
