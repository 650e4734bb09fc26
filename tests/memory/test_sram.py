import random

import pytest
from amaranth.sim import Simulator

from jepa_r.emit import emit_verilog
from jepa_r.memory.sram import Sram

# Width, depth, segments, code.
SIZES = [(8, 2, 1, False), (32, 48, 4, False), (24, 16, 3, True), (16, 7, 1, True)]


def simulate(dut, testbench):
    async def after_clearing(ctx):
        for _ in range(dut.clear_cycles):
            await ctx.tick()
        await testbench(ctx)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(after_clearing)
    simulator.run()


async def write(ctx, dut, row, word, *, inject=0, segments=None):
    ctx.set(dut.w_en, 2 ** len(dut.w_en) - 1 if segments is None else segments)
    ctx.set(dut.w_addr, row)
    ctx.set(dut.w_data, word)
    ctx.set(dut.inject, inject)
    await ctx.tick()
    ctx.set(dut.w_en, 0)
    ctx.set(dut.inject, 0)


async def read(ctx, dut, row):
    ctx.set(dut.r_en, 1)
    ctx.set(dut.r_addr, row)
    await ctx.tick()
    ctx.set(dut.r_en, 0)
    for _ in range(dut.READ_LATENCY - 1):
        await ctx.tick()
    return ctx.get(dut.r_data), ctx.get(dut.corrected), ctx.get(dut.uncorrectable)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 8, "depth": 1}, "depth is 1; a memory has at least two rows"),
        (
            {"width": 8, "depth": 4, "segments": 3},
            "segments is 3; it must divide width, which is 8",
        ),
        (
            {"width": 8, "depth": 4, "segments": 0},
            "segments is 0; it must divide width, which is 8",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Sram(**arguments)


@pytest.mark.parametrize(("width", "depth", "segments", "ecc"), SIZES)
def test_reads_see_all_writes_before_them(width, depth, segments, ecc):
    dut = Sram(width=width, depth=depth, segments=segments, ecc=ecc)
    rng = random.Random(width)
    part = width // segments

    async def testbench(ctx):
        rows = [rng.getrandbits(width) for _ in range(depth)]
        for row, word in enumerate(rows):
            await write(ctx, dut, row, word)
        expected = []
        for _ in range(600):
            busy = rng.random() < 0.7
            reading, target = busy and rng.random() < 0.7, rng.randrange(depth)
            ctx.set(dut.r_en, reading)
            ctx.set(dut.r_addr, target)
            expected.append(rows[target] if reading else None)
            enables = rng.getrandbits(segments) if busy else 0
            row, word = rng.choice([target, rng.randrange(depth)]), rng.getrandbits(width)
            ctx.set(dut.w_en, enables)
            ctx.set(dut.w_addr, row)
            ctx.set(dut.w_data, word)
            for n in range(segments):
                if enables >> n & 1:
                    mask = (1 << part) - 1 << part * n
                    rows[row] = rows[row] & ~mask | word & mask
            await ctx.tick()
            if len(expected) >= dut.READ_LATENCY and expected[-dut.READ_LATENCY] is not None:
                assert ctx.get(dut.r_data) == expected[-dut.READ_LATENCY]
            assert not ctx.get(dut.corrected)
            assert not ctx.get(dut.uncorrectable)
            assert not ctx.get(dut.scrubbed)

    simulate(dut, testbench)


def test_rows_are_zero_after_clearing_and_need_no_correction():
    dut = Sram(width=24, depth=7, segments=3, ecc=True)

    async def testbench(ctx):
        for row in range(7):
            assert await read(ctx, dut, row) == (0, 0, 0)
        for _ in range(2 * dut.SCRUB_CYCLES * 7):
            assert not ctx.get(dut.scrubbed)
            await ctx.tick()

    simulate(dut, testbench)


@pytest.mark.parametrize("inject", [1, 2])
def test_one_wrong_bit_is_corrected_and_told(inject):
    dut = Sram(width=24, depth=16, segments=3, ecc=True)

    async def testbench(ctx):
        for row in range(16):
            await write(ctx, dut, row, 0xABC000 | row)
        await write(ctx, dut, 5, 0x123456, inject=inject)
        assert await read(ctx, dut, 5) == (0x123456, 1, 0)
        assert await read(ctx, dut, 6) == (0xABC006, 0, 0)

    simulate(dut, testbench)


def test_two_wrong_bits_are_told():
    dut = Sram(width=24, depth=16, segments=3, ecc=True)

    async def testbench(ctx):
        await write(ctx, dut, 5, 0x123456)
        await write(ctx, dut, 5, 0x123456, inject=3, segments=0b010)
        _, corrected, uncorrectable = await read(ctx, dut, 5)
        assert (corrected, uncorrectable) == (0, 1)

    simulate(dut, testbench)


def test_injection_does_nothing_without_code():
    dut = Sram(width=24, depth=16)

    async def testbench(ctx):
        await write(ctx, dut, 5, 0x123456, inject=3)
        assert await read(ctx, dut, 5) == (0x123456, 0, 0)

    simulate(dut, testbench)


def test_idle_memory_heals():
    dut = Sram(width=24, depth=16, segments=3, ecc=True)

    async def testbench(ctx):
        for row in range(16):
            await write(ctx, dut, row, 0xABC000 | row)
        await write(ctx, dut, 5, 0x123456, inject=1)
        await write(ctx, dut, 15, 0x654321, inject=2, segments=0b100)
        scrubbed = 0
        for _ in range((dut.SCRUB_CYCLES + 1) * 16):
            scrubbed += ctx.get(dut.scrubbed)
            await ctx.tick()
        assert scrubbed == 2
        assert await read(ctx, dut, 5) == (0x123456, 0, 0)
        assert await read(ctx, dut, 15) == (0x65C00F, 0, 0)

    simulate(dut, testbench)


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.8, 0.95])
def test_scrubbing_never_undoes_a_write(busy):
    dut = Sram(width=16, depth=3, segments=2, ecc=True)
    rng = random.Random(busy)

    async def testbench(ctx):
        rows = [rng.getrandbits(16) for _ in range(3)]
        for row, word in enumerate(rows):
            await write(ctx, dut, row, word)
        scrubbed = 0
        for _ in range(1500):
            row = rng.randrange(3)
            if rng.random() < busy:
                if rng.random() < 0.5:
                    word, enables = rng.getrandbits(16), rng.randint(1, 3)
                    mask = 0xFF * (enables & 1) | 0xFF00 * (enables >> 1)
                    rows[row] = rows[row] & ~mask | word & mask
                    await write(ctx, dut, row, word, segments=enables, inject=rng.choice([0, 1, 2]))
                else:
                    data, _, uncorrectable = await read(ctx, dut, row)
                    assert (data, uncorrectable) == (rows[row], 0)
            else:
                scrubbed += ctx.get(dut.scrubbed)
                await ctx.tick()
        assert scrubbed > 0

    simulate(dut, testbench)


@pytest.mark.parametrize("ecc", [False, True])
def test_verilog_does_not_grow_with_the_rows(tmp_path, ecc):
    sizes = []
    for depth in (64, 16384):
        emitted = emit_verilog(
            Sram(width=64, depth=depth, segments=2, ecc=ecc),
            name="bank",
            into=tmp_path / str(depth),
        )
        sizes.append(sum(len(path.read_text().splitlines()) for path in emitted.files))
        assert not any("mem[0]" in path.read_text() for path in emitted.files)
    assert sizes[1] - sizes[0] < 10
