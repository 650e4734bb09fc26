import itertools
import random

import pytest
from amaranth import *
from amaranth.lib.cdc import FFSynchronizer
from amaranth.sim import Simulator

from jepa_r.safety.clock_monitor import ClockLimits, ClockMonitor, ClockToggle
from jepa_r_sim.golden import clock_monitor as golden

from .cycles import bits, play

FIELDS = ("window", "low", "high", "stop", "gap")

#: A monitor on each side: the island's clock by the guard's, the other way, and the accelerator's.
PAIRS = {
    "island by guard": {"own_hz": 32e6, "other_hz": 100e6, "divide": 32},
    "guard by island": {"own_hz": 100e6, "other_hz": 32e6, "divide": 4},
    "accelerator by island": {"own_hz": 100e6, "other_hz": 1e9, "divide": 64},
}


def write(**settings):
    """Cycles that write settings."""
    return [{"w_en": 1 << FIELDS.index(name), "w_data": value} for name, value in settings.items()]


#: Four to six edges in 50 cycles, 8 to 12 cycles apart.
SETTINGS = {"window": 50, "low": 4, "high": 6, "stop": 12, "gap": 8}


def levels(edges, cycles):
    """A level that changes in the cycles numbered in ``edges``, counted from the start."""
    level, result = 0, []
    for n in range(cycles):
        level ^= n in edges
        result.append({"toggle": level})
    return result


def run(edges, cycles, **change):
    """Faults in the order in which they show: (cycles after the start's, names)."""
    outputs = ("faults", "first", "alert_p", "alert_n")
    before = [*write(**(SETTINGS | change)), {"start": 1}]
    seen = play(ClockMonitor(), [*before, *levels(edges, cycles)], outputs)[len(before) :]
    shown, before = [], set()
    for n, got in enumerate(seen):
        assert (got["alert_p"], got["alert_n"]) == ((1, 0) if got["faults"] else (0, 1))
        assert got["first"] == (shown[0][1] if shown else got["faults"])
        if got["faults"] != before:
            shown.append((n, got["faults"] - before))
            before = got["faults"]
    return shown


def test_a_clock_that_goes_as_it_should_is_no_fault():
    assert run(range(5, 400, 10), 400) == []


@pytest.mark.parametrize("gap", [12, 13])
def test_a_stop_is_found_at_its_bound(gap):
    shown = run([5, 15, 15 + gap, 25 + gap], 40)
    assert shown == ([] if gap == 12 else [(15 + 12 + 1, {"stopped"})])


def test_a_clock_that_never_moves_is_stopped():
    # The start is the cycle before number 0.
    assert run([], 20) == [(12, {"stopped"})]


@pytest.mark.parametrize("gap", [1, 7, 8])
def test_two_edges_close_to_each_other_are_a_glitch(gap):
    shown = run([5, 15, 15 + gap], 26)
    assert shown == ([] if gap == 8 else [(15 + gap + 1, {"glitch"})])


@pytest.mark.parametrize(("fourth", "found"), [(47, False), (49, False), (50, True)])
def test_few_edges_in_a_window_are_slow(fourth, found):
    """The first window is cycles 0 to 49, and four edges are needed."""
    shown = run([11, 23, 37, fourth, fourth + 10], 60, stop=20)
    assert shown == ([(50, {"slow"})] if found else [])


@pytest.mark.parametrize(("last", "found"), [(49, True), (50, False)])
def test_many_edges_in_a_window_are_fast(last, found):
    """Six are allowed; the seventh shows in the cycle after it."""
    shown = run([0, 8, 16, 24, 32, 40, last], 55)
    assert shown == ([(50, {"fast"})] if found else [])


@pytest.mark.parametrize("seed", range(2))
def test_every_cycle_is_as_the_golden_model_says(seed):
    rng = random.Random(seed)
    model = golden.ClockMonitor()
    spacing = rng.randrange(1, 6)
    settings = {
        "window": 6 * spacing, "low": rng.choice([4, 5, 6]), "high": rng.choice([6, 7]),
        "stop": spacing + rng.randrange(1, 3), "gap": max(0, spacing - rng.randrange(1, 3)),
    }  # fmt: skip
    cycles, expected = [], []

    def step(inputs, **arguments):
        model.step(**arguments)
        cycles.append(inputs)
        expected.append((set(model.faults), set(model.first)))

    for name, value in settings.items():
        step(*write(**{name: value}), toggle=False, writes={name: value})
    level, left = False, spacing
    for n in range(600):
        left -= 1
        if left == 0:
            level = not level
            left = spacing + rng.choices([0, 1, -1], [50, 1, 1])[0] or 1
        inputs = {"toggle": level, "start": n == 2 or rng.random() < 0.001}
        step(inputs, **inputs)
    seen = play(ClockMonitor(), cycles, ["faults", "first"])
    for n, (got, want) in enumerate(zip(seen[1:], expected, strict=True)):
        assert (got["faults"], got["first"]) == want, n


def watch(pair, *, speed, phase, windows=3.0, stop_after=None, edges=60):
    """First faults of a monitor that watches a clock of relative ``speed``.

    With ``stop_after`` cycles the clock stops; then also the own cycles from its last edge to the
    alert.
    """
    clocks = PAIRS[pair]
    limits = ClockLimits.of(**clocks, edges=edges)
    m = Module()
    other = ClockDomain("other", reset_less=True)
    m.domains += [ClockDomain("sync", reset_less=True), other]
    m.submodules.dut = dut = ClockMonitor()
    m.submodules.source = source = DomainRenamer("other")(ClockToggle(divide=clocks["divide"]))
    m.submodules.synchroniser = FFSynchronizer(source.toggle, dut.toggle)
    other_period = 1 / clocks["other_hz"] / speed
    first = set()
    # Own cycles so far: now, at the last edge, and at the alert.
    count = {"now": 0, "edge": 0}

    async def testbench(ctx):
        for n, name in enumerate(FIELDS):
            ctx.set(dut.w_en, 1 << n)
            ctx.set(dut.w_data, getattr(limits, name))
            await ctx.tick()
        ctx.set(dut.w_en, 0)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        while count["now"] < windows * limits.window and not ctx.get(dut.alert_p):
            await ctx.tick()
            count["now"] += 1
        first.update(bits(ctx.get(dut.first)))

    async def clock(ctx):
        await ctx.delay(phase * other_period)
        level = 0
        for _ in itertools.count() if stop_after is None else range(stop_after):
            ctx.set(other.clk, 1)
            if ctx.get(source.toggle) != level:
                level = ctx.get(source.toggle)
                count["edge"] = count["now"]
            await ctx.delay(other_period / 2)
            ctx.set(other.clk, 0)
            await ctx.delay(other_period / 2)

    simulator = Simulator(m)
    simulator.add_clock(1 / clocks["own_hz"])
    simulator.add_testbench(testbench)
    simulator.add_testbench(clock, background=True)
    simulator.run()
    return first, count["now"] - count["edge"]


@pytest.mark.parametrize("pair", PAIRS)
def test_limits_are_five_percent_and_the_resolution(pair):
    limits = ClockLimits.of(**PAIRS[pair])
    assert 0.94 < limits.sure_low < limits.quiet_low <= 0.9525
    assert 1.0475 <= limits.quiet_high < limits.sure_high < 1.06


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("phase", [0.1, 0.6])
def test_real_clocks_are_told_apart(pair, phase):
    limits = ClockLimits.of(**PAIRS[pair], edges=60)
    for speed, allowed in {
        1: [set()],
        limits.quiet_low + 0.001: [set()],
        limits.quiet_high - 0.001: [set()],
        limits.sure_low - 0.001: [{"slow"}],
        limits.sure_high + 0.001: [{"fast"}],
        0.5: [{"stopped"}],
        1.5: [{"glitch"}, {"fast"}],
    }.items():
        first, _cycles = watch(pair, speed=speed, phase=phase)
        assert first in allowed, speed


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("after", [100, 331])
def test_a_clock_that_stops_is_found_within_four_cycles_after_the_bound(pair, after):
    bound = ClockLimits.of(**PAIRS[pair], edges=60).stop
    first, cycles = watch(pair, speed=1, phase=0.3, stop_after=after)
    assert first == {"stopped"}
    assert cycles == bound + ClockMonitor.STOP_LATENCY
    assert ClockMonitor.STOP_LATENCY <= 4


def test_a_divider_that_is_too_small_is_refused():
    message = (
        r"^divide is 1; edges come every 3\.12 cycles, and at least 4 are needed even if the clock "
        r"is 5% fast$"
    )
    with pytest.raises(ValueError, match=message):
        ClockLimits.of(own_hz=100e6, other_hz=32e6, divide=1)
    with pytest.raises(ValueError, match=r"^divide is 0; it must be at least 1$"):
        ClockToggle(divide=0)


@pytest.mark.parametrize("divide", [1, 2, 5])
def test_the_level_changes_every_few_cycles(divide):
    seen = [got["toggle"] for got in play(ClockToggle(divide=divide), [{}] * 40, ["toggle"])]
    changes = [n for n in range(1, 41) if seen[n] != seen[n - 1]]
    assert changes == list(range(1, 41, divide))
