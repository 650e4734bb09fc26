import random

import pytest

from jepa_r.control.action_out import ActionOut
from jepa_r_sim import cosim
from jepa_r_sim.drivers.packets import Action, parse_action

#: Cycles of the shortest period, and of a packet that is taken at once.
LEAST, PACKET = 16, 12


@pytest.fixture(scope="module")
def action_out():
    return cosim.build(ActionOut(), name="action_out")


def at(table, cycle):
    return [value for begin, value in table if begin <= cycle][-1]


def beginnings(periods, cycles):
    """Cycles in which a period begins."""
    found, cycle = [], max(at(periods, 0), LEAST)
    while cycle < cycles:
        found.append(cycle)
        cycle += max(at(periods, cycle), LEAST)
    return found


def expected(number, inputs):
    """What the packet of a period must say, from the inputs of the cycle in which it begins."""
    valid = bool(inputs["planned"] and not inputs["stale"])
    halves = [inputs["action"] >> 16 * n & 0xFFFF for n in range(7)]
    return Action(
        sequence=number,
        time=inputs["time"],
        age=inputs["age"] if inputs["planned"] else 2**32 - 1,
        plan=inputs["plan"],
        valid=valid,
        stale=bool(inputs["planned"] and inputs["stale"]),
        action=tuple((half ^ 0x8000) - 0x8000 if valid else 0 for half in halves),
    )


def run(action_out, tmp_path, *, periods, readiness, cycles, seed):
    """Run the bench, and check all that holds however fast packets are taken.

    Returns the cycles in which periods begin, the packets that came, the numbers of those that were
    begun, and the cycles of overruns.
    """
    given = {"periods": periods, "readiness": readiness, "cycles": cycles, "seed": seed}
    seen = action_out.run(
        "jepa_r_sim.benches.action_out", workdir=tmp_path, parameters=given, seed=seed
    ).values
    begins = beginnings(periods, cycles)
    ends = {packet[-1][1] for packet in seen["packets"]}
    order, offers, overruns = [], [], []
    on_way = waiting = None
    for cycle in range(cycles):
        newest = begins.index(cycle) if cycle in begins else None
        if cycle in ends:
            on_way = None
        if newest is not None:
            if on_way is not None or waiting is not None:
                overruns.append(cycle)
            waiting = newest
        if on_way is None and waiting is not None:
            order.append(waiting)
            offers.append(cycle + 1)
            on_way, waiting = waiting, None
    assert seen["overruns"] == overruns
    assert seen["offers"] == [cycle for cycle in offers if cycle < cycles]
    assert seen["clamped"] == [n for n in range(cycles) if at(periods, n) < LEAST]
    for number, packet in zip(order, seen["packets"], strict=False):
        words = [word for word, _ in packet]
        assert parse_action(words) == expected(number, seen["inputs"][begins[number]])
    return begins, seen["packets"], order, overruns


@pytest.mark.parametrize("seed", range(2))
def test_packet_every_period_from_one_moment(action_out, seed, tmp_path):
    """The period changes at any time, and counts from the next packet on."""
    rng = random.Random(seed)
    periods = [(0, 100)]
    for _ in range(12):
        periods.append((periods[-1][0] + rng.randint(1, 400), rng.choice([16, 17, 40, 123, 300])))
    begins, packets, order, overruns = run(
        action_out, tmp_path,
        periods=periods, readiness=[(0, 1.0)], cycles=5000, seed=seed,
    )  # fmt: skip
    assert not overruns
    assert order == list(range(len(begins)))
    for begin, packet in zip(begins, packets, strict=False):
        taken = [cycle for _, cycle in packet]
        assert taken == [begin + 1 + n for n in range(9)] + [begin + PACKET]


@pytest.mark.parametrize("period", [0, 1, 15, 16])
def test_period_is_never_shorter_than_a_packet(action_out, period, tmp_path):
    begins, packets, _, overruns = run(
        action_out, tmp_path,
        periods=[(0, period)], readiness=[(0, 1.0)], cycles=500, seed=period,
    )  # fmt: skip
    assert begins[:2] == [LEAST, 2 * LEAST]
    assert len(packets) == 30
    assert not overruns


@pytest.mark.parametrize("seed", range(6))
def test_packet_that_is_not_taken_is_told_and_never_torn(action_out, seed, tmp_path):
    rng = random.Random(seed)
    readiness = [(0, 1.0)]
    while readiness[-1][0] < 6000:
        rate = rng.choice([0.0, 0.05, 0.2, 0.5, 1.0])
        readiness.append((readiness[-1][0] + rng.randint(1, 300), rate))
    periods = [(0, rng.choice([16, 24, 50])), (3000, rng.choice([16, 24, 50]))]
    _, packets, order, overruns = run(
        action_out, tmp_path,
        periods=periods, readiness=readiness, cycles=6000, seed=seed,
    )  # fmt: skip
    assert len(overruns) > 10
    assert len(packets) > 30
    # Some were left out, none was repeated.
    assert order == sorted(set(order))
    assert order[-1] >= len(order)
