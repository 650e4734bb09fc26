"""Operations of the address streams, and what must come of them cycle by cycle.

The walks are brute force, written from the instruction set. What is seen of a unit is a list with
an entry for each cycle: its outputs by name, those with fields as dictionaries.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from jepa_r.cluster.isa import ADDRESS, LAYOUTS, Engine, Other, Result, Source
from jepa_r.cluster.streams import EDGE, ISSUE
from jepa_r.memory.sram import Sram

__all__ = [
    "ARRAY_OUTPUTS", "VECTOR_OUTPUTS", "array_collision", "array_operation", "array_operations",
    "check_array", "check_vector", "garbage", "next_array", "vector_operation",
    "vector_operations",
]  # fmt: skip

ARRAY_OUTPUTS = ("reads", "edge", "a_mask", "collision")
VECTOR_OUTPUTS = ("reads", "step", "writes", "clear", "collision")

#: Settings that a step has from its operation.
_STEP_FIELDS = (
    "mode", "pre", "second", "shift2", "wide", "table", "stat", "stat_first", "stat_last",
    "profile",
)  # fmt: skip

Fields = dict[str, Any]
Starts = Mapping[int, Fields]


def garbage(layout: Any, seed: int) -> Fields:
    """Operands that must not count, since nothing starts with them."""
    rng = random.Random(seed)
    kinds = {"source": Source, "other": Other, "result": Result}
    values = {name: rng.getrandbits(field.width) for name, field in layout}
    return values | {name: 0 for name in ("engine", *kinds) if name in values}


def array_operation(rng: random.Random, *, rows: int) -> Fields:
    """A chain of passes for an array of so many rows."""
    m, n, passes = rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 4)
    return {
        "a_shared": rng.randint(0, 1), "b_shared": rng.randint(0, 1),
        "a_addr": rng.randrange(1 << ADDRESS), "b_addr": rng.randrange(1 << ADDRESS),
        "a_stride": rng.randrange(1 << ADDRESS), "b_stride": rng.randrange(1 << ADDRESS),
        "rows": m, "columns": n, "passes": passes,
        "interval": max(m + m % 2, n) + rng.choice([0, 0, 3]),
        "k_first": rng.randint(0, rows), "k_last": rng.randint(0, rows),
        "acc_half": rng.randint(0, 1), "acc_row": 2 * rng.randrange(50),
        "acc_add": rng.randint(0, 1),
    }  # fmt: skip


def next_array(start: int, op: Fields, following: Fields) -> int:
    """Earliest start of the next: its B after the last swap, its A after the last row."""
    swap = op["columns"] + (op["passes"] - 1) * op["interval"]
    return start + max(swap, swap + op["rows"] - following["columns"])


def array_collision(start: int, op: Fields, early: int, following: Fields) -> int | None:
    """When an ``ArrayStream`` refuses an operation that starts too early, if it does.

    It does while it reads B, and if A would have to follow itself. Between them it does not know
    better: B would enter the array before the last swap, which the array refuses.
    """
    n, interval, passes = op["columns"], op["interval"], op["passes"]
    last_b = start + (n if passes == 1 else 2 * n + (passes - 2) * interval)
    if early < last_b:
        return early
    last_a = start + n + (passes - 1) * interval + op["rows"]
    turn = early + following["columns"]
    return turn if turn < last_a else None


def array_operations(rng: random.Random, count: int, *, rows: int) -> tuple[dict, int]:
    """Operations by their start, most of them back to back, and a cycle after all of them."""
    starts: dict[int, Fields] = {}
    at, last = 3, None
    for _ in range(count):
        op = array_operation(rng, rows=rows)
        if last is not None:
            at = next_array(at, last, op) + rng.choice([0, 0, 0, 1, 2, 30])
        starts[at] = last = op
    return starts, at + 120


def _array_walk(start: int, op: Fields, rows: int) -> tuple[dict, dict, dict, dict]:
    """What happens in which cycle: A's and B's addresses, the edge's control, the mask."""
    a, b, edge, mask = {}, {}, {}, {}
    m, n = op["rows"], op["columns"]
    for p in range(op["passes"]):
        begin = start + ISSUE + n + p * op["interval"]
        before = start + ISSUE if p == 0 else begin - op["interval"]
        for i in range(n):
            b[before + i] = op["b_shared"], _wrap(op["b_addr"] + p * op["b_stride"] + i)
        low = op["k_first"] if p == 0 else 0
        high = op["k_last"] if p == op["passes"] - 1 else rows
        for i in range(m):
            a[begin + i] = op["a_shared"], _wrap(op["a_addr"] + p * op["a_stride"] + i)
            edge[begin + i + EDGE] = {
                "swap": int(i == 0), "b_rows": n, "acc_half": op["acc_half"],
                "acc_row": op["acc_row"] + i, "acc_add": int(op["acc_add"] or p > 0),
            }  # fmt: skip
            mask[begin + i + Sram.READ_LATENCY] = sum(1 << k for k in range(low, high))
    return a, b, edge, mask


def check_array(seen: Sequence[Fields], starts: Starts, *, rows: int) -> None:
    """Every cycle of an ``ArrayStream``, when operations start in time."""
    a: dict[int, Any] = {}
    b: dict[int, Any] = {}
    edge: dict[int, Any] = {}
    mask: dict[int, Any] = {}
    for start, op in starts.items():
        for whole, part in zip((a, b, edge, mask), _array_walk(start, op, rows), strict=True):
            assert not whole.keys() & part.keys()
            whole |= part
    for cycle, row in enumerate(seen):
        reads = row["reads"]
        assert not row["collision"], cycle
        assert bool(reads["a_en"]) == (cycle in a), cycle
        assert bool(reads["b_en"]) == (cycle in b), cycle
        for side, expected in (("a", a), ("b", b)):
            if cycle in expected:
                found = reads[f"{side}_shared"], reads[f"{side}_addr"]
                assert found == expected[cycle], (cycle, side)
        assert bool(row["edge"]["a_valid"]) == (cycle in edge), cycle
        assert bool(row["edge"]["b_valid"]) == (cycle - EDGE in b), cycle
        assert bool(row["edge"]["swap"]) == (edge.get(cycle, {}).get("swap", 0)), cycle
        if cycle in edge:
            assert edge[cycle].items() <= row["edge"].items(), cycle
            # The mask goes with the word as it leaves the memory.
            assert seen[cycle - 1]["a_mask"] == mask[cycle - 1], cycle


def vector_operation(rng: random.Random, *, segments: int) -> Fields:
    """Steps over words of so many segments."""
    layout = LAYOUTS[Engine.VECTOR]
    op = {name: rng.getrandbits(field.width) for name, field in layout}
    del op["engine"]
    period = rng.randint(1, 6)
    return op | {
        "rows": rng.randint(1, 6), "segments": rng.randint(1, 9),
        "source": rng.choice(list(Source)), "other": rng.choice(list(Other)),
        "result": rng.choice(list(Result)), "src_seg": rng.randrange(segments),
        "dst_seg": rng.randrange(segments), "rope_period": period,
        "rope_seg": rng.randrange(period), "row_addr": rng.randrange(4000),
        "stat_row": rng.randrange(4000), "mode": rng.randrange(3), "stat": rng.randrange(5),
    }  # fmt: skip


def vector_operations(rng: random.Random, count: int, *, segments: int) -> tuple[dict, int]:
    """Operations by their start, most of them back to back, and a cycle after all of them."""
    starts: dict[int, Fields] = {}
    at = 3
    for _ in range(count):
        starts[at] = op = vector_operation(rng, segments=segments)
        at += op["rows"] * op["segments"] + rng.choice([0, 0, 0, 1, 9])
    return starts, at + 20


def _vector_walk(start: int, op: Fields, segments: int) -> dict[int, Fields]:
    """What happens in which cycle."""

    def walked(operand: str, r: int, s: int, like: str) -> tuple[int, int]:
        word, seg = divmod(op[f"{like}_seg"] + s, segments)
        row = op[f"{operand}_addr"] + r * op[f"{operand}_row"]
        return _wrap(row + word * op[f"{like}_step"]), seg

    def linear(operand: str, r: int, s: int) -> tuple[int, None]:
        return _wrap(op[f"{operand}_addr"] + r * op[f"{operand}_row"] + s), None

    out, at = {}, start + ISSUE
    for r in range(op["rows"]):
        for s in range(op["segments"]):
            if op["source"] == Source.ACC:
                src = _wrap(op["src_addr"] + r * op["src_row"]), op["src_seg"] + s
            elif op["source"] == Source.X:
                src = linear("src", r, s)
            else:
                src = walked("src", r, s, "src")
            x = op["other"] == Other.X
            other = linear("other", r, s) if x else walked("other", r, s, "dst")
            x = op["result"] == Result.X
            dst = linear("dst", r, s) if x else walked("dst", r, s, "dst")
            turn = (op["rope_seg"] + s) % op["rope_period"]
            out[at] = {
                "src": src, "other": other, "dst": dst,
                "param_addr": (op["param_addr"] + s * op["param_step"]) % (1 << 18),
                "rope_addr": _wrap(op["rope_addr"] + r * op["rope_row"] + turn),
                "row_addr": op["row_addr"] + r, "stat_row": op["stat_row"] + r,
                "first_seg": int(s == 0), "last_seg": int(s == op["segments"] - 1),
                "clear": int(op["clear"] and r == 0 and s == 0), "op": op,
            }  # fmt: skip
            at += 1
    return out


def check_vector(seen: Sequence[Fields], starts: Starts, *, segments: int) -> None:
    """Every cycle of a ``VectorStream``, when operations start in time."""
    expected: dict[int, Fields] = {}
    for start, op in starts.items():
        expected |= _vector_walk(start, op, segments)
    for cycle, row in enumerate(seen):
        reads, step, writes = row["reads"], row["step"], row["writes"]
        assert not row["collision"], cycle
        assert bool(reads["en"]) == bool(step["valid"]) == (cycle in expected), cycle
        if cycle not in expected:
            assert (writes["result"], row["clear"]) == (Result.NONE.value, 0), cycle
            continue
        want = expected[cycle]
        op = want["op"]
        _check_place((reads["src_addr"], reads["src_seg"]), want["src"], cycle)
        if op["other"] != Other.NONE:
            _check_place((reads["other_addr"], reads["other_seg"]), want["other"], cycle)
        if op["result"] != Result.NONE:
            _check_place((writes["addr"], writes["seg"]), want["dst"], cycle)
        assert (reads["source"], reads["other"]) == (op["source"].value, op["other"].value)
        assert (reads["src_half"], writes["result"]) == (op["src_half"], op["result"].value)
        for name in ("param_addr", "rope_addr", "row_addr"):
            assert reads[name] == want[name], (cycle, name)
        for name in ("first_seg", "last_seg", "stat_row"):
            assert step[name] == want[name], (cycle, name)
        for name in _STEP_FIELDS:
            assert step[name] == op[name], (cycle, name)
        assert row["clear"] == want["clear"], cycle


def _check_place(found: tuple[int, int], expected: tuple[int, int | None], cycle: int) -> None:
    """Word and, where it has segments, the segment."""
    address, segment = expected
    assert found[0] == address, cycle
    assert segment is None or found[1] == segment, cycle


def _wrap(address: int) -> int:
    return address % (1 << ADDRESS)
