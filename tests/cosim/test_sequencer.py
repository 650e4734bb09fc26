import itertools
import random

import pytest

from jepa_r.cluster.isa import LAYOUTS, NO_CHECK, OPERANDS, Control, Engine
from jepa_r.cluster.sequencer import LOOP_DEPTH, Sequencer
from jepa_r.config import PRESETS
from jepa_r.vector.layouts import NormProfileLayout
from jepa_r_sim import cosim
from jepa_r_sim.compiler import compile_encoder
from jepa_r_sim.compiler.loops import roll
from jepa_r_sim.compiler.operations import Operation
from jepa_r_sim.compiler.program import assemble_words, encode
from jepa_r_sim.golden.rows import NormProfile
from jepa_r_sim.model.shapes import MODELS

QUEUE = 4
NAMES = {engine: engine.name.lower() for engine in OPERANDS}


def play(tmp_path, *runs, pointers=32):
    """What the sequencer did with each program."""
    dut = Sequencer(program_words=1024, queue=QUEUE, pointers=pointers)
    simulation = cosim.build(dut, name="sequencer")
    results = simulation.run(
        "jepa_r_sim.benches.sequencer", workdir=tmp_path, parameters={"runs": runs}
    )
    return results.values["runs"]


def operation(engine, start, **fields):
    """An operation whose other fields are zero, and which needs nothing from memory."""
    own = [name for name in LAYOUTS[engine].members if name not in ("engine", "wait")]
    return Operation(engine, dict.fromkeys(own, 0) | {"in_flight": NO_CHECK} | fields, start=start)


def scheduled(operations):
    """Starts as the bench reports them, ordered by cycle and engine."""
    return [
        [op.start, NAMES[op.engine], {
            name: int(op.fields.get(name, 0))
            for name in LAYOUTS[op.engine].members
            if name not in ("engine", "wait", "in_flight") and not name.endswith("_ptr")
        }]
        for op in sorted(operations, key=lambda op: (op.start, op.engine.value))
    ]  # fmt: skip


def nest(rng, counts):
    """Loops in each other around one operation of each engine, with a step for each operand."""
    periods = [150]
    for count in reversed(counts[1:]):
        periods.insert(0, periods[0] * count + 100)
    operations = []
    for offset, engine in enumerate(OPERANDS):
        bits = {name: LAYOUTS[engine][name].width for name, _pointer in OPERANDS[engine]}
        first = {
            name: rng.randrange(1 << width - 1, 3 << width - 2) for name, width in bits.items()
        }
        # Few different steps, which share pointers; some operands stay.
        steps = {name: [rng.choice([-64, 0, 1, 1000]) for _ in counts] for name in bits}
        others = {
            name: rng.getrandbits(LAYOUTS[engine][name].width)
            for name in LAYOUTS[engine].members
            if name not in ("engine", "wait", "in_flight") and not name.endswith("_ptr")
        }
        for turn in itertools.product(*map(range, counts)):
            start = (
                200 + 3 * offset + sum(n * period for n, period in zip(turn, periods, strict=True))
            )
            places = {
                name: first[name] + sum(n * step for n, step in zip(turn, steps[name], strict=True))
                for name in bits
            }
            operations.append(operation(engine, start, **others | places))
    return sorted(operations, key=lambda op: op.start)


def deadlines(operations, end):
    """First start of an operation that needs each transfer; its read's start."""
    reads = [op.start for op in operations if op.engine is Engine.READ]
    needed = [end - 1] * len(reads)
    for op in operations:
        if op.fields["in_flight"] != NO_CHECK:
            issued = sum(start < op.start for start in reads)
            for n in range(issued - op.fields["in_flight"]):
                needed[n] = min(needed[n], op.start)
    return needed, reads


def arrivals(operations, end, *, late=lambda: 0):
    """Completions as late as each may be, and then some; and by how much the run slips."""
    needed, reads = deadlines(operations, end)
    latest = list(needed)
    for n in reversed(range(len(needed) - 1)):
        latest[n] = min(needed[n], latest[n + 1] - 1)
    slip, cycles = 0, []
    for due, last, read in zip(needed, latest, reads, strict=True):
        cycle = max([last - 1 + slip + late(), *(done + 1 for done in cycles[-1:])])
        assert cycle > read + slip
        cycles.append(cycle)
        slip = max(slip, cycle + 1 - due)
    return cycles, slip


@pytest.mark.parametrize("counts", [(2, 3, 5), (*(LOOP_DEPTH - 1) * (2,), 3)], ids=str)
def test_nested_loops_unroll_to_the_schedule(counts, tmp_path):
    operations = nest(random.Random(len(counts)), counts)
    assert max(node.depth for node in roll(operations)) == len(counts)
    end = operations[-1].start + 200
    words = assemble_words(operations, end=end, queue=QUEUE)
    came = [op.start + 20 for op in operations if op.engine is Engine.READ]
    (seen,) = play(tmp_path, {"words": words, "limit": end + 20, "arrivals": came})
    assert seen["starts"] == scheduled(operations)
    assert (seen["faults"], seen["done"], seen["cycles"]) == ([], True, end)


@pytest.fixture(scope="module")
def encoder():
    """A whole encoder's operations, and its program."""
    made = compile_encoder(PRESETS["nano"].encoder, MODELS["nano"])
    assert made.config.queue == QUEUE
    return made.encoder.scheduler.in_order(), made.program


def test_an_encoder_with_memory_as_late_as_may_be(encoder, tmp_path):
    operations, program = encoder
    end = program.cycles
    rng = random.Random(1)
    exact, slip = arrivals(operations, end)
    assert slip == 0
    late, slip = arrivals(operations, end, late=lambda: rng.choice([0, 0, 0, 1, 2, 100]))
    assert slip > 100
    common = {"words": program.words}
    in_time, elastic = play(
        tmp_path,
        common | {"limit": end + 20, "arrivals": exact},
        common | {"limit": end + slip + 20, "arrivals": late, "elastic": True},
    )
    for seen, slipped in (in_time, 0), (elastic, slip):
        assert seen["starts"] == scheduled(operations)
        assert (seen["faults"], seen["done"]) == ([], True)
        assert (seen["cycles"], seen["slipped"]) == (end, slipped)


def test_one_cycle_too_late_is_a_deadline(encoder, tmp_path):
    operations, program = encoder
    needed, _reads = deadlines(operations, program.cycles)
    exact, _slip = arrivals(operations, program.cycles)
    chosen = [n for n, cycle in enumerate(exact[:-1]) if cycle == needed[n] - 1][:40:8]
    runs = []
    for n in chosen:
        late = [*exact[:n], exact[n] + 1, *exact[n + 1 :]]
        runs.append({"words": program.words, "limit": needed[n] + 50, "arrivals": late})
    for n, seen in zip(chosen, play(tmp_path, *runs), strict=True):
        assert seen["faults"] == [[needed[n], "DEADLINE"]]
        assert not seen["done"]
        assert seen["starts"] == scheduled(op for op in operations if op.start < needed[n])


def test_the_end_waits_for_transfers_and_moves(tmp_path):
    words = assemble_words([operation(Engine.READ, 20)], end=60)
    common = {"words": words, "limit": 100}
    seen = play(
        tmp_path,
        common | {"arrivals": [58], "moves": [[30, 59]]},
        common | {"arrivals": [59]},
        common | {"arrivals": [30], "moves": [[30, 60]]},
        common | {"arrivals": [69], "moves": [[30, 65]], "elastic": True},
        common | {"arrivals": [30], "moves": [[30, 75]], "elastic": True},
    )
    ends = [(run["faults"], run["done"], run["slipped"]) for run in seen]
    too_late = ([[59, "DEADLINE"]], False, 0)
    assert ends == [([], True, 0), too_late, too_late, ([], True, 11), ([], True, 16)]


def test_faults_of_programs(tmp_path):
    def word(control, **fields):
        return encode(LAYOUTS[control], {"engine": Engine.CONTROL, "control": control} | fields)

    loop = word(Control.LOOP, count=2)
    halt = word(Control.HALT, wait=90)
    late = assemble_words([operation(Engine.TILE, 2)], end=60, check=False)
    programs = {
        "LATE": [late, assemble_words([], end=3, check=False)],
        "OPCODE": [
            [encode(LAYOUTS[Control.HALT], {"engine": 7}), halt],
            [encode(LAYOUTS[Control.HALT], {"engine": 0, "control": 7}), halt],
            [word(Control.END), halt],
            [loop] * (LOOP_DEPTH + 1) + [halt],
            [word(Control.LOOP, count=0), halt],
        ],
    }
    cases = [(fault, words) for fault, some in programs.items() for words in some]
    seen = play(tmp_path, *({"words": words, "limit": 150} for _fault, words in cases))
    for (fault, _words), run in zip(cases, seen, strict=True):
        assert [name for _cycle, name in run["faults"]] == [fault]
        assert not run["done"]
        assert not run["starts"]


def test_profiles(tmp_path):
    profiles = [
        NormProfile.of(width, eps=eps, lsb=2.0**-12)
        for width, eps in ((2, 1e-5), (384, 1e-6), (1408, 1.0), (8191, 1e-30))
    ]
    words = assemble_words([], end=60, profiles=profiles)
    (seen,) = play(tmp_path, {"words": words, "limit": 100})
    layout = NormProfileLayout()
    fields = [{name: getattr(p, name) for name in layout.members} for p in profiles]
    expected = sum(encode(layout, each) << n * layout.size for n, each in enumerate(fields))
    assert (seen["done"], seen["profiles"]) == (True, expected)
