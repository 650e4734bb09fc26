# amaranth: UnusedElaboratable=no
"""The state machine goes where it should from every word that its register can hold."""

import random
from itertools import combinations

from amaranth.sim import Simulator

from jepa_r.safety.map import State
from jepa_r.safety.state import REQUESTS, RESET, StateMachine
from jepa_r_sim.golden.state import STATES, Channel, allowed, following

INPUTS = {
    "loaded": 0.3, "load_failed": 0.05, "settings_locked": 0.5, "comparator_good": 0.5,
    "estop_released": 0.7, "fallback": 0.1, "trip": 0.04, "period": 0.3, "rearm": 0.2,
}  # fmt: skip


def simulate(dut, testbench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def test_it_does_what_the_golden_model_does():
    dut, rng = StateMachine(), random.Random(1)
    steps = set()

    async def testbench(ctx):
        channel, last = Channel(), None
        for cycle in range(6000):
            given = {name for name, often in INPUTS.items() if rng.random() < often}
            if channel.state == "SELFTEST":
                given.discard("trip")  # or it would never be left in another way
            asked = {name for name in REQUESTS if rng.random() < (0.01 if name == "trip" else 0.15)}
            limit = rng.choice([0, 1, 2, 5])
            for name in INPUTS:
                ctx.set(getattr(dut, name), name in given)
            ctx.set(dut.request, sum(1 << n for n, name in enumerate(REQUESTS) if name in asked))
            ctx.set(dut.limit, limit)
            assert ctx.get(dut.state) == STATES[channel.state], cycle
            assert ctx.get(dut.selftest) == (channel.state == "SELFTEST")
            assert ctx.get(dut.running) == (channel.state == "RUN")
            assert ctx.get(dut.hold) == channel.hold
            assert ctx.get(dut.interrupt) == channel.interrupt
            assert (ctx.get(dut.enable_p), ctx.get(dut.enable_n)) == (
                channel.enabled, not channel.enabled
            )  # fmt: skip
            assert ctx.get(dut.open) == (channel.state == "RUN" != last)
            may = allowed(channel, given)
            assert ctx.get(dut.allowed) == sum(
                1 << n for n, name in enumerate(REQUESTS) if name in may
            )
            last = channel.state
            channel = following(channel, given, asked, limit=limit)
            steps.add((last, channel.state))
            await ctx.tick()

    simulate(dut, testbench)
    assert {
        ("RESET", "SELFTEST"), ("SELFTEST", "LOCKED"), ("LOCKED", "RUN"), ("LOCKED", "STOP"),
        ("RUN", "FALLBACK"), ("RUN", "STOP"), ("FALLBACK", "STOP"), ("STOP", "SELFTEST"),
        ("TRIP", "SELFTEST"), ("RUN", "TRIP"), ("FALLBACK", "TRIP"), ("LOCKED", "TRIP"),
    } <= steps  # fmt: skip


def test_an_image_that_cannot_be_loaded_is_a_trip():
    dut = StateMachine()

    async def testbench(ctx):
        ctx.set(dut.load_failed, 1)
        await ctx.tick()
        assert ctx.get(dut.state) == State.TRIP
        assert ctx.get(dut.hold) == 0

    simulate(dut, testbench)


def test_states_are_far_apart_and_what_is_none_is_a_trip():
    words = [*State, RESET]
    assert {bin(a ^ b).count("1") for a, b in combinations(words, 2)} == {8}
    assert sorted(words) == sorted(STATES.values())
    dut, rng = StateMachine(), random.Random(2)
    wrong = {word ^ 1 << bit for word in words for bit in range(16)}
    wrong |= {rng.getrandbits(16) for _ in range(300)} | {0, 0xFFFF}

    async def testbench(ctx):
        for word in wrong - set(words):
            ctx.set(dut.state, word)
            ctx.set(dut.enable_p, 1)
            ctx.set(dut.enable_n, 0)
            ctx.set(dut.request, rng.getrandbits(6))
            await ctx.tick()
            assert ctx.get(dut.enable_p) == 0
            assert ctx.get(dut.enable_n) == 1
            assert ctx.get(dut.state) == State.TRIP

    simulate(dut, testbench)
