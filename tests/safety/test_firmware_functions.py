"""Functions of the firmware on the instruction-set simulator, bit for bit the golden models."""

from functools import cache

import numpy as np
import pytest
from attrs import evolve

from jepa_r.safety.arm import ONE, Settings
from jepa_r.safety.map import JOINTS, WATCHDOG_TAPS, Fault
from jepa_r_sim.firmware import Caller, shipped
from jepa_r_sim.golden.command_check import Accepted, Received, check_command, check_joints
from jepa_r_sim.golden.impedance import impedance

LOW, HIGH = -(1 << 31), (1 << 31) - 1

#: Words of the firmware's structures.
PACKET, COMMANDS, JOINT_STATE = 27, 24, 17


@cache
def caller():
    return Caller(shipped())


def numbers(rng, *, low=LOW, high=HIGH, count=JOINTS):
    """Random numbers with every size of magnitude, and the ends of the range."""
    values = rng.integers(low, high, count, endpoint=True) >> rng.integers(0, 31, count)
    ends = rng.choice([low, low + 1, -1, 0, 1, high - 1, high], count)
    return np.clip(np.where(rng.random(count) < 0.2, ends, values), low, high)


def torques(settings, target, feed, position, velocity, last):
    """Torques of the firmware's law."""
    firmware = caller()
    limits = firmware.free
    goal = firmware.place(limits, settings.words())
    joints = firmware.place(goal, [*target, *[0] * JOINTS, *feed])
    torque = firmware.place(joints, [0, 0, 0, *position, *velocity])
    firmware.place(torque, last)
    firmware.call("impedance", limits, goal, joints, torque)
    return np.array(firmware.words(torque, JOINTS), np.uint32).astype(np.int32)


def compare_torques(seed, count):
    rng = np.random.default_rng(seed)
    bounded = {"limit": 0, "slew": 0, "free": 0}
    for _ in range(count):
        gains = {
            name: tuple(int(n) for n in numbers(rng, low=0))
            for name in ("stiffness", "damping", "torque_limit", "torque_slew")
        }
        settings = Settings(**gains)
        limit, slew = np.array(gains["torque_limit"]), np.array(gains["torque_slew"])
        last = np.clip(numbers(rng), -limit, limit)
        target, feed, position, velocity = (numbers(rng) for _ in range(4))
        found = torques(settings, target, feed, position, velocity, last)
        expected = impedance(
            settings,
            target=target,
            feed_forward=feed,
            position=position,
            velocity=velocity,
            last=last,
        )
        assert np.array_equal(found, expected)
        bounded["limit"] += int((np.abs(expected) == limit).sum())
        bounded["slew"] += int((np.abs(expected - last) == slew).sum())
        bounded["free"] += int(
            ((np.abs(expected) < limit) & (np.abs(expected - last) < slew)).sum()
        )
    assert min(bounded.values()) > count / 4, bounded


def test_torques_are_those_of_the_golden_model():
    compare_torques(1, 400)


@pytest.mark.slow
def test_torques_are_those_of_the_golden_model_over_many_samples():
    compare_torques(2, 20_000)


def test_the_law_at_its_ends():
    extreme = [LOW, LOW + 1, -1, 0, 1, HIGH - 1, HIGH]
    settings = Settings(
        stiffness=(HIGH,) * 7,
        damping=(HIGH,) * 7,
        torque_limit=(HIGH,) * 7,
        torque_slew=(HIGH,) * 7,
    )
    for place in (LOW, 0, HIGH):
        for feed in (LOW, HIGH):
            arguments = (extreme, [feed] * 7, [place] * 7, extreme[::-1], [-1] * 7)
            names = ("target", "feed_forward", "position", "velocity", "last")
            expected = impedance(settings, **dict(zip(names, arguments, strict=True)))
            assert np.array_equal(torques(settings, *arguments), expected)


@pytest.mark.parametrize(
    ("error", "torque"),
    [(0, 0), (1, 1), (-1, 0), (3, 2), (-3, -1), (2, 1), (-2, -1)],
)
def test_products_are_rounded_half_up(error, torque):
    half = Settings(stiffness=(ONE // 2,) * 7)
    zero = [0] * 7
    assert torques(half, [error] * 7, zero, zero, zero, zero).tolist() == [torque] * 7
    arguments = dict.fromkeys(("feed_forward", "position", "velocity", "last"), zero)
    assert impedance(half, target=[error] * 7, **arguments).tolist() == [torque] * 7


# Commands


def firmware_check(kind, settings, packet, last):
    """Fault and state of the firmware's check."""
    firmware = caller()
    status = packet.fresh | packet.crc_good << 1 | packet.length_good << 2 | packet.lost << 8
    words = [*packet.words, *[0] * (25 - len(packet.words))]
    limits = firmware.free
    received = firmware.place(limits, settings.words())
    state = firmware.place(received, [status, packet.age, *words])
    flat = [int(n) for n in last.values.ravel()]
    firmware.place(state, [last.started, last.sequence, last.misses, *flat])
    fault = firmware.call(f"{kind}_check", limits, received, state)
    started, sequence, misses, *after = firmware.words(state, 3 + len(flat))
    values = np.array(after, np.uint32).astype(np.int32).astype(np.int64)
    accepted = Accepted(
        started=bool(started),
        sequence=sequence,
        misses=misses,
        values=values.reshape(last.values.shape),
    )
    return Fault(fault), accepted


def same(kind, settings, packet, last):
    """Fault that both the firmware and the golden model find."""
    check = {"command": check_command, "joints": check_joints}[kind]
    fault, accepted = check(settings, packet, last)
    found, after = firmware_check(kind, settings, packet, last)
    assert found is fault
    assert (after.started, after.sequence, after.misses) == (
        accepted.started,
        accepted.sequence,
        accepted.misses,
    )
    assert np.array_equal(after.values, accepted.values)
    return fault


SETTINGS = Settings()
SEQUENCE = 0xFFFFFFFF

#: A good place for the arm, and the last command there.
REST = np.array([0, 0, 0, -ONE, 0, ONE, 0], np.int64)
LAST = Accepted(
    started=True,
    sequence=SEQUENCE,
    misses=0,
    values=np.stack([REST, np.zeros(7, np.int64), np.zeros(7, np.int64)]),
)
LAST_JOINTS = evolve(LAST, values=LAST.values[:2])


def command(values=None, *, sequence=0, age=0, flags=0, **status):
    values = LAST.values if values is None else values
    words = [sequence, age, flags, *(int(n) & 0xFFFFFFFF for n in values.ravel())]
    return Received(words=words, **status)


def sample(values=None, *, sequence=0, **status):
    values = LAST_JOINTS.values if values is None else values
    return Received(words=[sequence, *(int(n) & 0xFFFFFFFF for n in values.ravel())], **status)


@pytest.mark.parametrize(
    ("packet", "last", "fault"),
    [
        (command(), LAST, Fault.NONE),
        (command(length_good=False), LAST, Fault.COMMAND_LENGTH),
        (command(crc_good=False), LAST, Fault.COMMAND_CRC),
        (command(flags=1), LAST, Fault.COMMAND_FLAGS),
        (command(flags=1 << 31), LAST, Fault.COMMAND_FLAGS),
        (command(sequence=SEQUENCE), LAST, Fault.COMMAND_REPEATED),
        (command(sequence=SEQUENCE - 1), LAST, Fault.COMMAND_ORDER),
        (command(sequence=1), LAST, Fault.COMMAND_ORDER),
        (command(sequence=1, lost=1), LAST, Fault.NONE),
        (command(sequence=0, lost=1), LAST, Fault.COMMAND_ORDER),
        (command(sequence=2, lost=2), LAST, Fault.COMMAND_ORDER),
        (command(sequence=77), evolve(LAST, started=False), Fault.NONE),
        (command(age=20_000), LAST, Fault.NONE),
        (command(age=20_001), LAST, Fault.COMMAND_AGE),
        (command(age=0xFFFFFFFF), LAST, Fault.COMMAND_AGE),
        (evolve(command(), age=2_000_000), LAST, Fault.NONE),
        (evolve(command(), age=2_000_001), LAST, Fault.COMMAND_AGE),
        (evolve(command(age=19_999), age=100), LAST, Fault.NONE),
        (evolve(command(age=19_999), age=101), LAST, Fault.COMMAND_AGE),
        (evolve(command(), age=0xFFFFFFFF), LAST, Fault.COMMAND_AGE),
        (command(fresh=False), LAST, Fault.NONE),
        (command(fresh=False), evolve(LAST, misses=1), Fault.COMMAND_MISSING),
        (command(fresh=False), evolve(LAST, started=False), Fault.COMMAND_MISSING),
        (evolve(command(fresh=False), age=2_000_001), LAST, Fault.COMMAND_AGE),
    ],
)
def test_headers_of_commands(packet, last, fault):
    assert same("command", SETTINGS, packet, last) is fault


@pytest.mark.parametrize(
    ("packet", "last", "fault"),
    [
        (sample(), LAST_JOINTS, Fault.NONE),
        (sample(length_good=False), LAST_JOINTS, Fault.JOINT_LENGTH),
        (sample(crc_good=False), LAST_JOINTS, Fault.JOINT_CRC),
        (sample(sequence=SEQUENCE), LAST_JOINTS, Fault.JOINT_REPEATED),
        (sample(sequence=1), LAST_JOINTS, Fault.JOINT_ORDER),
        (sample(sequence=1, lost=1), LAST_JOINTS, Fault.NONE),
        (sample(sequence=9), evolve(LAST_JOINTS, started=False), Fault.NONE),
        (evolve(sample(), age=200_000), LAST_JOINTS, Fault.NONE),
        (evolve(sample(), age=200_001), LAST_JOINTS, Fault.JOINT_AGE),
        (sample(fresh=False), LAST_JOINTS, Fault.NONE),
        (sample(fresh=False), evolve(LAST_JOINTS, misses=1), Fault.JOINT_MISSING),
        (sample(fresh=False), evolve(LAST_JOINTS, started=False), Fault.JOINT_MISSING),
        (evolve(sample(fresh=False), age=200_001), LAST_JOINTS, Fault.JOINT_AGE),
    ],
)
def test_headers_of_samples(packet, last, fault):
    assert same("joints", SETTINGS, packet, last) is fault


#: Rows of values: the fault, the row, and the two limits, or the step.
RANGES = [
    ("command", Fault.POSITION_RANGE, 0, "position_low", "position_high"),
    ("command", Fault.VELOCITY_RANGE, 1, None, "velocity_limit"),
    ("command", Fault.TORQUE_RANGE, 2, None, "torque_limit"),
    ("joints", Fault.JOINT_POSITION_RANGE, 0, "joint_low", "joint_high"),
    ("joints", Fault.JOINT_VELOCITY_RANGE, 1, None, "joint_velocity"),
]
STEPS = [
    ("command", Fault.POSITION_RATE, 0, "position_step"),
    ("command", Fault.VELOCITY_RATE, 1, "velocity_step"),
    ("command", Fault.TORQUE_RATE, 2, "torque_step"),
    ("joints", Fault.JOINT_POSITION_JUMP, 0, "joint_step"),
]


def changed(kind, row, joint, value, *, also_last):
    """A packet with one number changed, and the last with it if asked for."""
    last = LAST if kind == "command" else LAST_JOINTS
    values = last.values.copy()
    values[row, joint] = value
    packet = (command if kind == "command" else sample)(values)
    return packet, evolve(last, values=values) if also_last else last


@pytest.mark.parametrize("joint", range(JOINTS))
@pytest.mark.parametrize(("kind", "fault", "row", "low", "high"), RANGES)
def test_a_limit_passes_and_one_more_fails(kind, fault, row, low, high, joint):
    most = getattr(SETTINGS, high)[joint]
    least = getattr(SETTINGS, low)[joint] if low else -most
    for value, expected in (
        (most, Fault.NONE),
        (least, Fault.NONE),
        (most + 1, fault),
        (least - 1, fault),
        (HIGH, fault),
        (LOW + 1, fault),
    ):
        packet, last = changed(kind, row, joint, value, also_last=True)
        assert same(kind, SETTINGS, packet, last) is expected


@pytest.mark.parametrize("joint", range(JOINTS))
@pytest.mark.parametrize(("kind", "fault", "row", "step"), STEPS)
def test_a_step_passes_and_one_more_fails(kind, fault, row, step, joint):
    most = getattr(SETTINGS, step)[joint]
    before = (LAST if kind == "command" else LAST_JOINTS).values[row, joint]
    for sign in (-1, 1):
        for size, expected in ((most, Fault.NONE), (most + 1, fault)):
            packet, last = changed(kind, row, joint, before + sign * size, also_last=False)
            assert same(kind, SETTINGS, packet, last) is expected
            packet = evolve(packet, words=[1, *packet.words[1:]], lost=1)
            assert same(kind, SETTINGS, packet, last) is Fault.NONE
        packet, last = changed(kind, row, joint, before + sign * (2 * most + 1), also_last=False)
        packet = evolve(packet, words=[1, *packet.words[1:]], lost=1)
        assert same(kind, SETTINGS, packet, last) is fault


@pytest.mark.parametrize("joint", range(JOINTS))
@pytest.mark.parametrize(
    ("kind", "fault", "row"),
    [
        ("command", Fault.POSITION_NAN, 0),
        ("command", Fault.VELOCITY_NAN, 1),
        ("command", Fault.TORQUE_NAN, 2),
        ("joints", Fault.JOINT_POSITION_NAN, 0),
        ("joints", Fault.JOINT_VELOCITY_NAN, 1),
    ],
)
def test_what_is_not_a_number_is_told_apart(kind, fault, row, joint):
    packet, last = changed(kind, row, joint, LOW, also_last=False)
    assert same(kind, SETTINGS, packet, last) is fault


def test_the_first_sample_may_be_anywhere_inside_its_limits():
    packet, last = changed("joints", 0, 0, SETTINGS.joint_high[0], also_last=False)
    assert same("joints", SETTINGS, packet, last) is Fault.JOINT_POSITION_JUMP
    assert same("joints", SETTINGS, packet, evolve(last, started=False)) is Fault.NONE


def compare_checks(kind, seed, count):
    rng = np.random.default_rng(seed)
    last, make = (LAST, command) if kind == "command" else (LAST_JOINTS, sample)
    seen = set()
    for _ in range(count):
        near = last.values + rng.integers(-200, 201, last.values.shape)
        odd = rng.random(near.shape) < rng.choice([0, 0, 0.05])
        extreme = numbers(rng, count=near.size).reshape(near.shape)
        values = np.clip(np.where(odd, extreme, near), LOW, HIGH)
        packet = make(values, sequence=int(rng.choice([0, 0, 0, 0, 1, SEQUENCE])))
        packet = evolve(
            packet,
            fresh=rng.random() < 0.9,
            crc_good=rng.random() < 0.95,
            length_good=rng.random() < 0.95,
            lost=int(rng.choice([0, 0, 0, 0, 1, 2])),
            age=int(rng.choice([0, 200_000, 200_001, 2_000_000, 2_000_001])),
        )
        before = evolve(last, started=rng.random() < 0.8, misses=int(rng.integers(0, 2)))
        seen.add(same(kind, SETTINGS, packet, before))
    return seen


def test_checks_of_commands_are_those_of_the_golden_model():
    assert len(compare_checks("command", 3, 1000)) >= 12


def test_checks_of_samples_are_those_of_the_golden_model():
    assert len(compare_checks("joints", 4, 1000)) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["command", "joints"])
def test_checks_are_those_of_the_golden_model_over_many_packets(kind):
    compare_checks(kind, 5, 50_000)


def test_tokens_follow_the_taps():
    value = 1
    for _ in range(100):
        expected = value // 2 ^ (WATCHDOG_TAPS * (value % 2))
        assert caller().call("watchdog_token", value) == expected
        value = expected
