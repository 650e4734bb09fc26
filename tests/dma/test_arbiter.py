# amaranth: UnusedElaboratable=no
from fractions import Fraction

import pytest
from amaranth.sim import Simulator
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r import config
from jepa_r.config import PRESETS, ChipConfig, ConfigError, MemoryContract
from jepa_r.dma.arbiter import Arbiter
from jepa_r.dma.buffer import BeatBuffer
from jepa_r.dma.pacer import Pacer
from jepa_r.dma.skid import SkidBuffer

MEMORY = MemoryContract(data_bytes=16, bytes_per_cycle=16, latency=64, outstanding=16)
MASTERS = [
    MemoryContract(data_bytes=16, bytes_per_cycle=rate, latency=107) for rate in (8, 4)
]  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "master", "concurrent", "message"),
    [
        ({"bytes_per_cycle": 11}, {}, True, "memory.bytes_per_cycle is 11; the masters ask for 12"),
        ({"bytes_per_cycle": 7}, {}, False, "memory.bytes_per_cycle is 7; the masters ask for 8"),
        ({"outstanding": 15}, {}, True, "memory.outstanding is 15; the masters have 16"),
        ({"outstanding": 7}, {}, False, "memory.outstanding is 7; the masters have 8"),
        (
            {},
            {"data_bytes": 32},
            True,
            r"masters\[1\].data_bytes is 32; it must be that of memory, 16",
        ),
        (
            {},
            {"latency": 106},
            True,
            r"masters\[1\].latency is 106; it must be at least 107, 43 more than that of memory",
        ),
        (
            {},
            {"latency": 64},
            False,
            r"masters\[1\].latency is 64; it must be at least 65, 1 more than that of memory",
        ),
    ],
)
def test_promises_that_cannot_be_kept_are_refused(memory, master, concurrent, message):
    masters = [MASTERS[0], evolve(MASTERS[1], **master)]
    with pytest.raises(ValueError, match=f"^{message}$"):
        Arbiter(memory=evolve(MEMORY, **memory), masters=masters, concurrent=concurrent, ecc=False)


def test_the_latency_that_configurations_allow_for_is_the_arbiters():
    assert (config._SHARED_READ, config._SHARED_WRITE, config._ALONE) == (
        Arbiter.READ, Arbiter.WRITE, Arbiter.ALONE,
    )  # fmt: skip


@pytest.mark.parametrize("concurrent", [True, False])
@pytest.mark.parametrize(("rate", "bursts"), [(16, (16, 16)), (11, (4, 13)), (9, (1, 16))])
def test_the_least_latency_that_a_configuration_may_have(concurrent, rate, bursts):
    nano = PRESETS["nano"]
    memory = MemoryContract(data_bytes=16, bytes_per_cycle=rate, latency=30, outstanding=180)
    masters = [
        MemoryContract(
            data_bytes=16, bytes_per_cycle=each, latency=1, burst_beats=burst, outstanding=90
        )
        for each, burst in zip((5, 4), bursts, strict=True)
    ]
    least = 30 + Arbiter.added(memory=memory, masters=masters, concurrent=concurrent)

    def chip(latency):
        encoder, predictor = (
            evolve(cluster, memory=evolve(master, latency=latency))
            for cluster, master in zip((nano.encoder, nano.predictor), masters, strict=True)
        )
        return ChipConfig(
            name="chip", clock_mhz=1, encoder=encoder, predictor=predictor, memory=memory,
            concurrent=concurrent,
        )  # fmt: skip

    made = chip(least)
    Arbiter(
        memory=memory, masters=[made.encoder.memory, made.predictor.memory],
        concurrent=concurrent, ecc=False,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=f"must be at least {least}"):
        chip(least - 1)


def run(dut, testbench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@settings(max_examples=20, deadline=None)
@given(
    interval=st.builds(Fraction, st.integers(8, 40), st.integers(1, 8)),
    things=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 16)), min_size=1, max_size=20),
)
def test_things_pass_at_their_rate_and_nothing_is_lost(interval, things):
    """Each thing comes some cycles after the one before has passed, and takes its amount."""
    dut = Pacer(interval=interval, most=16)
    passed = []

    async def testbench(ctx):
        for gap, amount in things:
            for _ in range(gap):
                passed.append(None)
                await ctx.tick()
            while not ctx.get(dut.open):
                passed.append(None)
                await ctx.tick()
            ctx.set(dut.go, 1)
            ctx.set(dut.amount, amount)
            passed.append(amount)
            await ctx.tick()
            ctx.set(dut.go, 0)

    run(dut, testbench)
    cycles = [n for n, amount in enumerate(passed) if amount]
    end, there = Fraction(0), 0
    for cycle, (gap, amount) in zip(cycles, things, strict=True):
        there += gap
        # What comes in the cycle of a fractional end begins there.
        begin = end if there - 1 < end <= there and there else max(Fraction(there), end)
        assert cycle == -(-begin // 1)
        end, there = begin + amount * interval, cycle + 1


def test_words_come_out_as_they_went_in_and_none_without_room():
    dut = BeatBuffer(width=8, depth=5, ecc=True)
    found = []

    async def testbench(ctx):
        for _ in range(dut.clear_cycles):
            await ctx.tick()
        # More than fit, while none is taken: what waits at the exit has left the memory.
        ctx.set(dut.w_en, 1)
        taken = 0
        for word in range(20):
            ctx.set(dut.w_data, word)
            taken += ctx.get(dut.w_rdy)
            if word == BeatBuffer.LATENCY:
                assert ctx.get(dut.r_rdy)
            elif word < BeatBuffer.LATENCY:
                assert not ctx.get(dut.r_rdy)
            await ctx.tick()
        ctx.set(dut.w_en, 0)
        assert taken == 5 + BeatBuffer._AHEAD
        ctx.set(dut.r_en, 1)
        while len(found) < taken:
            if ctx.get(dut.r_rdy):
                found.append(ctx.get(dut.r_data))
            await ctx.tick()

    run(dut, testbench)
    assert found == list(range(len(found)))


def test_a_word_passes_every_cycle():
    dut = BeatBuffer(width=8, depth=16, ecc=False)
    found = []

    async def testbench(ctx):
        ctx.set(dut.w_en, 1)
        ctx.set(dut.r_en, 1)
        for cycle in range(100):
            ctx.set(dut.w_data, cycle)
            if ctx.get(dut.r_rdy):
                found.append((cycle, ctx.get(dut.r_data)))
            await ctx.tick()

    run(dut, testbench)
    assert found == [(n + BeatBuffer.LATENCY, n) for n in range(100 - BeatBuffer.LATENCY)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_skid_buffer_is_a_queue_of_two_whose_room_does_not_see_ready(wishes):
    """Against a list, with what each side wants in each cycle."""
    dut = SkidBuffer(width=8)

    async def testbench(ctx):
        queue = []
        for n, (offers, takes) in enumerate(wishes):
            assert (ctx.get(dut.room), ctx.get(dut.valid)) == (len(queue) < 2, len(queue) > 0)
            if queue:
                assert ctx.get(dut.payload) == queue[0]
            ctx.set(dut.ready, takes)
            assert ctx.get(dut.room) == (len(queue) < 2)
            ctx.set(dut.go, comes := offers and len(queue) < 2)
            ctx.set(dut.word, n)
            await ctx.tick()
            queue = queue[takes:] + [n] * comes

    run(dut, testbench)
