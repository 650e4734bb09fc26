import itertools
import random

import pytest
from amaranth.sim import Simulator

from jepa_r.memory.secded import SecdedDecoder, SecdedEncoder, check_bits
from jepa_r_sim.golden.secded import decode, encode, parity_matrix


def encoded(width, words):
    """Code words of words; there are no registers."""
    dut = SecdedEncoder(width=width)
    codes = []

    async def testbench(ctx):
        for word in words:
            ctx.set(dut.data, word)
            await ctx.delay(1e-9)
            codes.append(ctx.get(dut.code))

    simulator = Simulator(dut)
    simulator.add_testbench(testbench)
    simulator.run()
    return codes


def decoded(width, codes):
    """Word and flags of each code word, one a cycle."""
    dut = SecdedDecoder(width=width)
    results = []

    async def testbench(ctx):
        for n in range(len(codes) + dut.latency):
            if n >= dut.latency:
                outputs = dut.data, dut.corrected, dut.uncorrectable
                results.append(tuple(ctx.get(output) for output in outputs))
            ctx.set(dut.code, codes[min(n, len(codes) - 1)])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return results


@pytest.mark.parametrize(
    ("width", "bits"), [(1, 3), (4, 4), (8, 5), (16, 6), (26, 6), (32, 7), (57, 7), (64, 8)]
)
def test_codes_are_as_short_as_they_can_be(width, bits):
    assert check_bits(width) == bits


@pytest.mark.parametrize("width", [0, -1])
def test_words_have_at_least_one_bit(width):
    with pytest.raises(ValueError, match=rf"^width is {width}; a code word holds at least one bit"):
        SecdedEncoder(width=width)


@pytest.mark.parametrize("width", [1, 5, 8, 32, 57, 64, 72])
def test_code_words_agree_with_the_golden_model(width):
    rng = random.Random(width)
    words = [0, 2**width - 1, *(1 << n for n in range(width))]
    words += [rng.getrandbits(width) for _ in range(50)]
    codes = encoded(width, words)
    assert codes == [encode(word, width) for word in words]
    assert decoded(width, codes) == [(word, 0, 0) for word in words]


@pytest.mark.parametrize("width", [1, 8, 32, 64])
def test_every_single_error_is_corrected(width):
    word = random.Random(1).getrandbits(width)
    code = encode(word, width)
    errors = [code ^ 1 << n for n in range(width + check_bits(width))]
    assert decoded(width, errors) == [(word, 1, 0)] * len(errors)


@pytest.mark.parametrize("width", [1, 8, 32])
def test_every_double_error_is_detected(width):
    word = random.Random(2).getrandbits(width)
    code = encode(word, width)
    pairs = itertools.combinations(range(width + check_bits(width)), 2)
    errors = [code ^ 1 << a ^ 1 << b for a, b in pairs]
    assert [flags for _, *flags in decoded(width, errors)] == [[0, 1]] * len(errors)


def test_anything_decodes_as_the_golden_model_does():
    rng = random.Random(3)
    codes = [rng.getrandbits(39) for _ in range(200)]
    assert decoded(32, codes) == [decode(code, 32) for code in codes]


@pytest.mark.parametrize("width", [8, 32, 64])
def test_no_three_columns_cancel(width):
    # Distance four: what single error correction with double error detection needs.
    columns = [int("".join(map(str, column)), 2) for column in parity_matrix(width).T]
    assert len(set(columns)) == len(columns)
    assert not any(a ^ b in set(columns) for a, b in itertools.combinations(columns, 2))
