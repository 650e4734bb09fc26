import itertools
import random
from functools import cache

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from jepa_r.safety.code import (
    ADDRESS_BITS,
    CODE_BITS,
    CodeDecoder,
    CodeEncoder,
    unfit,
)
from jepa_r_sim.golden.code import address_check, decode, encode, parity_matrix

from .simulation import Simulation

COLUMNS = [int("".join(map(str, reversed(column))), 2) for column in parity_matrix().T]


@cache
def simulation_of(component):
    """Simulation; only the decoder has registers."""
    return Simulation(component(), clocked=component is CodeDecoder)


def encoded(words):
    """Code words of (word, address)."""
    simulation = simulation_of(CodeEncoder)
    dut, codes = simulation.dut, []

    async def testbench(ctx):
        for word, address in words:
            ctx.set(dut.data, word)
            ctx.set(dut.address, address)
            await ctx.delay(1e-9)
            codes.append(ctx.get(dut.code))

    simulation(testbench)
    return codes


def decoded(codes):
    """Word and flags of each (code word, address), one a cycle."""
    simulation = simulation_of(CodeDecoder)
    dut, results = simulation.dut, []

    async def testbench(ctx):
        for n in range(len(codes) + dut.LATENCY):
            if n >= dut.LATENCY:
                outputs = dut.data, dut.corrected, dut.uncorrectable
                results.append(tuple(ctx.get(output) for output in outputs))
            if n < len(codes):
                ctx.set(dut.address, codes[n][1])
            if 1 <= n <= len(codes):
                ctx.set(dut.code, codes[n - 1][0])
            await ctx.tick()

    simulation(testbench)
    return results


class Refusal(wiring.Component):
    """What a memory decides on a write."""

    def __init__(self):
        super().__init__({"code": In(39), "address": In(32), "unfit": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.unfit.eq(unfit(self.code, self.address))
        return m


def unfits(codes):
    """Whether code words are refused."""
    simulation = simulation_of(Refusal)
    dut, answers = simulation.dut, []

    async def testbench(ctx):
        for code, address in codes:
            ctx.set(dut.code, code)
            ctx.set(dut.address, address)
            await ctx.delay(1e-9)
            answers.append(ctx.get(dut.unfit))

    simulation(testbench)
    return answers


def some(count, seed):
    """Words at addresses: those at the ends, and random ones."""
    rng = random.Random(seed)
    ends = list(itertools.product((0, 0xFFFF_FFFF), (0, 0x3_FFFC)))
    return [*ends, *((rng.getrandbits(32), rng.getrandbits(16) << 2) for _ in range(count))]


def test_code_words_agree_with_the_golden_model():
    words = some(60, 1)
    words += [(1 << n, 0) for n in range(32)] + [(0, 4 << n) for n in range(ADDRESS_BITS)]
    codes = encoded(words)
    assert codes == [encode(word, address) for word, address in words]
    read = [(code, address) for code, (_, address) in zip(codes, words, strict=True)]
    assert decoded(read) == [(word, 0, 0) for word, _ in words]
    assert not any(unfits(read))


def test_every_wrong_bit_is_corrected():
    for word, address in some(3, 2):
        code = encode(word, address)
        errors = [(code ^ 1 << n, address) for n in range(CODE_BITS)]
        assert decoded(errors) == [(word, 1, 0)] * 39
        assert not any(unfits(errors))


#: All, or every tenth.
STEPS = [10, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("step", STEPS)
def test_every_two_wrong_bits_are_flagged(step):
    for word, address in some(1, 3)[-2:]:
        code = encode(word, address)
        pairs = list(itertools.combinations(range(CODE_BITS), 2))
        assert len(pairs) == 741
        errors = [(code ^ 1 << a ^ 1 << b, address) for a, b in pairs[::step]]
        assert [flags for _, *flags in decoded(errors)] == [[0, 1]] * len(errors)
        assert all(unfits(errors))


@pytest.mark.parametrize("step", STEPS)
def test_up_to_three_wrong_address_bits_are_flagged(step):
    word, address = some(1, 4)[-1]
    code = encode(word, address)
    wrong = [
        address ^ sum(4 << bit for bit in bits)
        for count in (1, 2, 3)
        for bits in itertools.combinations(range(ADDRESS_BITS), count)
    ]
    assert len(wrong) == 16 + 120 + 560
    errors = [(code, place) for place in wrong[::step]]
    assert [flags for _, *flags in decoded(errors)] == [[0, 1]] * len(errors)
    assert all(unfits(errors))


def test_anything_decodes_as_the_golden_model_does():
    rng = random.Random(5)
    codes = [(rng.getrandbits(39), rng.getrandbits(32)) for _ in range(100)]
    assert decoded(codes) == [decode(*code) for code in codes]
    assert unfits(codes) == [decode(*code)[2] for code in codes]


def test_columns_have_distance_four():
    assert len(set(COLUMNS)) == 39
    assert all(column.bit_count() % 2 for column in COLUMNS)


@pytest.fixture(scope="module")
def places():
    """What being at a wrong address adds to the syndrome, for each difference of addresses."""
    sums = np.zeros(1, np.int64)
    for bit in range(ADDRESS_BITS):
        sums = np.concatenate([sums, sums ^ address_check(4 << bit) ^ address_check(0)])
    return sums


def test_a_wrong_address_is_never_taken_for_a_wrong_bit(places):
    """Exhaustive, and the data do not matter: the code is linear."""
    flagged = ~np.isin(places, [0, *COLUMNS])
    unseen = np.flatnonzero(places == 0)[1:]
    print(f"wrong addresses: {flagged.sum()} of {len(places) - 1} flagged, {len(unseen)} unseen")  # noqa: T201
    assert flagged.sum() + len(unseen) == len(places) - 1
    assert len(unseen) == 2047
    assert all(int(n).bit_count() >= 4 and int(n).bit_count() % 2 == 0 for n in unseen)


def test_all_zeros_and_all_ones_are_no_code_words_at_any_address(places):
    zeros = places ^ address_check(0)
    ones = zeros ^ np.bitwise_xor.reduce(COLUMNS)
    assert not np.isin(zeros, [0, *COLUMNS]).any()
    assert not np.isin(ones, [0]).any()
    assert np.isin(ones, COLUMNS).mean() == 0.5


def test_three_wrong_bits_are_often_taken_for_one():
    """The rate is what it is; no choice of 39 odd columns has less than 5316."""
    columns = set(COLUMNS)
    triples = list(itertools.combinations(COLUMNS, 3))
    wrong = sum(a ^ b ^ c in columns for a, b, c in triples)
    print(f"three wrong bits: {wrong} of {len(triples)} mis-corrected, {wrong / len(triples):.1%}")  # noqa: T201
    assert (wrong, len(triples)) == (5340, 9139)


def test_the_bound_on_three_wrong_bits():
    # Weight-4 code words are ordered quadruples of columns that sum to zero, less those that are
    # two equal pairs. Their number is the mean fourth power of the Fourier transform of the set of
    # columns over the 64 odd vectors; its mean square is fixed, so a flat one has the fewest.
    size, space = 39, 64
    flat = (space * size - size**2) / (space - 1)
    quadruples = (size**4 + (space - 1) * flat**2) / space
    least = (quadruples - 3 * size**2 + 2 * size) / 24
    assert 4 * least > 5312  # four triples to each word: at least 5316


def test_up_to_four_neighbours_are_flagged():
    columns = {0, *COLUMNS}
    for width in (3, 4):
        for n in range(39 - width + 1):
            assert int(np.bitwise_xor.reduce(COLUMNS[n : n + width])) not in columns
