"""Rolling a flat schedule up into hardware loops.

A run of operations that repeats, at one distance in time and with addresses that grow by constant
steps, becomes a loop; loops that repeat become loops of loops. Unrolling gives back the schedule
that went in, to the cycle and to the address: the caller checks it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from attrs import evolve, field, frozen

from jepa_r.cluster.isa import ADDS, LAYOUTS, OPERANDS
from jepa_r.cluster.sequencer import LOOP_DEPTH, Sequencer

from .operations import Operation

__all__ = ["Loop", "Node", "Single", "flat", "roll", "unroll"]


@frozen(eq=False)
class Single:
    """One operation.

    Attributes
    ----------
    start
        Cycle.
    kind
        All fields but the address operands.
    values
        Address operands.
    operation
        The first operation of its kind.
    outer
        What the address operands grow by in a loop around everything.
    """

    start: int
    kind: tuple
    values: tuple[int, ...]
    operation: Operation
    outer: tuple[int, ...] = ()
    words: int = 1
    depth: int = 0

    @property
    def key(self) -> tuple:
        """What two nodes of one loop's turns have in common."""
        return (self.kind, self.outer)


@frozen(eq=False)
class Loop:
    """A body that runs ``count`` times, every ``period`` cycles.

    Attributes
    ----------
    body
        Nodes of the first time.
    strides
        What each of the body's values grows by.
    """

    body: tuple["Node", ...]
    count: int
    period: int
    strides: tuple[int, ...]
    start: int = field(init=False)
    key: tuple = field(init=False)
    values: tuple[int, ...] = field(init=False)
    outer: tuple[int, ...] = field(init=False)
    words: int = field(init=False)
    depth: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        start = self.body[0].start
        put = object.__setattr__
        put(self, "start", start)
        shape = tuple((node.start - start, node.key) for node in self.body)
        put(self, "key", ("loop", self.count, self.period, shape, self.strides))
        put(self, "values", tuple(value for node in self.body for value in node.values))
        put(self, "outer", tuple(step for node in self.body for step in node.outer))
        put(self, "words", sum(node.words for node in self.body) + _overhead(self.strides))
        put(self, "depth", 1 + max(node.depth for node in self.body))


Node = Single | Loop


def _overhead(strides: Sequence[int]) -> int:
    """Words of a loop besides its body: LOOP, END, and the pointers' steps, there and back."""
    pointers = len({stride for stride in strides if stride})
    return 2 + 2 * -(-pointers // ADDS)


def _cycles(body: Sequence[Node], strides: Sequence[int]) -> int:
    """Cycles that the sequencer needs for one turn, at most."""
    words = sum(node.words for node in body) + _overhead(strides)
    return words * Sequencer.WORD_CYCLES + Sequencer.JUMP_CYCLES


def roll(
    operations: Sequence[Operation], *, turns: Sequence[int] = (), longest: int = 64
) -> list[Node]:
    """Roll up operations that are in order of their starts.

    Parameters
    ----------
    operations
        With their start cycles.
    turns
        Operations of one turn of the outermost loops, if the program has such: those of a layer.
    longest
        Nodes of the longest body that is looked for elsewhere.
    """
    return _outer([_single(op) for op in operations], list(turns), longest)


def _outer(singles: list[Single], turns: list[int], longest: int) -> list[Node]:
    """Roll up around the outermost loops."""
    if not turns:
        return _roll(singles, longest)
    turn, *others = turns
    span = _outermost(singles, turn)
    if span is None:
        return _outer(singles, others, longest)
    first, count, period = span
    body = [
        evolve(one, outer=tuple(b - a for a, b in zip(one.values, two.values, strict=True)))
        for one, two in zip(
            singles[first : first + turn], singles[first + turn : first + 2 * turn], strict=True
        )
    ]
    rolled = _roll(body, longest, LOOP_DEPTH - 1)
    loop = Loop(tuple(rolled), count, period, tuple(s for node in rolled for s in node.outer))
    before, after = singles[:first], singles[first + count * turn :]
    return [*_outer(before, others, longest), loop, *_outer(after, others, longest)]


def _outermost(singles: list[Single], turn: int) -> tuple[int, int, int] | None:
    """First node, count and period of the longest loop of ``turn`` operations."""
    pairs = list(zip(singles, singles[turn:], strict=False))
    if not pairs:
        return None
    periods = Counter(two.start - one.start for one, two in pairs if one.kind == two.kind)
    if not periods:
        return None
    period = periods.most_common(1)[0][0]
    steps = [
        tuple(b - a for a, b in zip(one.values, two.values, strict=True))
        if one.kind == two.kind and two.start - one.start == period
        else None
        for one, two in pairs
    ]
    best: tuple[int, int, int] | None = None
    begin = 0
    for at in range(len(steps) + 1):
        fits = at < len(steps) and steps[at] is not None
        if fits and (at - turn < begin or steps[at - turn] == steps[at]):
            continue
        count = (at - begin) // turn + 1
        if count > (best[1] if best else 1):
            best = begin, count, period
        begin = at if fits else at + 1
    return best


def _roll(nodes: Sequence[Node], longest: int, deepest: int = LOOP_DEPTH) -> list[Node]:
    """Roll up what repeats, the shortest bodies first."""
    nodes = list(nodes)
    while True:
        rolled = _pass(nodes, longest, deepest)
        if len(rolled) == len(nodes):
            return nodes
        nodes = rolled


#: Address operands of each engine, and all other fields that the compiler gives.
_VALUES = {
    engine: itemgetter(*(name for name, _pointer in operands))
    for engine, operands in OPERANDS.items()
}
_REST = {
    engine: itemgetter(
        *(LAYOUTS[engine].members.keys() - {"engine", "wait"} - {name for name, _ in operands})
    )
    for engine, operands in OPERANDS.items()
}


def _single(op: Operation) -> Single:
    kind: tuple[Any, ...] = (op.engine, _REST[op.engine](op.fields))
    if any(op.fields[pointer] for _name, pointer in OPERANDS[op.engine]):
        # Its pointer is an argument: it cannot be a loop's as well.
        kind = (*kind, op.start)
    return Single(op.start, kind, _VALUES[op.engine](op.fields), op)


def flat(operations: Sequence[Operation]) -> Iterator[tuple[int, tuple, tuple[int, ...]]]:
    """What :func:`unroll` must give back."""
    for op in operations:
        single = _single(op)
        yield single.start, single.kind, single.values


def _pass(nodes: list[Node], longest: int, deepest: int) -> list[Node]:
    """Replace the runs with the shortest bodies by loops, from left to right."""
    ids: dict[tuple, int] = {}
    keys = [ids.setdefault(node.key, len(ids)) for node in nodes]
    # Where the same kind of node came last: bodies begin and end at such a distance.
    out: list[Node] = []
    at = 0
    where: dict[int, list[int]] = {}
    for index, key in enumerate(keys):
        where.setdefault(key, []).append(index)
    position = {index: n for places in where.values() for n, index in enumerate(places)}
    while at < len(nodes):
        places = where[keys[at]]
        best: Loop | None = None
        size = 0
        for again in places[position[at] + 1 : position[at] + 17]:
            length = again - at
            if length > longest:
                break
            count, period, strides = _repeats(nodes, keys, at, length)
            if count < 2:
                continue
            body = nodes[at : at + length]
            loop = Loop(tuple(body), count, period, strides)
            saved = sum(n.words for n in nodes[at : at + length * count]) - loop.words
            if saved <= 0 or loop.depth > deepest or period < _cycles(body, strides):
                continue
            best, size = loop, length * count
            break
        if best is None:
            out.append(nodes[at])
            at += 1
        else:
            out.append(best)
            at += size
    return out


def _repeats(
    nodes: list[Node], keys: list[int], at: int, length: int
) -> tuple[int, int, tuple[int, ...]]:
    """How often ``nodes[at : at + length]`` repeats, how far apart, and by which steps."""
    period = nodes[at + length].start - nodes[at].start
    strides: tuple[int, ...] | None = None
    count = 1
    while at + (count + 1) * length <= len(nodes):
        steps: list[int] = []
        base = at + (count - 1) * length
        for i in range(base, base + length):
            one, two = nodes[i], nodes[i + length]
            if keys[i] != keys[i + length] or two.start - one.start != period:
                return count, period, strides or ()
            steps += [b - a for a, b in zip(one.values, two.values, strict=True)]
        if strides is None:
            strides = tuple(steps)
        elif strides != tuple(steps):
            break
        count += 1
    return count, period, strides or ()


def unroll(nodes: Sequence[Node]) -> Iterator[tuple[int, tuple, tuple[int, ...]]]:
    """Start, key and values of every operation, in order."""
    for node in nodes:
        yield from _unroll(node, 0, [0] * len(node.values))


def _unroll(
    node: Node, shift: int, offsets: Sequence[int]
) -> Iterator[tuple[int, tuple, tuple[int, ...]]]:
    if isinstance(node, Single):
        values = tuple(v + o for v, o in zip(node.values, offsets, strict=True))
        yield node.start + shift, node.kind, values
        return
    for turn in range(node.count):
        moved = [o + turn * s for o, s in zip(offsets, node.strides, strict=True)]
        at = 0
        for child in node.body:
            part = moved[at : at + len(child.values)]
            yield from _unroll(child, shift + turn * node.period, part)
            at += len(child.values)
