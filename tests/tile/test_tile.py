import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r.tile.tile import Tile
from jepa_r_sim.drivers.tile import Pass, passes_of, schedule
from jepa_r_sim.golden.tile import matmul

SIZES = [(8, 8), (16, 16), (4, 12), (5, 7), (1, 1)]
ACC_ROWS = 600  # M = 258 in two blocks of columns, and more

fill = st.sampled_from(["random", "minimum", "maximum", "opposite", "edges"])


def operands(m, k, n, kind, seed):
    rng = np.random.default_rng(seed)
    if kind == "random":
        a, b = rng.integers(-128, 128, (m, k)), rng.integers(-128, 128, (n, k))
    elif kind == "edges":
        a, b = rng.choice([-128, -127, 127], (m, k)), rng.choice([-128, -1, 127], (n, k))
    else:
        left = 127 if kind == "maximum" else -128
        a, b = np.full((m, k), left), np.full((n, k), -128 if kind == "minimum" else 127)
    return a.astype(np.int8), b.astype(np.int8)


def check_product(bench, a, b, *, row=0, half=0, pause=lambda: False):
    """Run a GEMM, read all of it back, and compare."""
    passes = passes_of(a, b, rows=bench.rows, columns=bench.columns, row=row, half=half)
    stimulus = schedule(passes, **bench.size, pause=pause)
    done = len(stimulus) + Tile.first_latency(bench.rows, bench.columns)
    wanted = matmul(a, b)
    pitch = len(a) + len(a) % 2
    reads = {}
    for n in range(0, len(b), bench.columns):
        for m in range(len(a)):
            reads[done + len(reads)] = (half, row + n // bench.columns * pitch + m)
    rows, faults = bench.run(stimulus, reads)
    got = np.array(list(rows.values())).reshape(-1, len(a), bench.columns)
    got = np.concatenate(list(got), axis=1)[:, : len(b)]
    np.testing.assert_array_equal(got, wanted)
    assert not faults
    return stimulus


def first_readable(bench, stimulus, half, row, wanted, around):
    """First cycle in which a read finds ``wanted`` in a row and disturbs nothing."""
    for cycle in range(around - 1, around + 3):
        rows, faults = bench.run(stimulus, {cycle: (half, row)})
        if not faults and np.array_equal(rows[cycle][: len(wanted)], wanted):
            return cycle
    raise AssertionError(f"row {row} is not there by cycle {around + 2}")


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (9, 1, 3), (258, 20, 10), (3, 37, 17), (2, 16, 16)], ids=str
)
def test_product_of_any_shape_is_exact(tile_bench, size, shape):
    m, k, n = shape
    if size == (1, 1):
        m, k, n = min(m, 30), min(k, 9), min(n, 9)
    check_product(tile_bench(*size, ACC_ROWS), *operands(m, k, n, "random", seed=m))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["minimum", "maximum", "opposite"])
def test_extreme_operands_do_not_overflow_the_partial_sums(tile_bench, size, kind):
    check_product(tile_bench(*size, ACC_ROWS), *operands(5, 3 * size[0], size[1], kind, seed=0))


@pytest.mark.parametrize("size", [(5, 7), (4, 12), (1, 1), (3, 2)], ids=str)
@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(1, 12),
    k=st.integers(1, 14),
    n=st.integers(1, 26),
    kind=fill,
    half=st.integers(0, 1),
    row=st.integers(0, 10).map(lambda n: 2 * n),
    pauses=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**16),
)
def test_product_is_exact_whatever_the_pauses(
    tile_bench, size, m, k, n, kind, half, row, pauses, seed
):
    if size == (1, 1):
        k, n = min(k, 5), min(n, 5)
    pause = np.random.default_rng(seed)
    check_product(
        tile_bench(*size, ACC_ROWS),
        *operands(m, k, n, kind, seed),
        row=row,
        half=half,
        pause=lambda: pause.random() < pauses,
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("m", [1, 2, 7, 18])
def test_a_chain_takes_the_cycles_it_promises(tile_bench, size, m):
    rows, columns = size
    bench = tile_bench(*size, ACC_ROWS)
    a, b = operands(m, 4 * rows, columns, "random", seed=m)
    stimulus = schedule(passes_of(a, b, rows=rows, columns=columns), **bench.size)
    cycles = Tile.chain_cycles(m, columns, 4, rows=rows, columns=columns)
    last = first_readable(bench, stimulus, 0, m - 1, matmul(a, b)[-1], cycles)
    assert last == cycles
    # One pass that stores, so that nothing else uses the bank after the first row.
    a, b = a[:, :rows], b[:, :rows]
    stimulus = schedule(passes_of(a, b, rows=rows, columns=columns), **bench.size)
    expected = stimulus.starts[0] + Tile.first_latency(rows, columns)
    assert first_readable(bench, stimulus, 0, 0, matmul(a, b)[0], expected + 1) == expected + 1


def test_passes_of_different_shapes_follow_each_other(tile_bench):
    bench = tile_bench(5, 7, ACC_ROWS)
    passes, row = [], 0
    for seed, (m, k, n) in enumerate([(9, 5, 7), (1, 3, 2), (4, 5, 7), (13, 1, 1), (2, 5, 6)]):
        passes.append(Pass(*operands(m, k, n, "random", seed), row=row, half=seed % 2))
        row += m + m % 2
    stimulus = schedule(passes, **bench.size)
    done = len(stimulus) + 13
    where = [(each, m) for each in passes for m in range(len(each.a))]
    rows, faults = bench.run(
        stimulus, {done + n: (each.half, each.row + m) for n, (each, m) in enumerate(where)}
    )
    assert not faults
    for (each, m), got in zip(where, rows.values(), strict=True):
        np.testing.assert_array_equal(got[: len(each.b)], matmul(each.a, each.b)[m])
    # B loads while A streams: nothing but the longer of both is between two swaps.
    assert np.diff(stimulus.starts).tolist() == [10, 7, 4, 14]


@pytest.mark.parametrize("size", [(8, 8), (5, 7)], ids=str)
def test_one_half_is_read_while_the_other_is_added_to(tile_bench, size):
    rows, columns = size
    bench = tile_bench(*size, ACC_ROWS)
    m = 20
    products = [operands(m, 3 * rows, columns, "random", seed) for seed in range(4)]
    passes = [
        each
        for n, (a, b) in enumerate(products)
        for each in passes_of(a, b, rows=rows, columns=columns, half=n % 2)
    ]
    stimulus = schedule(passes, **bench.size)
    reads, wanted = {}, {}
    rng = np.random.default_rng(1)
    for n, (a, b) in enumerate(products):
        # Product n is complete with the last row of its chain; n + 2 stores over it later.
        begin = stimulus.starts[3 * n + 2] + m + Tile.first_latency(rows, columns)
        for cycle, row in enumerate(rng.permutation(m), start=begin):
            reads[cycle] = (n % 2, int(row))
            wanted[cycle] = matmul(a, b)[row]
    got, faults = bench.run(stimulus, reads)
    assert not faults
    for cycle, row in wanted.items():
        np.testing.assert_array_equal(got[cycle], row)
    assert sum(cycle < len(stimulus) for cycle in reads) > 2 * m


def test_a_row_read_stays_until_the_next(tile_bench):
    bench = tile_bench(5, 7, ACC_ROWS)
    a, b = operands(4, 5, 7, "random", seed=3)
    stimulus = schedule(passes_of(a, b, rows=5, columns=7), **bench.size)
    done = len(stimulus) + 13
    rows, _ = bench.run(stimulus, {done: (0, 1), done + 4: (0, 2), done + 8: (0, 3)}, patience=3)
    np.testing.assert_array_equal(list(rows.values()), matmul(a, b)[1:])


@pytest.mark.parametrize("early", [1, -1])
def test_a_swap_one_cycle_early_or_late_is_a_fault(tile_bench, early):
    bench = tile_bench(5, 7, ACC_ROWS)
    a, b = operands(6, 15, 7, "random", seed=1)
    passes = passes_of(a, b, rows=5, columns=7)
    right = schedule(passes, **bench.size)
    assert not bench.run(right)[1]
    _, faults = bench.run(schedule(passes, **bench.size, early=early))
    # Early: one row of B is missing. Late: its successor's first row finds no column.
    assert faults[0] == right.starts[1] - max(early, 0)


@pytest.mark.parametrize("rows_of_b", [0, 3, 6])
def test_a_wrong_number_of_rows_of_b_is_a_fault(tile_bench, rows_of_b):
    bench = tile_bench(5, 7, ACC_ROWS)
    stimulus = schedule([Pass(*operands(4, 5, rows_of_b + 1, "random", seed=1))], **bench.size)
    swap = stimulus.starts[0]
    assert not bench.run(stimulus)[1]
    for wrong in {rows_of_b, rows_of_b + 2} - {8}:
        stimulus.b_rows[swap] = wrong
        assert bench.run(stimulus)[1] == [swap]


def test_a_row_of_b_too_many_is_a_fault(tile_bench):
    bench = tile_bench(5, 7, ACC_ROWS)
    stimulus = schedule(
        [Pass(*operands(9, 5, 7, "random", seed=n), row=10 * n) for n in range(2)], **bench.size
    )
    overrun = stimulus.starts[0] + 7
    assert overrun < stimulus.starts[1]
    stimulus.b_valid[overrun] = 1
    assert bench.run(stimulus)[1] == [overrun]


@pytest.mark.parametrize("access", ["write", "fetch"])
def test_a_read_in_a_bank_that_is_in_use_is_a_fault(tile_bench, access):
    bench = tile_bench(5, 7, ACC_ROWS)
    a, b = operands(1, 10, 7, "random", seed=1)
    stimulus = schedule(passes_of(a, b, rows=5, columns=7, row=4, half=1), **bench.size)
    cycle = stimulus.starts[1] + Tile.first_latency(5, 7) - (access == "fetch")
    for half, row in [(1, 5), (0, 4), (0, 5)]:
        assert bench.run(stimulus, {cycle: (half, row)})[1] == []
    for row in (4, 8):
        assert bench.run(stimulus, {cycle: (1, row)})[1] == [cycle]


def test_rows_that_do_not_alternate_between_the_banks_are_a_fault(tile_bench):
    bench = tile_bench(4, 12, ACC_ROWS)
    a, b = operands(12, 4, 12, "random", seed=1)
    stimulus = schedule([Pass(a, b), Pass(a, b, add=True)], **bench.size)
    stimulus.acc_row[stimulus.starts[1] + 5] += 1
    _, faults = bench.run(stimulus)
    write = stimulus.starts[1] + 5 + Tile.first_latency(4, 12)
    # It is fetched while the row before it is written, and written while the next is fetched.
    assert faults == [write - 1, write]


def test_interval_is_the_longer_of_tokens_and_rows_of_b():
    assert [Tile.interval(m, n) for m, n in [(8, 8), (7, 8), (8, 9), (258, 8), (9, 8)]] == [
        8,
        8,
        9,
        258,
        10,
    ]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((0, 8, 8), "array of 0 x 8 cells is not at least 1 x 1"),
        ((8, -1, 8), "array of 8 x -1 cells is not at least 1 x 1"),
        ((8, 8, 7), "acc_rows 7 is not an even number of at least 4"),
        ((8, 8, 2), "acc_rows 2 is not an even number of at least 4"),
    ],
)
def test_bad_sizes_are_refused(size, message):
    rows, columns, acc_rows = size
    with pytest.raises(ValueError, match=f"^{message}$"):
        Tile(rows=rows, columns=columns, acc_rows=acc_rows)
