"""cocotb bench of :class:`jepa_r.vector.unit.VectorUnit`: random operations, each cycle checked."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from jepa_r.vector.layouts import Stat
from jepa_r.vector.unit import VectorUnit
from jepa_r_sim.cosim import parameters
from jepa_r_sim.drivers.cocotb_stream import start, unpack
from jepa_r_sim.drivers.vector_steps import (
    operand_words,
    pack_profiles,
    pack_table,
    random_operation,
    random_step,
    unpack_row,
)
from jepa_r_sim.golden.rows import NormProfile
from jepa_r_sim.golden.unit import Step
from jepa_r_sim.golden.unit import VectorUnit as Golden

STATISTICS = (Stat.NONE, Stat.MAX, Stat.MOMENTS, Stat.SUM, Stat.L1)


class Bench:
    """The unit beside its golden model, one cycle at a time."""

    def __init__(self, dut, lanes: int, golden: Golden):
        self._dut = dut
        self._lanes = lanes
        self._golden = golden
        self._cycle = 0
        self._results: dict[int, list[int]] = {}
        self._finished: dict[int, object] = {}
        self.rows = 0

    async def start(self) -> None:
        """Reset, then load profiles and table."""
        dut = self._dut
        for name in ("step", "src", "other", "column", "row", "rope", "distance_clear"):
            getattr(dut, name).value = 0
        dut.profiles.value = pack_profiles(self._golden.profiles)
        dut.t_en.value = dut.t_addr.value = dut.t_data.value = 0
        await start(dut)
        dut.t_en.value = 1
        for n, word in enumerate(pack_table(self._golden.table)):
            dut.t_addr.value = n
            dut.t_data.value = word
            await FallingEdge(dut.clk)
        dut.t_en.value = 0

    async def run(self, step: Step | None) -> None:
        """Put one step or nothing in, and check what comes out."""
        dut, cycle = self._dut, self._cycle
        if step is not None:
            results, row = self._golden.step(step)
            self._results[cycle + VectorUnit.latency] = results.tolist()
            if row is not None:
                self._finished[cycle + VectorUnit.row_latency_of(self._lanes)] = row
        for name, word in operand_words(step, self._lanes).items():
            getattr(dut, name).value = word

        expected = self._results.pop(cycle, None)
        assert bool(dut.z_valid.value) == (expected is not None), f"z_valid in cycle {cycle}"
        if expected is not None:
            z = unpack(dut.z.value.to_unsigned(), [16] * self._lanes)
            assert z == expected, f"results in cycle {cycle}"
        row = self._finished.pop(cycle, None)
        assert bool(dut.row_en.value) == (row is not None), f"row_en in cycle {cycle}"
        if row is not None:
            word = dut.row_data.value.to_unsigned()
            assert unpack_row(dut.row_addr.value.to_unsigned(), word) == row, f"row in {cycle}"
            self.rows += 1
        self._cycle += 1
        await FallingEdge(dut.clk)

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        for _ in range(VectorUnit.row_latency_of(self._lanes) + 1):
            await self.run(None)
        assert not self._results
        assert not self._finished


def profiles(rng: np.random.Generator, smallest: int) -> list[NormProfile]:
    """Four LayerNorms of at least so many channels."""
    widths = [smallest, 8191, *rng.integers(smallest, 8192, 2).tolist()]
    return [
        NormProfile.of(
            width, eps=10.0 ** -int(rng.integers(1, 9)), lsb=2.0 ** -int(rng.integers(16))
        )
        for width in widths
    ]


@cocotb.test()
async def operations(dut):
    """Random operations, with and without pauses, of every kind and over several parts."""
    given = parameters()
    lanes, seed = given["lanes"], given["seed"]
    rng = np.random.default_rng(seed)
    # A row has at most 3 parts of 5 segments, and a profile no fewer channels than that.
    golden = Golden(profiles(rng, 15 * lanes), rng.integers(-128, 128, 256).tolist())
    bench = Bench(dut, lanes, golden)
    await bench.start()
    for _ in range(given["operations"]):
        stat = STATISTICS[int(rng.integers(len(STATISTICS)))].value
        count, parts = int(rng.integers(1, 9)), int(rng.integers(1, 4))
        pause = rng.choice([0.0, 0.0, 0.5])
        profile = int(rng.integers(4))
        for part in range(parts):
            for step in random_operation(
                rng,
                lanes,
                row_numbers=rng.permutation(given["rows"])[:count].tolist()
                if parts == 1
                else list(range(count)),
                segments=int(rng.integers(1, 6)),
                stat=stat,
                profile=profile,
                stat_first=int(part == 0),
                stat_last=int(part == parts - 1),
            ):
                while rng.random() < pause:
                    await bench.run(None)
                await bench.run(step)
            if parts > 1:
                await bench.drain()
    await bench.drain()
    assert dut.distance.value.to_unsigned() == golden.distance
    assert bench.rows > 0


@cocotb.test()
async def moments_of_every_width(dut):
    """Whole rows at many widths, with noise, steps, extremes and nothing in them."""
    given = parameters()
    lanes, rng = given["lanes"], np.random.default_rng(given["seed"])
    widths = given["widths"]
    golden = Golden(profiles(rng, 15 * lanes), [0] * 256)
    bench = Bench(dut, lanes, golden)
    await bench.start()
    like = random_step(rng, lanes, mode=0, second=0, wide=1, table=0, stat=Stat.MOMENTS.value)
    settings = {name: getattr(like, name) for name in ("cos", "sin", "other")}
    settings |= {"add": [0] * lanes, "mul": [1] * lanes, "shift": [0] * lanes, "wide": 1}
    for width in widths:
        chosen = [
            NormProfile.of(width, eps=eps, lsb=lsb)
            for eps, lsb in ((1e-6, 2**-8), (1e-5, 2**-12), (1e-30, 1.0), (1.0, 2**-16))
        ]
        golden.profiles = chosen
        dut.profiles.value = pack_profiles(chosen)
        scale = int(rng.integers(16))
        kinds = [
            rng.integers(-(2**15), 2**15, width) >> scale,
            np.full(width, int(rng.choice([-(2**15), 2**15 - 1, 0, -1]))),
            np.where(rng.random(width) < 0.5, -(2**15), 2**15 - 1),
        ]
        for n, z in enumerate(kinds):
            whole = np.concatenate([z, np.zeros(-width % lanes, np.int64)]).reshape(-1, lanes)
            for index, segment in enumerate(whole.tolist()):
                await bench.run(
                    Step(
                        **settings,
                        src=segment,
                        stat=Stat.MOMENTS.value,
                        profile=(width + n) % 4,
                        first_seg=int(index == 0),
                        last_seg=int(index == len(whole) - 1),
                    )
                )
        await bench.drain()
    assert bench.rows == 3 * len(widths)
