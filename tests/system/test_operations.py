"""Operations that the encoder does not use, in small programs of their own, on the RTL."""

import zlib

import numpy as np
import pytest

from jepa_r.cluster.cluster import Cluster
from jepa_r.cluster.isa import LAYOUTS, Destination, Engine
from jepa_r.config import PRESETS
from jepa_r.vector.layouts import Mode, Second, Stat
from jepa_r_sim.compiler.image import column_words, pack_words, unpack_words
from jepa_r_sim.compiler.operations import Operation
from jepa_r_sim.compiler.program import assemble
from jepa_r_sim.compiler.schedule import Scheduler
from jepa_r_sim.cosim import build
from jepa_r_sim.golden import lane
from jepa_r_sim.golden.rounding import saturate
from jepa_r_sim.golden.tile import matmul
from jepa_r_sim.system import Run, run_image

CONFIG = PRESETS["nano"].encoder
R, L, D = CONFIG.tile.rows, CONFIG.tile.lanes, CONFIG.memory.data_bytes
BANK = 1 << (CONFIG.tile.act_words - 1).bit_length()
OUT = 0x10000


class Bench:
    """A program under construction, and the memory it will find."""

    def __init__(self):
        self.scheduler = Scheduler(CONFIG)
        self.memory = bytearray(OUT)
        self.free = 0
        self.written = 0

    def add(self, engine, **fields):
        zero = {n: 0 for n in LAYOUTS[engine].members if n not in ("engine", "wait")}
        values = {key: int(getattr(value, "value", value)) for key, value in fields.items()}
        assert not values.keys() - zero.keys()
        self.scheduler.add(Operation(engine, zero | values, "test"))

    def load(self, dest, place, words, tiles=3):
        """Put words in memory and read them."""
        body = pack_words(np.ascontiguousarray(words).view(np.uint8), D)
        part = body + zlib.crc32(body).to_bytes(4, "little").ljust(D, b"\0")
        self.memory[self.free : self.free + len(part)] = part
        self.add(
            Engine.READ, address=self.free, words=len(words), rows=1, dest=dest,
            dest_addr=place, tiles=tiles, crc=1,
        )  # fmt: skip
        self.free += len(part)

    def store(self, tile, place, count, *, from_x=False):
        """Move words of a tile to memory; returns where they will be."""
        address = OUT + self.written
        self.add(
            Engine.MOVE, tile=tile, src_addr=place, words=count, rows=1, address=address,
            from_x=int(from_x),
        )  # fmt: skip
        size = -(-count * (2 * L if from_x else R) // D) * D
        self.written += size
        return slice(address - OUT, address - OUT + size), count, 2 * L if from_x else R

    def run(self, simulation, workdir):
        program = assemble(
            self.scheduler.in_order(), profiles=[], end=self.scheduler.end, config=CONFIG
        )
        base = OUT + 0x10000
        image = bytes(self.memory) + bytes(base - OUT) + program.image(CONFIG)
        ((values, output),) = run_image(
            CONFIG, image, program=base, cycles=program.cycles, output=(OUT, 0x10000),
            simulation=simulation, workdir=workdir, runs=[Run()],
        )  # fmt: skip
        assert values["fault"] == "NONE"
        assert values["cycles"] == program.cycles
        return values, output


def words_of(output, place):
    part, count, size = place
    return unpack_words(output[part], count, size, D)


def blocked(matrix):
    """Matrix ``[rows, K]`` in K-blocks."""
    rows, depth = matrix.shape
    return matrix.reshape(rows, depth // R, R).transpose(1, 0, 2).reshape(-1, R)


def matrix_of(words, rows):
    """Inverse of :func:`blocked`, INT8."""
    return words.view(np.int8).reshape(-1, rows, R).transpose(1, 0, 2).reshape(rows, -1)


@pytest.fixture(scope="module")
def simulation():
    return build(Cluster(config=CONFIG), name="cluster")


def test_cast_copy_and_distance(simulation, tmp_path):
    """INT8 to INT16 and back, and the distance to a goal; each tile with numbers of its own."""
    rng = np.random.default_rng(3)
    rows, width = 6, 24
    act = rng.integers(-128, 128, (2, rows, width)).astype(np.int8)
    goal = rng.integers(-128, 128, (2, rows, width)).astype(np.int8)
    bench = Bench()
    goal_place, copy_place = BANK + 5, 300
    for tile in range(2):
        bench.load(Destination.ACT, 7, blocked(act[tile]), tiles=1 << tile)
        bench.load(Destination.ACT, goal_place, blocked(goal[tile]), tiles=1 << tile)
    widen, narrow = np.full(L, 16384), np.full(L, 16384)
    bench.load(Destination.PARAM, 0, column_words(np.zeros(L, np.int32), widen, np.full(L, 6), L))
    bench.load(Destination.PARAM, 1, column_words(np.full(L, 99), narrow, np.full(L, 22), L))
    segments = width // L
    bench.add(
        Engine.VECTOR, rows=rows, segments=segments, source=2, src_addr=7, src_row=1,
        src_step=rows, mode=Mode.REQUANT, wide=1, param_addr=0, result=2, dst_addr=11,
        dst_row=segments,
    )  # fmt: skip
    from_x = {"rows": rows, "segments": segments, "source": 1, "src_addr": 11, "src_row": segments}
    bench.add(
        Engine.VECTOR, **from_x, mode=Mode.REQUANT, param_addr=1, result=1, dst_addr=copy_place,
        dst_row=1, dst_step=rows, other=2, other_addr=goal_place, other_row=1, stat=Stat.L1,
        clear=1,
    )  # fmt: skip
    wide = [bench.store(tile, 11, rows * segments, from_x=True) for tile in range(2)]
    copies = [bench.store(tile, copy_place, rows * segments) for tile in range(2)]
    values, output = bench.run(simulation, tmp_path)

    for tile in range(2):
        cast = lane.requantise(act[tile], 0, 16384, 6)
        np.testing.assert_array_equal(
            words_of(output, wide[tile]).copy().view("<i2").reshape(rows, width), cast
        )
        back = saturate(lane.requantise(cast, 99, 16384, 22), 8)
        np.testing.assert_array_equal(matrix_of(words_of(output, copies[tile]), rows), back)
        distance = np.abs(back - goal[tile]).sum()
        assert values["distances"] >> (48 * tile) & ((1 << 48) - 1) == distance


def test_both_operands_local(simulation, tmp_path):
    """A from one bank and B from the other, partial words masked at both ends."""
    rng = np.random.default_rng(4)
    m, n, depth, first, last = 5, 8, 24, 3, 21
    a = rng.integers(-128, 128, (2, m, depth)).astype(np.int8)
    b = rng.integers(-128, 128, (2, n, depth)).astype(np.int8)
    bench = Bench()
    for tile in range(2):
        bench.load(Destination.ACT, 0, blocked(a[tile]), tiles=1 << tile)
        bench.load(Destination.ACT, BANK, blocked(b[tile]), tiles=1 << tile)
    bench.load(
        Destination.PARAM, 4,
        column_words(np.zeros(L, np.int32), np.full(L, 16384), np.full(L, 15), L),
    )  # fmt: skip
    bench.add(
        Engine.TILE, a_addr=0, a_stride=m, b_addr=BANK, b_stride=n, rows=m, columns=n, passes=3,
        interval=bench.scheduler.timing.interval(m, n), k_first=first, k_last=last - 16,
        acc_half=1,
    )  # fmt: skip
    bench.add(
        Engine.VECTOR, rows=m, segments=1, source=0, src_half=1, src_row=1, mode=Mode.REQUANT,
        second=Second.PASS, wide=1, param_addr=4, result=2, dst_addr=0, dst_row=1,
    )  # fmt: skip
    places = [bench.store(tile, 0, m, from_x=True) for tile in range(2)]
    _values, output = bench.run(simulation, tmp_path)
    for tile in range(2):
        product = matmul(
            np.ascontiguousarray(a[tile][:, first:last]),
            np.ascontiguousarray(b[tile][:, first:last]),
        )
        np.testing.assert_array_equal(
            words_of(output, places[tile]).copy().view("<i2").reshape(m, n),
            lane.requantise(product, 0, 16384, 15),
        )
