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


def delays(pair):
    """Flip-flops of the pair's delays.

    The first stages of the release are those of main's outputs: synthesis merges the two, so that
    what is compared is what is released.
    """
    inputs = 39 + 1 + 2
    outputs = sum(width for _name, width in pair.compared)
    store = 16 + 39
    return pair.skew * (inputs + outputs) + 2 * (store + pair.hold_cycles)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(
    "script",
    [pytest.param(SYNTH, id="kept"), pytest.param(MERGING, id="flat", marks=pytest.mark.slow)],
)
def test_the_netlist_of_the_pair_holds_two_cores(core, script, tmp_path):
    pair = Lockstep(core=core)
    modules = synthesize(Wired(pair), into=tmp_path / "pair", script=script)
    one = flops(synthesize(Replica(core=core), into=tmp_path / "one", script=script))
    both = flops(modules)
    print(f"{core.__name__}: {one} flip-flops a replica, {both} in the pair")  # noqa: T201
    # Besides: reset of the checker, two rails, and the steps of the self test.
    assert both <= 2 * one + delays(pair) + 34
    if script is SYNTH:
        assert count(modules, "replica") == 2
        assert both >= 2 * one + delays(pair)
    else:
        # Where the core's constant bits can be seen, they are not delayed.
        assert both >= 2 * one + delays(pair) // 2
    for port in ("alert_p", "alert_n", "w_en", "w_en_n"):
        assert "DFF" in driver(modules, port), port


@pytest.mark.slow
@pytest.mark.xfail(reason="registers in loops are not merged; needs a core without feedback")
def test_a_pair_without_skew_that_nothing_keeps_is_folded(monkeypatch, tmp_path):
    """The test above can fail."""
    twin = mutant(Lockstep, "checker.reset.eq(late[-1])", "checker.reset.eq(0)")
    monkeypatch.setitem(twin.__init__.__globals__, "delay", lambda m, value, cycles, *, name: value)
    one = flops(synthesize(Replica(core=StandIn), into=tmp_path / "one", script=MERGING))
    modules = synthesize(Wired(twin(core=StandIn)), into=tmp_path / "pair", script=MERGING)
    assert one <= flops(modules) < 2 * one
    assert (driver(modules, "alert_p"), driver(modules, "alert_n")) == ("0", "1")
    # Kept, they are still two.
    modules = synthesize(Wired(twin(core=StandIn)), into=tmp_path / "kept", script=SYNTH)
    assert flops(modules) >= 2 * one
    assert "DFF" in driver(modules, "alert_p")
