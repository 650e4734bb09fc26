"""What synthesis leaves of the pair: two cores, and an alert that can be one."""

import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from jepa_r.safety.core import Core
from jepa_r.safety.lockstep import Lockstep
from jepa_r.safety.replica import Replica
from jepa_r_sim.formal import mutant

from .netlist import count, driver, flops, synthesize
from .stand_in import StandIn

SYNTH = """\
read_verilog {files}
hierarchy -top top
synth -top top -flatten -noabc
opt -full -purge
"""

#: The same where nothing is kept on purpose.
MERGING = SYNTH.replace(
    "synth", "attrmap -remove keep_hierarchy\nattrmap -modattr -remove keep_hierarchy\nsynth"
)

CORES = [StandIn, pytest.param(Core, marks=pytest.mark.slow)]


class Wired(wiring.Component):
    """A pair that is never tested: what is not driven by the cores then is a constant."""

    def __init__(self, pair):
        self.pair = pair
        super().__init__({
            name: member
            for name, member in pair.signature.members.items()
            if not name.startswith(("test", "inject"))
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.pair = pair = self.pair
        for name, member in self.signature.members.items():
            mine, its = getattr(self, name), getattr(pair, name)
            m.d.comb += its.eq(mine) if member.flow == In else mine.eq(its)
        return m


def delays(pair, skew):
    """Flip-flops of the pair's delays.

    The first stages of the release are those of main's outputs: synthesis merges the two, so that
    what is compared is what is released.
    """
    inputs = 39 + 1 + 2
    outputs = sum(width for _name, width in pair.compared)
    store = 16 + 39
    return skew * (inputs + outputs) + (pair.hold_cycles - skew) * store + pair.hold_cycles + 2


def check_two_cores(modules, one, pair, *, skew, flat=False):
    """The netlist of a pair has all flip-flops of two replicas of ``one`` each, and alerts."""
    both = flops(modules)
    # Besides: reset of the checker, two rails, and the steps of the self test.
    assert both <= 2 * one + delays(pair, skew) + 34, "more than two cores"
    # Where the core's constant bits can be seen, they are not delayed.
    assert both >= 2 * one + delays(pair, skew) // (2 if flat and skew else 1), "less than two"
    assert count(modules, "replica") == (0 if flat else 2)
    for port in ("alert_p", "alert_n", "w_en", "w_en_n"):
        assert "DFF" in driver(modules, port), port
    return both


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(
    "script",
    [pytest.param(SYNTH, id="kept"), pytest.param(MERGING, id="flat", marks=pytest.mark.slow)],
)
def test_the_netlist_of_the_pair_holds_two_cores(core, script, tmp_path):
    pair = Lockstep(core=core)
    modules = synthesize(Wired(pair), into=tmp_path / "pair", script=script)
    one = flops(synthesize(Replica(core=core), into=tmp_path / "one", script=script))
    both = check_two_cores(modules, one, pair, skew=pair.skew, flat=script is MERGING)
    print(f"{core.__name__}: {one} flip-flops a replica, {both} in the pair")  # noqa: T201


class Straight(wiring.Component):
    """A core without loops: what it is told passes through it. Synthesis can make one of two."""

    def __init__(self):
        super().__init__(dict(StandIn().signature.members))

    def elaborate(self, platform):
        m = Module()
        places = [self.irq_timer]
        for bit in self.bus_addr:
            m.d.sync += bit.eq(places[-1])
            places.append(bit)
        m.d.sync += [
            self.bus_en.eq(self.irq_timer),
            self.bus_fetch.eq(self.irq_external),
            self.bus_write.eq(self.irq_timer ^ self.irq_external),
            self.bus_wdata.eq(self.bus_rdata),
            self.trap.eq(self.bus_error),
            self.trap_cause.eq(self.bus_rdata[27:]),
        ]
        return m


@pytest.mark.slow
def test_a_pair_without_skew_that_nothing_keeps_is_folded(monkeypatch, tmp_path):
    """The test above can fail: of two cores that get the same in the same cycle, one is left."""
    twin = mutant(Lockstep, "checker.reset.eq(late[-1])", "checker.reset.eq(0)")
    monkeypatch.setitem(twin.__init__.__globals__, "delay", lambda m, value, cycles, *, name: value)
    pair = twin(core=Straight)
    one = flops(synthesize(Replica(core=Straight), into=tmp_path / "one", script=MERGING))
    folded = synthesize(Wired(pair), into=tmp_path / "folded", script=MERGING)
    with pytest.raises(AssertionError, match=r"^less than two"):
        check_two_cores(folded, one, pair, skew=0, flat=True)
    print(f"{one} flip-flops a replica, {flops(folded)} in the folded pair")  # noqa: T201
    # Kept, they are still two.
    pair = twin(core=Straight)
    kept = synthesize(Wired(pair), into=tmp_path / "kept", script=SYNTH)
    check_two_cores(kept, one, pair, skew=0)
