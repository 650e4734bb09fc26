"""What an instruction word asks for."""

from amaranth import *
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Base", "Decoder", "Kind", "Opcode"]


class Opcode(enum.Enum, shape=7):
    """Major opcodes, bits 6 to 0 of a word (volume I, table of the base opcode map)."""

    LOAD = 0x03
    FENCE = 0x0F
    IMMEDIATE = 0x13
    AUIPC = 0x17
    STORE = 0x23
    REGISTER = 0x33
    LUI = 0x37
    BRANCH = 0x63
    JALR = 0x67
    JAL = 0x6F
    SYSTEM = 0x73


class Kind(enum.Enum, shape=4):
    """What is done with an instruction once its operands are there."""

    ILLEGAL = 0
    NOTHING = 1  # fence, fence.i, wfi
    COMPUTE = 2  # rd = result of the ALU
    ADDRESS = 3  # rd = sum of base and immediate: lui, auipc
    JUMP = 4
    BRANCH = 5
    LOAD = 6
    STORE = 7
    STORE_PART = 8  # sb, sh: the word is loaded, merged and stored
    MULDIV = 9
    CSR = 10
    CALL = 11
    BREAK = 12
    RETURN = 13


class Base(enum.Enum, shape=2):
    """What the immediate is added to."""

    REGISTER = 0
    PC = 1
    ZERO = 2


class Decoder(wiring.Component):
    """Decode RV32IM_Zicsr with Zifencei, ``mret`` and ``wfi``. No latency.

    Every other word is ``Kind.ILLEGAL``. Of fences the fields that the standard reserves are
    ignored, as it demands. Whether a CSR exists is not known here.

    Members
    -------
    insn : ``In(32)``
        Instruction word.
    kind : ``Out(Kind)``
        What to do; the other outputs are of no meaning with ``Kind.ILLEGAL``.
    rd : ``Out(5)``
        Register that is written; 0 if none.
    immediate : ``Out(32)``
        Sign-extended.
    base : ``Out(Base)``
        What ``immediate`` is added to, for addresses.
    immediate_second : ``Out(1)``
        The ALU's second operand is ``immediate``, not the second register.
    subtract, arithmetic, unsigned : ``Out(1)``
        The ALU's sum is a difference; its shift to the right copies the sign; its comparison is of
        unsigned numbers.
    """

    insn: In(32)
    kind: Out(Kind)
    rd: Out(5)
    immediate: Out(32)
    base: Out(Base)
    immediate_second: Out(1)
    subtract: Out(1)
    arithmetic: Out(1)
    unsigned: Out(1)

    def elaborate(self, platform):
        m = Module()
        insn = self.insn
        opcode, funct3, funct7 = insn[:7], insn[12:15], insn[25:]
        writes = Signal()
        m.d.comb += [
            self.rd.eq(Mux(writes, insn[7:12], 0)),
            self.arithmetic.eq(insn[30]),
            # Of branches bit 13 tells, of `slt` and its kin bit 12.
            self.unsigned.eq(Mux(opcode == Opcode.BRANCH, insn[13], insn[12])),
        ]
        self._immediate(m, opcode)

        def legal(kind, *, rd=True):
            m.d.comb += [self.kind.eq(kind), writes.eq(rd)]

        with m.Switch(opcode):
            with m.Case(Opcode.LOAD):
                with m.If((funct3 != 3) & (funct3 < 6)):
                    legal(Kind.LOAD)
            with m.Case(Opcode.STORE):
                with m.If(funct3 == 2):
                    legal(Kind.STORE, rd=False)
                with m.Elif(funct3 < 2):
                    legal(Kind.STORE_PART, rd=False)
            with m.Case(Opcode.IMMEDIATE):
                m.d.comb += [
                    self.immediate_second.eq(1),
                    self.subtract.eq((funct3 == 2) | (funct3 == 3)),
                ]
                with m.If((funct3 != 1) & (funct3 != 5)):
                    legal(Kind.COMPUTE)
                with m.Elif((funct7 == 0) | (funct7 == 0x20) & (funct3 == 5)):
                    legal(Kind.COMPUTE)
            with m.Case(Opcode.REGISTER):
                m.d.comb += self.subtract.eq((funct3 == 2) | (funct3 == 3) | insn[30])
                with m.If((funct7 == 0) | (funct7 == 0x20) & ((funct3 == 0) | (funct3 == 5))):
                    legal(Kind.COMPUTE)
                with m.Elif(funct7 == 1):
                    legal(Kind.MULDIV)
            with m.Case(Opcode.LUI):
                m.d.comb += self.base.eq(Base.ZERO)
                legal(Kind.ADDRESS)
            with m.Case(Opcode.AUIPC):
                m.d.comb += self.base.eq(Base.PC)
                legal(Kind.ADDRESS)
            with m.Case(Opcode.JAL):
                m.d.comb += self.base.eq(Base.PC)
                legal(Kind.JUMP)
            with m.Case(Opcode.JALR):
                with m.If(funct3 == 0):
                    legal(Kind.JUMP)
            with m.Case(Opcode.BRANCH):
                m.d.comb += [self.base.eq(Base.PC), self.subtract.eq(1)]
                with m.If((funct3 != 2) & (funct3 != 3)):
                    legal(Kind.BRANCH, rd=False)
            with m.Case(Opcode.FENCE):
                with m.If(funct3 < 2):
                    legal(Kind.NOTHING, rd=False)
            with m.Case(Opcode.SYSTEM):
                with m.If(funct3[:2].any()):
                    legal(Kind.CSR)
                for word, kind in (
                    (0x00000073, Kind.CALL),
                    (0x00100073, Kind.BREAK),
                    (0x30200073, Kind.RETURN),
                    (0x10500073, Kind.NOTHING),
                ):
                    with m.If(insn == word):
                        legal(kind, rd=False)
        return m

    def _immediate(self, m, opcode):
        """Formats I, S, B, U and J of volume I, section "Immediate encoding variants"."""
        insn, sign = self.insn, self.insn[31]
        value = self.immediate
        with m.Switch(opcode):
            with m.Case(Opcode.STORE):
                m.d.comb += value.eq(Cat(insn[7:12], insn[25:31], sign.replicate(21)))
            with m.Case(Opcode.BRANCH):
                bits = (C(0, 1), insn[8:12], insn[25:31], insn[7], sign.replicate(20))
                m.d.comb += value.eq(Cat(*bits))
            with m.Case(Opcode.LUI, Opcode.AUIPC):
                m.d.comb += value.eq(Cat(C(0, 12), insn[12:]))
            with m.Case(Opcode.JAL):
                bits = (C(0, 1), insn[21:31], insn[20], insn[12:20], sign.replicate(12))
                m.d.comb += value.eq(Cat(*bits))
            with m.Default():
                m.d.comb += value.eq(Cat(insn[20:31], sign.replicate(21)))
