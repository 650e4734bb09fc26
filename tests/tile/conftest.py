from functools import cache

import numpy as np
import pytest
from amaranth import *
from amaranth.sim import Simulator

from jepa_r.tile.tile import Tile

CONTROL = ("a_valid", "b_valid", "swap", "b_rows", "acc_half", "acc_row", "acc_add")


class TileBench:
    """A tile in Amaranth's simulator, elaborated once and reset for every run."""

    def __init__(self, rows, columns, acc_rows):
        self.rows, self.columns, self.acc_rows = rows, columns, acc_rows
        self.dut = Tile(rows=rows, columns=columns, acc_rows=acc_rows)
        self._simulator = Simulator(self.dut)
        self._simulator.add_clock(1e-6)
        self._simulator.add_testbench(self._testbench)
        self._fresh = True

    @property
    def size(self):
        return {"rows": self.rows, "columns": self.columns, "acc_rows": self.acc_rows}

    def run(self, stimulus, reads=None, *, patience=0):
        """Drive ``stimulus`` and read rows, ``reads`` = {cycle: (half, row)}.

        Returns the rows read, by the cycle of their read, and the cycles that raised a fault. Rows
        are looked at ``patience`` cycles later than they must be there.
        """
        self._stimulus, self._reads = stimulus, reads or {}
        self._latency = Tile.READ_LATENCY + patience
        self._rows, self._faults = {}, []
        if not self._fresh:
            self._simulator.reset()
        self._fresh = False
        self._simulator.run()
        return self._rows, self._faults

    async def _testbench(self, ctx):
        dut, stimulus = self.dut, self._stimulus
        rest = Tile.first_latency(self.rows, self.columns) + 2
        cycles = max(len(stimulus), *self._reads, 0) + rest + self._latency
        rng = np.random.default_rng(len(stimulus))
        for t in range(cycles):
            inside = t < len(stimulus)
            for name in CONTROL:
                ctx.set(getattr(dut, name), int(getattr(stimulus, name)[t]) if inside else 0)
            for port, values in ((dut.a, stimulus.a), (dut.b, stimulus.b)):
                row = values[t] if inside else rng.integers(-128, 128, self.rows, dtype=np.int8)
                ctx.set(Value.cast(port), int.from_bytes(row.tobytes(), "little"))
            half, row = self._reads.get(t, (0, 0))
            ctx.set(dut.r_en, t in self._reads)
            ctx.set(dut.r_half, half)
            ctx.set(dut.r_row, row)
            if (asked := t - self._latency) in self._reads:
                word = ctx.get(Value.cast(dut.r_data))
                self._rows[asked] = np.frombuffer(
                    word.to_bytes(4 * self.columns, "little"), dtype=np.int32
                )
            if ctx.get(dut.fault):
                self._faults.append(t - Tile.FAULT_LATENCY)
            await ctx.tick()


@pytest.fixture(scope="session")
def tile_bench():
    """Give the bench of a size: rows, columns, rows of an accumulator half."""
    return cache_of_benches


@cache
def cache_of_benches(rows, columns, acc_rows):
    return TileBench(rows, columns, acc_rows)
