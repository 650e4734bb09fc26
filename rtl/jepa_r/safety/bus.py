"""Bus of the island's processor: who may do what where, and an answer in the next cycle."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .code import CODE_BITS, CodeEncoder
from .map import MEMORIES
from .register_block import OFFSET_BITS

__all__ = ["Bus"]

_BY_NAME = {memory.name: memory for memory in MEMORIES}
_CODE, _DATA, _REGISTERS = (_BY_NAME[name] for name in ("CODE", "DATA", "REGISTERS"))


def _inside(address, memory):
    """Whether an address is in a memory, whose base is a multiple of its size."""
    return (
        address[(memory.size - 1).bit_length() :] == memory.base >> (memory.size - 1).bit_length()
    )


def _word_bits(memory):
    return (memory.size // 4 - 1).bit_length()


class Bus(Macro):
    """Address decoder and firewall between the lockstep pair, memories and registers.

    What may be fetched, loaded and stored is in :data:`~.map.MEMORIES`: no memory can be both
    written and executed. Everything else is refused in the cycle in which it would be answered; it
    reaches neither memories nor registers. Every answer takes one cycle.

    A store passes twice: as a question, when it is issued, which only gives ``r_error``, and as a
    write, when it is released. The same rules hold both times.

    Words travel as code words bound to their addresses (:mod:`~.code`), and memories keep them so.
    Those of registers are coded here. A store to a register counts only if its word is a code word
    as it is: what a bus may spoil is not corrected, but flagged.

    While ``loading`` the loader alone reaches the code memory.

    Members
    -------
    r_en, r_fetch, r_addr : ``In(1)``, ``In(1)``, ``In(32)``
        Read a word, by a fetch or a load.
    q_write, q_data : ``In(1)``, ``In(32)``
        A store to ``r_addr`` has been issued, of this word.
    r_code, r_error : ``Out(39)``, ``Out(1)``
        A cycle after a read, its code word; after a read or question, whether it is refused.
    w_en, w_en_n, w_addr, w_code : ``In(1)``, ``In(1)``, ``In(32)``, ``In(39)``
        A store is released, if the first two are ``(1, 0)``; none is, if they are ``(0, 1)``.
    loading, load_en, load_write, load_word, load_data : ``In``
        The loader's port to the code memory: word address and word.
    code_en, code_write, code_addr, code_wcode, code_rcode
        Code memory: address of a word, code word to write, code word read, one cycle later.
    data_en, data_write, data_addr, data_wcode, data_rcode
        Data memory, likewise.
    register_...
        Ports of :class:`~.register_block.RegisterBlock`.
    of_code, of_data : ``Out(1)``
        What the answer of this cycle is of.
    refused : ``Out(1)``
        For one cycle, with ``r_error``, or a cycle after a write that is refused.
    broken : ``Out(1)``
        For one cycle: what was to be stored in a register is no code word, or the rails of a store
        did not agree.
    """

    #: Cycles from a request to its answer.
    LATENCY = 1

    def __init__(self):
        code_bits, data_bits = _word_bits(_CODE), _word_bits(_DATA)
        super().__init__(
            {
                "r_en": In(1),
                "r_fetch": In(1),
                "r_addr": In(32),
                "r_code": Out(CODE_BITS),
                "r_error": Out(1),
                "q_write": In(1),
                "q_data": In(32),
                "w_en": In(1),
                "w_en_n": In(1),
                "w_addr": In(32),
                "w_code": In(CODE_BITS),
                "loading": In(1),
                "load_en": In(1),
                "load_write": In(1),
                "load_word": In(code_bits),
                "load_data": In(32),
                "code_en": Out(1),
                "code_write": Out(1),
                "code_addr": Out(code_bits),
                "code_wcode": Out(CODE_BITS),
                "code_rcode": In(CODE_BITS),
                "data_en": Out(1),
                "data_write": Out(1),
                "data_addr": Out(data_bits),
                "data_wcode": Out(CODE_BITS),
                "data_rcode": In(CODE_BITS),
                "register_r_en": Out(1),
                "register_r_offset": Out(OFFSET_BITS),
                "register_r_data": In(32),
                "register_q_en": Out(1),
                "register_q_offset": Out(OFFSET_BITS),
                "register_q_data": Out(32),
                "register_error": In(1),
                "register_w_en": Out(1),
                "register_w_offset": Out(OFFSET_BITS),
                "register_w_data": Out(32),
                "of_code": Out(1),
                "of_data": Out(1),
                "refused": Out(1),
                "broken": Out(1),
            },
            macro_name="island_bus",
        )

    def build(self, platform):
        m = Module()
        reads = self._allowed(m, "read", self.r_en, self.r_addr, load=~self.r_fetch)
        asks = self._allowed(m, "ask", self.q_write, self.r_addr, store=1)
        released = Signal()
        m.d.comb += released.eq(self.w_en & ~self.w_en_n)
        writes = self._allowed(m, "write", released, self.w_addr, store=1)

        m.submodules.loaded = loaded = CodeEncoder()
        m.d.comb += [
            loaded.address.eq(self.load_word << 2),
            loaded.data.eq(self.load_data),
            self.code_en.eq(Mux(self.loading, self.load_en, reads["CODE"])),
            self.code_write.eq(self.loading & self.load_write),
            self.code_addr.eq(Mux(self.loading, self.load_word, self.r_addr[2:])),
            self.code_wcode.eq(loaded.code),
            self.data_en.eq(reads["DATA"] | writes["DATA"]),
            self.data_write.eq(writes["DATA"]),
            self.data_addr.eq(Mux(writes["DATA"], self.w_addr[2:], self.r_addr[2:])),
            self.data_wcode.eq(self.w_code),
        ]

        # What is stored in a register must be the code word that its data and address give.
        m.submodules.expected = expected = CodeEncoder()
        intact = Signal()
        m.d.comb += [
            expected.address.eq(self.w_addr),
            expected.data.eq(self.w_code[:32]),
            intact.eq(expected.code == self.w_code),
            self.register_r_en.eq(reads["REGISTERS"]),
            self.register_r_offset.eq(self.r_addr),
            self.register_q_en.eq(asks["REGISTERS"]),
            self.register_q_offset.eq(self.r_addr),
            self.register_q_data.eq(self.q_data),
            self.register_w_en.eq(writes["REGISTERS"] & intact),
            self.register_w_offset.eq(self.w_addr),
            self.register_w_data.eq(self.w_code),
        ]

        of_registers, asked = Signal(), Signal()
        wrong, late = Signal(), Signal()
        address = Signal(32, reset_less=True)
        m.d.sync += [
            self.of_code.eq(reads["CODE"] & ~self.loading),
            self.of_data.eq(reads["DATA"]),
            of_registers.eq(reads["REGISTERS"]),
            asked.eq(asks["REGISTERS"]),
            address.eq(self.r_addr),
            wrong.eq(
                (self.r_en & ~reads["any"])
                | (self.r_en & reads["CODE"] & self.loading)
                | (self.q_write & ~asks["any"])
            ),
            late.eq(released & ~writes["any"]),
            self.broken.eq((writes["REGISTERS"] & ~intact) | (self.w_en == self.w_en_n)),
        ]
        m.submodules.answer = answer = CodeEncoder()
        m.d.comb += [
            answer.address.eq(address),
            answer.data.eq(self.register_r_data),
            self.r_error.eq(wrong | ((of_registers | asked) & self.register_error)),
            self.refused.eq(self.r_error | late),
        ]
        with m.If(self.of_code):
            m.d.comb += self.r_code.eq(self.code_rcode)
        with m.Elif(self.of_data):
            m.d.comb += self.r_code.eq(self.data_rcode)
        with m.Elif(of_registers):
            m.d.comb += self.r_code.eq(answer.code)
        return m

    def _allowed(self, m, name, en, address, *, load=None, store=None):
        """Where a request goes, none of them if it is refused; ``any``: it goes somewhere."""
        found = {}
        for memory in MEMORIES:
            if store is not None:
                may = C(memory.store, 1)
            else:
                may = Mux(load, memory.load, memory.fetch)
            hit = Signal(name=f"{name}_{memory.name.lower()}")
            whole = address[:2] == 0
            m.d.comb += hit.eq(en & may & whole & _inside(address, memory))
            found[memory.name] = hit
        return found | {"any": Cat(found.values()).any()}
