# amaranth: UnusedElaboratable=no
# The compiler makes movers for their formulas alone.
"""A compute cluster: the part of the chip that runs an encoder or a predictor."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..dma.axi import WINDOWS, AxiSignature, Window
from ..dma.axi import Fault as DmaFault
from ..dma.mover import Mover, MoveSource
from ..dma.reader import DmaReader
from ..fabric.delay import delay
from ..memory.sram import Sram
from ..platform import Macro
from ..vector.layouts import ColumnParams
from .addresses import AddressCheck
from .boot import Boot, Header
from .isa import ADDRESS, ARGUMENTS, WORD_BITS, WORD_BYTES, Destination, Fault
from .sequencer import Sequencer
from .slice import Slice
from .streams import EDGE, ArrayStream, VectorStream

__all__ = ["Cluster", "make_mover", "word_bytes"]

#: Cycles from the mover's address to its data: memory, the slice's register, the tiles' one.
_MOVE_LATENCY = EDGE + 1


def word_bytes(config):
    """Bytes of a word of each :class:`~jepa_r.cluster.isa.Destination` of a cluster."""
    tile = config.tile
    return {
        Destination.SHARED.value: tile.rows,
        Destination.PARAM.value: 8 * tile.lanes,
        Destination.ACT.value: tile.rows,
        Destination.ROPE.value: 4 * tile.lanes,
        Destination.TABLE.value: 4,
        Destination.X.value: 2 * tile.lanes,
        Destination.PROGRAM.value: WORD_BYTES,
        Destination.HEADER.value: WORD_BYTES,
    }


def make_mover(config):
    """Mover of a cluster, whose formulas the compiler needs as well."""
    return Mover(
        row_bytes=config.tile.rows,
        lanes=config.tile.lanes,
        data_bytes=config.memory.data_bytes,
        burst_beats=config.memory.burst_beats,
        outstanding=config.memory.outstanding,
        read_latency=_MOVE_LATENCY,
        queue=config.queue,
    )


class Cluster(Macro):
    """Sequencer, DMA, shared memories and N tile slices in lockstep.

    A program image in memory says everything: ``start`` with its address, and after the compiler's
    number of cycles ``done`` rises; ``load`` only fetches it, and ``again`` runs what was fetched
    last. Whatever goes wrong ends in ``fault``, which stays until reset.

    Latents pass from cluster to cluster without memory: a program moves them out through
    ``latent_*``, and while nothing runs ``feed_*`` writes words of the tiles' activation memories.

    Parameters
    ----------
    config : :class:`jepa_r.config.ClusterConfig`
        Sizes.
    name : :class:`str`
        Name of the cluster on a chip that has two, which the Verilog modules of its own carry.

    Members
    -------
    start : ``In(1)``
        Boot the image at ``program_address`` and run it. Ignored while ``ready`` is low.
    load, again : ``In(1)``
        Fetch the image and do not run it; run the program that was fetched last. Ignored while
        ``ready`` is low. Of the three, ``start`` goes before ``load``, and that before ``again``.
    program_address : ``In(32)``
        A multiple of the bus width.
    arguments : ``In(data.ArrayLayout(32, 2))``
        What the pointers :data:`~jepa_r.cluster.isa.ARGUMENTS` begin with: steady from ``start`` or
        ``again`` until ``running``.
    elastic : ``In(1)``
        Wait for late data instead of stopping, and count. For programs compiled for it only.
    windows : ``In(data.ArrayLayout(Window(), 4))``
        Addresses that may be read and written.
    axi : ``Out(AxiSignature)``
        Memory.
    ready : ``Out(1)``
        Memories are cleared, nothing runs and nothing failed.
    running : ``Out(1)``
        The program runs: as many cycles as were predicted.
    done : ``Out(1)``
        It has ended well; until the next one is fetched or runs.
    loaded, header : ``Out(1)``, ``Out(Header)``
        A program is there; what its image says of it.
    feed_en, feed_tiles, feed_addr, feed_data : ``In(1)``, ``In(16)``, ``In(20)``, ``In(8 * R)``
        Write a word of ACT of some tiles, from ``ready`` on until something starts: the run may
        start in the cycle after the last word. At any other time ``Fault.BUSY``.
    latent_en, latent_addr, latent_data : ``Out(1)``, ``Out(20)``, ``Out(8 * R)``
        A word that the program moves to the latent store.
    fault : ``Out(Fault)``
        The first thing that went wrong, from the cycle after everything has stopped on.
    cycles, slipped : ``Out(32)``
        Length of the run, and cycles that an elastic run waited.
    distances : ``Out(data.ArrayLayout(48, tiles))``
        Each tile's sum of absolute differences.
    corrected : ``Out(32)``
        Memory words corrected since reset.
    inject : ``In(2)``
        Flip bits in what is written to activation memories, for tests.
    """

    def __init__(self, *, config, name=""):
        self._config = config
        self._name = name
        super().__init__(
            {
                "start": In(1),
                "load": In(1),
                "again": In(1),
                "program_address": In(32),
                "arguments": In(data.ArrayLayout(32, len(ARGUMENTS))),
                "elastic": In(1),
                "windows": In(data.ArrayLayout(Window(), WINDOWS)),
                "axi": Out(AxiSignature(data_bytes=config.memory.data_bytes)),
                "ready": Out(1),
                "running": Out(1),
                "done": Out(1),
                "fault": Out(Fault),
                "cycles": Out(32),
                "slipped": Out(32),
                "loaded": Out(1),
                "header": Out(Header),
                "feed_en": In(1),
                "feed_tiles": In(16),
                "feed_addr": In(ADDRESS),
                "feed_data": In(8 * config.tile.rows),
                "latent_en": Out(1),
                "latent_addr": Out(ADDRESS),
                "latent_data": Out(8 * config.tile.rows),
                "distances": Out(data.ArrayLayout(48, config.tiles)),
                "corrected": Out(32),
                "inject": In(2),
            },
            macro_name="_".join(filter(None, (name, "cluster"))),
        )

    @property
    def config(self):
        return self._config

    def build(self, platform):
        m = Module()
        config, tile, memory = self._config, self._config.tile, self._config.memory
        sizes = word_bytes(config)
        parts = tile.rows // tile.lanes

        m.submodules.sequencer = sequencer = Sequencer(
            program_words=config.program_words, queue=config.queue, pointers=config.pointers
        )
        m.submodules.boot = boot = Boot(
            config_hash=config.hash,
            program_words=config.program_words,
            data_bytes=memory.data_bytes,
            name=self._name,
        )
        m.submodules.reader = reader = DmaReader(
            data_bytes=memory.data_bytes,
            words=sizes,
            burst_beats=memory.burst_beats,
            outstanding=memory.outstanding,
            queue=config.queue,
        )
        m.submodules.mover = mover = make_mover(config)
        m.submodules.array_stream = array_stream = ArrayStream(rows=tile.rows)
        m.submodules.vector_stream = vector_stream = VectorStream(segments=parts)
        for channel in (reader, mover):
            m.d.comb += [channel.windows.eq(self.windows), channel.stop.eq(sequencer.stop)]
            for path, member, port in channel.axi.signature.flatten(channel.axi):
                ours = getattr(self.axi, path[0])
                m.d.comb += port.eq(ours) if member.flow == wiring.In else ours.eq(port)

        # Shared memories.
        corrected, broken = [], []

        def sram(name, **shape):
            bank = Sram(ecc=config.ecc, **shape)
            m.submodules[name] = bank
            corrected.append(bank.corrected)
            broken.append(bank.uncorrectable)
            return bank

        program = sram("program", width=WORD_BITS, depth=config.program_words)
        params = sram("params", width=64 * tile.lanes, depth=config.shared.param_words)
        banks = [
            sram(f"shared_{n}", width=8 * tile.rows, depth=config.shared.bank_words, segments=parts)
            for n in range(config.shared.banks)
        ]

        # Words from memory, registered once on their way to all memories.
        load_en, load_tiles = Signal(), Signal(16, reset_less=True)
        load_dest = Signal(Destination, reset_less=True)
        load_addr = Signal(20, reset_less=True)
        load_data = Signal(len(reader.w_data), reset_less=True)
        m.d.sync += [
            load_en.eq(reader.w_en | self.feed_en),
            load_dest.eq(reader.w_dest),
            load_addr.eq(reader.w_addr),
            load_tiles.eq(reader.w_tiles),
            load_data.eq(reader.w_data),
        ]
        # Nothing is read while somebody feeds.
        with m.If(self.feed_en):
            m.d.sync += [
                load_dest.eq(Destination.ACT),
                load_addr.eq(self.feed_addr),
                load_tiles.eq(self.feed_tiles),
                load_data.eq(self.feed_data),
            ]
        completed = delay(m, reader.completed, 1, reset_less=False, name="completed")

        def loads(destination):
            return load_en & (load_dest == destination)

        m.d.comb += [
            program.w_en.eq(loads(Destination.PROGRAM)),
            program.w_addr.eq(load_addr),
            program.w_data.eq(load_data[:WORD_BITS]),
            program.r_en.eq(sequencer.program_en),
            program.r_addr.eq(sequencer.program_addr),
            sequencer.program_data.eq(program.r_data),
            params.w_en.eq(loads(Destination.PARAM)),
            params.w_addr.eq(load_addr),
            params.w_data.eq(load_data[: 64 * tile.lanes]),
        ]

        # Sequencer to engines.
        busy = Signal()
        rerun, barred = Signal(), Signal()
        m.d.comb += [
            boot.start.eq(self.start & self.ready),
            boot.load.eq(self.load & self.ready),
            boot.elastic.eq(self.elastic),
            boot.address.eq(self.program_address),
            rerun.eq(self.again & ~self.start & ~self.load & self.ready),
            barred.eq(self.elastic & (boot.loaded_header.elastic == 0)),
            self.loaded.eq(boot.loaded),
            self.header.eq(boot.loaded_header),
        ]
        m.d.comb += [
            boot.header_en.eq(loads(Destination.HEADER)),
            boot.header.eq(load_data),
            boot.completed.eq(completed),
            boot.o.ready.eq(reader.i.ready),
            sequencer.start.eq(boot.begin | (rerun & boot.loaded & ~barred)),
            sequencer.arguments.eq(self.arguments),
            sequencer.elastic.eq(self.elastic),
            sequencer.read_full.eq(~reader.i.ready),
            sequencer.move_full.eq(~mover.i.ready),
            sequencer.read_completed.eq(completed & ~boot.active),
            reader.i.valid.eq(Mux(boot.active, boot.o.valid, sequencer.read_start)),
            array_stream.start.eq(sequencer.tile_start),
            array_stream.operation.eq(sequencer.tile),
            vector_stream.start.eq(sequencer.vector_start),
            vector_stream.operation.eq(sequencer.vector),
            mover.i.valid.eq(sequencer.move_start),
            mover.i.payload.source.eq(Mux(sequencer.move.from_x, MoveSource.X, MoveSource.ACT)),
        ]
        m.d.comb += [
            reader.i.payload[field].eq(
                Mux(boot.active, boot.o.payload[field], Value.cast(sequencer.read[field]))
            )
            for field in reader.i.payload.shape().members
        ]
        m.d.comb += [
            mover.i.payload[field].eq(sequencer.move[field])
            for field in mover.i.payload.shape().members
            if field != "source"
        ]
        moves = Signal(range(config.queue + 2))
        m.d.sync += moves.eq(moves + (mover.i.valid & mover.i.ready) - mover.completed)
        m.d.comb += sequencer.moves_busy.eq(moves != 0)
        fed = Signal()
        m.d.sync += fed.eq(self.feed_en & ~self.ready)
        m.d.comb += busy.eq(array_stream.collision | vector_stream.collision | fed)

        # Operations of nothing never end, and a short interval cuts passes off.
        illegal, tile_op, vector_op = Signal(), sequencer.tile, sequencer.vector
        empty = (tile_op.rows == 0) | (tile_op.columns == 0) | (tile_op.passes == 0)
        short = (tile_op.interval < tile_op.rows) | (tile_op.interval < tile_op.columns)
        m.d.sync += illegal.eq(
            (
                sequencer.tile_start
                & (empty | (tile_op.columns > tile.columns) | ((tile_op.passes != 1) & short))
            )
            | (sequencer.vector_start & ((vector_op.rows == 0) | (vector_op.segments == 0)))
        )

        # The shared memory: one operand is read at a time, words are written by reader and mover.
        word_bits = ceil_log2(config.shared.bank_words)
        reads = array_stream.reads
        a_shared, b_shared = reads.a_en & reads.a_shared, reads.b_en & reads.b_shared
        address = Signal(20)
        m.d.comb += address.eq(Mux(a_shared, reads.a_addr, reads.b_addr))
        move_en = delay(m, mover.sw_en, 1, reset_less=False, name="move_en")
        move_addr = delay(m, mover.sw_addr, 1, name="move_addr")
        move_out = delay(m, mover.sw_out, 1, name="move_out")
        move_data = delay(m, mover.sw_data, 1, name="move_data")
        m.d.comb += [
            self.latent_en.eq(move_en.any() & move_out),
            self.latent_addr.eq(move_addr),
            self.latent_data.eq(move_data),
        ]
        clashes = [a_shared & b_shared]
        which = delay(m, address[word_bits:], Sram.READ_LATENCY, name="shared_bank")
        shared = Signal(8 * tile.rows)
        for n, bank in enumerate(banks):
            loaded, moved = Signal(name=f"loaded_{n}"), Signal(name=f"moved_{n}")
            m.d.comb += [
                loaded.eq(loads(Destination.SHARED) & (load_addr[word_bits:] == n)),
                moved.eq(move_en.any() & ~move_out & (move_addr[word_bits:] == n)),
                bank.r_en.eq((a_shared | b_shared) & (address[word_bits:] == n)),
                bank.r_addr.eq(address[:word_bits]),
                bank.w_en.eq(Mux(loaded, (1 << parts) - 1, Mux(moved, move_en, 0))),
                bank.w_addr.eq(Mux(loaded, load_addr, move_addr)[:word_bits]),
                bank.w_data.eq(Mux(loaded, load_data[: 8 * tile.rows], move_data)),
            ]
            clashes.append(loaded & moved)
            with m.If(which == n):
                m.d.comb += shared.eq(bank.r_data)

        # Parameters of the lanes.
        m.d.comb += [
            params.r_en.eq(vector_stream.reads.en),
            params.r_addr.eq(vector_stream.reads.param_addr),
        ]
        column = Signal(data.ArrayLayout(ColumnParams(), tile.lanes), reset_less=True)
        m.d.sync += column.as_value().eq(params.r_data)

        # Slices.
        slices = [
            Slice(
                config=tile,
                ecc=config.ecc,
                load_bytes=max(sizes.values()),
                name="_".join(filter(None, (self._name, "slice"))),
            )
            for _ in range(config.tiles)
        ]
        to_lanes = Slice.write_latency - 1
        step = delay(m, vector_stream.step, EDGE, reset_less=False, name="step")
        writes = delay(m, vector_stream.writes, to_lanes, reset_less=False, name="writes")
        clear = delay(m, vector_stream.clear, EDGE, reset_less=False, name="clear")
        mover_tile = delay(m, mover.r_tile, EDGE, name="mover_tile")
        moved_word = Signal(len(mover.r_data), reset_less=True)
        array_faults, bank_faults = [], []
        for n, unit in enumerate(slices):
            m.submodules[f"slice_{n}"] = unit
            m.d.comb += [
                unit.array_reads.eq(array_stream.reads),
                unit.array_edge.eq(array_stream.edge),
                unit.a_mask.eq(array_stream.a_mask),
                unit.shared.eq(shared),
                unit.vector_reads.eq(vector_stream.reads),
                unit.step.eq(step),
                unit.column.eq(column),
                unit.writes.eq(writes),
                unit.clear.eq(clear),
                unit.profiles.eq(sequencer.profiles),
                unit.load_en.eq(load_en & load_tiles[n]),
                unit.load_dest.eq(load_dest),
                unit.load_addr.eq(load_addr),
                unit.load_data.eq(load_data),
                unit.move_en.eq(mover.r_en & (mover.r_tile == n)),
                unit.move_x.eq(mover.r_source == MoveSource.X),
                unit.move_addr.eq(mover.r_addr),
                unit.inject.eq(self.inject),
                self.distances[n].eq(unit.distance),
            ]
            with m.If(mover_tile == n):
                m.d.sync += moved_word.eq(unit.move_data)
            array_faults.append(unit.array_fault)
            bank_faults.append(unit.bank_fault)
            broken.append(unit.ecc_fault)
            corrected.append(unit.corrected)
        m.d.comb += mover.r_data.eq(moved_word)

        m.submodules.addresses = addresses = AddressCheck(config=config, name=self._name)
        m.d.comb += [
            addresses.array_reads.eq(array_stream.reads),
            addresses.array_edge.eq(array_stream.edge),
            addresses.vector_reads.eq(vector_stream.reads),
            addresses.step.eq(vector_stream.step),
            addresses.writes.eq(vector_stream.writes),
            addresses.load_en.eq(load_en),
            addresses.load_dest.eq(load_dest),
            addresses.load_addr.eq(load_addr),
            addresses.load_tiles.eq(load_tiles),
            addresses.booting.eq(boot.active),
            addresses.move_en.eq(mover.r_en),
            addresses.move_source.eq(mover.r_source),
            addresses.move_tile.eq(mover.r_tile),
            addresses.move_addr.eq(mover.r_addr),
            addresses.shared_en.eq(mover.sw_en.any() & ~mover.sw_out),
            addresses.shared_addr.eq(mover.sw_addr),
        ]

        # Whatever goes wrong first. That something did stops everything in the next cycle; what it
        # was is told in the one after that.
        bus, crc = DmaFault.BUS, DmaFault.CRC
        told = {
            name: delay(m, unit.fault, 1, reset_less=False, name=f"{name}_fault")
            for name, unit in (("boot", boot), ("sequencer", sequencer))
        }
        wrong = [
            (boot.fault != Fault.NONE, told["boot"]),
            (rerun & ~boot.loaded, Fault.NO_PROGRAM),
            (rerun & barred, Fault.IMAGE_ELASTIC),
            (reader.fault & (reader.fault_code == bus), Fault.READ_BUS),
            (reader.fault & (reader.fault_code == crc) & boot.active, Fault.IMAGE_CRC),
            (reader.fault & (reader.fault_code == crc), Fault.DATA_CRC),
            (mover.fault & (mover.fault_code == bus) & ~reader.fault, Fault.WRITE_BUS),
            (reader.fault | mover.fault, Fault.WINDOW),
            (sequencer.fault != Fault.NONE, told["sequencer"]),
            (illegal, Fault.OPCODE),
            (busy, Fault.BUSY),
            (addresses.outside, Fault.ADDRESS),
            (Cat(array_faults).any(), Fault.ARRAY),
            (Cat(clashes, bank_faults).any(), Fault.BANK),
            (Cat(broken).any(), Fault.ECC),
        ]
        found, halted = Signal(len(wrong)), Signal()
        now = Signal(Fault)
        m.d.sync += [
            found.eq(Cat(condition for condition, _fault in wrong)),
            halted.eq(halted | Cat(condition for condition, _fault in wrong).any()),
        ]
        # The last assignment counts, so the first of them comes last.
        for n, (_condition, fault) in reversed([*enumerate(wrong)]):
            with m.If(found[n]):
                m.d.comb += now.eq(fault)
        with m.If(self.fault == Fault.NONE):
            m.d.sync += self.fault.eq(now)
        m.d.comb += sequencer.stop.eq(halted)

        m.d.sync += self.corrected.eq(self.corrected + sum(corrected))
        m.d.comb += [
            self.running.eq(sequencer.running),
            # While the next image is fetched, the last run's end says nothing any more.
            self.done.eq(sequencer.done & ~boot.active & ~halted),
            self.cycles.eq(sequencer.cycles),
            self.slipped.eq(sequencer.slipped),
        ]

        # After reset memories with codes write code words everywhere; until then nothing starts.
        cleared = Signal()
        m.d.comb += self.ready.eq(cleared & ~boot.active & ~sequencer.running & ~halted)
        if config.ecc:
            deepest = max(
                config.program_words, config.shared.param_words, config.shared.bank_words,
                tile.act_words, tile.x_words, tile.rope_words, tile.row_entries,
            )  # fmt: skip
            count = Signal(range(deepest + 2))
            m.d.comb += cleared.eq(count == deepest + 1)
            with m.If(~cleared):
                m.d.sync += count.eq(count + 1)
        else:
            m.d.comb += cleared.eq(1)
        return m
