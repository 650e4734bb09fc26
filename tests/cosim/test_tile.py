import pytest

from jepa_r.tile.tile import Tile
from jepa_r_sim import cosim

SHAPES = [(1, 1, 1), (9, 1, 3), (258, 20, 10), (3, 37, 17), (2, 16, 16), (7, 40, 33)]
ACC_ROWS = 1040  # 258 tokens in the blocks of columns of the widest product


def simulation(rows, columns, acc_rows=ACC_ROWS):
    tile = Tile(rows=rows, columns=columns, acc_rows=acc_rows)
    return cosim.build(tile, name=tile.macro_name)


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (4, 12), (5, 7)], ids=str)
def test_products(tmp_path, size):
    rows, columns = size
    simulation(rows, columns).run(
        "jepa_r_sim.benches.tile",
        workdir=tmp_path,
        testcase="products",
        parameters={"rows": rows, "columns": columns, "acc_rows": ACC_ROWS, "shapes": SHAPES},
    )


@pytest.mark.parametrize(
    ("size", "chain", "least"),
    [
        ((8, 8), [(258, 4 * 8, 8)], 0.97),
        ((16, 16), [(258, 7 * 16, 16)], 0.97),
        ((32, 32), 7 * [(64, 64, 64)], 0.94),
    ],
    ids=["four passes", "seven passes", "seven products"],
)
def test_utilisation(tmp_path, size, chain, least):
    rows, columns = size
    results = simulation(rows, columns).run(
        "jepa_r_sim.benches.tile",
        workdir=tmp_path,
        testcase="utilisation",
        parameters={"rows": rows, "columns": columns, "acc_rows": ACC_ROWS, "chain": chain},
    )
    m = chain[0][0]
    passes = sum(-(-k // rows) * -(-n // columns) for _, k, n in chain)
    predicted = Tile.chain_cycles(m, columns, passes, rows=rows, columns=columns)
    assert results.values["cycles"] == predicted
    assert results.values["utilisation"] >= least
