import random

import pytest

from jepa_r.cluster.streams import ArrayStream, VectorStream
from jepa_r_sim.drivers.address_streams import (
    ARRAY_OUTPUTS,
    VECTOR_OUTPUTS,
    array_collision,
    array_operation,
    array_operations,
    check_array,
    check_vector,
    garbage,
    next_array,
    vector_operation,
    vector_operations,
)
from jepa_r_sim.drivers.stream import simulate

ROWS, SEGMENTS = 12, 4


def plain(view, layout):
    """Fields of a view as numbers."""
    return {name: int(getattr(view[name], "value", view[name])) for name, _field in layout}


def run(dut, starts, outputs, cycles):
    """Outputs of every cycle, when ``starts[cycle]`` are begun."""
    seen = []

    async def bench(ctx):
        for cycle in range(cycles):
            ctx.set(dut.start, cycle in starts)
            # Operands are valid in the cycle of the start only.
            ctx.set(dut.operation, starts.get(cycle, garbage(dut.operation.shape(), cycle)))
            row = {}
            for name in outputs:
                value = ctx.get(getattr(dut, name))
                row[name] = plain(value, value.shape()) if hasattr(value, "shape") else value
            seen.append(row)
            await ctx.tick()

    simulate(dut, bench, max_cycles=cycles + 10)
    return seen


@pytest.mark.parametrize("seed", range(4))
def test_array_operations_back_to_back(seed):
    starts, cycles = array_operations(random.Random(seed), 25, rows=ROWS)
    seen = run(ArrayStream(rows=ROWS), starts, ARRAY_OUTPUTS, cycles)
    check_array(seen, starts, rows=ROWS)


def test_one_row_one_column_one_pass():
    op = array_operation(random.Random(1), rows=ROWS)
    op |= {"rows": 1, "columns": 1, "passes": 1, "interval": 2}
    starts = {3 + n: op | {"a_addr": n} for n in range(6)}
    check_array(run(ArrayStream(rows=ROWS), starts, ARRAY_OUTPUTS, 40), starts, rows=ROWS)


def collisions(starts, dut):
    seen = run(dut, starts, ("collision",), max(starts) + 80)
    return [cycle - 1 for cycle, row in enumerate(seen) if row["collision"]]


@pytest.mark.parametrize("seed", range(6))
def test_array_operations_that_come_too_early_are_seen(seed):
    rng = random.Random(seed)
    one, two = (array_operation(rng, rows=ROWS) for _ in range(2))
    earliest = next_array(3, one, two)
    assert collisions({3: one, earliest: two}, ArrayStream(rows=ROWS)) == []
    found = collisions({3: one, earliest - 1: two}, ArrayStream(rows=ROWS))
    # What follows is damaged, too; the first fault is the one that is kept.
    assert next(iter(found), None) == array_collision(3, one, earliest - 1, two)


@pytest.mark.parametrize("seed", range(4))
def test_vector_operations_back_to_back(seed):
    starts, cycles = vector_operations(random.Random(seed), 20, segments=SEGMENTS)
    seen = run(VectorStream(segments=SEGMENTS), starts, VECTOR_OUTPUTS, cycles)
    check_vector(seen, starts, segments=SEGMENTS)


def test_vector_operations_that_come_too_early_are_seen():
    rng = random.Random(5)
    for _ in range(3):
        one, two = (vector_operation(rng, segments=SEGMENTS) for _ in range(2))
        one |= {"rows": 3, "segments": 2}
        assert collisions({3: one, 9: two}, VectorStream(segments=SEGMENTS)) == []
        assert collisions({3: one, 8: two}, VectorStream(segments=SEGMENTS)) == [8]
        assert collisions({3: one, 4: two}, VectorStream(segments=SEGMENTS)) == [4]
