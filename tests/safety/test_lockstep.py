import itertools
import random
from functools import cache

import pytest

from jepa_r.safety.comparator import Comparator
from jepa_r.safety.lockstep import Lockstep
from jepa_r_sim.golden.code import encode
from jepa_r_sim.golden.lockstep import first_alert, released, self_test_cycles

from .simulation import Simulation
from .stand_in import PERIOD, StandIn


@cache
def simulation_of(skew):
    return Simulation(Lockstep(core=StandIn, skew=skew))


class Run:
    """A pair with a memory of code words, cycle by cycle, and what it did.

    ``disturb(ctx, dut, cycle)`` is called in each cycle; ``answer(code, address, cycle)`` may
    falsify what the memory says, ``refuse(address, write)`` what the bus does.
    """

    def __init__(
        self, cycles, *, skew=2, disturb=None, answer=None, refuse=None, memory=None, interrupts=0
    ):
        simulation = simulation_of(skew)
        self.dut = simulation.dut
        self.cycles, self.disturb = cycles, disturb
        self.answer = answer or (lambda code, address, cycle: code)
        self.refuse = refuse or (lambda address, write: False)
        self.memory = {} if memory is None else memory
        self.main, self.checker, self.stores, self.refused = [], [], [], set()
        self.writes, self.flags, self.alerts, self.done = [], [], [], None
        self.rng = random.Random(interrupts)
        self.interrupts = interrupts
        simulation(self.testbench)

    async def testbench(self, ctx):
        dut = self.dut
        names = [name for name, _width in dut.compared]
        code, error = 0, 0
        for cycle in range(self.cycles):
            ctx.set(dut.r_code, code)
            ctx.set(dut.r_error, error)
            if self.interrupts:
                ctx.set(dut.irq_timer, self.rng.getrandbits(1))
                ctx.set(dut.irq_external, self.rng.getrandbits(1))
            if self.disturb:
                await self.disturb(ctx, dut, cycle)
            for values, replica in ((self.main, dut.main), (self.checker, dut.checker)):
                values.append(tuple(ctx.get(getattr(replica, name)) for name in names))
            self.alerts.append((ctx.get(dut.alert_p), ctx.get(dut.alert_n)))
            self.flags.append((ctx.get(dut.corrected), ctx.get(dut.uncorrectable)))
            if self.done is None and ctx.get(dut.test_done):
                self.done = cycle, ctx.get(dut.test_good)
            # Garbage where nothing was asked for.
            code, error = self.rng.getrandbits(39), 0
            address = ctx.get(dut.r_addr)
            if ctx.get(dut.r_en) or ctx.get(dut.q_write):
                error = self.refuse(address, ctx.get(dut.q_write))
            if ctx.get(dut.q_write):
                self.stores.append((cycle, address << 39 | ctx.get(dut.main.bus_wcode)))
                self.refused |= {cycle} if error else set()
            if ctx.get(dut.r_en):
                word = self.memory.get(address, encode(address * 0x9E37 & 0xFFFF_FFFF, address))
                code = self.answer(word, address, cycle)
            assert ctx.get(dut.w_en) != ctx.get(dut.w_en_n)
            if ctx.get(dut.w_en):
                address = ctx.get(dut.w_addr)
                self.writes.append((cycle, address << 39 | ctx.get(dut.w_code)))
                self.memory[address] = ctx.get(dut.w_code)
            await ctx.tick()

    @property
    def alert(self):
        """First cycle with an alert; both rails agree and it stays."""
        first = next((n for n, pair in enumerate(self.alerts) if pair != (0, 1)), None)
        until = self.cycles if first is None else first
        assert self.alerts == [(0, 1)] * until + [(1, 0)] * (self.cycles - until)
        return first

    def check(self):
        """All of it is as the golden model says."""
        skew = self.dut.skew
        alert = first_alert(self.main, self.checker, skew)
        if alert is not None and alert >= self.cycles:
            alert = None
        assert self.alert == alert
        stores = released(self.stores, self.refused, alert, skew)
        assert self.writes == [(cycle, store) for cycle, store in stores if cycle < self.cycles]
        return alert


@pytest.fixture(scope="module")
def golden_run():
    return Run(10 * PERIOD, interrupts=1)


@pytest.mark.parametrize("skew", [0, 4])
def test_skews_that_cannot_be_are_refused(skew):
    with pytest.raises(ValueError, match=rf"^skew is {skew}; it must be 1, 2 or 3$"):
        Lockstep(core=StandIn, skew=skew)


def test_a_core_without_a_bus_is_refused():
    class Deaf(StandIn):
        @property
        def signature(self):
            members = dict(super().signature.members)
            del members["bus_error"]
            return type(super().signature)(members)

    with pytest.raises(TypeError, match=r"^member bus_error of the core is None; it must be In"):
        Lockstep(core=Deaf)


@pytest.mark.parametrize(
    "skew", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_equal_cores_give_no_alert_and_all_their_stores(skew):
    run = Run(8 * PERIOD, skew=skew, interrupts=skew, refuse=lambda address, _: address == 0x1_0008)
    assert run.check() is None
    assert len(run.stores) == 8
    assert len(run.writes) == 7  # one is refused
    causes = [name for name, _width in run.dut.compared].index("trap_cause")
    assert len({outputs[causes] for outputs in run.main}) > 20  # what is told to the core shows


@pytest.mark.parametrize("side", ["main", "checker"])
def test_any_register_that_flips_is_an_alert_before_anything_wrong_leaves(side, golden_run):
    rng = random.Random(side)
    state = len(golden_run.dut.main.core.fault)
    right = dict(golden_run.writes)
    alerted = 0
    for bit in rng.sample(range(state), 5):
        at = rng.randrange(20, 50)

        async def disturb(ctx, dut, cycle, at=at, bit=bit):
            core = getattr(dut, side).core
            ctx.set(core.fault, (cycle == at) << bit)

        run = Run(10 * PERIOD, interrupts=1, disturb=disturb)
        alert = run.check()
        wrong = next(
            (n for n, (a, b) in enumerate(zip(run.main, golden_run.main, strict=True)) if a != b),
            None,
        )
        alerted += alert is not None
        # After an alert nothing is stored any more: what a good main reads is not the same, either.
        if side == "main" and wrong is not None:
            assert alert == wrong + run.dut.skew + 1
        assert all(right[cycle] == content for cycle, content in run.writes)
    assert alerted >= 3


def test_a_core_that_is_reset_alone_is_an_alert():
    async def disturb(ctx, dut, cycle):
        ctx.set(dut.main.reset, cycle == 30)

    assert Run(60, disturb=disturb).check() == 34


@pytest.mark.parametrize("side", [0, 1])
def test_every_compared_bit_can_be_falsified(side):
    width = sum(width for _name, width in Lockstep(core=StandIn).compared)
    for bit in random.Random(side).sample(range(width), 2):

        async def disturb(ctx, dut, cycle, bit=bit):
            ctx.set(dut.test_allowed, cycle < 40)
            ctx.set(dut.inject, cycle in {20, 41})
            ctx.set(dut.inject_bit, bit)
            ctx.set(dut.inject_side, side)

        assert Run(30, disturb=disturb).alert == 21

    async def too_late(ctx, dut, cycle):
        ctx.set(dut.test_allowed, cycle < 15)
        ctx.set(dut.inject, cycle == 20)

    assert Run(30, disturb=too_late).alert is None


def start_test(*, key=Comparator.KEY, allowed=range(10_000), at=10):
    async def disturb(ctx, dut, cycle):
        ctx.set(dut.test_allowed, cycle in allowed)
        ctx.set(dut.test_start, cycle == at)
        ctx.set(dut.test_key, key)

    return disturb


@pytest.mark.parametrize("skew", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_the_self_test_finds_nothing_wrong_with_a_good_pair(skew):
    width = sum(width for _name, width in Lockstep(core=StandIn).compared)
    cycles = 10 + self_test_cycles(width) + 40
    run = Run(cycles, skew=skew, interrupts=2, disturb=start_test())
    done, good = run.done
    # Stores of the stand-in make it wait, each time until they have left.
    assert good
    assert 0 <= done - 10 - self_test_cycles(width) <= 2 * PERIOD
    shown = [n for n, pair in enumerate(run.alerts) if pair != (0, 1)]
    assert len(shown) == 4
    assert {run.alerts[n] for n in shown} == {(1, 1), (0, 0)}
    assert run.writes == [
        (cycle, store)
        for cycle, store in released(run.stores, run.refused, None, run.dut.skew)
        if cycle < run.cycles
    ]


@pytest.mark.parametrize(
    "disturb", [start_test(key=0xB5), start_test(allowed=())], ids=["key", "not allowed"]
)
def test_a_self_test_needs_key_and_permission(disturb):
    width = sum(width for _name, width in Lockstep(core=StandIn).compared)
    run = Run(self_test_cycles(width) // 4, disturb=disturb)
    assert run.done is None
    assert run.check() is None


def test_a_self_test_that_loses_its_permission_fails_and_alerts():
    run = Run(60, disturb=start_test(allowed=range(30)))
    assert run.done == (31, 0)
    assert run.alert == 31


def test_a_core_that_fails_during_the_self_test_is_an_alert():
    start = start_test()
    for at in (20, 200):  # the one rail under test, and the other

        async def disturb(ctx, dut, cycle, at=at):
            await start(ctx, dut, cycle)
            # The lowest bit of `mix`, which shows at once.
            ctx.set(dut.main.core.fault, (cycle == at) << 12)

        run = Run(230, disturb=disturb)
        assert run.done == (at + 1 + run.dut.skew + 1, 0)
        assert run.alerts[-1] == (1, 0)


@pytest.mark.parametrize("bits", [1, 2])
def test_bits_that_flip_before_the_split_are_corrected_or_flagged(bits, golden_run):
    """Lockstep cannot see them: both processors are told the same."""
    rng = random.Random(bits)
    flips = itertools.cycle(rng.sample(list(itertools.combinations(range(39), bits)), 39))
    told = []

    def answer(code, address, cycle):
        told.append(cycle)
        return code ^ sum(1 << n for n in next(flips))

    run = Run(len(golden_run.main), interrupts=1, answer=answer)
    assert run.check() is None
    flagged = [n for n, flags in enumerate(run.flags) if flags[bits - 1]]
    assert flagged == [cycle + 2 for cycle in told if cycle + 2 < run.cycles]
    assert not any(flags[2 - bits] for flags in run.flags)
    if bits == 1:
        assert run.writes == golden_run.writes


def test_words_of_another_address_are_flagged():
    told = []

    def answer(code, address, cycle):
        told.append(cycle)
        place = address ^ 4 << len(told) % 16
        return encode(0x1357_9BDF, place)

    run = Run(17 * PERIOD // 2, answer=answer)
    assert run.check() is None
    assert [n for n, flags in enumerate(run.flags) if flags[1]] == [
        cycle + 2 for cycle in told if cycle + 2 < run.cycles
    ]


def test_what_is_told_to_one_core_alone_is_an_alert():
    async def disturb(ctx, dut, cycle):
        ctx.set(dut.checker.core.fault, (cycle == 25) << 20)

    run = Run(60, disturb=disturb)
    assert run.check() is not None
