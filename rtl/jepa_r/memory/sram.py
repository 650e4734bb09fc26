"""On-chip memory: one read port, one write port, and a code on every word if wanted."""

from amaranth import *
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..fabric.delay import delay
from ..platform import Macro, MemoryShape
from .secded import SecdedDecoder, SecdedEncoder, check_bits

__all__ = ["Sram", "SramArray"]


class SramArray(Macro):
    """The bits of a memory and nothing else: what a technology's SRAM macro replaces.

    It is emitted from a template: the Verilog has no line per row, and no initial contents, which
    no SRAM has. A read is complete one cycle after its address. What a read of the row returns that
    is written in the same cycle is not defined, since technologies do not agree on it and an FPGA
    would need registers and multiplexers beside its memories for the old word; in simulation the
    Verilog returns the old word inverted, so that nobody comes to rely on it.

    Parameters
    ----------
    width : :class:`int`, positive
        Bits of a row.
    depth : :class:`int`, at least 2
        Rows.
    segments : :class:`int`, divides ``width``
        Parts of a row that can be written alone.

    Members
    -------
    r_en, r_addr : ``In(1)``, ``In(range(depth))``
        Read a row.
    r_data : ``Out(width)``
        The row, one cycle later; it stays until the next read.
    w_en, w_addr, w_data : ``In(segments)``, ``In(range(depth))``, ``In(width)``
        Write the segments of a row whose bit of ``w_en`` is set, segment 0 the lowest bits.

    Raises
    ------
    :exc:`ValueError`
        If ``depth`` is below 2 or ``segments`` does not divide ``width``.
    """

    def __init__(self, *, width, depth, segments=1):
        _check_size(width, depth, segments)
        self._width = width
        self._depth = depth
        self._segments = segments
        super().__init__(
            {
                "r_en": In(1),
                "r_addr": In(range(depth)),
                "r_data": Out(width),
                "w_en": In(segments),
                "w_addr": In(range(depth)),
                "w_data": In(width),
            },
            macro_name=f"sram_array_{width}x{depth}"
            + (f"_{segments}segments" if segments > 1 else ""),
        )

    def build(self, platform):
        m = Module()
        m.submodules.rows = rows = Memory(shape=self._width, depth=self._depth, init=[])
        read = rows.read_port()
        write = rows.write_port(granularity=self._width // self._segments)
        m.d.comb += [
            read.en.eq(self.r_en),
            read.addr.eq(self.r_addr),
            self.r_data.eq(read.data),
            write.en.eq(self.w_en),
            write.addr.eq(self.w_addr),
            write.data.eq(self.w_data),
        ]
        return m

    @property
    def memory(self):
        """What a technology must offer to replace it."""
        return MemoryShape(
            words=self._depth, bits=self._width, segments=self._segments, ports="1r1w"
        )

    def verilog(self, name):
        """Verilog of the module, called ``name``, instead of what Amaranth would emit."""
        return _TEMPLATE.format(
            name=name,
            width=self._width,
            bits=self._width - 1,
            rows=self._depth - 1,
            address=ceil_log2(self._depth) - 1,
            segments=self._segments,
            enables=self._segments - 1,
            part=self._width // self._segments,
        )


# `rst` belongs to every macro's interface; an array of bits has no use for it.
_TEMPLATE = """\
module {name}(clk, rst, r_en, r_addr, r_data, w_en, w_addr, w_data);
  input clk;
  input rst;
  input r_en;
  input [{address}:0] r_addr;
  output reg [{bits}:0] r_data;
  input [{enables}:0] w_en;
  input [{address}:0] w_addr;
  input [{bits}:0] w_data;
  (* no_rw_check *)
  reg [{bits}:0] mem [0:{rows}];
  integer segment;
  wire unused_rst = rst;
  always @(posedge clk) begin
    for (segment = 0; segment < {segments}; segment = segment + 1)
      if (w_en[segment])
        mem[w_addr][segment * {part} +: {part}] <= w_data[segment * {part} +: {part}];
    if (r_en)
`ifdef SYNTHESIS
      r_data <= mem[r_addr];
`else
      r_data <= mem[r_addr] ^ {{{width}{{w_en != 0 && w_addr == r_addr}}}};
`endif
  end
endmodule
"""


class Sram(Macro):
    """Memory with one read port and one write port.

    A read's data come :attr:`READ_LATENCY` cycles after its address, with and without code; a read
    and a write can start in every cycle. A read sees every write that started before it; what a
    read returns that starts together with a write of its row is not defined. What both ports are
    given is in a register before the array, so that nothing but the code is in front of its inputs.

    With ``ecc``, every segment has a SECDED code of its own (:mod:`jepa_r.memory.secded`). Reads
    are corrected on the way out, and rows are read one after another in cycles in which neither
    port is used; a row with a wrong bit is written back corrected, in the next such cycle. One
    sweep takes :attr:`SCRUB_CYCLES` cycles a row, one of them idle, and one more idle cycle for
    each correction. After reset all rows are written with zero, so that every row holds a code
    word: the ports must rest for :attr:`clear_cycles` cycles, and what is written before is lost.

    Parameters
    ----------
    width : :class:`int`, positive
        Bits of a word.
    depth : :class:`int`, at least 2
        Words.
    segments : :class:`int`, divides ``width``
        Parts of a word that can be written alone.
    ecc : :class:`bool`
        Whether words carry a code.

    Members
    -------
    r_en, r_addr : ``In(1)``, ``In(range(depth))``
        Read a word.
    r_data : ``Out(width)``
        The word, :attr:`READ_LATENCY` cycles later; it stays until the next read.
    w_en, w_addr, w_data : ``In(segments)``, ``In(range(depth))``, ``In(width)``
        Write the segments of a word whose bit of ``w_en`` is set, segment 0 the lowest bits.
    inject : ``In(2)``
        Test: bits 0 and 1 of the code of every segment being written are inverted where set.
    corrected : ``Out(1)``
        Pulse, with ``r_data``: some segment of it had one wrong bit, which is corrected.
    uncorrectable : ``Out(1)``
        Pulse, with ``r_data``: some segment of it is wrong and cannot be corrected.
    scrubbed : ``Out(1)``
        Pulse: an idle slot was used to write back a corrected row.

    Without ``ecc``, ``inject`` does nothing and the last three are zero.

    Raises
    ------
    :exc:`ValueError`
        If ``depth`` is below 2 or ``segments`` does not divide ``width``.
    """

    #: Cycles from ``r_en`` to ``r_data``: a register, the array, the syndrome, the correction.
    READ_LATENCY = 4

    #: Cycles from the scrubber's read of a row to that of the next: the read, and a look at it.
    SCRUB_CYCLES = READ_LATENCY + 1

    def __init__(self, *, width, depth, segments=1, ecc=False):
        _check_size(width, depth, segments)
        self._width = width
        self._depth = depth
        self._segments = segments
        self._ecc = ecc
        super().__init__(
            {
                "r_en": In(1),
                "r_addr": In(range(depth)),
                "r_data": Out(width),
                "w_en": In(segments),
                "w_addr": In(range(depth)),
                "w_data": In(width),
                "inject": In(2),
                "corrected": Out(1),
                "uncorrectable": Out(1),
                "scrubbed": Out(1),
            },
            macro_name=f"sram_{width}x{depth}"
            + (f"_{segments}segments" if segments > 1 else "")
            + ("_ecc" if ecc else ""),
        )

    @property
    def depth(self):
        return self._depth

    @property
    def width(self):
        return self._width

    @property
    def clear_cycles(self):
        """Cycles after reset in which rows are cleared and nothing may be read or written."""
        return self._depth if self._ecc else 0

    @property
    def code_width(self):
        """Bits of a row of the array, check bits included."""
        part = self._width // self._segments
        return self._segments * (part + (check_bits(part) if self._ecc else 0))

    def build(self, platform):
        m = Module()

        m.submodules.array = array = SramArray(
            width=self.code_width, depth=self._depth, segments=self._segments
        )
        r_en, w_en = Signal(), Signal(self._segments)
        r_addr = Signal(range(self._depth), reset_less=True)
        w_addr = Signal(range(self._depth), reset_less=True)
        w_data = Signal(self._width, reset_less=True)
        m.d.sync += [
            r_en.eq(self.r_en),
            r_addr.eq(self.r_addr),
            w_en.eq(self.w_en),
            w_addr.eq(self.w_addr),
            w_data.eq(self.w_data),
        ]
        m.d.comb += [
            array.r_en.eq(r_en),
            array.r_addr.eq(r_addr),
            array.w_en.eq(w_en),
            array.w_addr.eq(w_addr),
        ]
        arrives = delay(m, self.r_en, self.READ_LATENCY - 1, reset_less=False, name="arrives")
        if self._ecc:
            word, right, wrong = self._add_code(m, array, w_data)
            self._scrub(m, word, right, (r_en, r_addr), (w_en, w_addr, w_data))
            m.d.sync += [
                self.corrected.eq(arrives & right.any()),
                self.uncorrectable.eq(arrives & wrong.any()),
            ]
        else:
            word = delay(m, array.r_data, 1, name="word")
            m.d.comb += array.w_data.eq(w_data)
        with m.If(arrives):
            m.d.sync += self.r_data.eq(word)

        return m

    def _add_code(self, m, array, w_data):
        """Encode what is written and decode what is read, for the reader or for the scrubber."""
        part = self._width // self._segments
        code_part = self.code_width // self._segments

        inject = Signal(2)
        m.d.sync += inject.eq(Mux(self.w_en.any(), self.inject, 0))
        word = Signal(self._width)
        right = Signal(self._segments)
        wrong = Signal(self._segments)
        for n in range(self._segments):
            m.submodules[f"encoder_{n}"] = encoder = SecdedEncoder(width=part)
            m.submodules[f"decoder_{n}"] = decoder = SecdedDecoder(width=part)
            m.d.comb += [
                encoder.data.eq(w_data.word_select(n, part)),
                array.w_data.word_select(n, code_part).eq(encoder.code ^ inject),
                decoder.code.eq(array.r_data.word_select(n, code_part)),
                word.word_select(n, part).eq(decoder.data),
                right[n].eq(decoder.corrected),
                wrong[n].eq(decoder.uncorrectable),
            ]
        return word, right, wrong

    def _scrub(self, m, word, right, read, write):
        """Use the ports where nobody else does, in the cycle before the array's registers."""
        (r_en, r_addr), (w_en, w_addr, w_data) = read, write

        writes, idle, clearing = Signal(), Signal(), Signal()
        m.d.comb += [
            writes.eq(self.w_en.any() & ~clearing),
            idle.eq(~self.r_en & ~writes),
        ]

        row = Signal(range(self._depth))
        fixed = Signal(self._width)
        segments = Signal(self._segments)
        look, write_back = Signal(), Signal()
        following = Mux(row == self._depth - 1, 0, row + 1)
        looked = delay(m, look, self.READ_LATENCY - 1, reset_less=False, name="looked")

        # What the scrubber gives counts only where it is enabled. Nothing is fixed before all rows
        # are cleared.
        with m.If(~self.r_en):
            m.d.sync += r_addr.eq(row)
        with m.If(~writes):
            m.d.sync += [w_addr.eq(row), w_data.eq(fixed)]
        with m.If(look):
            m.d.sync += r_en.eq(1)
        with m.If(write_back):
            m.d.sync += w_en.eq(segments)

        # A row written after it was read is newer than what the scrubber holds.
        stale = Signal()
        with m.If(writes & (self.w_addr == row)):
            m.d.sync += stale.eq(1)

        with m.FSM(name="scrub"):
            with m.State("CLEAR"):
                m.d.comb += clearing.eq(1)
                m.d.sync += [w_en.eq(~0), row.eq(following)]
                with m.If(row == self._depth - 1):
                    m.next = "READ"
            with m.State("READ"):
                with m.If(idle):
                    m.d.comb += look.eq(1)
                    m.d.sync += stale.eq(0)
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(looked):
                    m.d.sync += [fixed.eq(word), segments.eq(right)]
                    m.next = "LOOK"
            with m.State("LOOK"):
                with m.If(segments.any()):
                    m.next = "WRITE"
                with m.Else():
                    m.d.sync += row.eq(following)
                    m.next = "READ"
            with m.State("WRITE"):
                with m.If(idle):
                    m.d.comb += write_back.eq(~stale)
                    m.d.sync += row.eq(following)
                    m.next = "READ"
        m.d.sync += self.scrubbed.eq(write_back)


def _check_size(width, depth, segments):
    if depth < 2:
        raise ValueError(f"depth is {depth}; a memory has at least two rows")
    if segments < 1 or width < 1 or width % segments:
        raise ValueError(f"segments is {segments}; it must divide width, which is {width}")
