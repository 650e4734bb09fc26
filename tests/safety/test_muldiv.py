# amaranth: UnusedElaboratable=no
"""Products and quotients: all of them at a small width, the ones at the edges at the real one."""

import pytest

from jepa_r.safety.muldiv import MulDiv
from jepa_r_sim.drivers.stream import simulate
from jepa_r_sim.formal import mutant

FUNCTIONS = ("mul", "mulh", "mulhsu", "mulhu", "div", "divu", "rem", "remu")

EDGES = [
    (0, 0), (1, 0), (0x80000000, 0), (0x80000000, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF),
    (0x7FFFFFFF, 0x80000000), (0x80000000, 0x80000000), (0xFFFFFFFB, 3), (5, 0xFFFFFFFD),
    (0xDEADBEEF, 0x12345678),
]  # fmt: skip


def expected(name, a, b, width):
    """As the standard says, on Python's numbers."""
    ones, sign = (1 << width) - 1, 1 << width - 1
    signed_a, signed_b = (a ^ sign) - sign, (b ^ sign) - sign
    match name:
        case "mul":
            return a * b & ones
        case "mulh":
            return signed_a * signed_b >> width & ones
        case "mulhsu":
            return signed_a * b >> width & ones
        case "mulhu":
            return a * b >> width
        case "divu":
            return a // b if b else ones
        case "remu":
            return a % b if b else a
    quotient = -1 if b == 0 else abs(signed_a) // abs(signed_b)
    if b and (signed_a < 0) != (signed_b < 0):
        quotient = -quotient
    # Of a division by zero the rest is the dividend, of one that overflows it is 0.
    return (quotient if name == "div" else signed_a - quotient * signed_b * (b != 0)) & ones


def check(dut, pairs, width):
    async def testbench(ctx):
        for function, name in enumerate(FUNCTIONS):
            ctx.set(dut.function, function)
            for a, b in pairs:
                ctx.set(dut.a, a)
                ctx.set(dut.b, b)
                ctx.set(dut.start, 1)
                await ctx.tick()
                # Operands are read with the start alone.
                ctx.set(dut.start, 0)
                ctx.set(dut.a, ~a)
                ctx.set(dut.b, ~b)
                for _ in range(dut.latency(width) - 1):
                    assert not ctx.get(dut.done)
                    await ctx.tick()
                assert ctx.get(dut.done)
                assert ctx.get(dut.result) == expected(name, a, b, width), (name, a, b)
                await ctx.tick()
                assert not ctx.get(dut.done)

    count = len(FUNCTIONS) * len(pairs) * (dut.latency(width) + 2)
    simulate(dut, testbench, max_cycles=count)


def test_a_width_without_a_sign_and_a_value_is_refused():
    with pytest.raises(ValueError, match=r"^width is 1; it must be at least 2$"):
        MulDiv(width=1)


def test_all_of_a_small_width():
    check(MulDiv(width=4), [(a, b) for a in range(16) for b in range(16)], 4)


def test_edges_of_the_real_width():
    check(MulDiv(), EDGES, 32)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(~divide | self.b.any())", "1"),
        ("carry.eq(inverted & (divide | ~upper | ~low.any()))", "carry.eq(inverted)"),
        ("divide & upper, negate_rest, negate", "divide & upper, negate, negate"),
        ("self.function[:2] != 3", "1"),
        ("left.eq(width + 1)", "left.eq(Mux(self.b.any(), width + 1, 2))"),
    ],
)
def test_a_planted_bug_is_found(right, wrong):
    broken = mutant(MulDiv, right, wrong)(width=3)
    with pytest.raises(AssertionError):
        check(broken, [(a, b) for a in range(8) for b in range(8)], 3)
