import itertools
import random

import pytest

from jepa_r.safety.comparator import Comparator
from jepa_r_sim.golden.lockstep import self_test_cycles

from .netlist import Faults, synthesize, union

#: Rails are optimized apart, as in the island, and joined for the simulation of faults.
GATES = """\
read_verilog {files}
hierarchy -top top
synth -top top
attrmap -remove keep_hierarchy
flatten
dfflegalize -cell $_DFF_P_ 01
simplemap
opt_clean -purge
"""

UNKEPT = "attrmap -remove keep_hierarchy\nattrmap -modattr -remove keep_hierarchy"


def inputs(**values):
    return {
        "rst": 0, "main": 0, "checker": 0, "fault": 0, "idle": 1, "test_allowed": 1,
        "test_start": 0, "test_key": 0, "inject": 0, "inject_bit": 0, "inject_side": 0,
    } | values  # fmt: skip


def blind_and_found(width, tmp_path, script=GATES):
    """Lanes with a fault that blinds a rail, those that a self test finds, and the faults."""
    rng = random.Random(width)
    dut = Comparator(width=width, skew=2)
    faults = Faults(synthesize(dut, into=tmp_path, script=script)["top"])

    def cycle(**values):
        live = rng.getrandbits(width)
        faults.settle(**(inputs(main=live, checker=live) | values))
        faults.clock()

    for _ in range(3):
        cycle(rst=1)
    for _ in range(4):
        cycle()
    before = faults.state()
    cycle(test_start=1, test_key=dut.KEY)
    for n in range(dut.deadline_cycles):
        if n == self_test_cycles(width) - 1:
            faults.settle(**inputs())
            assert faults.lanes_where(test_done=1, test_good=1) & 1, "lane 0 is good"
        cycle()
    faults.settle(**inputs())
    quiet = {"alert_p": 0, "alert_n": 1, "open_p": 1, "open_n": 0}
    passed = faults.lanes_where(test_done=1, test_good=1, **quiet)
    assert passed & 1
    found = faults.ones ^ passed

    after = faults.state()
    blind = []
    # What the test finds is an alert afterwards: what it is blind to shows before, too.
    for bit, live, state in itertools.product(range(width), (0, 2**width - 1), (before, after)):
        for name in ("main", "checker"):
            faults.values |= state
            values = {"main": live, "checker": live}
            # While tests are not allowed; the alert must be there in the next cycle and stay.
            cycle(test_allowed=0, **(values | {name: live ^ 1 << bit}))
            for _ in range(3):
                faults.settle(**inputs(test_allowed=0, **values))
                loud = {"alert_p": 1, "alert_n": 0, "open_p": 0, "open_n": 1}
                blind.append(faults.ones ^ faults.lanes_where(**loud))
                faults.clock()
    assert not union(blind) & 1
    return union(blind), found, faults


@pytest.mark.parametrize(
    "width", [4, pytest.param(21, marks=pytest.mark.slow), pytest.param(85, marks=pytest.mark.slow)]
)
def test_a_self_test_finds_every_stuck_bit_that_blinds_a_rail(width, tmp_path):
    blind, found, faults = blind_and_found(width, tmp_path)
    missed = faults.named(blind & ~found)
    print(  # noqa: T201
        f"{width} bits: {faults.lanes - 1} stuck-at faults, {found.bit_count()} found by the self "
        f"test, {blind.bit_count()} blind a rail, {len(missed)} of them missed"
    )
    assert blind.bit_count() > 4 * width
    assert missed == []


@pytest.mark.slow
def test_without_kept_rails_a_self_test_would_miss_some(tmp_path):
    """The check can fail: flattened, the rails are one, or falsified behind the comparison."""
    merged = GATES.replace("synth", f"{UNKEPT}\nsynth -flatten")
    blind, found, _faults = blind_and_found(4, tmp_path, script=merged)
    assert blind & ~found


def test_no_stuck_bit_keeps_stores_from_leaving_without_an_alert(tmp_path):
    dut = Comparator(width=4, skew=2)
    faults = Faults(synthesize(dut, into=tmp_path, script=GATES)["top"])
    for cycle in range(12):
        faults.settle(**inputs(rst=int(cycle < 3)))
        faults.clock()
    faults.settle(**inputs())
    shut = faults.ones ^ faults.lanes_where(open_p=1, open_n=0)
    assert shut.bit_count() >= 2
    assert faults.named(shut & faults.lanes_where(alert_p=0, alert_n=1)) == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"width": 0, "skew": 2}, "width is 0; there is at least one bit to compare"),
        ({"width": 8, "skew": 0}, "skew is 0; it must be at least 1"),
    ],
)
def test_comparators_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Comparator(**parameters)
