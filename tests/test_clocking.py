# amaranth: UnusedElaboratable=no
"""Crossings with clocks of all ratios, and resets of one side alone."""

import random
import re

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from jepa_r.clocking import (
    CROSSINGS,
    PIN,
    RESETS,
    Capture,
    Kind,
    Queue,
    ResetCrossing,
    Synchroniser,
    WordCrossing,
)

#: Periods of source and target: near each other, far apart both ways, and one of a crystal.
RATIOS = [(1.0, 1.0), (1.0, 1.013), (1.0, 3.125), (3.125, 1.0), (1.0, 0.07), (0.07, 1.0)]


def simulate(dut, ratio, *processes, seconds):
    m = Module()
    m.domains += [ClockDomain("source"), ClockDomain("target")]
    m.submodules.dut = dut
    simulator = Simulator(m)
    for (name, period), phase in zip(
        zip(("source", "target"), ratio, strict=True), (0.0, 0.3), strict=True
    ):
        simulator.add_clock(period, phase=phase * period + 0.01, domain=name)
    for process in processes:
        simulator.add_testbench(process, background=True)
    simulator.run_until(seconds)


@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_a_queue_loses_and_repeats_nothing(ratio):
    depth = 4
    dut = Queue(width=16, depth=depth)
    rng = random.Random(depth)
    words = [rng.getrandbits(16) for _ in range(50)]
    got, most = [], 0

    async def send(ctx):
        nonlocal most
        for n, word in enumerate(words):
            while rng.random() < (0.7 if n > 25 else 0):
                await ctx.tick("source")
            ctx.set(dut.i.payload, word)
            ctx.set(dut.i.valid, 1)
            taken = False
            while not taken:
                *_, ready = await ctx.tick("source").sample(dut.i.ready)
                taken = bool(ready)
            most = max(most, n + 1 - len(got))
            ctx.set(dut.i.valid, 0)

    async def receive(ctx):
        # Wait until it is full, so that this is met too.
        while most < depth:
            await ctx.tick("target")
        while True:
            ctx.set(dut.o.ready, rng.random() < (0.5 if len(got) < 35 else 1))
            *_, valid, payload, ready = await ctx.tick("target").sample(
                dut.o.valid, dut.o.payload, dut.o.ready
            )
            if valid and ready:
                got.append(payload)

    simulate(dut, ratio, send, receive, seconds=500 * max(ratio))
    assert got == words
    # One more waits on the output.
    assert depth <= most <= depth + 2


@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_words_cross_whole_and_once(ratio):
    dut = WordCrossing(width=24)
    rng = random.Random(1)
    words = [rng.getrandbits(24) for _ in range(15)]
    got, waits = [], []

    async def send(ctx):
        for word in words:
            ctx.set(dut.i.payload, word)
            ctx.set(dut.i.valid, 1)
            waited = 0
            while True:
                *_, ready = await ctx.tick("source").sample(dut.i.ready)
                if ready:
                    break
                waited += 1
            waits.append(waited)
            ctx.set(dut.i.valid, 0)
            # What is offered but not valid is nothing.
            ctx.set(dut.i.payload, rng.getrandbits(24))

    async def receive(ctx):
        while True:
            *_, arrived, word = await ctx.tick("target").sample(dut.arrived, dut.o)
            if arrived:
                got.append(word)

    simulate(dut, ratio, send, receive, seconds=250 * max(ratio))
    assert got == words
    assert max(waits) <= 6 + 6 * ratio[1] / ratio[0]


def test_bits_of_a_synchroniser_come_after_its_stages():
    dut = Synchroniser(width=3, stages=3, init=5)
    seen = []

    async def testbench(ctx):
        ctx.set(dut.i, 2)
        for _ in range(5):
            seen.append(ctx.get(dut.o))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert seen == [5, 5, 5, 2, 2]


def test_every_crossing_says_why_and_has_two_ends():
    for name, crossing in CROSSINGS.items():
        assert crossing.name == name
        assert crossing.source != crossing.target != PIN
        assert len(crossing.why) > 20
        for end in crossing.endpoints:
            assert {end.source, end.target} == {crossing.source, crossing.target}
            assert end.pins
        if crossing.kind is not Kind.LEVEL:
            assert crossing.source != PIN


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Queue(width=0), "width is 0; there is at least one bit to cross"),
        (lambda: Queue(width=1, depth=6), "depth is 6; it must be a power of two, and 4 or more"),
        (lambda: Queue(width=1, depth=2), "depth is 2; it must be a power of two, and 4 or more"),
        (lambda: WordCrossing(width=0), "width is 0; there is at least one bit to cross"),
        (lambda: Capture(width=0), "width is 0; there is at least one bit to cross"),
        (lambda: Synchroniser(width=0), "width is 0; there is at least one bit to cross"),
        (
            lambda: Synchroniser(stages=1),
            "stages is 1; a register needs a cycle to settle: 2 or more",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(build, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build()


def test_a_reset_begins_without_a_clock_and_ends_with_its_edges():
    m, domain = Module(), ClockDomain("sync")
    m.domains += domain
    m.submodules.dut = dut = ResetCrossing()

    async def bench(ctx):
        async def edge():
            for level in (1, 0):
                await ctx.delay(1)
                ctx.set(domain.clk, level)

        assert ctx.get(dut.o)
        for _ in range(2):
            # Edges do not end it before its time.
            for _ in range(2 * ResetCrossing.STAGES):
                await edge()
            assert ctx.get(dut.o)
            ctx.set(dut.i, 1)
            await ctx.delay(100)
            for _ in range(ResetCrossing.STAGES):
                assert ctx.get(dut.o)
                await edge()
            for _ in range(3):
                assert not ctx.get(dut.o)
                await edge()
            ctx.set(dut.i, 0)
            await ctx.delay(1)
            assert ctx.get(dut.o)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def test_resets_of_the_accelerator_are_named_and_explained():
    for name, crossing in RESETS.items():
        assert crossing.name == name
        assert crossing.kind is Kind.RESET
        assert crossing.why
        (end,) = crossing.endpoints
        assert (end.path, end.pins, end.together) == (name, ("i",), False)
