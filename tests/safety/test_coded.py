import itertools
import random

import pytest

from jepa_r.emit import emit_verilog
from jepa_r.safety.coded import CodedBank
from jepa_r_sim.golden.code import decode, encode
from jepa_r_sim.golden.coded import Bank

from .simulation import Simulation

WORDS, BASE, INTERVAL = 8, 0x1_0000, 8


@pytest.fixture(scope="module")
def simulate():
    """Run a testbench after the bank is cleared."""
    simulation = Simulation(CodedBank(words=WORDS, base=BASE, interval=INTERVAL))
    dut = simulation.dut

    def run(testbench):
        async def after_clearing(ctx):
            for _ in range(WORDS):
                assert not ctx.get(dut.ready)
                await ctx.tick()
            assert ctx.get(dut.ready)
            await testbench(ctx, dut)

        simulation(after_clearing)

    return run


async def write(ctx, dut, row, code, inject=0):
    """Write a code word; whether it was refused."""
    ctx.set(dut.en, 1)
    ctx.set(dut.write, 1)
    ctx.set(dut.addr, row)
    ctx.set(dut.wcode, code)
    ctx.set(dut.inject, inject)
    await ctx.tick()
    ctx.set(dut.en, 0)
    ctx.set(dut.inject, 0)
    return ctx.get(dut.refused)


async def read(ctx, dut, row):
    ctx.set(dut.en, 1)
    ctx.set(dut.write, 0)
    ctx.set(dut.addr, row)
    await ctx.tick()
    ctx.set(dut.en, 0)
    return ctx.get(dut.rcode)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"words": 12}, "words is 12; it must be a power of two and at least 2"),
        ({"words": 1}, "words is 1; it must be a power of two and at least 2"),
        ({"base": 0x1_0004}, "base is 0x10004; it must be a multiple of 0x20 below 0x40000"),
        ({"base": 0x4_0000}, "base is 0x40000; it must be a multiple of 0x20 below 0x40000"),
        ({"interval": 5}, "interval is 5; a word takes up to 6 cycles"),
    ],
)
def test_banks_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        CodedBank(**({"words": WORDS, "base": BASE} | parameters))


def test_all_words_are_zero_after_clearing(simulate):
    async def testbench(ctx, dut):
        for row in range(WORDS):
            assert await read(ctx, dut, row) == encode(0, BASE + 4 * row)

    simulate(testbench)


def test_code_words_of_other_addresses_are_not_written(simulate):
    async def testbench(ctx, dut):
        good = encode(0x1234_5678, BASE + 12)
        assert not await write(ctx, dut, 3, good)
        for row in range(WORDS):
            if row != 3:
                assert await write(ctx, dut, row, good)
                assert await read(ctx, dut, row) == encode(0, BASE + 4 * row)
        for first, second in itertools.combinations(range(0, 39, 6), 2):
            assert await write(ctx, dut, 3, good ^ 1 << first ^ 1 << second)
        assert await read(ctx, dut, 3) == good
        # One wrong bit is written as it is: it can be corrected later.
        assert not await write(ctx, dut, 3, good ^ 1 << 38)
        assert await read(ctx, dut, 3) == good ^ 1 << 38

    simulate(testbench)


def test_a_sweep_corrects_every_wrong_bit_and_counts(simulate):
    async def testbench(ctx, dut):
        rng = random.Random(1)
        words = [rng.getrandbits(32) for _ in range(WORDS)]
        flips = [1 << n for n in rng.sample(range(39), WORDS)]
        flips[5] = 1 << 3 | 1 << 38
        for row, (word, flip) in enumerate(zip(words, flips, strict=True)):
            await write(ctx, dut, row, encode(word, BASE + 4 * row), inject=flip)
        broken = 0
        for _ in range(dut.sweep_cycles + INTERVAL):
            broken += ctx.get(dut.broken)
            assert not ctx.get(dut.late)
            await ctx.tick()
        assert (ctx.get(dut.corrected) >= WORDS - 1, broken >= 1) == (True, True)
        assert ctx.get(dut.uncorrectable) == broken
        for row, word in enumerate(words):
            code = encode(word, BASE + 4 * row)
            assert await read(ctx, dut, row) == (code ^ flips[5] if row == 5 else code)

    simulate(testbench)


@pytest.mark.parametrize(
    ("busy", "steps"),
    [(0.8, 60), *(pytest.param(busy, 300, marks=pytest.mark.slow) for busy in (0.3, 0.9))],
)
def test_scrubbing_changes_no_word_and_needs_only_cycles_in_which_the_port_rests(
    busy, steps, simulate
):
    """Against the golden model, a request at most every other cycle, errors all the time."""

    async def testbench(ctx, dut):
        rng = random.Random(busy)
        bank, words = Bank(WORDS, BASE), [0] * WORDS
        for _ in range(steps):
            row = rng.randrange(WORDS)
            if rng.random() < busy:
                if rng.random() < 0.4:
                    words[row] = rng.getrandbits(32)
                    flip = 1 << rng.randrange(39) if rng.random() < 0.5 else 0
                    code = encode(words[row], BASE + 4 * row)
                    assert not bank.write(row, code, flip)
                    assert not await write(ctx, dut, row, code, inject=flip)
                else:
                    code = await read(ctx, dut, row)
                    word, _corrected, uncorrectable = decode(code, BASE + 4 * row)
                    assert (word, uncorrectable) == (words[row], False)
            assert not ctx.get(dut.late)
            assert not ctx.get(dut.broken)
            await ctx.tick()
        assert ctx.get(dut.corrected) > steps // 50
        for _ in range(WORDS):
            bank.scrub()
        for _ in range(dut.sweep_cycles + INTERVAL):
            await ctx.tick()
        assert [await read(ctx, dut, row) for row in range(WORDS)] == bank.codes
        assert ctx.get(dut.uncorrectable) == bank.uncorrectable == 0

    simulate(testbench)


def test_a_port_that_never_rests_is_told(simulate):
    async def testbench(ctx, dut):
        late = 0
        for _ in range(5 * INTERVAL):
            ctx.set(dut.en, 1)
            ctx.set(dut.addr, 2)
            late += ctx.get(dut.late)
            await ctx.tick()
        assert late >= 3

    simulate(testbench)


def test_words_are_scrubbed_in_turn_each_once_in_an_interval(simulate):
    async def testbench(ctx, dut):
        for row in range(WORDS):
            await write(ctx, dut, row, encode(0, BASE + 4 * row), inject=1)
        before, changes = 0, []
        for cycle in range(dut.sweep_cycles + 8):
            if ctx.get(dut.corrected) != before:
                before = ctx.get(dut.corrected)
                changes.append(cycle)
            await ctx.tick()
        assert len(changes) == WORDS
        assert {b - a for a, b in itertools.pairwise(changes[1:])} == {INTERVAL}

    simulate(testbench)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "base"), [(2048, 0x1_0000), (4096, 0)])
def test_a_sweep_of_the_island_is_as_long_as_promised(words, base, tmp_path):
    bank = CodedBank(words=words, base=base)
    assert bank.sweep_cycles == words * 256
    emitted = emit_verilog(bank, name="bank", into=tmp_path)
    assert list(emitted.memories) == [f"sram_array_39x{words}"]
