"""cocotb bench of :class:`jepa_r.tile.tile.Tile`.

Parameters of a run: ``rows``, ``columns``, ``acc_rows`` of the tile; ``shapes``, sizes [M, K, N] of
the products of :func:`products`; ``chain``, sizes of the products that :func:`utilisation` runs one
behind the other.
"""

import time
from itertools import product

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from jepa_r.tile.tile import Tile
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start
from jepa_r_sim.drivers.tile import passes_of, schedule
from jepa_r_sim.golden.tile import matmul

CONTROL = ("a_valid", "b_valid", "swap", "b_rows", "acc_half", "acc_row", "acc_add")


class TileDriver:
    """Drives a tile from a stimulus, and reads rows of its accumulators meanwhile."""

    def __init__(self, dut, *, rows, columns, acc_rows):
        self._dut = dut
        self.rows, self.columns, self.acc_rows = rows, columns, acc_rows
        self.latency = Tile.first_latency(rows, columns)

    @property
    def size(self):
        return {"rows": self.rows, "columns": self.columns, "acc_rows": self.acc_rows}

    async def start(self):
        for name in (*CONTROL, "a", "b", "r_en", "r_half", "r_row"):
            getattr(self._dut, name).value = 0
        await start(self._dut)

    async def run(self, stimulus, reads):
        """Drive ``stimulus``, read ``reads`` = {cycle: (half, row)}.

        Returns the rows read, by the cycle of their read, and the cycles that raised a fault.
        """
        dut = self._dut
        cycles = max(len(stimulus) + self.latency, *reads) + 1 + Tile.READ_LATENCY
        driven = dict.fromkeys((*CONTROL, "r_en", "r_half", "r_row"), -1)

        def drive(name, value):
            if driven[name] != value:
                driven[name] = value
                getattr(dut, name).value = value

        rows, faults = {}, []
        for t in range(cycles):
            if t < len(stimulus):
                for name in CONTROL:
                    drive(name, int(getattr(stimulus, name)[t]))
                dut.a.value = int.from_bytes(stimulus.a[t].tobytes(), "little")
                dut.b.value = int.from_bytes(stimulus.b[t].tobytes(), "little")
            elif t == len(stimulus):
                for name in CONTROL:
                    drive(name, 0)
            drive("r_en", int(t in reads))
            if t in reads:
                drive("r_half", reads[t][0])
                drive("r_row", reads[t][1])
            await FallingEdge(dut.clk)
            # Outputs are now those of the cycle after t.
            if int(dut.fault.value):
                faults.append(t + 1 - Tile.FAULT_LATENCY)
            if (asked := t + 1 - Tile.READ_LATENCY) in reads:
                word = int(dut.r_data.value).to_bytes(4 * self.columns, "little")
                rows[asked] = np.frombuffer(word, dtype=np.int32)
        return rows, faults

    def rows_of(self, m, n, *, row, half, begin):
        """Reads of all rows of a product, one a cycle from ``begin``."""
        pitch = m + m % 2
        where = [row + j * pitch + i for j in range(-(-n // self.columns)) for i in range(m)]
        return {begin + t: (half, row) for t, row in enumerate(where)}

    def assemble(self, rows, m, n):
        """Put rows, read by :meth:`rows_of`, together."""
        blocks = np.array(rows).reshape(-1, m, self.columns)
        return np.concatenate(list(blocks), axis=1)[:, :n]


def _driver(dut):
    given = parameters()
    return TileDriver(dut, **{name: given[name] for name in ("rows", "columns", "acc_rows")})


@cocotb.test
async def products(dut):
    """Products of any shape equal the golden model, in either half, whatever the pauses."""
    driver, rng = _driver(dut), np.random.default_rng(7)
    await driver.start()
    for kind, pauses in product(("random", "minimum", "maximum"), (0.0, 0.3)):
        for m, k, n in parameters()["shapes"]:
            a = rng.integers(-128, 128, (m, k), dtype=np.int8)
            b = rng.integers(-128, 128, (n, k), dtype=np.int8)
            if kind != "random":
                a[:], b[:] = (-128, -128) if kind == "minimum" else (127, -128)
            half = int(rng.integers(2))
            stimulus = schedule(
                passes_of(a, b, rows=driver.rows, columns=driver.columns, half=half),
                **driver.size,
                pause=lambda pauses=pauses: rng.random() < pauses,
            )
            reads = driver.rows_of(m, n, row=0, half=half, begin=len(stimulus) + driver.latency)
            rows, faults = await driver.run(stimulus, reads)
            got = driver.assemble(list(rows.values()), m, n)
            np.testing.assert_array_equal(got, matmul(a, b), err_msg=f"{m, k, n} {kind} {pauses}")
            assert not faults


@cocotb.test
async def utilisation(dut):
    """Products back to back: every sum is right, and the last is there when it must be.

    The cycle in which the last row can first be read is found by trying: a read any earlier meets
    the write of that row, which is a fault, or finds what was there before.
    """
    driver, rng = _driver(dut), np.random.default_rng(3)
    await driver.start()
    shapes = parameters()["chain"]
    # A probe a run, later and later, on new data each time.
    for late in range(-4, 5):
        passes, reads, wanted = [], {}, []
        for half, (m, k, n) in enumerate(shapes):
            a = rng.integers(-128, 128, (m, k), dtype=np.int8)
            b = rng.integers(-128, 128, (n, k), dtype=np.int8)
            passes += passes_of(a, b, rows=driver.rows, columns=driver.columns, half=half % 2)
            wanted.append((len(passes) - 1, matmul(a, b)))
        stimulus = schedule(passes, **driver.size)
        probe = len(stimulus) + driver.latency + late
        m, _, n = shapes[-1]
        reads[probe] = passes[-1].half, passes[-1].row + m - 1
        # Every product is read while the next one is added into the other half.
        owner = {}
        for index, (last, sums) in enumerate(wanted):
            begin = stimulus.starts[last] + len(sums) + driver.latency
            begin = probe + 4 if index == len(wanted) - 1 else begin
            more = driver.rows_of(*sums.shape, row=0, half=index % 2, begin=begin)
            reads |= more
            owner[index] = list(more)
        began = time.perf_counter()
        rows, faults = await driver.run(stimulus, reads)
        seconds = time.perf_counter() - began
        for index, (_, sums) in enumerate(wanted):
            got = driver.assemble([rows[cycle] for cycle in owner[index]], *sums.shape)
            np.testing.assert_array_equal(got, sums)
        last_row = wanted[-1][1][-1]
        tail = last_row[(n - 1) // driver.columns * driver.columns :]
        if not faults and np.array_equal(rows[probe][: len(tail)], tail):
            break
        assert set(faults) <= {probe}
    else:
        raise AssertionError(f"the last row is not there in cycle {probe}")
    macs = sum(m * k * n for m, k, n in shapes)
    report(
        cycles=probe,
        macs=macs,
        utilisation=macs / (driver.rows * driver.columns * probe),
        cycles_per_second=(max(reads) + 1) / seconds,
    )
