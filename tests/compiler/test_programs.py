"""Real programs, run by an interpreter of program words and replayed access by access.

Neither knows the compiler's footprints, loops or pointers: both are written from what the hardware
does (isa, streams, slice).
"""

from functools import cache

import numpy as np
import pytest
from attrs import evolve

from jepa_r.cluster.cluster import make_mover, word_bytes
from jepa_r.cluster.isa import NO_CHECK, OPERANDS, Destination, Engine
from jepa_r.cluster.slice import Slice
from jepa_r.cluster.streams import EDGE
from jepa_r.cluster.timing import ClusterTiming
from jepa_r.config import PRESETS
from jepa_r.dma.bound import ReadBound, WriteBound
from jepa_r.dma.mover import MoveSource
from jepa_r.vector.unit import VectorUnit
from jepa_r_sim.compiler import compile_encoder, compile_predictor
from jepa_r_sim.model.shapes import MODELS, PredictorConfig

from .interpreter import interpret

VITG = MODELS["vitg-ac"]
CASES = {
    "nano": ("nano", MODELS["nano"], 1),
    "ecp5": ("ecp5", MODELS["nano"], 1),
    "nano on jepa-r, two cameras": ("jepa-r", MODELS["nano"], 2),
    "vitg-ac": ("jepa-r", evolve(VITG, depth=3), 1),
    "vitg-ac, six cameras": ("jepa-r", evolve(VITG, depth=2), 6),
}
NANO, SMALL = MODELS["nano"], PRESETS["nano"].predictor
#: Words of three segments; rows in blocks of 12 and 6; heads within words, and beyond their ends.
ODD = evolve(
    SMALL, tiles=2, program_words=4096,
    tile=evolve(
        SMALL.tile, rows=6, lanes=2, acc_rows=12, act_words=2048, x_words=2048, rope_words=512
    ),
)  # fmt: skip
ODDER = evolve(
    NANO, width=22, heads=1, head_dim=22,
    predictor=PredictorConfig(width=20, heads=2, head_dim=10, depth=2, mlp=37, steps=3),
)  # fmt: skip
#: Cluster, model and steps of rollouts.
ROLLOUTS = {
    "one step": (SMALL, NANO, 1),
    "three steps": (SMALL, NANO, 3),
    "odd, one step": (ODD, ODDER, 1),
    "odd, three steps": (ODD, ODDER, 3),
    "vitg-ac, one step": (
        PRESETS["jepa-r"].predictor, evolve(VITG, predictor=evolve(VITG.predictor, depth=1)), 1,
    ),
}  # fmt: skip
CASES |= ROLLOUTS


@cache
def compiled(case):
    place, model, count = CASES[case]
    if case in ROLLOUTS:
        return compile_predictor(place, model, horizon=count, trace=True)
    # One of them also moves its latents to the latent store.
    stores = case == "nano"
    return compile_encoder(
        PRESETS[place].encoder, model, cameras=count, latent_store=stores, base=4096 * stores
    )


# Program words.


@pytest.mark.parametrize("case", CASES)
def test_programs_unroll_to_the_schedule(case):
    made = compiled(case)
    started, halt = interpret(made.program.words)
    expected = made.builder.scheduler.in_order()
    assert len(started) == len(expected) == made.program.operations
    for (start, engine, fields), op in zip(started, expected, strict=True):
        pointers = {pointer for _address, pointer in OPERANDS[engine]}
        wanted = {name: v for name, v in op.fields.items() if name not in pointers}
        del fields["engine"], fields["wait"]
        assert (start, engine, fields) == (op.start, op.engine, wanted)
    # The last cycle of the run is that of HALT.
    assert made.cycles == made.builder.scheduler.end == halt + 1
    assert made.bundles == len({start for start, _engine, _fields in started})


def test_loops_make_programs_short():
    made = compiled("vitg-ac")
    deeper = compile_encoder(made.config, evolve(VITG, depth=6))
    assert deeper.program.operations > 1.8 * made.program.operations
    assert len(deeper.program.words) < 1.05 * len(made.program.words)
    assert len(made.program.words) < 0.75 * made.program.operations


@pytest.mark.parametrize("case", CASES)
def test_weights_stay_out_of_the_bank_of_keys(case):
    """Also those that end exactly where a bank does."""
    made = compiled(case)
    banks, bits = made.config.shared.banks, (made.config.shared.bank_words - 1).bit_length()
    for op in made.builder.scheduler.placed:
        if op.engine is Engine.READ and op.fields["dest"] == Destination.SHARED.value:
            last = op.fields["dest_addr"] + op.fields["words"] * op.fields["rows"] - 1
            assert last >> bits < banks - 1


# Accesses.


class Replay:
    """What each operation touches, and when.

    An event is (memory, word, first cycle, last cycle): for words from memory the cycle is not
    known, but for its bounds.
    """

    def __init__(self, made):
        self.config = made.config
        tile, shared = self.config.tile, self.config.shared
        self.timing = ClusterTiming(self.config)
        self.placed = made.builder.scheduler.placed
        self.parts = tile.rows // tile.lanes
        self.bits = {
            "act": (tile.act_words - 1).bit_length(), "shared": (shared.bank_words - 1).bit_length()
        }  # fmt: skip
        #: Words of each memory, and of one bank where there are several.
        self.sizes = {
            "act": (tile.act_banks, tile.act_words), "shared": (shared.banks, shared.bank_words),
            "param": (1, shared.param_words), "x": (1, tile.x_words), "rope": (1, tile.rope_words),
            "scales": (1, tile.row_entries), "running": (1, tile.row_entries),
            "acc0": (1, tile.acc_rows), "acc1": (1, tile.acc_rows), "table": (1, 64),
        }  # fmt: skip
        self.names = list(self.sizes)
        self.events = []
        self.ports = {}
        self.transfers = []
        self.op = -1
        reads = ReadBound(words=word_bytes(self.config), contract=self.config.memory)
        moves = WriteBound(mover=make_mover(self.config), contract=self.config.memory)
        self.moved = []
        for n, op in enumerate(self.placed):
            self.op = n
            f = op.fields
            if op.engine is Engine.TILE:
                self.array(op.start, f)
            elif op.engine is Engine.VECTOR:
                self.lanes(op.start, f)
            elif op.engine is Engine.READ:
                done = reads.transfer(
                    issue=op.start, address=f["address"], words=f["words"], rows=f["rows"],
                    stride=f["stride"], dest=f["dest"], crc=bool(f["crc"]),
                )  # fmt: skip
                self.transfers.append((op.start, done + self.timing.load_delay))
                name = Destination(f["dest"]).name.lower()
                count = np.arange(f["words"] * f["rows"])
                self.windowed(name, f["dest_addr"] + count, *self.transfers[-1], write=True)
            else:
                done = moves.transfer(
                    issue=op.start, source=MoveSource.X if f["from_x"] else MoveSource.ACT,
                    words=f["words"], rows=f["rows"], to_shared=f["to_shared"],
                    address=f["address"], stride=f["stride"],
                )  # fmt: skip
                self.moved.append((op.start, done))
                row, word = np.arange(f["rows"])[:, None], np.arange(f["words"])
                words = (f["src_addr"] + row * f["src_stride"] + word).reshape(-1)
                self.windowed("x" if f["from_x"] else "act", words, op.start, done, write=False)
                if f["to_shared"] and f["address"] < 1 << 20:
                    words = (f["address"] + row * f["stride"] + word).reshape(-1)
                    self.windowed("shared", words, op.start, done, write=True)

    def event(self, memory, words, first, last, write, transfer=False):
        banks, size = self.sizes[memory]
        bits = self.bits.get(memory, 30)
        assert (words >= 0).all(), (memory, self.op)
        assert (words >> bits).max() < banks, (memory, self.op)
        assert (words & (1 << bits) - 1).max() < size, (memory, self.op)
        columns = np.empty((7, len(words)), np.int64)
        columns[0], columns[1] = self.names.index(memory), words
        columns[2], columns[3] = self.op, write
        columns[4], columns[5], columns[6] = first, last, transfer
        self.events.append(columns)

    def windowed(self, memory, words, start, done, *, write):
        """Somewhen after ``start``, until ``done`` included."""
        self.event(
            memory, words, start + 1, done, write, self.placed[self.op].engine is Engine.READ
        )
        if memory in ("act", "shared", "x"):
            for bank in np.unique(words >> self.bits.get(memory, 30)):
                port = f"{memory}{bank}.{'write' if write else 'read'}"
                owner = self.placed[self.op].engine.name
                self.ports.setdefault((port, owner), []).append(np.arange(start + 1, done + 1))

    def exact(self, memory, words, cycles, *, write, owner):
        self.event(memory, words, cycles, cycles, write)
        if memory in ("act", "x", "shared"):
            banks = words >> self.bits.get(memory, 30)
            if memory == "shared":
                banks = banks * 0  # one word a cycle, whatever its bank
            for bank in np.unique(banks):
                port = f"{memory}{bank}.{'write' if write else 'read'}"
                self.ports.setdefault((port, owner), []).append(cycles[banks == bank])
        elif memory.startswith("acc"):
            for parity in range(2):
                self.ports.setdefault((f"{memory}{parity}", owner), []).append(
                    cycles[words % 2 == parity]
                )

    def array(self, start, f):
        tile = self.config.tile
        m, n, passes = f["rows"], f["columns"], f["passes"]
        assert f["interval"] >= max(m + m % 2, n)
        p, a, b = np.arange(passes)[:, None], np.arange(m), np.arange(n)
        begin = start + 1 + n + p * f["interval"]
        read = (begin + a).reshape(-1)
        self.exact(
            "shared" if f["a_shared"] else "act",
            (f["a_addr"] + p * f["a_stride"] + a).reshape(-1), read, write=False, owner="A",
        )  # fmt: skip
        before = np.where(p == 0, start + 1, begin - f["interval"])
        self.exact(
            "shared" if f["b_shared"] else "act",
            (f["b_addr"] + p * f["b_stride"] + b).reshape(-1), (before + b).reshape(-1),
            write=False, owner="B",
        )  # fmt: skip
        acc = f"acc{f['acc_half']}"
        rows = (f["acc_row"] + a + 0 * p).reshape(-1)
        wrote = read + EDGE + tile.rows + tile.columns + 1
        self.exact(acc, rows, wrote, write=True, owner="ARRAY")
        if f["acc_add"]:
            self.exact(acc, rows[:m], wrote[:m] - 1, write=False, owner="ARRAY")

    def lanes(self, start, f):
        rows, segments = f["rows"], f["segments"]
        row, seg = (
            x.reshape(-1) for x in np.meshgrid(np.arange(rows), np.arange(segments), indexing="ij")
        )
        at = start + 1 + np.arange(rows * segments)

        def walk(prefix, first, step):
            inner = (f[first] + seg) // self.parts * f[step]
            return f[f"{prefix}_addr"] + row * f[f"{prefix}_row"] + inner

        def linear(prefix):
            return f[f"{prefix}_addr"] + row * f[f"{prefix}_row"] + seg

        if f["source"] == 0:
            assert f["src_seg"] + segments <= self.config.tile.columns // self.config.tile.lanes
            words = f["src_addr"] + row * f["src_row"]
            self.exact(f"acc{f['src_half']}", words, at, write=False, owner="LANES")
        elif f["source"] == 1:
            self.exact("x", linear("src"), at, write=False, owner="LANES")
        else:
            self.exact("act", walk("src", "src_seg", "src_step"), at, write=False, owner="LANES")
        if f["other"] == 1:
            assert f["source"] != 1
            self.exact("x", linear("other"), at, write=False, owner="LANES")
        elif f["other"] == 2:
            assert f["source"] != 2
            self.exact("act", walk("other", "dst_seg", "dst_step"), at, write=False, owner="LANES")
        requant, norm_or_exp = f["mode"] == 0, f["mode"] in (1, 2)
        if requant or f["second"] == 3:
            words = f["param_addr"] + seg * f["param_step"]
            self.event("param", words, at, at, False)
        if f["second"] == 2:
            words = f["rope_addr"] + row * f["rope_row"] + (f["rope_seg"] + seg) % f["rope_period"]
            self.event("rope", words, at, at, False)
        if norm_or_exp:
            self.event("scales", f["row_addr"] + row, at, at, False)
        if f["table"]:
            # Looked up on the way; the whole table must be there from the first step on.
            looked = np.full(64, at[0]), np.full(64, at[-1] + Slice.write_latency)
            self.event("table", np.arange(64), *looked, False)
        ends = at[segments - 1 :: segments]
        done = ends + EDGE + VectorUnit.row_latency_of(self.config.tile.lanes)
        stat = f["stat_row"] + np.arange(rows)
        if f["stat"] in (1, 2, 3):
            if not f["stat_first"]:
                self.event("running", stat, ends, ends, False)
            self.event("scales" if f["stat_last"] else "running", stat, done, done, True)
        at = at + Slice.write_latency
        if f["result"] == 1:
            self.exact("act", walk("dst", "dst_seg", "dst_step"), at, write=True, owner="LANES")
        elif f["result"] == 2:
            self.exact("x", linear("dst"), at, write=True, owner="LANES")

    def table(self):
        """Events of each operation and word, joined: memory, word, op, write, first, last, read."""
        whole = np.concatenate(self.events, 1)
        memory, word, op, write, first, last, transfer = whole
        key = (((memory << 20 | word) << 24 | op) << 1) | write
        order = np.argsort(key, kind="stable")
        key = key[order]
        begins = np.flatnonzero(np.diff(key, prepend=-1))
        first = np.minimum.reduceat(first[order], begins)
        last = np.maximum.reduceat(last[order], begins)
        transfer = transfer[order][begins].astype(bool)
        key = key[begins]
        return key >> 25, key >> 1 & 0xFFFFFF, (key & 1).astype(bool), first, last, transfer


def fed(made):
    """Words of ACT that whoever starts the program has written."""
    if made.builder.__class__.__name__ != "PredictorProgram":
        return range(0)
    built, lay = made.predictor, made.predictor.layout
    starts = {built.latent: lay.latent_words, built.goal: lay.latent_words,
              built.inputs: lay.input_words}  # fmt: skip
    return [word for start, count in starts.items() for word in range(start, start + count)]


@cache
def replayed(case):
    return Replay(compiled(case))


NEVER = -(1 << 40)


def latest_before(place, values):
    """For each event, the largest of the values of events before it on the same word."""
    begins = np.diff(place, prepend=-1) != 0
    group = np.cumsum(begins)
    shifted = np.roll(values, 1)
    shifted[begins] = NEVER
    return np.maximum.accumulate(shifted + (group << 42)) - (group << 42)


@pytest.mark.parametrize("case", CASES)
def test_no_port_is_used_twice_in_a_cycle(case):
    owners = {}
    for (port, owner), cycles in replayed(case).ports.items():
        cycles = np.concatenate(cycles)
        if owner in ("A", "B", "ARRAY", "LANES"):
            assert len(np.unique(cycles)) == len(cycles), (port, owner)
        owners.setdefault(port, []).append(np.unique(cycles))
    assert len(owners) > 8
    for port, users in owners.items():
        together = np.concatenate(users)
        assert len(np.unique(together)) == len(together), port


@pytest.mark.parametrize("case", CASES)
def test_every_read_sees_what_the_plain_order_would(case):
    """In the order of the model, reads come after the writes before them, and so on."""
    place, _op, write, first, last, transfer = replayed(case).table()
    written = latest_before(place, np.where(write, last, NEVER))
    by_others = latest_before(place, np.where(write & ~transfer, last, NEVER))
    read = latest_before(place, np.where(write, NEVER, last))
    reads = ~write
    given = np.isin(place, fed(compiled(case)))  # ACT is memory 0
    assert (write & given).sum() == 0, "the start latent must last for all runs"
    assert ((written > NEVER) | given)[reads].all(), "a word is read that nobody wrote"
    assert (first[reads] > written[reads]).all(), "a word is read before it is written"
    # What a read sees in the cycle of a write is not defined. Transfers keep their own order.
    assert (first[write] > read[write]).all(), "a word is overwritten before it is read"
    before = np.where(transfer, by_others, written)
    assert (first[write] > before[write]).all(), "two writes come in the wrong order"


@pytest.mark.parametrize("case", CASES)
def test_requirements_hold_exactly_when_data_have_arrived(case):
    replay = replayed(case)
    starts = np.array([start for start, _done in replay.transfers])
    dones = np.array([done for _start, done in replay.transfers])
    assert (np.diff(starts) >= replay.timing.pace).all()
    assert (np.diff(dones) >= 0).all()
    number = np.full(len(replay.placed), -1)
    reads = [n for n, op in enumerate(replay.placed) if op.engine is Engine.READ]
    number[reads] = np.arange(len(reads))
    # Transfers that each operation reads or overwrites.
    place, op, write, _first, _last, transfer = replay.table()
    index = np.maximum(latest_before(place, np.where(write, np.arange(len(place)), -1)), -1)
    came = (index >= 0) & transfer[index]
    source = np.where(came, number[op[index]], -1)
    needs = np.full(len(replay.placed), -1)
    np.maximum.at(needs, op, source)
    checked = 0
    for n, operation in enumerate(replay.placed):
        if operation.engine is Engine.READ:
            assert operation.fields["in_flight"] == NO_CHECK
            continue
        issued = int(np.searchsorted(starts, operation.start))
        under_way = issued - int(np.searchsorted(dones, operation.start, "right"))
        asked = operation.fields["in_flight"]
        if needs[n] >= 0:
            checked += 1
            assert asked <= issued - needs[n] - 1, "an operation does not wait for its data"
        if asked != NO_CHECK:
            assert under_way <= asked, "memory that keeps its contract is too late"
    assert checked > len(reads) // 2


@pytest.mark.parametrize("case", CASES)
def test_queues_of_transfers_never_overflow(case):
    replay = replayed(case)
    for spans in (replay.transfers, replay.moved):
        for start, _done in spans:
            assert sum(a < start <= b for a, b in spans) < replay.config.queue
