import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r.cluster.isa import LAYOUTS, NO_CHECK, OPERANDS, Control, Engine
from jepa_r.cluster.sequencer import LOOP_DEPTH, Sequencer
from jepa_r.config import ConfigError
from jepa_r_sim.compiler.loops import Loop, roll, unroll
from jepa_r_sim.compiler.operations import Operation
from jepa_r_sim.compiler.program import assemble_words

from .interpreter import interpret

FIRST = 200


def operation(start, engine=Engine.TILE, values=(), **fields):
    zero = {n: 0 for n in LAYOUTS[engine].members if n not in ("engine", "wait")}
    names = [name for name, _pointer in OPERANDS[engine]]
    addresses = dict(zip(names, values, strict=False))
    return Operation(engine, zero | {"in_flight": NO_CHECK} | addresses | fields, start=start)


def flat(operations):
    out = []
    for op in operations:
        pointers = {pointer for _address, pointer in OPERANDS[op.engine]}
        out.append((op.start, op.engine, {k: v for k, v in op.fields.items() if k not in pointers}))
    return out


def executed(words):
    started, end = interpret(words)
    for _start, _engine, fields in started:
        del fields["engine"], fields["wait"]
    return started, end


def starts(nodes):
    return [(start, values) for start, _kind, values in unroll(nodes)]


def plain(operations):
    return [
        (op.start, tuple(op.fields[name] for name, _pointer in OPERANDS[op.engine]))
        for op in operations
    ]


def depth(nodes):
    return max((node.depth for node in nodes), default=0)


leaf = st.tuples(
    st.sampled_from([Engine.TILE, Engine.VECTOR, Engine.READ, Engine.MOVE]),
    st.lists(st.integers(0, 1000), min_size=2, max_size=4),
    st.integers(0, 3),  # another field
    st.integers(1, 40),  # time until the next
)


def loop_of(children):
    return st.tuples(
        st.lists(children, min_size=1, max_size=3),
        st.integers(2, 4),  # turns
        st.lists(st.integers(-7, 300), min_size=4, max_size=4),  # strides
        st.integers(0, 60),  # spare time of a turn
    )


tree = st.recursive(leaf, loop_of, max_leaves=8)


def flatten(node, start, offsets, out):
    """Operations of a nest of loops; returns when the next thing may begin."""
    if isinstance(node[0], Engine):
        engine, values, other, gap = node
        width = {Engine.TILE: "rows", Engine.VECTOR: "rows", Engine.READ: "words"}
        values = [4000 + v + o for v, o in zip(values, offsets, strict=False)]
        out.append(operation(start, engine, values, **{width.get(engine, "words"): other}))
        return start + gap
    body, turns, strides, spare = node
    for turn in range(turns):
        moved = [o + turn * s for o, s in zip(offsets, strides, strict=True)]
        for child in body:
            start = flatten(child, start, moved, out)
        start += spare
    return start


@settings(max_examples=40, deadline=None)
@given(nodes=st.lists(tree, min_size=1, max_size=4))
def test_nests_roll_up_and_unroll_to_the_same(nodes):
    operations, start = [], FIRST
    for node in nodes:
        start = flatten(node, start, [0] * 4, operations)
    rolled = roll(operations)
    assert starts(rolled) == plain(operations)
    assert depth(rolled) <= LOOP_DEPTH
    words = assemble_words(operations, end=start + 1, check=False)
    assert len(words) <= len(operations) + 1
    assert executed(words) == (flat(operations), start)


@settings(max_examples=25, deadline=None)
@given(
    before=st.lists(tree, max_size=2), layer=st.lists(tree, min_size=1, max_size=3),
    after=st.lists(tree, max_size=2), layers=st.integers(1, 5),
    strides=st.lists(st.integers(-7, 300), min_size=4, max_size=4),
)  # fmt: skip
def test_layers_become_one_loop(before, layer, after, layers, strides):
    operations, start = [], FIRST
    for node in before:
        start = flatten(node, start, [0] * 4, operations)
    begin = len(operations)
    for turn in range(layers):
        for node in layer:
            start = flatten(node, start, [turn * s for s in strides], operations)
        start += 500
    size = (len(operations) - begin) // layers
    for node in after:
        start = flatten(node, start, [0] * 4, operations)
    rolled = roll(operations, turns=[size])
    assert starts(rolled) == plain(operations)
    assert depth(rolled) <= LOOP_DEPTH
    words = assemble_words(operations, end=start + 1, turns=[size], check=False)
    assert executed(words) == (flat(operations), start)


def nest(levels):
    """Six operations in a row, two such rows, two of those, and so on."""
    operations, period = [], 60
    turns = [6] + [2] * (levels - 1)
    places = [(0, 0)]
    for level, count in enumerate(turns):
        places = [
            (start + turn * period, address + turn * 5**level)
            for turn in range(count)
            for start, address in places
        ]
        period = places[-1][0] + 100 * (level + 1)
    for start, address in places:
        operations.append(operation(FIRST + start, values=(address,)))
    return operations


@pytest.mark.parametrize("levels", [LOOP_DEPTH, LOOP_DEPTH + 1, LOOP_DEPTH + 2])
@pytest.mark.parametrize("halves", [None, 2, 4])
def test_no_deeper_than_the_sequencer_can(levels, halves):
    made = nest(levels)
    turns = [len(made) // halves] if halves else []
    rolled = roll(made, turns=turns)
    assert starts(rolled) == plain(made)
    assert LOOP_DEPTH - 1 <= depth(rolled) <= LOOP_DEPTH
    words = assemble_words(made, end=made[-1].start + 9, turns=turns, check=False)
    assert executed(words)[0] == flat(made)


def many(count, period, **fields):
    return [operation(FIRST + n * period, values=(16 * n,), **fields) for n in range(count)]


def test_words_shrink():
    words = assemble_words(many(500, 100), end=60_000)
    # LOOP, the operation, its pointer's step and END, the step back, HALT.
    assert len(words) == 6
    still = [operation(FIRST + 100 * n) for n in range(500)]
    assert len(assemble_words(still, end=60_000)) == 4


def test_what_is_too_fast_for_the_sequencer_is_not_rolled_up():
    def cycles(extra):
        return (1 + 2 + extra) * Sequencer.WORD_CYCLES + Sequencer.JUMP_CYCLES

    fast, slow = cycles(2) - 1, cycles(2)
    (node,) = roll(many(30, slow))
    assert isinstance(node, Loop)
    assert (node.count, node.period, node.words) == (30, slow, 5)
    assert not any(isinstance(node, Loop) and len(node.body) == 1 for node in roll(many(30, fast)))
    assert starts(roll(many(30, fast))) == plain(many(30, fast))
    # Nothing to step: a turn is shorter.
    still = [operation(FIRST + cycles(0) * n) for n in range(30)]
    assert isinstance(roll(still)[0], Loop)


def test_short_runs_are_not_worth_a_loop():
    assert len(roll(many(5, 100))) == 5
    assert len(roll(many(6, 100))) == 1


@pytest.mark.parametrize("field", ["rows", "acc_half", "in_flight"])
def test_other_operands_must_be_equal(field):
    operations = [operation(FIRST + 100 * n, **{field: n % 3}) for n in range(30)]
    assert all(len(node.body) % 3 == 0 for node in roll(operations) if isinstance(node, Loop))
    assert any(isinstance(node, Loop) for node in roll(operations))


@pytest.mark.parametrize("pointers", [8, 16, 32])
def test_a_program_of_too_many_pointers_is_refused(pointers):
    operations = [
        operation(FIRST + 1000 * turn + 10 * n, values=(turn * n,), rows=n)
        for turn in range(30)
        for n in range(40)
    ]
    with pytest.raises(ConfigError) as caught:
        assemble_words(operations, end=10**6, pointers=pointers, check=False)
    assert str(caught.value) == f"the program's loops need more than {pointers - 3} pointers"


def test_a_value_that_does_not_fit_its_field_is_refused():
    with pytest.raises(ConfigError) as caught:
        assemble_words([operation(FIRST, rows=8192)], end=FIRST + 1)
    assert str(caught.value) == "rows is 8192; a program word has 13 bits for it"


def test_a_program_that_the_sequencer_cannot_keep_up_with_is_refused():
    first = Sequencer.FIRST_CYCLES + Sequencer.QUEUE_CYCLES
    assemble_words([operation(first)], end=60)
    with pytest.raises(ConfigError) as caught:
        assemble_words([operation(first - 1)], end=60)
    assert str(caught.value) == (
        f"the sequencer meets word 0 in cycle {Sequencer.FIRST_CYCLES}, too late for its start in "
        f"cycle {first - 1}"
    )
    # A queue that is full holds the words of other engines up.
    waiting = [operation(300 + n) for n in range(5)]
    other = operation(301, Engine.READ)
    order = sorted([*waiting, other], key=lambda op: op.start)
    assemble_words(order, end=400, queue=5)
    with pytest.raises(ConfigError):
        assemble_words(order, end=400, queue=2)


def test_waits_of_loops_add_up_after_their_end():
    operations = [*many(10, 100), operation(FIRST + 2000, values=(5, 6))]
    words = assemble_words(operations, end=FIRST + 3000)
    assert executed(words) == (flat(operations), FIRST + 2999)
    controls = [w >> 35 & 7 for w in words if not w & 7]
    assert controls.count(Control.LOOP.value) == controls.count(Control.END.value) == 1
