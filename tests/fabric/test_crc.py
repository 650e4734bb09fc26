import random
import zlib

import pytest
from amaranth.sim import Simulator

from jepa_r.fabric.crc import Crc32


def test_a_beat_holds_a_sum():
    with pytest.raises(ValueError, match=r"^data_bytes is 2; a sum has four bytes$"):
        Crc32(data_bytes=2)


@pytest.mark.parametrize("data_bytes", [4, 8, 16, 32, 128])
def test_sums_are_those_of_zlib(data_bytes):
    dut = Crc32(data_bytes=data_bytes)
    rng = random.Random(data_bytes)
    runs = [[rng.randbytes(data_bytes) for _ in range(rng.randint(1, 6))] for _ in range(20)]
    runs[:3] = [[bytes(data_bytes)], [b"\xff" * data_bytes] * 2, [bytes(data_bytes)] * 3]
    sums, expected = [], []

    async def testbench(ctx):
        coming = [None] * dut.LATENCY
        for beats in runs:
            total = 0
            for n, beat in enumerate(beats):
                while rng.random() < 0.3:
                    ctx.set(dut.en, 0)
                    ctx.set(dut.data, rng.getrandbits(8 * data_bytes))
                    await tick(ctx, coming, None)
                total = zlib.crc32(beat, total)
                ctx.set(dut.en, 1)
                ctx.set(dut.first, n == 0)
                ctx.set(dut.data, int.from_bytes(beat, "little"))
                await tick(ctx, coming, total)
        ctx.set(dut.en, 0)
        for _ in range(dut.LATENCY):
            await tick(ctx, coming, None)

    async def tick(ctx, coming, total):
        coming.append(total)
        await ctx.tick()
        coming.pop(0)
        if coming[0] is not None:
            sums.append(ctx.get(dut.crc))
            expected.append(coming[0])

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert sums == expected
    assert len(sums) == sum(len(beats) for beats in runs)
