import pytest

from jepa_r.cluster.isa import ARGUMENTS, LAYOUTS, NO_CHECK, Control, Engine, Fault
from jepa_r.cluster.sequencer import LOOP_DEPTH, Sequencer
from jepa_r.memory.sram import Sram
from jepa_r_sim.compiler.loops import Loop, roll, unroll
from jepa_r_sim.compiler.operations import Operation
from jepa_r_sim.compiler.program import assemble_words, encode
from jepa_r_sim.drivers.stream import simulate


def tile(start, a_addr=0, b_addr=0, **fields):
    zero = {n: 0 for n in LAYOUTS[Engine.TILE].members if n not in ("engine", "wait")}
    fields = zero | {"a_addr": a_addr, "b_addr": b_addr, "in_flight": NO_CHECK} | fields
    return Operation(Engine.TILE, fields, start=start)


def read(start, address=0, **fields):
    zero = {n: 0 for n in LAYOUTS[Engine.READ].members if n not in ("engine", "wait")}
    fields = zero | {"address": address, "in_flight": NO_CHECK} | fields
    return Operation(Engine.READ, fields, start=start)


def run(
    words, *, cycles, arrivals=(), elastic=False, queue=4, pointers=32, full=range(0), given=(0, 0)
):
    """Starts as (time, name, address), and how it ended, after ``cycles``.

    The reader's queue is full in the cycles ``full``.
    """
    dut = Sequencer(program_words=64, queue=queue, pointers=pointers)
    starts, faults, state = [], [], {}

    async def bench(ctx):
        ctx.set(dut.elastic, elastic)
        ctx.set(dut.arguments, given)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        coming = [0] * (Sram.READ_LATENCY - 1)
        for cycle in range(cycles):
            ctx.set(dut.read_completed, cycle in arrivals)
            ctx.set(dut.read_full, cycle in full)
            for name, field in (("tile", "a_addr"), ("read", "address")):
                if ctx.get(getattr(dut, f"{name}_start")):
                    starts.append((ctx.get(dut.cycles), name, ctx.get(getattr(dut, name)[field])))
            if ctx.get(dut.fault) != Fault.NONE:
                faults.append((ctx.get(dut.cycles), ctx.get(dut.fault)))
                ctx.set(dut.stop, 1)
            asked = words[ctx.get(dut.program_addr) % len(words)] if ctx.get(dut.program_en) else 0
            coming.append(asked)
            await ctx.tick()
            ctx.set(dut.program_data, coming.pop(0))
        state.update(
            done=ctx.get(dut.done), cycles=ctx.get(dut.cycles), slipped=ctx.get(dut.slipped)
        )

    simulate(dut, bench, max_cycles=cycles + 100)
    return starts, faults, state


def expected(operations):
    names = {Engine.TILE: ("tile", "a_addr"), Engine.READ: ("read", "address")}
    return [(op.start, names[op.engine][0], op.fields[names[op.engine][1]]) for op in operations]


def test_operations_start_in_their_cycles():
    operations = [tile(20, 5), read(20, 7), tile(40, 6), tile(41, 9)]
    words = assemble_words(operations, end=60)
    starts, faults, state = run(words, cycles=80, arrivals=[30])
    assert starts == [(20, "tile", 5), (20, "read", 7), (40, "tile", 6), (41, "tile", 9)]
    assert not faults
    assert (state["done"], state["cycles"]) == (1, 60)


@pytest.mark.parametrize("pointers", [8, 32])
def test_loops_of_loops_unroll_to_the_schedule(pointers):
    operations = [
        tile(50 + 200 * i + 40 * j, a_addr=1000 * i + 16 * j, b_addr=3 * i)
        for i in range(3)
        for j in range(4)
    ]
    operations += [read(60 + 200 * i, address=64 * i) for i in range(3)]
    operations.sort(key=lambda op: op.start)
    nodes = roll(operations)
    assert any(isinstance(node, Loop) for node in nodes)
    assert [start for start, _key, _values in unroll(nodes)] == [op.start for op in operations]
    words = assemble_words(operations, end=700, pointers=pointers)
    assert len(words) < len(operations)
    starts, faults, state = run(words, cycles=720, arrivals=[100, 300, 500], pointers=pointers)
    assert starts == expected(operations)
    assert not faults
    assert (state["done"], state["cycles"]) == (1, 700)


@pytest.mark.parametrize("pointers", [8, 16, 32])
def test_arguments_are_the_last_pointers(pointers):
    operations = [
        tile(20, 5, a_ptr=ARGUMENTS[0]), tile(40, 5), read(60, address=7, address_ptr=ARGUMENTS[1])
    ]  # fmt: skip
    words = assemble_words(operations, end=80, pointers=pointers)
    starts, faults, _ = run(words, cycles=100, arrivals=[70], pointers=pointers, given=(1000, 640))
    assert starts == [(20, "tile", 1005), (40, "tile", 5), (60, "read", 647)]
    assert not faults


def test_late_data_are_a_deadline_fault():
    operations = [read(20), tile(60, in_flight=0)]
    words = assemble_words(operations, end=80)
    assert run(words, cycles=100, arrivals=[59])[2]["done"]
    starts, faults, state = run(words, cycles=100, arrivals=[70])
    assert faults == [(60, Fault.DEADLINE)]
    assert starts == [(20, "read", 0)]
    assert not state["done"]


def test_an_elastic_run_waits_and_counts():
    operations = [read(20), tile(60, in_flight=0), tile(70, 3)]
    words = assemble_words(operations, end=80)
    starts, faults, state = run(words, cycles=120, arrivals=[70], elastic=True)
    assert starts == [(20, "read", 0), (60, "tile", 0), (70, "tile", 3)]
    assert not faults
    assert (state["done"], state["cycles"], state["slipped"]) == (1, 80, 11)


def test_a_full_queue_is_late_data():
    operations = [read(20), tile(40, 5), read(40, 64), tile(60, 6)]
    words = assemble_words(operations, end=80)
    _starts, faults, _state = run(words, cycles=100, arrivals=[46, 70], full=range(21, 47))
    assert faults == [(40, Fault.DEADLINE)]
    starts, faults, state = run(
        words, cycles=140, arrivals=[46, 70], full=range(21, 47), elastic=True
    )
    # What starts in one cycle stays together, however long one of it waits.
    assert starts == [(20, "read", 0), (40, "tile", 5), (40, "read", 64), (60, "tile", 6)]
    assert not faults
    assert (state["done"], state["slipped"]) == (1, 7)


def test_the_end_waits_for_everything_asked_for():
    words = assemble_words([read(20)], end=40)
    assert run(words, cycles=60)[1] == [(39, Fault.DEADLINE)]


def test_a_start_that_has_passed_is_a_fault():
    words = assemble_words([tile(2)], end=60, check=False)
    starts, faults, _state = run(words, cycles=40)
    assert not starts
    assert faults[0][1] == Fault.LATE


def test_an_end_that_has_passed_is_a_fault():
    words = assemble_words([], end=3, check=False)
    assert run(words, cycles=40)[1][0][1] == Fault.LATE


@pytest.mark.parametrize(
    "word",
    [
        {"engine": 7},
        {"engine": 0, "control": 7},
        {"engine": 0, "control": Control.END},
    ],
)
def test_a_word_that_is_none_is_a_fault(word):
    layout = LAYOUTS[Control.HALT]
    assert run([encode(layout, word)] * 4, cycles=40)[1][0][1] == Fault.OPCODE


def test_loops_nested_too_deep_are_a_fault():
    layout = LAYOUTS[Control.LOOP]
    loop = encode(layout, {"engine": 0, "control": Control.LOOP, "count": 2})
    assert run([loop] * (LOOP_DEPTH + 2), cycles=80)[1][0][1] == Fault.OPCODE


@pytest.mark.parametrize("words_before", [0, 1, 2, 5])
def test_the_earliest_start_is_that_of_the_formula(words_before):
    """And one in the cycle before it is late."""
    first = Sequencer.FIRST_CYCLES + Sequencer.QUEUE_CYCLES
    operations = [tile(first + Sequencer.WORD_CYCLES * n, n) for n in range(words_before + 1)]
    starts, faults, _state = run(assemble_words(operations, end=80), cycles=100)
    assert (starts, faults) == (expected(operations), [])
    operations[-1] = tile(operations[-1].start - 1, words_before)
    early = assemble_words(operations, end=80, check=False)
    assert run(early, cycles=100)[1][0][1] == Fault.LATE


@pytest.mark.parametrize("early", [0, 1])
def test_a_jump_takes_as_long_as_its_formula(early):
    first = Sequencer.FIRST_CYCLES + Sequencer.QUEUE_CYCLES + Sequencer.WORD_CYCLES
    loop = {"engine": Engine.CONTROL, "control": Control.LOOP, "wait": first, "count": 2}
    end = {"engine": Engine.CONTROL, "control": Control.END, "wait": Sequencer.JUMP_CYCLES - early}
    words = [
        encode(LAYOUTS[Control.LOOP], loop),
        encode(LAYOUTS[Engine.TILE], {"engine": Engine.TILE, "wait": 0, **tile(0).fields}),
        encode(LAYOUTS[Control.END], end),
        encode(LAYOUTS[Control.HALT], {"engine": 0, "control": Control.HALT, "wait": 60}),
    ]
    starts, faults, _state = run(words, cycles=120)
    assert [start for start, _name, _address in starts] == [
        first,
        *([] if early else [first + Sequencer.JUMP_CYCLES]),
    ]
    assert [fault for _cycle, fault in faults[:1]] == [Fault.LATE] * early


def test_the_pace_that_is_promised_is_kept():
    """As many operations as a queue holds, one cycle apart: the latest start that works."""
    first = Sequencer.FIRST_CYCLES + Sequencer.QUEUE_CYCLES + 3 * Sequencer.WORD_CYCLES
    operations = [tile(first + n, n) for n in range(4)]
    words = assemble_words(operations, end=first + 40)
    starts, faults, _state = run(words, cycles=first + 60)
    assert (starts, faults) == (expected(operations), [])
    early = assemble_words([tile(first - 7 + n, n) for n in range(4)], end=90, check=False)
    assert run(early, cycles=100)[1][0][1] == Fault.LATE
