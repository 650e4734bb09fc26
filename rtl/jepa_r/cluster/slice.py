"""One tile with its memories and lanes: what a cluster repeats."""

from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..fabric.delay import delay
from ..memory.sram import Sram
from ..platform import Macro
from ..tile.tile import Tile
from ..vector.layouts import ColumnParams, NormProfileLayout, RopeEntry, RowParams, VectorStep
from ..vector.unit import VectorUnit
from .isa import ADDRESS, Destination, Other, Result, Source
from .streams import EDGE, ArrayEdge, ArrayReads, VectorReads, VectorWrites

__all__ = ["Slice"]


class Slice(Macro):
    """Array, accumulators, activation memories and lanes of one tile.

    Every input but the two selects is broadcast: the slices of a cluster do the same thing in the
    same cycle, each to its own tokens. Operands of the array and of the lanes arrive :data:`EDGE`
    cycles after their addresses (memory, then the register behind the multiplexers); results are
    written :attr:`write_latency` cycles after the addresses of their operands.

    Parameters
    ----------
    config : :class:`jepa_r.config.TileConfig`
        Sizes.
    ecc : :class:`bool`
        Whether memories carry codes.
    load_bytes : :class:`int`
        Width of ``load_data``.
    name : :class:`str`
        What the Verilog module's name begins with: clusters of one chip may have arrays of the same
        size and still other memories.

    Members
    -------
    array_reads, array_edge, a_mask
        As :class:`~jepa_r.cluster.streams.ArrayStream` gives them.
    shared : ``In(8 * R)``
        The shared memory's word, ``Sram.READ_LATENCY`` cycles after its address.
    vector_reads : ``In(VectorReads)``
        Addresses of the lanes' operands.
    step, column : ``In(VectorStep())``, ``In(L x ColumnParams)``
        Settings and parameters of the step, :data:`EDGE` cycles after the addresses.
    writes : ``In(VectorWrites)``
        Where the result goes, in the cycle in which the lanes give it.
    clear : ``In(1)``
        Start a distance, with ``step``.
    profiles
        Constants of LayerNorms.
    load_en, load_dest, load_addr, load_data
        Words from memory for this tile.
    move_en, move_x, move_addr, move_data
        Read port of the mover; data come :data:`EDGE` cycles later.
    distance : ``Out(48)``
        Sum of absolute differences.
    array_fault, bank_fault, ecc_fault, corrected : ``Out(1)``
        Pulses: a broken schedule, two reads or writes at one port, an uncorrectable or a corrected
        word.
    inject : ``In(2)``
        Bits to flip in what is written to the activation memory, for tests.
    """

    def __init__(self, *, config, ecc, load_bytes, name="slice"):
        self._config = config
        self._ecc = ecc
        rows, lanes = config.rows, config.lanes
        super().__init__(
            {
                "array_reads": In(ArrayReads),
                "array_edge": In(ArrayEdge),
                "a_mask": In(rows),
                "shared": In(8 * rows),
                "vector_reads": In(VectorReads),
                "step": In(VectorStep()),
                "column": In(data.ArrayLayout(ColumnParams(), lanes)),
                "writes": In(VectorWrites),
                "clear": In(1),
                "profiles": In(data.ArrayLayout(NormProfileLayout(), 4)),
                "load_en": In(1),
                "load_dest": In(Destination),
                "load_addr": In(ADDRESS),
                "load_data": In(8 * load_bytes),
                "move_en": In(1),
                "move_x": In(1),
                "move_addr": In(ADDRESS),
                "move_data": Out(8 * max(rows, 2 * lanes)),
                "distance": Out(48),
                "inject": In(2),
                "array_fault": Out(1),
                "bank_fault": Out(1),
                "ecc_fault": Out(1),
                "corrected": Out(1),
            },
            macro_name=f"{name}_{rows}x{config.columns}",
        )

    #: Cycles from the addresses of a step's operands to the write of its result.
    write_latency = EDGE + VectorUnit.latency + 1

    def build(self, platform):
        m = Module()
        config = self._config
        rows, lanes = config.rows, config.lanes
        parts = rows // lanes

        m.submodules.tile = tile = Tile(rows=rows, columns=config.columns, acc_rows=config.acc_rows)
        m.submodules.unit = unit = VectorUnit(lanes=lanes, rows=config.row_entries)

        corrected, broken = [], []

        def sram(name, **sizes):
            bank = Sram(ecc=self._ecc, **sizes)
            m.submodules[name] = bank
            corrected.append(bank.corrected)
            broken.append(bank.uncorrectable)
            return bank

        banks = [
            sram(f"act_{n}", width=8 * rows, depth=config.act_words, segments=parts)
            for n in range(config.act_banks)
        ]
        x = sram("x", width=16 * lanes, depth=config.x_words)
        rope = sram("rope", width=32 * lanes, depth=config.rope_words)
        scales = sram("scales", width=RowParams().size, depth=config.row_entries)
        for bank in banks:
            m.d.comb += bank.inject.eq(self.inject)

        # Reads of the activation memory: array (A, B), lanes, mover. The schedule keeps them apart.
        word_bits = ceil_log2(config.act_words)

        def bank_of(address):
            return address[word_bits:]

        reads, vector = self.array_reads, self.vector_reads
        from_act = vector.source == Source.ACT
        vector_act = Signal(ADDRESS)
        vector_en = Signal()
        m.d.comb += [
            vector_en.eq(vector.en & (from_act | (vector.other == Other.ACT))),
            vector_act.eq(Mux(from_act, vector.src_addr, vector.other_addr)),
        ]
        clients = [
            (reads.a_en & ~reads.a_shared, reads.a_addr),
            (reads.b_en & ~reads.b_shared, reads.b_addr),
            (vector_en, vector_act),
            (self.move_en & ~self.move_x, self.move_addr),
        ]
        clashes = []
        for n, bank in enumerate(banks):
            hits = Signal(len(clients), name=f"hits_{n}")
            address = Signal(ADDRESS, name=f"address_{n}")
            m.d.comb += hits.eq(Cat(en & (bank_of(at) == n) for en, at in clients))
            for index, (_en, at) in enumerate(clients):
                with m.If(hits[index]):
                    m.d.comb += address.eq(at)
            m.d.comb += [bank.r_en.eq(hits.any()), bank.r_addr.eq(address[:word_bits])]
            clashes.append((hits & (hits - 1)).any())

        def act_word(address, name):
            """Word that was read for ``address``, ``Sram.READ_LATENCY`` cycles ago."""
            which = delay(m, bank_of(address), Sram.READ_LATENCY, name=f"{name}_bank")
            word = Signal(8 * rows, name=f"{name}_act")
            with m.Switch(which):
                for n, bank in enumerate(banks):
                    with m.Case(n):
                        m.d.comb += word.eq(bank.r_data)
            return word

        # Operands of the array.
        def operand(name, shared, address):
            word = act_word(address, name)
            chosen = delay(m, shared, Sram.READ_LATENCY, name=f"{name}_shared")
            return Mux(chosen, self.shared, word)

        a, b = Signal(8 * rows, reset_less=True), Signal(8 * rows, reset_less=True)
        keep = Cat(bit.replicate(8) for bit in self.a_mask)
        m.d.sync += [
            a.eq(operand("a", reads.a_shared, reads.a_addr) & keep),
            b.eq(operand("b", reads.b_shared, reads.b_addr)),
        ]
        edge = self.array_edge
        m.d.comb += [
            tile.a.as_value().eq(a),
            tile.b.as_value().eq(b),
            tile.a_valid.eq(edge.a_valid),
            tile.b_valid.eq(edge.b_valid),
            tile.swap.eq(edge.swap),
            tile.b_rows.eq(edge.b_rows),
            tile.acc_half.eq(edge.acc_half),
            tile.acc_row.eq(edge.acc_row),
            tile.acc_add.eq(edge.acc_add),
            self.array_fault.eq(tile.fault),
        ]

        # Operands of the lanes.
        source_x, other_x = vector.source == Source.X, vector.other == Other.X
        move_x = self.move_en & self.move_x
        lanes_x = vector.en & (source_x | other_x)
        x_address = Signal(ADDRESS)
        m.d.comb += [
            x_address.eq(
                Mux(move_x, self.move_addr, Mux(source_x, vector.src_addr, vector.other_addr))
            ),
            x.r_en.eq(move_x | lanes_x),
            x.r_addr.eq(x_address),
            tile.r_en.eq(vector.en & (vector.source == Source.ACC)),
            tile.r_half.eq(vector.src_half),
            tile.r_row.eq(vector.src_addr),
            rope.r_en.eq(vector.en),
            rope.r_addr.eq(vector.rope_addr),
            scales.r_en.eq(vector.en),
            scales.r_addr.eq(vector.row_addr),
        ]
        clashes += [move_x & lanes_x, vector_en & from_act & (vector.other == Other.ACT),
                    lanes_x & source_x & other_x]  # fmt: skip

        # Which part of which word an operand is, is found a cycle before the words are there: then
        # choosing is one stage, in which parts that are not selected count as 0.
        soon = {
            name: delay(m, vector[name], Sram.READ_LATENCY - 1, name=f"soon_{name}")
            for name in ("source", "other", "src_seg", "other_seg")
        }
        soon_bank = delay(m, bank_of(vector_act), Sram.READ_LATENCY - 1, name="soon_bank")
        element = range(lanes)

        def chosen(name, candidates, width):
            """Elements of the candidate whose condition held a cycle ago; at most one does."""
            masked = []
            for n, (condition, word) in enumerate(candidates):
                select = Signal(name=f"{name}_{n}")
                m.d.sync += select.eq(condition)
                masked.append(word & select.replicate(len(word)))
            word = reduce(or_, masked)
            return [word[i * width : (i + 1) * width].as_signed() for i in element]

        def of_acc(segment):
            """Candidates: each segment of a word of the accumulators."""
            word = Signal(32 * config.columns, name="acc_word")
            m.d.comb += word.eq(tile.r_data.as_value())
            return [
                (segment == n, word.word_select(n, 32 * lanes))
                for n in range(config.columns // lanes)
            ]

        def of_act(segment):
            """Candidates: each segment of each bank's word."""
            return [
                ((soon_bank == b) & (segment == n), bank.r_data.word_select(n, 8 * lanes))
                for b, bank in enumerate(banks)
                for n in range(parts)
            ]

        def only(condition, candidates):
            return [(condition & each, word) for each, word in candidates]

        source, other = soon["source"], soon["other"]
        src_acc = chosen("src_acc", only(source == Source.ACC, of_acc(soon["src_seg"])), 32)
        src_act = chosen("src_act", only(source == Source.ACT, of_act(soon["src_seg"])), 8)
        src_x = chosen("src_x", [(source == Source.X, x.r_data)], 16)
        other_act = chosen("other_act", only(other != Other.X, of_act(soon["other_seg"])), 8)
        other_x = chosen("other_x", [(other == Other.X, x.r_data)], 16)

        src = Signal(data.ArrayLayout(signed(32), lanes), reset_less=True)
        other = Signal(data.ArrayLayout(signed(16), lanes), reset_less=True)
        for i in element:
            m.d.sync += [
                src[i].eq(src_acc[i] | src_act[i] | src_x[i]),
                other[i].eq(other_act[i] | other_x[i]),
            ]
        rope_word = Signal(data.ArrayLayout(RopeEntry(), lanes), reset_less=True)
        scale = Signal(RowParams(), reset_less=True)
        m.d.sync += [rope_word.as_value().eq(rope.r_data), scale.as_value().eq(scales.r_data)]
        m.d.comb += [
            unit.step.eq(self.step),
            unit.src.eq(src),
            unit.other.eq(other),
            unit.column.eq(self.column),
            unit.row.eq(scale),
            unit.rope.eq(rope_word),
            unit.profiles.eq(self.profiles),
            unit.distance_clear.eq(self.clear),
            self.distance.eq(unit.distance),
            scales.w_en.eq(unit.row_en),
            scales.w_addr.eq(unit.row_addr),
            scales.w_data.eq(unit.row_data.as_value()),
        ]

        # Results, a register behind the lanes; and words from memory.
        z = Signal(data.ArrayLayout(signed(16), lanes), reset_less=True)
        where = Signal(VectorWrites)
        m.d.sync += [z.eq(unit.z), where.eq(self.writes)]
        narrow = Cat(z[i][:8] for i in element)
        load_act = self.load_en & (self.load_dest == Destination.ACT)
        load_x = self.load_en & (self.load_dest == Destination.X)
        to_act, to_x = where.result == Result.ACT, where.result == Result.X
        for n, bank in enumerate(banks):
            ours, loads = Signal(name=f"result_{n}"), Signal(name=f"load_{n}")
            m.d.comb += [
                ours.eq(to_act & (bank_of(where.addr) == n)),
                loads.eq(load_act & (bank_of(self.load_addr) == n)),
                bank.w_en.eq(
                    Mux(loads, (1 << parts) - 1, Mux(ours, 1 << where.seg[: ceil_log2(parts)], 0))
                ),
                bank.w_addr.eq(Mux(loads, self.load_addr, where.addr)[:word_bits]),
                bank.w_data.eq(Mux(loads, self.load_data[: 8 * rows], narrow.replicate(parts))),
            ]
            clashes.append(ours & loads)
        m.d.comb += [
            x.w_en.eq(to_x | load_x),
            x.w_addr.eq(Mux(load_x, self.load_addr, where.addr)),
            x.w_data.eq(Mux(load_x, self.load_data[: 16 * lanes], z.as_value())),
            rope.w_en.eq(self.load_en & (self.load_dest == Destination.ROPE)),
            rope.w_addr.eq(self.load_addr),
            rope.w_data.eq(self.load_data[: 32 * lanes]),
            unit.t_en.eq(self.load_en & (self.load_dest == Destination.TABLE)),
            unit.t_addr.eq(self.load_addr),
            unit.t_data.eq(self.load_data[:32]),
        ]
        clashes.append(to_x & load_x)

        moved = Signal(len(self.move_data), reset_less=True)
        m.d.sync += moved.eq(
            Mux(delay(m, self.move_x, Sram.READ_LATENCY, name="move_x"), x.r_data,
                act_word(self.move_addr, "move"))
        )  # fmt: skip
        m.d.comb += self.move_data.eq(moved)

        m.d.sync += [
            self.bank_fault.eq(Cat(clashes).any()),
            self.ecc_fault.eq(Cat(broken).any()),
            self.corrected.eq(Cat(corrected).any()),
        ]
        return m
