"""Campaigns on the island's processor. Slow; ``./scripts/test --slow tests/faults`` runs them.

The same in full: ``jepa-r faults --faults 38416 --seed 1`` (F1), ``--target single --faults 4000``
(F1b), ``--target untied --faults 4000``, ``--kind stuck-at --faults 9604`` (F2).
"""

import re
from collections import Counter

import numpy as np
import pytest

from jepa_r_sim.faults.campaign import CLASSES, Campaign, draw, run_campaign, summarise
from jepa_r_sim.faults.cxxrtl import build_flips
from jepa_r_sim.faults.stuck_at import build_stuck_at
from jepa_r_sim.faults.targets import TARGETS

pytestmark = pytest.mark.slow

BUILT = {}


def built(target):
    if target not in BUILT:
        subject = TARGETS[target]()
        BUILT[target] = subject, build_flips(subject)
    return BUILT[target]


def flips(target, count, tmp_path):
    subject, made = built(target)
    cycles = np.arange(made.first, made.first + made.cycles, dtype=np.uint32)
    campaign = Campaign(
        engine=made.engine,
        faults=draw(made.bits, cycles, count=count, seed=1),
        name_of=lambda fault: made.name_of(int(fault[0])),
        at=lambda fault: int(fault[1]),
        places=made.places,
        population=len(made.bits) * len(cycles),
        bound=subject.bound,
    )
    result = summarise(campaign, run_campaign(campaign, directory=tmp_path))
    assert sum(result[name] for name in CLASSES) == count
    return result


def stuck(target, count, tmp_path):
    subject, made = built(target)
    netlist = build_stuck_at(subject, made)
    campaign = Campaign(
        engine=netlist.engine,
        faults=draw(netlist.sites, np.arange(2, dtype=np.uint32), count=count, seed=1),
        name_of=lambda fault: netlist.name_of(int(fault[0]), int(fault[1])),
        at=lambda fault: 0,
        places=netlist.places,
        population=2 * len(netlist.sites),
        bound=subject.bound,
    )
    return netlist, summarise(campaign, run_campaign(campaign, directory=tmp_path))


def test_no_flip_of_38416_escapes_from_the_pair(tmp_path):
    result = flips("lockstep", 38416, tmp_path)
    assert result["silent_cases"] == result["timeout_cases"] == []
    assert result["late"] == 0
    assert result["detected"] > 7_000
    assert result["contained"] > 1_000


def test_a_single_core_lets_wrong_values_out(tmp_path):
    result = flips("single", 4000, tmp_path)
    assert result["silent"] > 400


def test_without_its_comparator_the_pair_lets_wrong_values_out(tmp_path):
    result = flips("untied", 4000, tmp_path)
    assert result["silent"] > 100


def test_no_stuck_gate_of_9604_lets_a_wrong_value_out(tmp_path):
    netlist, result = stuck("lockstep", 9604, tmp_path)
    assert result["silent_cases"] == result["timeout_cases"] == []
    assert result["late"] == 0
    main, checker = (flops_of(netlist, side) for side in ("main", "checker"))
    assert main.total() > 1500
    assert not main - checker
    # Interrupts are tied: what follows of that is a constant in main, and in the checker, behind
    # its delay, a flip-flop.
    assert {name.rpartition(".")[0] for name in checker - main} == {"core.csr"}
    assert (checker - main).total() == 2


def flops_of(netlist, side):
    """Names of a processor's flip-flops, those without a name by their module, and how many."""
    # Yosys tells instances from signals of the same name by a number.
    begin = re.compile(rf"{side}(\$\d+)?\.")
    return Counter(
        re.sub(r"gate\$.*|\$signal.*", "gate", begin.sub("", name))
        for name in netlist.names[: netlist.flip_flops]
        if begin.match(name)
    )
