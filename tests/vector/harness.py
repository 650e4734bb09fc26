"""The vector unit in Amaranth's simulator, each cycle of it against the golden model."""

from amaranth import Value
from amaranth.sim import Simulator

from jepa_r.vector.unit import VectorUnit
from jepa_r_sim.drivers.cocotb_stream import unpack
from jepa_r_sim.drivers.vector_steps import (
    operand_words,
    pack_profiles,
    pack_table,
    unpack_row,
)
from jepa_r_sim.golden.rows import NormProfile
from jepa_r_sim.golden.unit import VectorUnit as Golden

__all__ = ["PROFILES", "check"]

PROFILES = [
    NormProfile.of(48, eps=1e-6, lsb=2**-9),
    NormProfile.of(8191, eps=1e-5, lsb=2**-10),
    NormProfile.of(1408, eps=1e-6, lsb=2**-12),
    NormProfile.of(64, eps=1e-30, lsb=1.0),
]


def check(steps, *, lanes, rows=8, profiles=PROFILES, table=None):
    """Run one step or idle cycle (``None``) a cycle, and compare every output in every cycle.

    Returns the finished rows by the cycle of their last step.
    """
    dut = VectorUnit(lanes=lanes, rows=rows)
    golden = Golden(profiles, table if table is not None else [0] * 256)
    results, finished = {}, {}
    for cycle, step in enumerate(steps):
        if step is not None:
            results[cycle + dut.latency], row = golden.step(step)
            if row is not None:
                finished[cycle + dut.row_latency] = row

    async def testbench(ctx):
        async def put(**words):
            for name, word in words.items():
                ctx.set(Value.cast(getattr(dut, name)), word)

        await put(profiles=pack_profiles(profiles))
        if table is not None:
            for n, word in enumerate(pack_table(table)):
                await put(t_en=1, t_addr=n, t_data=word)
                await ctx.tick()
            await put(t_en=0)
        for cycle in range(len(steps) + dut.row_latency + 1):
            await put(**operand_words(steps[cycle] if cycle < len(steps) else None, lanes))
            assert ctx.get(dut.z_valid) == (cycle in results), f"z_valid in cycle {cycle}"
            if cycle in results:
                z = unpack(ctx.get(Value.cast(dut.z)), [16] * lanes)
                step = steps[cycle - dut.latency]
                assert z == results[cycle].tolist(), f"z of {step}"
            assert ctx.get(dut.row_en) == (cycle in finished), f"row_en in cycle {cycle}"
            if cycle in finished:
                row = unpack_row(ctx.get(dut.row_addr), ctx.get(Value.cast(dut.row_data)))
                assert row == finished[cycle], f"row that ended in {cycle - dut.row_latency}"
            if cycle == len(steps) - 1 + dut.distance_latency:
                assert ctx.get(dut.distance) == golden.distance
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    return {cycle - dut.row_latency: row for cycle, row in finished.items()}
