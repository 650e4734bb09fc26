"""The firmware on a model of the island: start, run, every way to fall back, stop and trip."""

import copy
from functools import cache

import numpy as np
import pytest

from jepa_r.safety.arm import Settings
from jepa_r.safety.map import ALERTS, JOINTS, PERIOD_CYCLES, Fault, Stage, State
from jepa_r_sim.firmware import shipped
from jepa_r_sim.golden.island_devices import Island, packet
from jepa_r_sim.golden.island_world import COMMAND_AT, DONE_AT, REST, World

SETTINGS = Settings()
ARM, RESTART, RELEASED = 4, 8, 1


@cache
def _locked():
    return World(shipped()).start()


def locked():
    """A world of its own in LOCKED; the start was run once."""
    return copy.deepcopy(_locked())


@cache
def _running():
    return locked().arm()


def running():
    """A world of its own in RUN; the start was run once."""
    return copy.deepcopy(_running())


def test_the_start_ends_locked_and_releases_the_accelerator():
    world = locked()
    island = world.island
    assert (island.state, island.fault, island.alerts) == (State.LOCKED, Fault.NONE, [])
    assert island.words["STAGE", 0] == Stage.READY
    assert island.locked
    assert island.released
    assert [island.words["LIMIT_TORQUE", n] for n in range(JOINTS)] == list(SETTINGS.torque_limit)
    world.turn(20)
    assert (island.state, island.alerts) == (State.LOCKED, [])
    assert all(not any(commit.torques) for commit in island.commits)


@pytest.mark.parametrize(
    ("faults", "fault"),
    [
        ({"comparator_good": False}, Fault.COMPARATOR),
        ({"watchdog_dead": True}, Fault.WATCHDOG),
        ({"clocks": 1}, Fault.CLOCKS),
        ({"clocks": 0x40}, Fault.CLOCKS),
        ({"verdict": 2}, Fault.IMAGE),
    ],
)
def test_a_start_that_fails_trips_with_its_stage(faults, fault):
    island = World(shipped(), **faults).start().island
    assert (island.state, island.fault, island.released) == (State.TRIP, fault, False)
    assert island.words["STAGE", 0] == fault - 0x10
    assert not island.commits


def test_a_wrong_result_of_the_core_trips():
    world = World(shipped())
    machine = world.island.machine
    machine.run(1000)
    machine.x[10] ^= 1
    assert world.start().island.fault is Fault.CORE
    assert world.island.state is State.TRIP


@pytest.mark.parametrize("bit", [0, 13, 31])
@pytest.mark.parametrize("value", [0, 1])
def test_a_stuck_bit_of_data_memory_trips(bit, value):
    world = World(shipped())
    load = world.island._load_data
    region = world.island.machine._pages[0x10]

    def stuck(offset):
        word = load(offset)
        if offset != 0x1234:
            return word
        return word | 1 << bit if value else word & ~(1 << bit)

    region.read = stuck
    assert world.start().island.fault is Fault.MEMORY
    assert world.island.state is State.TRIP


def test_two_words_at_one_address_trip():
    world = World(shipped())
    region = world.island.machine._pages[0x10]
    load, store = world.island._load_data, world.island._store_data
    region.read = lambda offset: load(offset & ~0x400)
    region.write = lambda offset, word: store(offset & ~0x400, word)
    assert world.start().island.fault is Fault.MEMORY


def test_an_uncorrected_memory_trips():
    world = World(shipped())
    region, load = world.island.machine._pages[0x10], world.island._load_data

    def flips(offset):
        return load(offset) ^ (world.island._wrong.get(offset) == 1)

    region.read = flips
    assert world.start().island.fault is Fault.ECC


def test_a_lost_interrupt_trips():
    world = World(shipped())
    machine = world.island.machine
    machine.pending = lambda: None
    assert world.start().island.fault is Fault.INTERRUPTS


def test_a_trap_that_nothing_expects_trips():
    world = running()
    world.island.machine.pc = 0x00050000
    world.turn(1)
    assert (world.island.state, world.island.fault) == (State.TRIP, Fault.TRAP)


def test_torques_in_run_are_those_of_the_law():
    world, rng = running(), np.random.default_rng(6)
    for _ in range(50):
        step = rng.integers(-100, 101, (4, JOINTS))
        world.target = [int(n) for n in np.array(world.target) + step[0]]
        world.feed = [int(n) for n in np.array(world.feed) + 50 * step[1]]
        world.position = [int(n) for n in np.array(world.position) + step[2]]
        world.velocity = [int(n) for n in 20 * step[3]]
        expected = world.expected(world.target, world.feed)
        world.turn()
        assert world.torques == expected
    assert (world.island.state, world.island.alerts) == (State.RUN, [])
    # One commit a period.
    cycles = np.array([commit.cycle for commit in world.island.commits[-50:]])
    assert (np.abs(np.diff(cycles) - PERIOD_CYCLES) < 10_000).all()


def altered(index, change):
    """Hook: one word changed, with a good sum."""

    def hook(words):
        body = words[:-1]
        body[index] = change(body[index]) & 0xFFFFFFFF
        return packet(body)

    return hook


def moved(limits, sign, by):
    """Change to a limit of joint 0 and beyond."""
    return lambda word: sign * getattr(SETTINGS, limits)[0] + by


BAD_COMMANDS = {
    "crc": (lambda words: [*words[:-1], words[-1] ^ 1], Fault.COMMAND_CRC),
    "short": (lambda words: words[:-1], Fault.COMMAND_LENGTH),
    "long": (lambda words: [*words, 0], Fault.COMMAND_LENGTH),
    "flags": (altered(2, lambda word: 1), Fault.COMMAND_FLAGS),
    "repeated": (altered(0, lambda word: word - 1), Fault.COMMAND_REPEATED),
    "skipped": (altered(0, lambda word: word + 1), Fault.COMMAND_ORDER),
    "old sequence": (altered(0, lambda word: word - 2), Fault.COMMAND_ORDER),
    "old": (altered(1, lambda word: SETTINGS.command_age_us), Fault.COMMAND_AGE),
    "position nan": (altered(3, lambda word: 1 << 31), Fault.POSITION_NAN),
    "velocity nan": (altered(10, lambda word: 1 << 31), Fault.VELOCITY_NAN),
    "torque nan": (altered(17, lambda word: 1 << 31), Fault.TORQUE_NAN),
    "position high": (altered(3, moved("position_high", 1, 1)), Fault.POSITION_RANGE),
    "position low": (altered(3, moved("position_high", -1, -1)), Fault.POSITION_RANGE),
    "velocity high": (altered(10, moved("velocity_limit", 1, 1)), Fault.VELOCITY_RANGE),
    "torque low": (altered(17, moved("torque_limit", -1, -1)), Fault.TORQUE_RANGE),
    "position step": (altered(3, moved("position_step", 1, 1)), Fault.POSITION_RATE),
    "velocity step": (altered(10, moved("velocity_step", -1, -1)), Fault.VELOCITY_RATE),
    "torque step": (altered(17, moved("torque_step", 1, 1)), Fault.TORQUE_RATE),
}


@pytest.mark.parametrize("name", BAD_COMMANDS)
def test_a_bad_command_falls_back_with_its_fault_and_is_never_used(name):
    hook, fault = BAD_COMMANDS[name]
    world = running().turn(3)
    # The firmware finds it by itself, too.
    world.island.deadline_monitor = False
    world.command_hook = hook
    expected = world.expected(REST, [0] * JOINTS)
    world.turn()
    assert (world.island.state, world.island.fault) == (State.FALLBACK, fault)
    assert world.torques == expected
    world.turn(10)
    assert world.island.state is State.FALLBACK
    assert not {"WATCHDOG", "LIMITER", "REQUEST"} & set(world.island.alerts)


@pytest.mark.parametrize("name", ["crc", "short", "repeated", "skipped", "old sequence"])
def test_an_action_that_the_hardware_misses_is_held_before_the_next_period(name):
    world = running().turn(3)
    world.command_hook = BAD_COMMANDS[name][0]
    world.turn()
    assert (world.island.state, world.island.fault) == (State.FALLBACK, Fault.DEADLINE)
    assert "DEADLINE" in world.island.alerts


@pytest.mark.parametrize(
    ("index", "limit"),
    [(3, "position_step"), (10, "velocity_step"), (17, "torque_step")],
)
def test_a_command_at_its_limit_is_good(index, limit):
    world = running()
    world.command_hook = altered(index, moved(limit, 1, 0))
    world.turn()
    assert (world.island.state, world.island.fault) == (State.RUN, Fault.NONE)


def test_a_late_command_is_held_by_impedance_within_a_safety_period():
    world = running().turn(5)
    held, before = list(world.position), len(world.island.commits)
    deadline = (world.period - 1) * PERIOD_CYCLES + COMMAND_AT + SETTINGS.deadline_limit
    assert deadline < (world.period + 1) * PERIOD_CYCLES
    world.command_hook = lambda words: None
    world.turn()
    assert (world.island.state, world.island.fault) == (State.FALLBACK, Fault.DEADLINE)
    # The first torque after the deadline comes at once, not with the next period.
    after = [commit for commit in world.island.commits[before:] if commit.cycle > deadline]
    assert after[0].cycle - deadline <= 5_000
    # It pulls to where the arm was.
    world.position = [n + 300 for n in held]
    expected = world.expected(held, [0] * JOINTS)
    world.turn()
    assert world.torques == expected


def test_fallback_ends_after_its_bound():
    world = running()
    world.command_hook = lambda words: [*words[:-1], words[-1] ^ 1]
    world.turn()
    for n in range(1, SETTINGS.fallback_periods):
        world.turn()
        assert world.island.state is State.FALLBACK, n
    world.turn()
    assert world.island.state is State.STOP
    assert world.island.fault is Fault.DEADLINE
    commits = len(world.island.commits)
    world.turn(5)
    assert len(world.island.commits) == commits
    assert not {"WATCHDOG", "LIMITER", "REQUEST"} & set(world.island.alerts)


def test_good_commands_do_not_end_fallback():
    world = running()
    world.command_hook = lambda words: [*words[:-1], words[-1] ^ 1]
    world.turn(20)
    assert world.island.state is State.FALLBACK


BAD_SAMPLES = {
    "crc": (lambda words: [*words[:-1], words[-1] ^ 1], Fault.JOINT_CRC),
    "short": (lambda words: words[:-1], Fault.JOINT_LENGTH),
    "repeated": (altered(0, lambda word: word - 1), Fault.JOINT_REPEATED),
    "skipped": (altered(0, lambda word: word + 1), Fault.JOINT_ORDER),
    "position nan": (altered(1, lambda word: 1 << 31), Fault.JOINT_POSITION_NAN),
    "velocity nan": (altered(8, lambda word: 1 << 31), Fault.JOINT_VELOCITY_NAN),
    "position high": (altered(1, moved("joint_high", 1, 1)), Fault.JOINT_POSITION_RANGE),
    "velocity high": (altered(8, moved("joint_velocity", 1, 1)), Fault.JOINT_VELOCITY_RANGE),
    "jump": (altered(1, moved("joint_step", 1, 1)), Fault.JOINT_POSITION_JUMP),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
@pytest.mark.parametrize("falling", [False, True])
def test_a_bad_sample_stops_in_run_and_in_fallback(name, falling):
    hook, fault = BAD_SAMPLES[name]
    world = running()
    if falling:
        world.command_hook = lambda words: [*words[:-1], words[-1] ^ 1]
        world.turn()
        assert world.island.state is State.FALLBACK
    world.sample_hook = hook
    world.turn()
    assert world.island.state is State.STOP
    assert world.island.fault is (Fault.DEADLINE if falling else fault)


def test_encoders_that_are_silent_stop_after_their_misses():
    world = running()
    for _ in range(SETTINGS.joint_misses):
        world.sample_hook = lambda words: None
        world.turn()
        assert world.island.state is State.RUN
        world.sample_sequence -= 1
    world.sample_hook = lambda words: None
    world.turn()
    assert (world.island.state, world.island.fault) == (State.STOP, Fault.JOINT_MISSING)


@pytest.mark.parametrize("pair", [0b10, 0b00, 0b11])
@pytest.mark.parametrize("falling", [False, True])
def test_the_emergency_stop_trips(pair, falling):
    world = running()
    if falling:
        world.command_hook = lambda words: [*words[:-1], words[-1] ^ 1]
        world.turn()
    # The firmware does it by itself, without the hardware's alert.
    world.island.alert = lambda name: None if name == "ESTOP" else Island.alert(world.island, name)
    world.island.inputs = pair
    world.turn()
    assert (world.island.state, world.island.alerts[-1]) == (State.TRIP, "REQUEST")
    commits = len(world.island.commits)
    world.turn(3)
    assert len(world.island.commits) == commits


def test_arming_needs_a_wish_that_was_absent():
    world = locked()
    world.island.inputs = RELEASED | ARM
    world.turn(10)
    assert world.island.state is State.LOCKED
    world.island.inputs = RELEASED
    world.turn(2)
    world.island.inputs = RELEASED | ARM
    world.turn(2)
    assert world.island.state is State.RUN


@pytest.mark.parametrize("inputs", [0b10, 0b00, 0b11])
def test_arming_needs_the_emergency_stop_released(inputs):
    world = locked()
    world.turn(2)
    world.island.inputs = inputs | ARM
    world.turn(5)
    assert world.island.state is State.LOCKED


def test_arming_waits_for_good_packets():
    world = locked()
    world.turn(2)
    world.island.inputs = RELEASED | ARM
    for _ in range(5):
        world.command_hook = lambda words: [*words[:-1], words[-1] ^ 1]
        world.turn()
        assert world.island.state is State.LOCKED
    for _ in range(5):
        world.sample_hook = lambda words: [*words[:-1], words[-1] ^ 1]
        world.turn()
        assert world.island.state is State.LOCKED
    world.turn(2)
    assert world.island.state is State.RUN


def test_a_restart_needs_a_stop_and_a_new_wish():
    world = running()
    world.island.inputs |= RESTART
    world.turn(3)
    assert world.island.restarts == 0
    world.sample_hook = BAD_SAMPLES["crc"][0]
    world.turn(3)
    assert (world.island.state, world.island.restarts) == (State.STOP, 0)
    world.island.inputs &= ~RESTART
    world.turn(2)
    world.island.inputs |= RESTART
    world.turn()
    assert world.island.restarts == 1


def test_a_state_that_the_hardware_cannot_take_trips():
    for state in (State.LOCKED, State.SELFTEST):
        world = running()
        world.island.state = state
        world.turn()
        assert (world.island.state, world.island.fault) == (State.TRIP, Fault.STATE)


def test_a_refusal_of_the_limiter_stops():
    world = running()
    world.island._refused = 1
    world.turn()
    assert (world.island.state, world.island.fault) == (State.STOP, Fault.LIMITER)


def test_a_period_that_was_missed_stops():
    world = running()
    world.island.run_to(world.period * PERIOD_CYCLES + 90_000)
    machine = world.island.machine
    # The processor stands still for two periods; the watchdog is not asked.
    world.island._served += 10**9
    machine.skip(2 * PERIOD_CYCLES)
    world.island.joints.since = world.island.commands.since = machine.time
    world.island._action = machine.time
    world.island.run_to(machine.time + 50_000)
    assert world.island.fault is Fault.OVERRUN


@pytest.mark.parametrize("symbol", ["joints_check", "command_check", "impedance"])
def test_a_step_that_is_left_out_or_a_loop_cut_short_is_no_token(symbol):
    """Skip a function of the flow, and the call behind it: the watchdog trips."""
    world = running()
    machine, place = world.island.machine, shipped().symbols[symbol]
    skipped = []

    def look():
        if machine.pc == place and not skipped:
            skipped.append(machine.pc)
            # Return, and jump over the next two instructions of the caller.
            machine.pc = machine.x[1] + 16
        return False

    machine.run(40_000, until=look)
    assert skipped
    world.period = machine.time // PERIOD_CYCLES + 1
    world.island.run_to(world.period * PERIOD_CYCLES + DONE_AT)
    assert world.island.state in (State.TRIP, State.STOP, State.FALLBACK)


def test_a_processor_that_hangs_is_tripped_by_the_watchdog():
    world = running()
    machine = world.island.machine
    at = machine.pc
    last = machine.time
    while world.island.state is not State.TRIP and machine.time < last + 3 * PERIOD_CYCLES:
        machine.pc = at
        machine.skip(100)
        world.island._advance()
    assert world.island.state is State.TRIP
    assert machine.time - last <= 1.2 * PERIOD_CYCLES


def test_alerts_of_the_model_are_those_of_the_map():
    assert {"WATCHDOG", "LIMITER", "REQUEST", "DEADLINE", "ESTOP"} <= {a.name for a in ALERTS}
