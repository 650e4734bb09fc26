"""The island with its firmware in a world: what its tests share."""

import copy
import sys
from contextlib import contextmanager

from jepa_r.config import SafetyConfig
from jepa_r.safety.arm import ONE, Settings
from jepa_r.safety.map import JOINTS, State
from jepa_r_sim.drivers.packets import command_packet, joint_packet
from jepa_r_sim.firmware import IMAGE, Firmware, image, shipped
from jepa_r_sim.island import PS_PER_US, IslandModel, image_words

#: Waits that a person or a drive needs are short.
CONFIG = SafetyConfig(rearm_min_cycles=320, drive_test_cycles=32_000)
AI_MHZ = 100


def _first(name, value):
    """A setting of all joints, with another one for the first."""
    return (value, *getattr(Settings(), name)[1:])


#: Those that ship, but for a short FALLBACK, steps that let joint 1 go to its limits at once, and
#: gains that are no whole numbers, whose products are rounded.
SETTINGS = Settings(
    stiffness=tuple(gain + 12345 for gain in Settings().stiffness),
    damping=tuple(gain - 6789 for gain in Settings().damping),
    fallback_periods=2,
    fallback_periods_hardware=4,
    velocity_step=_first("velocity_step", Settings().velocity_limit[0]),
    torque_step=_first("torque_step", Settings().torque_limit[0]),
    joint_high=(Settings().joint_high[0], Settings().position_high[1] + 5, *[4 * ONE] * 5),
)

#: A posture with joint 2 at its limit, Q16.16.
POSTURE = (0, SETTINGS.position_high[1], 0, -ONE, 0, ONE, 0)
NOT_A_NUMBER = -(1 << 31)

#: Control periods that the start may take.
BOOT_PERIODS = 30


def short_image():
    """The shipped image with :data:`SETTINGS`, which are constants in a place of their own."""
    firmware = shipped()
    at = firmware.symbols["settings"]
    old, new = (
        b"".join(word.to_bytes(4, "little") for word in settings.words())
        for settings in (Settings(), SETTINGS)
    )
    assert firmware.code[at : at + len(old)] == old
    code = firmware.code[:at] + new + firmware.code[at + len(old) :]
    return image(Firmware(code=code, symbols=firmware.symbols))


def log(text):
    """Say a measured latency; ``pytest -s`` shows it."""
    sys.stdout.write(text + "\n")


class World:
    """Sends a sample of the joints and a command every millisecond."""

    def __init__(self, model):
        self.model = model
        self.sequence = 1000
        self.position, self.velocity = list(POSTURE), [0] * JOINTS
        self.target, self.speed, self.feed = list(POSTURE), [0] * JOINTS, [0] * JOINTS

    def sample(self):
        return joint_packet(self.sequence, self.position, self.velocity)

    def command(self, **given):
        number = given.pop("sequence", self.sequence)
        return command_packet(number, self.target, self.speed, self.feed, **given)

    def period(self, *, samples=None, commands=None):
        """A millisecond that begins with packets, by default a good one of either kind."""
        for words in [self.sample()] if samples is None else samples:
            self.model.packet("joints", words)
        for words in [self.command()] if commands is None else commands:
            self.model.packet("commands", words)
        self.sequence += 1
        self.model.run(1000)

    def boot(self):
        """Power, image, self tests, until LOCKED."""
        self.model.power_on()
        self.model.packet("image", image_words(short_image()))
        for _ in range(BOOT_PERIODS):
            self.period()
            if self.model.state() != "SELFTEST":
                break

    def arm(self):
        """From LOCKED to RUN."""
        self.model.rearm()
        self.period()
        self.model.pin("arm", 1)
        for _ in range(4):
            self.period()
        assert self.model.state() == "RUN"
        assert self.model.shown["is_open"]
        assert not self.model.shown["brake"]


def started(model):
    """Power, the shipped image, and channel B re-armed while the processors test themselves."""
    model.power_on()
    model.packet("image", image_words(IMAGE.read_bytes()))
    assert model.until("state", State.SELFTEST, within_us=500)
    model.run(20)
    model.rearm()
    assert model.shown["sto_a"] == model.shown["sto_b"] == 1
    # The drives have energy, but nothing holds the arm yet.
    assert model.shown["brake"] == 1


def island(simulation):
    return IslandModel(simulation=simulation, config=CONFIG, ai_mhz=AI_MHZ)


def attempts(model):
    """What makes a context of the model as it is now, to which it comes back."""

    @contextmanager
    def begin():
        with model.attempt():
            yield model

    return begin


def ready(model):
    """A world whose arm is at rest in RUN, after some good commands."""
    world = World(model)
    world.boot()
    assert model.state() == "LOCKED"
    assert model.alerts() <= {"TRAP", "CORRECTED"}
    assert model.alerts("first_alert") == set()
    world.arm()
    return world


def from_here(world):
    """What makes a context of the world as it is now, to which it comes back."""

    @contextmanager
    def begin():
        here = copy.copy(world)
        for name in ("position", "velocity", "target", "speed", "feed"):
            setattr(here, name, list(getattr(world, name)))
        with world.model.attempt():
            yield here

    return begin


def microseconds_until(model, name, value, begin_ps):
    """Time from ``begin_ps`` to the first change of an output to a value."""
    return next(
        (event.time_ps - begin_ps) / PS_PER_US
        for event in model.events
        if event.time_ps >= begin_ps and (event.name, event.value) == (name, value)
    )


def closes(world, *, state, energy=True):
    """The gate closes soon, and stays so, whatever good packets come."""
    model, begin = world.model, world.model.time_ps
    for _ in range(SETTINGS.fallback_periods + 2):
        if not model.shown["is_open"]:
            break
        world.period()
    assert not model.shown["is_open"]
    closed = [event.time_ps for event in model.events if event.name == "is_open"][-1]
    world.period()
    world.period()
    assert (model.state(), model.shown["is_open"], model.shown["torque"]) == (state, 0, 0)
    since = [event for event in model.events if event.time_ps > max(closed, begin)]
    assert ("is_open", 1) not in {(event.name, event.value) for event in since}
    assert {event.value for event in since if event.name == "torque"} <= {0}
    assert all(time <= closed for time, _ in model.torques)
    if energy:
        assert (model.shown["sto_a"], model.shown["sto_b"], model.shown["brake"]) == (0, 0, 1)
