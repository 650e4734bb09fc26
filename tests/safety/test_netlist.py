"""What synthesis leaves of the pair: two cores, and an alert that can be one."""

import pytest

from jepa_r.safety import lockstep
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


def own_flops(pair):
    """Flip-flops of the pair outside of its replicas that delay something."""
    inputs = 39 + 1 + 2
    outputs = sum(width for _name, width in pair.compared)
    stores = 16 + 39 + 2
    return pair.skew * (inputs + outputs) + pair.hold_cycles * stores


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("script", [SYNTH, MERGING], ids=["kept", "flat"])
def test_the_netlist_of_the_pair_holds_two_cores(core, script, tmp_path):
    pair = Lockstep(core=core)
    modules = synthesize(pair, into=tmp_path / "pair", script=script)
    one = flops(synthesize(Replica(core=core), into=tmp_path / "one", script=script))
    both = flops(modules)
    print(f"{core.__name__}: {one} flip-flops a replica, {both} in the pair")  # noqa: T201
    # Bits of a core that are constant are not delayed either, where they can be seen to be.
    constant = 2 * pair.skew * 16
    assert 2 * one + own_flops(pair) - constant <= both <= 2 * one + own_flops(pair) + 64
    if script is SYNTH:
        assert (count(modules, "replica"), one > 100) == (2, True)
    for port in ("alert_p", "alert_n", "w_en", "w_en_n"):
        assert "DFF" in driver(modules, port), port


def test_a_pair_without_skew_that_nothing_keeps_is_folded(monkeypatch, tmp_path):
    """The test above can fail."""
    twin = mutant(Lockstep, "checker.reset.eq(late[-1])", "checker.reset.eq(0)")
    monkeypatch.setitem(twin.__init__.__globals__, "delay", lambda m, value, cycles, *, name: value)
    pair = twin(core=StandIn)
    assert lockstep.delay is not twin.__init__.__globals__["delay"]
    modules = synthesize(pair, into=tmp_path / "pair", script=MERGING)
    one = flops(synthesize(Replica(core=StandIn), into=tmp_path / "one", script=MERGING))
    assert flops(modules) < 2 * one + pair.hold_cycles * 57
    assert driver(modules, "alert_p") == "0" or "DFF" not in driver(modules, "alert_p")
    # Kept, they are still two.
    modules = synthesize(twin(core=StandIn), into=tmp_path / "kept", script=SYNTH)
    assert flops(modules) >= 2 * one + pair.hold_cycles * 57
