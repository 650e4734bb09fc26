# amaranth: UnusedElaboratable=no
"""Faults of a cluster: whatever a program does wrong has a name, and nothing is done after it."""

import zlib

import pytest
from amaranth.sim import Simulator

from jepa_r.cluster.boot import MAGIC, Header
from jepa_r.cluster.cluster import Cluster
from jepa_r.cluster.isa import (
    LAYOUTS,
    NO_CHECK,
    VERSION,
    WORD_BYTES,
    Control,
    Destination,
    Engine,
    Fault,
    Other,
    Result,
    Source,
)  # fmt: skip
from jepa_r.config import ClusterConfig, MemoryContract, SharedConfig, TileConfig
from jepa_r_sim.compiler.operations import Operation
from jepa_r_sim.compiler.program import assemble_words, encode

#: Odd sizes where an address could be beyond its memory and within its bits.
CONFIG = ClusterConfig(
    tiles=1,
    tile=TileConfig(
        rows=2, columns=2, lanes=2, acc_rows=6, act_banks=2, act_words=12, x_words=10,
        rope_words=6, row_entries=6,
    ),
    shared=SharedConfig(banks=2, bank_words=12, param_words=10),
    memory=MemoryContract(data_bytes=16, bytes_per_cycle=8, latency=32, outstanding=8),
    program_words=64,
    ecc=False,
)  # fmt: skip

#: First byte behind the windows, and where data lie.
LIMIT, DATA = 0x2000, 0x1000


@pytest.fixture(scope="module")
def cluster():
    """Simulator that is elaborated once, its tests reset it."""
    return Bench(Cluster(config=CONFIG))


class Bench:
    """A cluster with a memory that answers after a few cycles."""

    def __init__(self, dut):
        self.dut = dut
        self.simulator = Simulator(dut)
        self.simulator.add_clock(1e-6)
        self.simulator.add_testbench(self._drive)
        self.simulator.add_testbench(self._memory, background=True)
        self.fresh = True

    def run(
        self, words, *, cycles=400, starts=(0,), loads=(), agains=(), feeds=None, arguments=(0, 0),
        elastic=0, quirks=(),
    ):  # fmt: skip
        """Run program words; returns what was seen.

        ``starts``, ``loads`` and ``agains`` are cycles, ``feeds`` is tiles, address and word by
        cycle.
        """
        self.image = bytearray(LIMIT)
        body = b"".join(word.to_bytes(WORD_BYTES, "little") for word in words)
        header = encode(
            Header,
            {"magic": MAGIC, "version": VERSION, "config": CONFIG.hash, "words": len(words)},
        )
        at = 0
        for part in (header.to_bytes(WORD_BYTES, "little"), body):
            part += zlib.crc32(part).to_bytes(4, "little").ljust(16, b"\0")
            self.image[at : at + len(part)] = part
            at += len(part)
        self.cycles, self.starts, self.quirks = cycles, starts, quirks
        self.loads, self.agains, self.feeds = loads, agains, feeds or {}
        self.arguments, self.elastic = arguments, elastic
        self.seen = {
            "writes": [], "addresses": [], "done": [], "fault_at": None, "begins": 0, "latents": [],
            "loaded": 0,
        }  # fmt: skip
        if not self.fresh:
            self.simulator.reset()
        self.fresh = False
        self.simulator.run()
        return self.seen

    async def _drive(self, ctx):
        dut, seen = self.dut, self.seen
        ctx.set(dut.windows[0], {"base": 0, "limit": LIMIT})
        ctx.set(dut.arguments[0], self.arguments[0])
        ctx.set(dut.arguments[1], self.arguments[1])
        ctx.set(dut.elastic, self.elastic)
        was_running = 0
        for cycle in range(self.cycles):
            ctx.set(dut.start, cycle in self.starts)
            ctx.set(dut.load, cycle in self.loads)
            ctx.set(dut.again, cycle in self.agains)
            tiles, address, word = self.feeds.get(cycle, (0, 0, 0))
            ctx.set(dut.feed_en, cycle in self.feeds)
            ctx.set(dut.feed_tiles, tiles)
            ctx.set(dut.feed_addr, address)
            ctx.set(dut.feed_data, word)
            if ctx.get(dut.latent_en):
                seen["latents"].append((ctx.get(dut.latent_addr), ctx.get(dut.latent_data)))
            seen["loaded"] |= ctx.get(dut.loaded)
            seen["done"].append(ctx.get(dut.done))
            running = ctx.get(dut.running)
            seen["begins"] += running and not was_running
            was_running = running
            if seen["fault_at"] is None and ctx.get(dut.fault) != Fault.NONE:
                seen["fault_at"] = cycle
            await ctx.tick()
        seen["fault"] = ctx.get(dut.fault)
        seen["ready"] = ctx.get(dut.ready)

    async def _memory(self, ctx):
        axi = self.dut.axi
        for signal in (axi.arready, axi.awready, axi.wready):
            ctx.set(signal, 1)
        beats, answers, cycle = [], [], 0
        stray = "stray" in self.quirks
        while True:
            if stray and cycle == 10:
                ctx.set(axi.rvalid, 1)
                ctx.set(axi.rlast, 1)
            elif beats and beats[0][0] <= cycle:
                _due, address, last = beats[0]
                ctx.set(axi.rvalid, 1)
                ctx.set(axi.rdata, int.from_bytes(self.image[address : address + 16], "little"))
                ctx.set(axi.rlast, last)
            else:
                ctx.set(axi.rvalid, 0)
            ctx.set(axi.bvalid, bool(answers) and answers[0] <= cycle)
            if "unasked" in self.quirks and cycle == 10:
                ctx.set(axi.bvalid, 1)
            taken = ctx.get(axi.rready) and beats and beats[0][0] <= cycle
            asked = ctx.get(axi.arvalid) and (ctx.get(axi.araddr), ctx.get(axi.arlen))
            if answers and answers[0] <= cycle:
                answers.pop(0)
            if ctx.get(axi.awvalid):
                self.seen["addresses"].append(ctx.get(axi.awaddr))
            if ctx.get(axi.wvalid):
                self.seen["writes"].append(cycle)
                if ctx.get(axi.wlast):
                    answers.append(cycle + 5)
            await ctx.tick()
            cycle += 1
            if taken:
                beats.pop(0)
            if asked:
                address, length = asked
                beats += [(cycle + 10, address + 16 * n, n == length) for n in range(length + 1)]


def operation(engine, start, **fields):
    layout = LAYOUTS[engine]
    zero = {name: 0 for name in layout.members if name not in ("engine", "wait")}
    return Operation(engine, zero | {"in_flight": NO_CHECK} | fields, start=start)


def tile(start, **fields):
    given = {"rows": 2, "columns": 2, "passes": 1, "interval": 2, "k_last": 2} | fields
    return operation(Engine.TILE, start, **given)


def vector(start, **fields):
    given = {"rows": 1, "segments": 1, "rope_period": 1, "mode": 0} | fields
    return operation(Engine.VECTOR, start, **given)


def read(start, **fields):
    given = {"address": DATA, "words": 1, "rows": 1, "tiles": 1} | fields
    return operation(Engine.READ, start, **given)


def move(start, **fields):
    return operation(Engine.MOVE, start, **({"words": 1, "rows": 1} | fields))


def program(*operations, end=250):
    return assemble_words(operations, end=end, check=False)


ACT, X, ACC = Source.ACT.value, Source.X.value, Source.ACC.value
TO_ACT, TO_X = Result.ACT.value, Result.X.value

#: The last word of each memory, and the first beyond it; of the second bank where there are two.
ACCESSES = {
    "tile A": (lambda a: tile(60, a_addr=a - 1), 16 + 11, 16 + 12),
    "tile A between banks": (lambda a: tile(60, a_addr=a - 1), 11, 12),
    "tile B shared": (lambda a: tile(60, b_addr=a - 1, b_shared=1), 16 + 11, 16 + 12),
    "accumulator": (lambda a: tile(60, a_addr=4, acc_row=a - 1), 5, 6),
    "vector ACC": (lambda a: vector(60, source=ACC, src_addr=a), 5, 6),
    "vector ACT": (lambda a: vector(60, source=ACT, src_addr=a), 16 + 11, 16 + 12),
    "vector X": (lambda a: vector(60, source=X, src_addr=a), 9, 10),
    "other X": (lambda a: vector(60, other=Other.X, other_addr=a), 9, 10),
    "other ACT": (lambda a: vector(60, other=Other.ACT, other_addr=a), 27, 28),
    "other ACT far": (lambda a: vector(60, other=Other.ACT, other_addr=a), 27, 1 << 19),
    "segment": (lambda a: vector(60, source=ACT, src_seg=a), 0, 1),
    "parameters": (lambda a: vector(60, param_addr=a), 9, 10),
    "rotation": (lambda a: vector(60, second=2, rope_addr=a), 5, 6),
    "row scale": (lambda a: vector(60, mode=1, row_addr=a), 5, 6),
    "statistic": (lambda a: vector(60, stat=1, stat_row=a), 5, 6),
    "result ACT": (lambda a: vector(60, result=TO_ACT, dst_addr=a), 27, 28),
    "result X": (lambda a: vector(60, result=TO_X, dst_addr=a), 9, 10),
    "load SHARED": (lambda a: read(60, dest=Destination.SHARED, dest_addr=a), 27, 28),
    "load PARAM": (lambda a: read(60, dest=Destination.PARAM, dest_addr=a), 9, 10),
    "load ACT": (lambda a: read(60, dest=Destination.ACT, dest_addr=a), 27, 28),
    "load ROPE": (lambda a: read(60, dest=Destination.ROPE, dest_addr=a), 5, 6),
    "load TABLE": (lambda a: read(60, dest=Destination.TABLE, dest_addr=a), 63, 64),
    "load X": (lambda a: read(60, dest=Destination.X, dest_addr=a), 9, 10),
    "load of a tile": (lambda a: read(60, dest=Destination.X, tiles=a), 1, 2),
    "move ACT": (lambda a: move(60, src_addr=a, address=DATA), 27, 28),
    "move X": (lambda a: move(60, src_addr=a, address=DATA, from_x=1), 9, 10),
    "move to shared": (lambda a: move(60, address=a, to_shared=1), 27, 28),
    "move of a tile": (lambda a: move(60, tile=a, address=DATA), 0, 1),
}


@pytest.mark.parametrize("access", ACCESSES)
def test_an_address_beyond_its_memory_is_a_fault(cluster, access):
    make, last, beyond = ACCESSES[access]
    seen = cluster.run(program(make(last)))
    assert (seen["fault"], seen["done"][-1]) == (Fault.NONE, 1)
    seen = cluster.run(program(make(beyond)))
    assert (seen["fault"], any(seen["done"])) == (Fault.ADDRESS, False)


@pytest.mark.parametrize("destination", [Destination.PROGRAM, Destination.HEADER])
def test_a_program_does_not_write_programs(cluster, destination):
    assert cluster.run(program(read(60, dest=destination)))["fault"] == Fault.ADDRESS


@pytest.mark.parametrize(
    "wrong",
    [
        tile(60, rows=0),
        tile(60, columns=0),
        tile(60, columns=3),
        tile(60, passes=0),
        tile(60, rows=4, passes=2, interval=3),
        vector(60, rows=0),
        vector(60, segments=0),
    ],
    ids=["rows", "columns", "many columns", "passes", "interval", "steps", "segments"],
)
def test_an_operation_of_nothing_is_a_fault(cluster, wrong):
    seen = cluster.run(program(wrong))
    assert (seen["fault"], any(seen["done"])) == (Fault.OPCODE, False)


def test_a_loop_of_no_turns_is_a_fault(cluster):
    loop = encode(LAYOUTS[Control.LOOP], {"engine": 0, "control": Control.LOOP, "count": 0})
    assert cluster.run([loop, *program()])["fault"] == Fault.OPCODE


@pytest.mark.parametrize("fields", [{"segments": 2}, {"dst_seg": 1}])
def test_a_segment_that_a_word_does_not_have_is_a_fault(cluster, fields):
    seen = cluster.run(program(move(60, to_shared=1, **fields)))
    assert (seen["fault"], any(seen["done"])) == (Fault.WINDOW, False)


def test_two_reads_of_one_bank_are_a_fault(cluster):
    seen = cluster.run(program(vector(60, source=ACT, other=Other.ACT)))
    assert (seen["fault"], any(seen["done"])) == (Fault.BANK, False)


def test_an_engine_that_is_busy_is_a_fault(cluster):
    seen = cluster.run(program(vector(60, rows=4), vector(62)))
    assert (seen["fault"], any(seen["done"])) == (Fault.BUSY, False)


def test_a_fault_elsewhere_stops_writes_to_memory(cluster):
    long = move(60, src_addr=0, words=1, rows=24, address=DATA, stride=16)
    whole = cluster.run(program(long, end=380), cycles=600)
    assert (whole["fault"], len(whole["writes"])) == (Fault.NONE, 24)
    seen = cluster.run(program(long, vector(70, src_addr=6), end=380), cycles=600)
    assert (seen["fault"], any(seen["done"])) == (Fault.ADDRESS, False)
    # A burst that is under way is finished, as the bus demands; no other begins.
    assert len(seen["writes"]) < 8


def test_what_starts_with_the_end_is_not_done(cluster):
    words = program(move(249, address=DATA), end=250)
    seen = cluster.run(words)
    assert (seen["fault"], any(seen["done"])) == (Fault.DEADLINE, False)


@pytest.mark.parametrize("quirk", ["stray", "unasked"])
def test_an_answer_that_nothing_asked_for_is_a_fault(cluster, quirk):
    fault = {"stray": Fault.READ_BUS, "unasked": Fault.WRITE_BUS}[quirk]
    seen = cluster.run(program(), starts=(40,), quirks=(quirk,))
    assert (seen["fault"], seen["begins"], seen["ready"]) == (fault, 0, 0)


def test_a_start_while_it_runs_is_ignored(cluster):
    once = cluster.run(program(tile(60)), cycles=600)
    again = cluster.run(program(tile(60)), cycles=600, starts=(0, 5, 40, 200, 250))
    assert once == again
    assert (once["begins"], once["done"][-1]) == (1, 1)


def test_done_falls_when_the_next_image_is_fetched(cluster):
    end = cluster.run(program(end=60))["done"].index(1)
    seen = cluster.run(program(end=60), starts=(0, end + 5))
    assert seen["done"][end : end + 8] == [1] * 6 + [0] * 2
    assert (seen["begins"], seen["done"][-1]) == (2, 1)


# Programs that are there already, and words that come and go without memory.

#: By this cycle an image is there.
THERE = 120


def test_a_program_that_is_only_fetched_waits(cluster):
    seen = cluster.run(program(tile(60)), starts=(), loads=(0,), cycles=600)
    assert (seen["fault"], seen["loaded"], seen["begins"], seen["ready"]) == (Fault.NONE, 1, 0, 1)
    seen = cluster.run(
        program(tile(60)), starts=(), loads=(0,), agains=(THERE, THERE + 300), cycles=800
    )
    assert (seen["fault"], seen["begins"], seen["done"][-1]) == (Fault.NONE, 2, 1)
    # It runs from the next cycle on.
    assert seen["done"].index(1) == THERE + 1 + 250


def test_there_must_be_a_program(cluster):
    seen = cluster.run(program(), starts=(), agains=(20,))
    assert (seen["fault"], seen["begins"]) == (Fault.NO_PROGRAM, 0)


@pytest.mark.parametrize("how", ["starts", "loads"])
def test_elastic_runs_are_for_programs_made_for_them(cluster, how):
    seen = cluster.run(program(), **({"starts": ()} | {how: (0,)}), elastic=1)
    assert (seen["fault"], seen["begins"]) == (Fault.IMAGE_ELASTIC, 0)


def test_words_that_are_fed_are_there_when_the_run_begins(cluster):
    """Also those fed in the cycle before it starts; moved on, they show themselves."""
    store = move(60, src_addr=26, words=2, to_shared=1, address=1 << 20, address_ptr=31)
    feeds = {THERE - 1: (1, 27, 0xBEEF), THERE - 2: (1, 26, 0xCAFE), 20: (1, 27, 0)}
    seen = cluster.run(
        program(store), starts=(), loads=(0,), agains=(THERE,), feeds=feeds, arguments=(7, 500),
        cycles=600,
    )  # fmt: skip
    assert (seen["fault"], seen["done"][-1]) == (Fault.BUSY, 0)  # fed while it was fetched
    del feeds[20]
    seen = cluster.run(
        program(store), starts=(), loads=(0,), agains=(THERE,), feeds=feeds, arguments=(7, 500),
        cycles=600,
    )  # fmt: skip
    assert (seen["fault"], seen["done"][-1]) == (Fault.NONE, 1)
    assert seen["latents"] == [(500, 0xCAFE), (501, 0xBEEF)]


@pytest.mark.parametrize(
    ("feed", "fault"), [((1, 28, 0), Fault.ADDRESS), ((2, 0, 0), Fault.ADDRESS)]
)
def test_words_that_are_fed_beyond_are_a_fault(cluster, feed, fault):
    assert cluster.run(program(), starts=(), feeds={20: feed})["fault"] == fault


def test_words_fed_during_a_run_are_a_fault(cluster):
    seen = cluster.run(program(), feeds={THERE + 60: (1, 0, 0)})
    assert (seen["fault"], any(seen["done"])) == (Fault.BUSY, False)


def test_arguments_move_addresses(cluster):
    there = move(60, address=DATA, address_ptr=30)
    for offset in (0, 0x40):
        seen = cluster.run(program(there), arguments=(offset, 1 << 30))
        assert seen["addresses"] == [DATA + offset]
    # Windows are checked behind them.
    seen = cluster.run(program(there), arguments=(0x2000, 0))
    assert (seen["fault"], seen["addresses"]) == (Fault.WINDOW, [])
