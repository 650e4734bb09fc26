"""The memory below the array, where the sums of a chain of passes meet."""

from functools import reduce
from math import gcd
from operator import or_

from amaranth import *
from amaranth.lib import data, memory
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..memory.sram import Sram
from ..platform import Macro, MemoryShape

__all__ = ["Accumulator", "AccumulatorBank", "AccumulatorBlock"]

ACC_WIDTH = 32
#: Two halves, each of even and of odd rows.
BANKS = 4
#: Columns of a block, at most.
BLOCK = 8


class AccumulatorBank(Macro):
    """A single-port memory: one read or one write a cycle.

    It is emitted from a template, without the line per row and the initial contents that Amaranth
    would give it: what a technology's single-port SRAM macro replaces.

    Parameters
    ----------
    width, depth : :class:`int`
        Bits of a word, and words.

    Members
    -------
    en, w_en : ``In(1)``
        Use the memory in this cycle; write, not read.
    addr : ``In(range(depth))``
        Word.
    w_data : ``In(width)``
        What to write.
    r_data : ``Out(width)``
        What was read in the cycle before. Not defined after a write.
    """

    def __init__(self, *, width, depth):
        self._width, self._depth = width, depth
        super().__init__(
            {
                "en": In(1),
                "w_en": In(1),
                "addr": In(range(depth)),
                "w_data": In(width),
                "r_data": Out(width),
            },
            macro_name=f"accumulator_bank_{width}x{depth}",
        )

    def build(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(shape=self._width, depth=self._depth, init=[])
        write, read = words.write_port(), words.read_port()
        m.d.comb += [
            write.addr.eq(self.addr),
            write.data.eq(self.w_data),
            write.en.eq(self.en & self.w_en),
            read.addr.eq(self.addr),
            read.en.eq(self.en & ~self.w_en),
            self.r_data.eq(read.data),
        ]
        return m

    @property
    def memory(self):
        """What a technology must offer to replace it."""
        return MemoryShape(words=self._depth, bits=self._width, segments=1, ports="1rw")

    def verilog(self, name):
        """Verilog of the module, called ``name``, instead of what Amaranth would emit."""
        return _BANK.format(
            name=name,
            bits=self._width - 1,
            rows=self._depth - 1,
            address=len(self.addr) - 1,
        )


# `rst` belongs to every macro's interface; an array of bits has no use for it.
_BANK = """\
module {name}(clk, rst, en, w_en, addr, w_data, r_data);
  input clk;
  input rst;
  input en;
  input w_en;
  input [{address}:0] addr;
  input [{bits}:0] w_data;
  output reg [{bits}:0] r_data;
  reg [{bits}:0] mem [0:{rows}];
  wire unused_rst = rst;
  always @(posedge clk)
    if (en) begin
      if (w_en)
        mem[addr] <= w_data;
      else
        r_data <= mem[addr];
    end
endmodule
"""


class AccumulatorBlock(Macro):
    """What some columns have between the banks: choice of a word, sum, and the word that is read.

    It is a module of its own, so that synthesis maps one and not as many as a row is long. The
    choice is spread to all columns of a row: within a block by the mapper, and to few blocks.

    Parameters
    ----------
    columns : :class:`int`
        Sums.
    width : :class:`int`
        Width of a sum from the array.

    Members
    -------
    sums : ``In(ArrayLayout(signed(width), columns))``
        From the array.
    words : ``In(ArrayLayout(32 * columns, BANKS))``
        What the banks have read.
    fetched, served : ``In(BANKS)``
        Of which bank the words are added to, and of which they are for the read port; at most one
        each.
    total : ``Out(ArrayLayout(32, columns))``
        In the same cycle, the sums of the cycle before and the words, or the sums alone.
    r_data : ``Out(ArrayLayout(signed(32), columns))``
        A cycle later, the words for the read port, until the next.
    """

    def __init__(self, *, columns, width):
        super().__init__(
            {
                "sums": In(data.ArrayLayout(signed(width), columns)),
                "words": In(data.ArrayLayout(columns * ACC_WIDTH, BANKS)),
                "fetched": In(BANKS),
                "served": In(BANKS),
                "total": Out(data.ArrayLayout(ACC_WIDTH, columns)),
                "r_data": Out(data.ArrayLayout(signed(ACC_WIDTH), columns)),
            },
            macro_name=f"accumulator_block_{columns}_{width}",
        )

    def build(self, platform):
        m = Module()

        def chosen(selects):
            # Banks that are not selected count as 0: choosing and clearing are one stage.
            masked = [
                word & select.replicate(len(word))
                for word, select in zip(self.words, selects, strict=True)
            ]
            return reduce(or_, masked)

        sums = Signal.like(self.sums, reset_less=True)
        m.d.sync += sums.eq(self.sums)
        old = chosen(self.fetched)
        for n, total in enumerate(self.total):
            m.d.comb += total.eq(old.word_select(n, ACC_WIDTH) + sums[n])
        r_data = Signal.like(self.r_data, reset_less=True)
        with m.If(self.served.any()):
            m.d.sync += r_data.eq(chosen(self.served))
        m.d.comb += self.r_data.eq(r_data)
        return m


class Accumulator(Macro):
    """Two halves of ``rows`` rows of INT32 sums, each in a bank of even and one of odd rows.

    A row of sums from the array is stored, or added to what its row holds, modulo 2^32. It is read
    in the cycle in which ``valid`` comes and written in the next, with ``sums``: rows that come one
    after the other must be even and odd in turn, and a row may come again after two cycles. The
    other half is free for the read port, in any order. All of this is a cycle later in the banks:
    every input is in a register before it is looked at.

    Parameters
    ----------
    columns : :class:`int`
        Sums of a row.
    rows : :class:`int`
        Rows of a half.
    width : :class:`int`
        Width of a sum from the array.

    Members
    -------
    valid : ``In(1)``
        A row of sums comes in the next cycle.
    half, row, add : ``In(1)``, ``In(range(rows))``, ``In(1)``
        With ``valid``: where they go, and whether they are added or stored.
    sums : ``In(ArrayLayout(signed(width), columns))``
        The sums, a cycle after ``valid``.
    r_en, r_half, r_row : ``In(1)``, ``In(1)``, ``In(range(rows))``
        Read a row.
    r_data : ``Out(ArrayLayout(signed(32), columns))``
        The row, :attr:`READ_LATENCY` cycles after ``r_en``, until the next.
    conflict : ``Out(1)``
        A cycle later: two accesses want one bank. A write then goes first, before a read for
        adding, before the read port; what loses reads a wrong row.

    Raises
    ------
    :exc:`ValueError`
        If ``rows`` is odd or less than 4.
    """

    #: Cycles from ``r_en`` to ``r_data``: a register, the bank, the choice of banks, and as many
    #: as make it that of the other memories, since the lanes read both at once.
    READ_LATENCY = Sram.READ_LATENCY

    def __init__(self, *, columns, rows, width):
        if rows < 4 or rows % 2:
            raise ValueError(f"acc_rows {rows} is not an even number of at least 4")
        self._columns, self._rows, self._width = columns, rows, width
        super().__init__(
            {
                "valid": In(1),
                "half": In(1),
                "row": In(range(rows)),
                "add": In(1),
                "sums": In(data.ArrayLayout(signed(width), columns)),
                "r_en": In(1),
                "r_half": In(1),
                "r_row": In(range(rows)),
                "r_data": Out(data.ArrayLayout(signed(ACC_WIDTH), columns)),
                "conflict": Out(1),
            },
            macro_name=f"accumulator_{columns}x{rows}_{width}",
        )

    def build(self, platform):
        m = Module()

        valid, add, r_en = Signal(), Signal(), Signal()
        bank, w_bank, r_bank = (Signal(2, name=f"{n}bank") for n in ("", "w_", "r_"))
        addr, w_addr, r_addr = (
            Signal(range(self._rows // 2), name=f"{n}addr") for n in ("", "w_", "r_")
        )
        writing = Signal()
        m.d.sync += [
            valid.eq(self.valid),
            add.eq(self.add),
            Cat(bank[0], addr, bank[1]).eq(Cat(self.row, self.half)),
            r_en.eq(self.r_en),
            Cat(r_bank[0], r_addr, r_bank[1]).eq(Cat(self.r_row, self.r_half)),
            writing.eq(valid),
            w_bank.eq(bank),
            w_addr.eq(addr),
        ]

        total = Signal(self._columns * ACC_WIDTH)
        fetched = Signal(BANKS)  # banks whose word of this cycle is to be added to
        served = Signal(BANKS)  # banks whose word of this cycle is for the read port
        words, conflicts = [], []
        for n in range(BANKS):
            part = AccumulatorBank(width=len(total), depth=self._rows // 2)
            m.submodules[f"bank_{n}"] = part
            write = Signal(name=f"write_{n}")
            fetch = Signal(name=f"fetch_{n}")
            serve = Signal(name=f"serve_{n}")
            m.d.comb += [
                write.eq(writing & (w_bank == n)),
                fetch.eq(valid & add & (bank == n)),
                serve.eq(r_en & (r_bank == n)),
                part.en.eq(write | fetch | serve),
                part.w_en.eq(write),
                part.addr.eq(Mux(write, w_addr, Mux(fetch, addr, r_addr))),
                part.w_data.eq(total),
            ]
            m.d.sync += [fetched[n].eq(fetch), served[n].eq(serve)]
            words.append(part.r_data)
            conflicts.append((write & (fetch | serve)) | (fetch & serve))
        m.d.comb += self.conflict.eq(Cat(conflicts).any())

        read = Signal(len(total))
        columns = gcd(self._columns, BLOCK)
        for n in range(0, self._columns, columns):
            block = AccumulatorBlock(columns=columns, width=self._width)
            m.submodules[f"block_{n // columns}"] = block
            here = slice(n * ACC_WIDTH, (n + columns) * ACC_WIDTH)
            m.d.comb += [
                block.sums.eq(Cat(self.sums[n + at] for at in range(columns))),
                block.words.eq(Cat(word[here] for word in words)),
                block.fetched.eq(fetched),
                block.served.eq(served),
                total[here].eq(block.total),
                read[here].eq(block.r_data),
            ]
        waits = delay(m, read, self.READ_LATENCY - 3, name="r_waits")
        m.d.comb += self.r_data.as_value().eq(waits)
        return m
