# amaranth: UnusedElaboratable=no
import re

import numpy as np
import pytest

from jepa_r_sim.faults import stuck_at
from jepa_r_sim.faults.campaign import CLASSES, classify, draw
from jepa_r_sim.faults.cxxrtl import SETTLE
from jepa_r_sim.faults.subject import SubjectError

from . import toy
from .model import WIDTHS, Toy
from .test_flips import counts

#: Registers of the toy in the netlist, by their names in the model.
NAMES = {
    **{f"main.{name}": name for name in WIDTHS},
    "main.fsm_state": "state",
    "main.wdata": "acc",
}

POLARITIES = np.arange(2, dtype=np.uint32)


def every(netlist):
    return draw(netlist.sites, POLARITIES, count=None, seed=0)


def test_a_stuck_register_does_what_it_does_in_the_model(single, single_netlist):
    """First cycle in which an output differs, of every flip-flop stuck at either value."""
    memory, cycles = toy.single().memory, len(single.trace) - SETTLE
    golden = Toy(memory)
    wanted = []
    for _ in range(cycles):
        wanted.append(golden.outputs())
        golden.edge()
    flops = every(single_netlist)[: 2 * single_netlist.flip_flops]
    assert len(flops) == 2 * len(single.bits)
    for (site, value), event in zip(flops.tolist(), single_netlist.engine.run(flops), strict=True):
        name = single_netlist.name_of(site, value)
        register, place = re.fullmatch(r"([\w.]+?)(?:\[(\d+)\])? stuck at [01]", name).groups()

        def hurt(r, name=NAMES[register], mask=1 << int(place or 0), value=value):
            r[name] = r[name] | mask if value else r[name] & ~mask

        hurt_one = Toy(memory, hurt)
        first = -1
        for cycle in range(cycles):
            if hurt_one.outputs() != wanted[cycle]:
                first = cycle
                break
            hurt_one.edge()
        # The reset does not last in a register that is stuck; it is held until the first cycle.
        assert event["diverged"] == first, name


def test_lanes_do_not_touch_each_other(pair_netlist):
    """A fault does the same in any lane, beside any others."""
    faults = every(pair_netlist)
    events = pair_netlist.engine.run(faults)
    order = np.random.default_rng(1).permutation(len(faults))
    some = order[:700]
    assert (pair_netlist.engine.run(faults[some]) == events[some]).all()


def test_the_pair_notices_whatever_leaves_a_processor(pair_netlist):
    faults = every(pair_netlist)
    events = pair_netlist.engine.run(faults)
    names = [pair_netlist.name_of(*map(int, fault)) for fault in faults]
    inside = np.array([name.startswith(("main.", "check.")) for name in names])
    assert inside.sum() > 3000
    found = counts(events[inside])
    assert found["silent"] == found["timeout"] == 0
    assert found["detected"] > 1000
    diverged = inside & (events["diverged"] >= 0)
    latency = (events["alert"] - events["diverged"])[diverged]
    assert set(latency) == {1, toy.SKEW + 1}


def test_the_last_gate_is_beyond_the_comparator(pair_netlist):
    """What a single gate drives out of the pair, no comparator can hold back: it is reported."""
    faults = every(pair_netlist)
    kinds = classify(pair_netlist.engine.run(faults))
    silent = [
        pair_netlist.name_of(*map(int, fault)) for fault in faults[kinds == CLASSES.index("silent")]
    ]
    assert "w_en stuck at 1" in silent
    assert len(silent) < 10


def test_without_its_comparators_the_pair_lets_wrong_values_out(untied):
    netlist = stuck_at.build_stuck_at(toy.untied(), untied)
    found = counts(netlist.engine.run(draw(netlist.sites, POLARITIES, count=1000, seed=1)))
    assert found["silent"] > 100
    assert found["detected"] == found["contained"] == 0


def test_both_processors_are_in_the_netlist(pair_netlist):
    flops = pair_netlist.names[: pair_netlist.flip_flops]
    of = {side: sum(name.startswith(f"{side}.") for name in flops) for side in ("main", "check")}
    assert of["main"] == of["check"] == sum(WIDTHS.values())


def test_a_netlist_that_does_something_else_is_refused(monkeypatch, single):
    broken = stuck_at._SCRIPT.replace(
        "write_json", "cd subject\nconnect -set w_en 0\ncd\nwrite_json"
    )
    monkeypatch.setattr(stuck_at, "_SCRIPT", broken)
    with pytest.raises(
        SubjectError, match=r"toy, single: w_en\[0\] of the netlist differs from the"
    ):
        stuck_at.build_stuck_at(toy.single(), single)
