# amaranth: UnusedElaboratable=no
"""Units of the planner in Amaranth's simulator, at widths and places no small plan fills."""

import random
from math import isqrt

import numpy as np
import pytest
from amaranth import Value
from amaranth.sim import Simulator

from jepa_r.memory.sram import Sram
from jepa_r.planner.check import SettingsCheck
from jepa_r.planner.draw import Draw
from jepa_r.planner.elites import EliteList
from jepa_r.planner.gaussian import Gaussian
from jepa_r.planner.layouts import MAX_ELITES, PlannerFault, PlannerSettings
from jepa_r.planner.refit import Refit
from jepa_r.planner.serial import SerialDivider, SerialRoot
from jepa_r.planner.threefry import Threefry
from jepa_r_sim.golden import planner
from jepa_r_sim.golden.gaussian import GUARD, table
from jepa_r_sim.golden.planner import FINE, LIMIT, PLANNED, Settings
from jepa_r_sim.golden.threefry import threefry


def simulate(dut, testbench, *, clock=True):
    sim = Simulator(dut)
    if clock:
        sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


def test_tables_of_hardware_and_golden_model_are_the_same():
    """One comes from the library's inverse, the other from halving with the error function."""
    start, fall = table()
    lines = np.array(list(Gaussian.lines())).reshape(*start.shape, 2)
    assert (lines[..., 0] == start + (1 << (GUARD - 1))).all()
    assert (lines[..., 1] == fall).all()


def test_threefry_one_after_the_other():
    rng = random.Random(1)
    cases = [
        ((0, 0), (0, 0)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 2),
        *(tuple((rng.getrandbits(32), rng.getrandbits(32)) for _ in range(2)) for _ in range(20)),
    ]
    dut = Threefry()

    async def testbench(ctx):
        for key, counter in cases:
            ctx.set(dut.start, 1)
            for n in range(2):
                ctx.set(dut.key[n], key[n])
                ctx.set(dut.counter[n], counter[n])
            for _ in range(Threefry.latency):
                await ctx.tick()
                ctx.set(dut.start, 0)
                ctx.set(dut.key[0], rng.getrandbits(32))
                assert ctx.get(dut.valid) == (_ == Threefry.latency - 1)
            assert [ctx.get(dut.words[n]) for n in range(2)] == list(threefry(key, counter))

    simulate(dut, testbench)


def serial(dut, inputs, output):
    """Results of a serial unit, each exactly its latency after its start."""
    results = []

    async def testbench(ctx):
        for values in inputs:
            for name, value in values.items():
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.start, 1)
            for _ in range(dut.latency):
                await ctx.tick()
                ctx.set(dut.start, 0)
            results.append(ctx.get(output))

    simulate(dut, testbench)
    return results


def test_division():
    rng = random.Random(2)
    cases = [(0, 1), (2**58 - 1, 1), (2**58 - 1, 4095), (4094, 4095), (4095, 4095), (1, 1)]
    cases += [(rng.getrandbits(58) >> rng.randrange(58), rng.randint(1, 4095)) for _ in range(60)]
    dut = SerialDivider(width=58, divisor_width=12)
    inputs = [{"dividend": dividend, "divisor": divisor} for dividend, divisor in cases]
    assert serial(dut, inputs, dut.quotient) == [a // b for a, b in cases]


def test_root():
    rng = random.Random(3)
    roots = [0, 1, 2, 3, 2**24 - 1, *(rng.getrandbits(24) >> rng.randrange(24) for _ in range(40))]
    cases = [max(0, root * root + d) for root in roots for d in (-1, 0, 1)] + [2**48 - 1]
    dut = SerialRoot(width=48)
    assert serial(dut, [{"radicand": case} for case in cases], dut.root) == [
        isqrt(case) for case in cases
    ]


@pytest.mark.parametrize("count", [1, 2, 3, MAX_ELITES - 1, MAX_ELITES])
def test_refit_of_every_count(count):
    rng = np.random.default_rng(count)
    ends = np.array([-LIMIT, LIMIT])
    cases = [
        np.full((count, 2), LIMIT),
        np.full((count, 2), -LIMIT),
        # As far apart as can be.
        np.stack([ends[np.arange(count) % 2], -ends[np.arange(count) % 2]], 1),
        rng.integers(-LIMIT, LIMIT + 1, (count, 2)),
        rng.integers(-2, 3, (count, 2)),
        np.zeros((count, 2), int),
    ]
    momenta = [(0, 32768), (32768, 0), (0, 0), (4915, 4915), (1, 32767), (16384, 16384)]
    dut = Refit()

    async def testbench(ctx):
        for actions, (mean, deviation) in zip(cases, momenta, strict=True):
            settings = Settings(elites=count, momentum_mean=mean, momentum_deviation=deviation)
            mu = rng.choice([-LIMIT << FINE, LIMIT << FINE, 5], 2)
            sd = rng.choice([0, 65535 << FINE, 777], 2)
            ctx.set(dut.elites, count)
            ctx.set(dut.momentum_mean, mean)
            ctx.set(dut.momentum_deviation, deviation)
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            for pair in actions.tolist():
                for n in range(2):
                    ctx.set(dut.actions[n], pair[n])
                ctx.set(dut.add, 1)
                await ctx.tick()
                ctx.set(dut.add, 0)
                ctx.set(dut.actions[1], 99)
                await ctx.tick()
            for _ in range(Refit.settle - 2):
                await ctx.tick()
            ctx.set(dut.start, 1)
            got = {}
            for cycle in range(1, Refit.latency + 1):
                await ctx.tick()
                ctx.set(dut.start, 0)
                word = ctx.get(dut.word)
                if ctx.get(dut.r_en):
                    ctx.set(dut.r_data, {"mean": int(mu[word]), "deviation": int(sd[word])})
                if ctx.get(dut.w_en):
                    got[word] = ctx.get(dut.w_data.mean), ctx.get(dut.w_data.deviation)
                assert ctx.get(dut.done) == (cycle == Refit.latency)
            await ctx.tick()
            right = planner.refit(settings, actions[:, None, :], mu[None], sd[None])
            for word in range(2):
                assert got[word] == (right[0][0, word], right[1][0, word])

    simulate(dut, testbench)


@pytest.mark.parametrize("places", [1, 2, 16, MAX_ELITES])
@pytest.mark.parametrize("kinds", [1, 4, 1 << 48])
def test_list_is_sorted_by_cost_then_age(places, kinds):
    rng = random.Random(places)
    dut = EliteList(elites=places)
    costs = [rng.randrange(kinds) for _ in range(2 * places + 3)]

    async def testbench(ctx):
        for count in (len(costs), places // 2, 1):
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            for index, cost in enumerate(costs[:count]):
                ctx.set(dut.offer, 1)
                ctx.set(dut.candidate, index)
                ctx.set(dut.cost, cost)
                await ctx.tick()
                ctx.set(dut.offer, 0)
                ctx.set(dut.cost, rng.getrandbits(48))
                await ctx.tick()
            for _ in range(EliteList.latency - EliteList.period):
                await ctx.tick()
            ranked = sorted((cost, index) for index, cost in enumerate(costs[:count]))
            for rank in range(places):
                ctx.set(dut.rank, rank)
                await ctx.tick()
                seen = ctx.get(dut.selected)
                assert seen.valid == (rank < count)
                if rank < count:
                    assert (seen.cost, seen.candidate) == ranked[rank]

    simulate(dut, testbench)


def test_draws_at_the_ends_of_every_width():
    rng = random.Random(4)
    dut = Draw(steps=3)
    ends = {"mean": [-LIMIT << FINE, LIMIT << FINE, 0, 127, 128, -128, -129]}
    ends["deviation"] = [0, 1, 2**24 - 1, 1229 << FINE]
    clips = [(LIMIT,) * 4, (0,) * 4, (1, 2, 3, 4), (1229, 1229, 1229, 12288)]
    cases = [
        {
            "seed": rng.choice([0, 2**32 - 1, rng.getrandbits(32)]),
            "plan": rng.choice([0, 2**32 - 1, rng.getrandbits(32)]),
            "iteration": rng.choice([0, 254, 255]),
            "candidate": rng.choice([0, 65535, rng.getrandbits(16)]),
            "step": rng.randrange(3),
            "half": rng.getrandbits(1),
            "words": [{name: rng.choice(values) for name, values in ends.items()} for _ in (0, 1)],
            "clip": clips[0],
        }
        for _ in range(80)
    ]

    async def testbench(ctx):
        pending, waiting, seen = {}, {}, []
        for cycle in range(len(cases) * Draw.period + Draw.latency):
            which, phase = divmod(cycle, Draw.period)
            ctx.set(dut.start, int(phase == 0 and which < len(cases)))
            if phase == 0 and which < len(cases):
                case = cases[which]
                case["clip"] = clips[which * len(clips) // len(cases)]
                ctx.set(dut.key[0], case["seed"])
                ctx.set(dut.key[1], case["plan"])
                for name in ("iteration", "candidate", "step", "half"):
                    ctx.set(getattr(dut, name), case[name])
                pending[cycle + Draw.latency] = case
            # What is read belongs to the draw that is due next, and is gone a cycle later.
            ctx.set(Value.cast(dut.r_data), rng.getrandbits(48) if cycle not in waiting else 0)
            if cycle in waiting:
                ctx.set(dut.r_data, waiting.pop(cycle))
            due = pending[min(pending)] if pending else cases[-1]
            for n in range(4):
                ctx.set(dut.clip[n], due["clip"][n])
            if ctx.get(dut.r_en):
                address = ctx.get(dut.r_addr)
                assert address >> 1 == due["step"] << 1 | due["half"]
                waiting[cycle + Sram.READ_LATENCY] = due["words"][address & 1]
            assert ctx.get(dut.valid) == (cycle in pending), f"cycle {cycle}"
            if cycle in pending:
                case = pending.pop(cycle)
                assert ctx.get(dut.valid_step) == case["step"]
                assert ctx.get(dut.valid_half) == case["half"]
                seen.append([ctx.get(dut.actions[n]) for n in range(2)])
            await ctx.tick()
        for case, actions in zip(cases, seen, strict=True):
            settings = Settings(seed=case["seed"], plan=case["plan"], clip=case["clip"], horizon=3)
            mu, sd = np.zeros((2, 3, 4), np.int64)
            own = slice(2 * case["half"], 2 * case["half"] + 2)
            mu[case["step"], own] = [word["mean"] for word in case["words"]]
            sd[case["step"], own] = [word["deviation"] for word in case["words"]]
            drawn = planner.candidates(settings, mu, sd, case["iteration"], [case["candidate"]])
            assert actions == drawn[0, case["step"], PLANNED][own].tolist(), case

    simulate(dut, testbench)


def test_check_is_the_golden_models():
    rng = random.Random(5)
    dut = SettingsCheck(elites=16, steps=3)
    near = {
        "samples": [0, 1, 2, 15, 16, 17, 800, 65535],
        "elites": [0, 1, 2, 15, 16, 17, 255],
        "iterations": [0, 1, 255, 10, 10],
        "horizon": [0, 1, 2, 3, 4, 255],
        "momentum_mean": [0, 4915, 32768, 32769, 65535, 100],
        "momentum_deviation": [0, 4915, 32768, 32769, 65535, 100],
    }
    good = {"samples": 800, "elites": 10, "iterations": 10, "horizon": 2}
    found = set()

    async def testbench(ctx):
        for _ in range(600):
            changed = {name: rng.choice(values) for name, values in near.items()}
            kept = good if rng.random() < 0.7 else {}
            clip = [rng.choice([0, LIMIT, LIMIT, LIMIT, LIMIT + (rng.random() < 0.3)])] * 4
            values = changed | kept | {"clip": clip}
            steps = rng.choice([2, 2, 1, values["horizon"]])
            settings = Settings(**values)
            ctx.set(dut.settings, PlannerSettings().const(values))
            ctx.set(dut.program_steps, steps)
            await ctx.delay(1e-7)
            right = settings.fault(elites=16, steps=3, program_steps=steps)
            assert PlannerFault(ctx.get(dut.fault)).name == right
            found.add(right)

    simulate(dut, testbench, clock=False)
    assert found == {fault.name for fault in PlannerFault} - {"PREDICTOR"}
