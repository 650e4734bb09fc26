import random

import pytest

from jepa_r.cluster.isa import LAYOUTS, Engine, Other, Result, Source
from jepa_r.cluster.streams import EDGE, ArrayStream, VectorStream
from jepa_r.memory.sram import Sram
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


def garbage(layout, seed):
    rng = random.Random(seed)
    kinds = {"source": Source, "other": Other, "result": Result}
    values = {name: rng.getrandbits(field.width) for name, field in layout}
    values |= {name: 0 for name in ("engine", *kinds) if name in values}
    return values


# The array's operands.

ARRAY_OUTPUTS = ("reads", "edge", "a_mask", "collision")


def array_operation(rng):
    rows, columns, passes = rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 4)
    return {
        "a_shared": rng.randint(0, 1), "b_shared": rng.randint(0, 1),
        "a_addr": rng.randrange(1 << 20), "b_addr": rng.randrange(1 << 20),
        "a_stride": rng.randrange(1 << 20), "b_stride": rng.randrange(1 << 20),
        "rows": rows, "columns": columns, "passes": passes,
        "interval": max(rows + rows % 2, columns) + rng.choice([0, 0, 3]),
        "k_first": rng.randint(0, ROWS), "k_last": rng.randint(0, ROWS),
        "acc_half": rng.randint(0, 1), "acc_row": 2 * rng.randrange(50),
        "acc_add": rng.randint(0, 1),
    }  # fmt: skip


def array_walk(start, op):
    """What happens in which cycle: B's and A's addresses, the edge's control, the mask."""
    a, b, edge, mask = {}, {}, {}, {}
    m, n = op["rows"], op["columns"]
    for p in range(op["passes"]):
        begin = start + 1 + n + p * op["interval"]
        before = start + 1 if p == 0 else begin - op["interval"]
        for i in range(n):
            b[before + i] = op["b_shared"], (op["b_addr"] + p * op["b_stride"] + i) % (1 << 20)
        low = op["k_first"] if p == 0 else 0
        high = op["k_last"] if p == op["passes"] - 1 else ROWS
        for i in range(m):
            a[begin + i] = op["a_shared"], (op["a_addr"] + p * op["a_stride"] + i) % (1 << 20)
            edge[begin + i + EDGE] = {
                "swap": int(i == 0), "b_rows": n, "acc_half": op["acc_half"],
                "acc_row": op["acc_row"] + i, "acc_add": int(op["acc_add"] or p > 0),
            }  # fmt: skip
            mask[begin + i + Sram.READ_LATENCY] = sum(1 << k for k in range(low, high))
    return a, b, edge, mask


def next_array(start, op, following):
    """Earliest start of the next: its B after the last swap, its A after the last row."""
    swap = op["columns"] + (op["passes"] - 1) * op["interval"]
    return start + max(swap, swap + op["rows"] - following["columns"])


def check_array(starts, cycles):
    seen = run(ArrayStream(rows=ROWS), starts, ARRAY_OUTPUTS, cycles)
    a, b, edge, mask = {}, {}, {}, {}
    for start, op in starts.items():
        for whole, part in zip((a, b, edge, mask), array_walk(start, op), strict=True):
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


@pytest.mark.parametrize("seed", range(4))
def test_array_operations_back_to_back(seed):
    rng = random.Random(seed)
    starts, at, last = {}, 3, None
    for _ in range(25):
        op = array_operation(rng)
        if last is not None:
            at = next_array(at, last, op) + rng.choice([0, 0, 0, 1, 2, 30])
        starts[at] = last = op
    check_array(starts, at + 120)


def test_one_row_one_column_one_pass():
    op = array_operation(random.Random(1)) | {"rows": 1, "columns": 1, "passes": 1, "interval": 2}
    check_array({3 + n: op | {"a_addr": n} for n in range(6)}, 40)


def collisions(starts, kind):
    cycles = max(starts) + 80
    if kind is VectorStream:
        seen = run(VectorStream(segments=SEGMENTS), starts, ("collision",), cycles)
    else:
        seen = run(ArrayStream(rows=ROWS), starts, ("collision",), cycles)
    return [cycle for cycle, row in enumerate(seen) if row["collision"]]


@pytest.mark.parametrize("seed", range(12))
def test_array_operations_that_come_too_early_are_seen(seed):
    rng = random.Random(seed)
    one, two = array_operation(rng), array_operation(rng)
    earliest = next_array(3, one, two)
    assert collisions({3: one, earliest: two}, ArrayStream) == []
    found = collisions({3: one, earliest - 1: two}, ArrayStream)
    a, b, _edge, _mask = array_walk(3, one)
    follows = earliest - 1 + two["columns"]
    if earliest - 1 < max(b):
        # What follows is damaged, too; the first fault is the one that is kept.
        assert found[0] == earliest - 1
    elif follows < max(a):
        assert found == [follows]
    else:
        # Only the last swap is hurt, which the array's own edge sees.
        assert found == []
        assert earliest - 1 < min(a) + (one["passes"] - 1) * one["interval"]


# The lanes' operands.

VECTOR_OUTPUTS = ("reads", "step", "writes", "clear", "collision")
STEP_FIELDS = (
    "mode", "pre", "second", "shift2", "wide", "table", "stat", "stat_first", "stat_last",
    "profile",
)  # fmt: skip


def vector_operation(rng):
    layout = LAYOUTS[Engine.VECTOR]
    op = {name: rng.getrandbits(field.width) for name, field in layout}
    del op["engine"]
    period = rng.randint(1, 6)
    return op | {
        "rows": rng.randint(1, 6), "segments": rng.randint(1, 9),
        "source": rng.choice(list(Source)), "other": rng.choice(list(Other)),
        "result": rng.choice(list(Result)), "src_seg": rng.randrange(SEGMENTS),
        "dst_seg": rng.randrange(SEGMENTS), "rope_period": period,
        "rope_seg": rng.randrange(period), "row_addr": rng.randrange(4000),
        "stat_row": rng.randrange(4000), "mode": rng.randrange(3), "stat": rng.randrange(5),
    }  # fmt: skip


def vector_walk(start, op):
    out = {}
    wrap = lambda value, bits=20: value % (1 << bits)

    def walked(base, row, r, first, step, s):
        word, seg = divmod(op[first] + s, SEGMENTS)
        return wrap(op[base] + r * op[row] + word * op[step]), seg

    def linear(base, row, r, s):
        return wrap(op[base] + r * op[row] + s), None

    at = start + 1
    for r in range(op["rows"]):
        for s in range(op["segments"]):
            if op["source"] == Source.ACC:
                src = wrap(op["src_addr"] + r * op["src_row"]), op["src_seg"] + s
            elif op["source"] == Source.X:
                src = linear("src_addr", "src_row", r, s)
            else:
                src = walked("src_addr", "src_row", r, "src_seg", "src_step", s)
            if op["other"] == Other.X:
                other = linear("other_addr", "other_row", r, s)
            else:
                other = walked("other_addr", "other_row", r, "dst_seg", "dst_step", s)
            if op["result"] == Result.X:
                dst = linear("dst_addr", "dst_row", r, s)
            else:
                dst = walked("dst_addr", "dst_row", r, "dst_seg", "dst_step", s)
            turn = (op["rope_seg"] + s) % op["rope_period"]
            out[at] = {
                "src": src, "other": other, "dst": dst,
                "param_addr": wrap(op["param_addr"] + s * op["param_step"], 18),
                "rope_addr": wrap(op["rope_addr"] + r * op["rope_row"] + turn),
                "row_addr": op["row_addr"] + r, "stat_row": op["stat_row"] + r,
                "first_seg": int(s == 0), "last_seg": int(s == op["segments"] - 1),
                "clear": int(op["clear"] and r == 0 and s == 0), "op": op,
            }  # fmt: skip
            at += 1
    return out


def check_pair(row, name, expected, operand):
    address, seg = expected
    assert row[f"{operand}_addr" if operand else "addr"] == address, name
    if seg is not None:
        assert row[f"{operand}_seg" if operand else "seg"] == seg, name


@pytest.mark.parametrize("seed", range(4))
def test_vector_operations_back_to_back(seed):
    rng = random.Random(seed)
    starts, expected, at = {}, {}, 3
    for _ in range(20):
        op = vector_operation(rng)
        starts[at] = op
        expected |= vector_walk(at, op)
        at += op["rows"] * op["segments"] + rng.choice([0, 0, 0, 1, 9])
    seen = run(VectorStream(segments=SEGMENTS), starts, VECTOR_OUTPUTS, at + 20)
    for cycle, row in enumerate(seen):
        reads, step, writes = row["reads"], row["step"], row["writes"]
        assert not row["collision"], cycle
        assert bool(reads["en"]) == bool(step["valid"]) == (cycle in expected), cycle
        if cycle not in expected:
            assert (writes["result"], row["clear"]) == (Result.NONE.value, 0), cycle
            continue
        want = expected[cycle]
        op = want["op"]
        check_pair(reads, cycle, want["src"], "src")
        if op["other"] != Other.NONE:
            check_pair(reads, cycle, want["other"], "other")
        if op["result"] != Result.NONE:
            check_pair(writes, cycle, want["dst"], "")
        assert (reads["source"], reads["other"]) == (op["source"].value, op["other"].value)
        assert (reads["src_half"], writes["result"]) == (op["src_half"], op["result"].value)
        for name in ("param_addr", "rope_addr", "row_addr"):
            assert reads[name] == want[name], (cycle, name)
        for name in ("first_seg", "last_seg", "stat_row"):
            assert step[name] == want[name], (cycle, name)
        for name in STEP_FIELDS:
            assert step[name] == op[name], (cycle, name)
        assert row["clear"] == want["clear"], cycle


def test_vector_operations_that_come_too_early_are_seen():
    rng = random.Random(5)
    for _ in range(3):
        one, two = vector_operation(rng), vector_operation(rng)
        one |= {"rows": 3, "segments": 2}
        assert collisions({3: one, 9: two}, VectorStream) == []
        assert collisions({3: one, 8: two}, VectorStream) == [8]
        assert collisions({3: one, 4: two}, VectorStream) == [4]
