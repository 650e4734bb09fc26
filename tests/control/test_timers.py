import random

import pytest

from jepa_r.control.timers import Timers
from jepa_r_sim.drivers.stream import simulate


def run(cycles, drive, **sizes):
    """Values of all outputs, by cycle; ``drive(cycle)`` gives those of inputs that change."""
    dut, seen = Timers(**sizes), []
    outputs = ("time", "tick", "missed", "planned", "age", "stale")

    async def testbench(ctx):
        for cycle in range(cycles):
            for name, value in drive(cycle).items():
                ctx.set(getattr(dut, name), value)
            seen.append({name: ctx.get(getattr(dut, name)) for name in outputs})
            await ctx.tick()

    simulate(dut, testbench, max_cycles=cycles + 10)
    return seen


def test_numbers_have_bits():
    with pytest.raises(ValueError, match=r"^width is 1; it must be at least 2$"):
        Timers(width=1)


@pytest.mark.parametrize("width", [4, 5, 32])
@pytest.mark.parametrize("seed", range(2))
def test_every_cycle_is_as_the_members_say(width, seed):
    """The narrow ones show what happens at the ends of the numbers."""
    rng = random.Random(seed)
    cycles = 3000
    inputs, values = [], {"plan_period": 7, "plan_deadline": 9, "max_age": 12, "periodic": 0}
    for _ in range(cycles):
        for name, chance, most in (
            ("plan_period", 0.02, 12), ("plan_deadline", 0.02, 12), ("max_age", 0.02, 15),
            ("periodic", 0.03, 1),
        ):  # fmt: skip
            if rng.random() < chance:
                values[name] = rng.randint(0, most)
        values |= {"trigger": rng.random() < 0.08, "done": rng.random() < 0.05}
        inputs.append(dict(values))
    seen = run(cycles, inputs.__getitem__, width=width)

    next_tick = due = completed = None
    for cycle, (given, got) in enumerate(zip(inputs, seen, strict=True)):
        assert got["time"] == cycle % 4**width
        # Periods count from the first cycle in which they are asked for.
        if not given["periodic"]:
            next_tick = None
        elif next_tick is None:
            next_tick = cycle
        tick = next_tick == cycle
        assert got["tick"] == tick, cycle
        if tick:
            next_tick = cycle + max(1, given["plan_period"])

        assert got["missed"] == (due == cycle), cycle
        if due == cycle or given["done"]:
            due = None
        if given["trigger"]:
            due = cycle + given["plan_deadline"] + 1 if given["plan_deadline"] else None

        none = 2**width - 1
        age = none if completed is None else min(cycle - completed - 1, none - 1)
        assert got["planned"] == (completed is not None)
        assert got["age"] == age, cycle
        assert got["stale"] == (completed is not None and age > given["max_age"])
        if given["done"]:
            completed = cycle


@pytest.mark.parametrize("late", [False, True])
def test_last_cycle_in_which_a_plan_is_in_time(late):
    """The bound itself is kept; one cycle more is not."""
    seen = run(
        60,
        lambda cycle: {
            "plan_deadline": 40, "trigger": cycle == 5, "done": cycle == 5 + 40 + late,
        },
    )  # fmt: skip
    assert [n for n, got in enumerate(seen) if got["missed"]] == ([46] if late else [])
