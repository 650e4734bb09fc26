"""Bounds on the firmware's time: they hold on every run, and are close."""

import copy
from functools import cache

import numpy as np
import pytest

from jepa_r.safety.arm import Settings
from jepa_r.safety.core import Core
from jepa_r.safety.map import JOINTS, PERIOD_CYCLES, State
from jepa_r_sim.firmware import Firmware, shipped
from jepa_r_sim.golden.island_world import World
from jepa_r_sim.timing import wcet
from jepa_r_sim.timing.wcet import WcetError, longest

GUARD_CYCLES = 32_000


@cache
def bound(function):
    return longest(shipped(), function, Core.cycles_of)


@cache
def _running():
    return World(shipped(), Core.cycles_of).start().arm()


def test_the_pass_and_a_fall_back_take_less_than_half_a_period():
    assert bound("period").cycles + bound("fall_back").cycles <= PERIOD_CYCLES // 2


def test_the_pass_needs_less_jitter_than_the_watchdog_allows():
    """The token of one pass may come early and of the next late, with clocks 5 % apart.

    It is the last thing that a pass does: what comes behind it is the same in all.
    """
    settings = Settings()
    jitter = bound("period").cycles + bound("fall_back").cycles - bound("period").least
    latest, earliest = PERIOD_CYCLES + jitter, PERIOD_CYCLES - jitter
    guard = GUARD_CYCLES / PERIOD_CYCLES
    assert latest * guard * 1.05 <= settings.watchdog_deadline
    assert earliest * guard / 1.05 >= settings.watchdog_open


def measured(world, function):
    """Cycles of the next call of a function, or none before the period ends."""
    machine, place = world.island.machine, shipped().symbols[function]
    machine.run(40_000, until=lambda: machine.pc == place)
    if machine.pc != place:
        return None
    back, begin = machine.x[1], machine.time
    machine.run(40_000, until=lambda: machine.pc == back)
    return machine.time - begin


def test_no_pass_takes_longer_than_its_bound():
    rng = np.random.default_rng(8)
    longest_seen, shortest = 0, PERIOD_CYCLES
    for _ in range(25):
        world = copy.deepcopy(_running())
        if rng.random() < 0.7:
            world.velocity = [int(n) for n in rng.integers(-20_000, 20_000, JOINTS)]
        bad = rng.random()
        if bad < 0.2:
            world.command_hook = lambda words: [*words[:-1], words[-1] ^ 1]
        elif bad < 0.4:
            world.sample_hook = lambda words: [*words[:-1], words[-1] ^ 1]
        elif bad < 0.6:
            world.target = [
                int(n) for n in np.array(world.target) + rng.integers(-900, 900, JOINTS)
            ]
        run_to, world.island.run_to = world.island.run_to, lambda cycle: None
        now = world.period * PERIOD_CYCLES
        run_to(now + 70_000)
        world.turn()
        world.island.run_to = run_to
        run_to(now + PERIOD_CYCLES - 100)
        cycles = measured(world, "period")
        assert bound("period").least <= cycles <= bound("period").cycles
        longest_seen, shortest = max(longest_seen, cycles), min(shortest, cycles)
    assert longest_seen >= 0.7 * bound("period").cycles
    assert shortest < longest_seen


def test_no_fall_back_takes_longer_than_its_bound():
    world = copy.deepcopy(_running())
    island = world.island
    island.run_to(world.period * PERIOD_CYCLES + 50_000)
    island.state = State.FALLBACK
    cycles = measured(world, "fall_back")
    assert 0.7 * bound("fall_back").cycles <= cycles <= bound("fall_back").cycles


@pytest.mark.parametrize("function", ["period", "fall_back"])
def test_what_the_analysis_knows_is_true_on_a_run(function):
    world = copy.deepcopy(_running())
    island, machine = world.island, world.island.machine
    if function == "fall_back":
        island.run_to(world.period * PERIOD_CYCLES + 50_000)
        island.state = State.FALLBACK
    place = shipped().symbols[function]
    machine.run(100_000, until=lambda: machine.pc == place)
    back, walker = machine.x[1], wcet._Walker(shipped())
    registers = [None] * 32
    registers[0], registers[1], registers[2] = machine.x[:3]
    state, known = (machine.pc, tuple(registers), frozenset()), 0
    for _ in range(10_000):
        following = walker.follow(state)
        machine.run(1)
        state = next(after for after in following if after[0] == machine.pc)
        for number, value in enumerate(state[1]):
            assert value is None or value == machine.x[number], hex(machine.pc)
            known += value is not None
        for address, word in state[2]:
            assert machine.read_word(address) == word
        if machine.pc == back:
            break
    assert machine.pc == back
    assert known > 5000


def firmware_of(*words):
    code = b"".join(word.to_bytes(4, "little") for word in words)
    return Firmware(code=code, symbols={"f": 0, "_end_of_bss": 0x10000})


RET, NOP = 0x00008067, 0x00000013


def test_the_longer_way_counts():
    # beq a0, a1, +12; mul a2, a0, a1; nop; ret
    firmware = firmware_of(0x00B50663, 0x02B50633, NOP, RET)
    found = longest(firmware, "f", Core.cycles_of)
    plain, product = Core.cycles_of(NOP), Core.cycles_of(0x02B50633)
    assert (found.cycles, found.path) == (3 * plain + product, (0, 4, 8, 12))
    assert found.least == 2 * plain


def test_loops_count_by_their_constants():
    # li a0, 5; addi a0, a0, -1; bnez a0, -4; ret
    firmware = firmware_of(0x00500513, 0xFFF50513, 0xFE051EE3, RET)
    assert longest(firmware, "f", lambda word: 1).cycles == 1 + 5 * 2 + 1


def test_a_loop_without_a_known_end_is_refused():
    # addi a0, a0, -1; bnez a0, -4; ret
    firmware = firmware_of(0xFFF50513, 0xFE051EE3, RET)
    with pytest.raises(WcetError, match=r"^the loop at 0x0 has no end that is known$"):
        longest(firmware, "f", lambda word: 1)
    with pytest.raises(WcetError, match="has no end that is known"):
        longest(shipped(), "cycle", lambda word: 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((0x00050067,), "jump at 0x0 to what is not known"),
        ((0x00B52023, RET), "store at 0x0 to an address that is not known"),
        ((NOP,), "jump to 0x4, outside the code"),
        ((0,), "instruction 0x00000000 at 0x0 is not known"),
    ],
)
def test_what_cannot_be_followed_is_refused(words, message):
    with pytest.raises(WcetError, match=f"^{message}$"):
        longest(firmware_of(*words), "f", lambda word: 1)
