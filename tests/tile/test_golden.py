import numpy as np
import pytest

from jepa_r_sim.golden.tile import matmul


@pytest.mark.parametrize("k", [1, 7, 1023, 1024, 1025, 1041, 2047, 6144])
@pytest.mark.parametrize("kind", ["random", "minimum", "odd"])
def test_product_is_exact(k, kind):
    rng = np.random.default_rng(k)
    if kind == "random":
        a, b = rng.integers(-128, 128, (33, k)), rng.integers(-128, 128, (21, k))
    else:
        # All partial sums of the smallest have factors of two to spare, of odd ones none.
        a = np.full((33, k), -128 if kind == "minimum" else -127)
        b = np.full((21, k), -128 if kind == "minimum" else 127)
    got = matmul(a.astype(np.int8), b.astype(np.int8))
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, a.astype(np.int64) @ b.astype(np.int64).T)


def test_odd_sums_just_below_the_limit_are_exact():
    # 1024 products: 1023 largest and one that makes the sum odd, which float32 holds only here.
    a = np.full((1, 1024), -128, np.int8)
    b = np.full((1, 1024), -128, np.int8)
    a[0, 500], b[0, 500] = -127, -127
    assert matmul(a, b)[0, 0] == 1023 * 2**14 + 127**2


def test_leading_axes_are_products_of_their_own():
    rng = np.random.default_rng(0)
    a = rng.integers(-128, 128, (2, 1, 5, 1030)).astype(np.int8)
    b = rng.integers(-128, 128, (3, 4, 1030)).astype(np.int8)
    got = matmul(a, b)
    assert got.shape == (2, 3, 5, 4)
    for m, n in np.ndindex(2, 3):
        np.testing.assert_array_equal(got[m, n], matmul(a[m, 0], b[n]))


def test_sums_wrap_modulo_2_to_the_32():
    ones = np.full((1, 2**17), -128, np.int8)
    assert matmul(ones, ones)[0, 0] == -(2**31)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (
            np.zeros((2, 3)),
            np.zeros((2, 3), np.int8),
            r"a is float64 \[2, 3\], not int8 \[rows, K\]",
        ),
        (np.zeros((2, 3), np.int8), np.zeros(3, np.int8), r"b is int8 \[3\], not int8 \[rows, K\]"),
        (
            np.zeros((2, 3), np.int8),
            np.zeros((2, 4), np.int8),
            "rows of a have 3 elements, rows of b 4",
        ),
    ],
    ids=["dtype", "dimensions", "lengths"],
)
def test_other_operands_are_refused(a, b, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        matmul(a, b)
