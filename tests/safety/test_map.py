"""The map has no contradictions: places, fields, keys and states."""

from itertools import combinations

import pytest

from jepa_r.safety.map import (
    BY_NAME,
    KEYS,
    MEMORIES,
    REGISTERS,
    WATCHDOG_TAPS,
    Access,
    Fault,
    Stage,
    State,
)


def test_registers_are_in_order_and_apart():
    end = 0
    for register in REGISTERS:
        assert register.offset % 4 == 0
        assert register.offset >= end, register.name
        end = register.offset + 4 * register.count
    assert end <= next(memory.size for memory in MEMORIES if memory.name == "REGISTERS")
    assert len(BY_NAME) == len(REGISTERS)


@pytest.mark.parametrize("register", REGISTERS, ids=lambda register: register.name)
def test_fields_are_apart_and_only_keys_have_keys(register):
    taken = 0
    for part in register.fields:
        assert part.low + part.width <= 32
        assert not taken & part.mask, part.name
        taken |= part.mask
    assert (register.access is Access.KEY) == bool(register.keys)
    assert set(register.keys) <= KEYS.keys()


def test_memories_are_apart():
    for one, other in combinations(MEMORIES, 2):
        assert one.base + one.size <= other.base or other.base + other.size <= one.base


def test_keys_are_far_apart_and_far_from_constant_words():
    words = [*KEYS.values(), 0, 0xFFFFFFFF]
    assert all((a ^ b).bit_count() >= 10 for a, b in combinations(words, 2))


def test_states_are_far_apart_and_far_from_constant_words():
    words = [*State, 0, 0xFFFF]
    assert all((a ^ b).bit_count() == 8 for a, b in combinations(words, 2) if {a, b} != {0, 0xFFFF})


def test_the_challenge_takes_every_value_but_zero():
    bits, ones = 32, (1 << 32) - 1

    # The register steps by a matrix over GF(2); its order is full if it returns after all steps and
    # not after any that lack one prime factor.
    def step(value):
        return value >> 1 ^ (WATCHDOG_TAPS if value & 1 else 0)

    columns = [step(1 << n) for n in range(bits)]

    def apply(matrix, value):
        result = 0
        for n, column in enumerate(matrix):
            result ^= column if value >> n & 1 else 0
        return result

    def power(exponent):
        result, square = [1 << n for n in range(bits)], columns
        while exponent:
            if exponent & 1:
                result = [apply(square, column) for column in result]
            square = [apply(square, column) for column in square]
            exponent >>= 1
        return result

    identity = [1 << n for n in range(bits)]
    assert 3 * 5 * 17 * 257 * 65537 == ones
    assert power(ones) == identity
    assert all(power(ones // prime) != identity for prime in (3, 5, 17, 257, 65537))


def test_a_fault_of_the_start_names_its_stage():
    for stage in Stage:
        if stage is not Stage.READY:
            assert Fault[stage.name] == 0x10 + stage
