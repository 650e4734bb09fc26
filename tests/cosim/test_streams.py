import random

from amaranth.lib.data import Layout

from jepa_r.cluster.streams import ArrayStream, VectorStream
from jepa_r_sim import cosim
from jepa_r_sim.compiler.program import encode
from jepa_r_sim.drivers import address_streams

ROWS, SEGMENTS = 12, 4

#: Cycles in which pairs of operations begin, far enough apart for all that a collision damages.
PAIRS = range(3, 8000, 200)


def run(tmp_path, dut, starts, outputs, cycles):
    """Outputs of every cycle, when ``starts[cycle]`` are begun."""
    layout = dut.operation.shape()
    # Operands are valid in the cycle of the start only.
    operands = (
        starts.get(cycle, address_streams.garbage(layout, cycle)) for cycle in range(cycles)
    )
    words = [encode(layout, op) for op in operands]
    simulation = cosim.build(dut, name=type(dut).__name__.lower())
    seen = simulation.run(
        "jepa_r_sim.benches.streams",
        workdir=tmp_path,
        parameters={"operations": words, "starts": sorted(starts), "outputs": outputs},
    ).values["seen"]
    shapes = [dut.signature.members[name].shape for name in outputs]
    return [
        {name: split(shape, value) for name, shape, value in zip(outputs, shapes, row, strict=True)}
        for row in seen
    ]


def split(shape, value):
    """A port's value, by field if it has some."""
    if not isinstance(shape, Layout):
        return value
    return {name: value >> slot.offset & (1 << slot.width) - 1 for name, slot in shape}


def test_array_operations_back_to_back(tmp_path):
    starts, cycles = address_streams.array_operations(random.Random(1), 150, rows=ROWS)
    seen = run(tmp_path, ArrayStream(rows=ROWS), starts, address_streams.ARRAY_OUTPUTS, cycles)
    address_streams.check_array(seen, starts, rows=ROWS)


def test_vector_operations_back_to_back(tmp_path):
    starts, cycles = address_streams.vector_operations(random.Random(2), 150, segments=SEGMENTS)
    seen = run(
        tmp_path, VectorStream(segments=SEGMENTS), starts, address_streams.VECTOR_OUTPUTS, cycles
    )
    address_streams.check_vector(seen, starts, segments=SEGMENTS)


def test_array_operations_that_come_too_early_are_collisions(tmp_path):
    rng = random.Random(3)
    starts, expected = {}, []
    for at in PAIRS:
        one, two = (address_streams.array_operation(rng, rows=ROWS) for _ in range(2))
        early = rng.randint(at + 1, max(address_streams.next_array(at, one, two) - 1, at + 1))
        starts |= {at: one, early: two}
        expected.append(address_streams.array_collision(at, one, early, two))
    seen = run(tmp_path, ArrayStream(rows=ROWS), starts, ("collision",), PAIRS.stop)
    found = [cycle - 1 for cycle, row in enumerate(seen) if row["collision"]]
    # What follows a collision is damaged, too; the first is the one that counts.
    first = [next((c for c in found if at <= c < at + PAIRS.step), None) for at in PAIRS]
    assert first == expected
    assert 0 < expected.count(None) < len(expected) // 2


def test_vector_operations_that_come_too_early_are_collisions(tmp_path):
    rng = random.Random(4)
    starts, expected = {}, []
    for at in PAIRS:
        one, two = (address_streams.vector_operation(rng, segments=SEGMENTS) for _ in range(2))
        last = at + one["rows"] * one["segments"]
        if last - 1 > at:
            expected.append(early := rng.choice([last - 1, rng.randrange(at + 1, last)]))
            starts |= {at: one, early: two}
    seen = run(tmp_path, VectorStream(segments=SEGMENTS), starts, ("collision",), PAIRS.stop)
    assert [cycle - 1 for cycle, row in enumerate(seen) if row["collision"]] == expected
