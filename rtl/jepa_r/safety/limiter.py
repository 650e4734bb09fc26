"""Output limiter: torques that are released are in range, and move by no more than a step."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .faults import FaultLatch, fault_layout
from .settings import Settings

__all__ = ["JointLimiter", "Limiter", "LimiterFaults"]

#: Faults of the limiter. All of them are corrected before anything is released.
#:
#: ``range``: a torque beyond its limit. ``slew``: one too far from the torque before. ``invalid``:
#: the code for "not a number". ``stale``: a sample that is too old. ``misuse``: a write after the
#: lock. ``settings``: the copies of a setting do not agree.
LimiterFaults = fault_layout("range", "slew", "invalid", "stale", "misuse", "settings")


class JointLimiter(Macro):
    """Range and slew of one torque.

    ``released' = released + clamp(clamp(torque, limit) - released, step)``, where ``clamp(x, b)``
    is the value nearest to x in [-b, b]. So ``released`` is in [-limit, limit] if it ever was and
    the limit does not change. The code 0x8000_0000 is not a number and counts as 0.

    Latency: :attr:`LATENCY`. One torque may come each cycle.

    Members
    -------
    limit, step : ``In(31)``
        Largest magnitude, and largest change, both in the unit of the torque.
    valid : ``In(1)``
        There is a torque.
    zero : ``In(1)``
        It counts as 0.
    torque : ``In(signed(32))``
        Torque that is asked for.
    beyond_range, beyond_slew, invalid : ``Out(1)``
        What had to be corrected, in the cycle in which the limiter does it: ``beyond_slew`` in the
        cycle before ``released`` changes, the others one earlier.
    released : ``Out(signed(32))``
        Torque that is released. Stays until the next one.
    """

    #: Cycles from a torque to its release.
    LATENCY = 2

    def __init__(self):
        self.clamped = Signal(signed(32))
        self.taken = Signal()
        super().__init__(
            {
                "limit": In(31),
                "step": In(31),
                "valid": In(1),
                "zero": In(1),
                "torque": In(signed(32)),
                "beyond_range": Out(1),
                "beyond_slew": Out(1),
                "invalid": Out(1),
                "released": Out(signed(32)),
            },
            macro_name="joint_limiter",
        )

    def build(self, platform):
        m = Module()
        above, below = Signal(), Signal()
        m.d.comb += [
            self.invalid.eq(self.valid & (self.torque == -(1 << 31))),
            above.eq(self.torque > self.limit),
            below.eq(self.torque < -self.limit),
            self.beyond_range.eq(self.valid & (above | below) & ~self.invalid),
        ]
        m.d.sync += self.taken.eq(self.valid)
        with m.If(self.valid):
            m.d.sync += self.clamped.eq(
                Mux(above, self.limit, Mux(below, -self.limit, self.torque))
            )
            with m.If(self.zero | self.invalid):
                m.d.sync += self.clamped.eq(0)

        change = Signal(signed(33))
        rises, falls = Signal(), Signal()
        m.d.comb += [
            change.eq(self.clamped - self.released),
            rises.eq(change > self.step),
            falls.eq(change < -self.step),
            self.beyond_slew.eq(self.taken & (rises | falls)),
        ]
        with m.If(self.taken):
            # It cannot overflow: the sum is between two numbers that are in range.
            m.d.sync += self.released.eq(
                self.released + Mux(rises, self.step, Mux(falls, -self.step, change))
            )
        return m


class Limiter(Macro):
    """Range, slew and age of all torques of an arm, after everything that a processor does.

    Each torque goes through a :class:`JointLimiter`. A sample that is older than ``max_age``, and
    every one while ``stop``, counts as torques of 0: they are reached in steps, too. Until the
    settings are locked nothing is taken and all torques are 0. Settings are 0 after reset: locked
    like that, the limiter releases only zeros.

    Latency: :attr:`LATENCY`. One sample may come each cycle. Faults show one cycle after the
    correction: with ``o_valid`` the one of slew, and one cycle earlier the others.

    The golden model is :class:`jepa_r_sim.golden.limiter.Limiter`. Measure: IEC 61508-7, A.6.5
    (monitored outputs); IEC 61800-5-2, 4.2.4 (safely limited torque).

    Parameters
    ----------
    joints : :class:`int`, 1 to 15
        Joints J.

    Members
    -------
    w_en, w_data : ``In(2 * J + 1)``, ``In(32)``
        Settings, in this order: ``limit_0`` ... (31 bits), ``step_0`` ... (31 bits), ``max_age``
        (32 bits). See :class:`~.settings.Settings`.
    lock : ``In(1)``
        Freezes them.
    stop : ``In(1)``
        Torques are to become 0.
    i_valid, torque, age : ``In(1)``, ``In(ArrayLayout(signed(32), J))``, ``In(32)``
        A sample: torques in Q16.16, and how old it is.
    o_valid, released : ``Out(1)``, ``Out(ArrayLayout(signed(32), J))``
        Torques that are released; ``o_valid`` for a cycle when they are new.
    locked : ``Out(1)``
        The settings are frozen.
    faults, first, alert_p, alert_n : ``Out``
        See :class:`~.faults.FaultLatch`; the layout is :data:`LimiterFaults`.

    Raises
    ------
    :exc:`ValueError`
        If ``joints`` is not from 1 to 15.
    """

    #: Cycles from a sample to its release.
    LATENCY = JointLimiter.LATENCY

    def __init__(self, *, joints=7):
        if not 1 <= joints <= 15:
            raise ValueError(f"joints is {joints}; it must be from 1 to 15")
        self.joints = [JointLimiter() for _ in range(joints)]
        self.fields = (
            {f"limit_{n}": 31 for n in range(joints)}
            | {f"step_{n}": 31 for n in range(joints)}
            | {"max_age": 32}
        )
        self.settings = Settings(self.fields)
        torques = data.ArrayLayout(signed(32), joints)
        super().__init__(
            {
                "w_en": In(len(self.fields)),
                "w_data": In(32),
                "lock": In(1),
                "stop": In(1),
                "i_valid": In(1),
                "torque": In(torques),
                "age": In(32),
                "o_valid": Out(1),
                "released": Out(torques),
                "locked": Out(1),
                "faults": Out(LimiterFaults),
                "first": Out(LimiterFaults),
                "alert_p": Out(1),
                "alert_n": Out(1),
            },
            macro_name=f"limiter_{joints}",
        )

    def build(self, platform):
        m = Module()
        m.submodules.settings = settings = self.settings
        m.submodules.latch = latch = FaultLatch(LimiterFaults)
        m.d.comb += [
            settings.w_en.eq(self.w_en),
            settings.w_data.eq(self.w_data),
            settings.lock.eq(self.lock),
            self.locked.eq(settings.locked),
        ]
        m.d.comb += [
            getattr(self, name).eq(getattr(latch, name))
            for name in ("faults", "first", "alert_p", "alert_n")
        ]

        taken, old = Signal(), Signal()
        in_step = Signal()
        m.d.comb += [taken.eq(self.i_valid & self.locked), old.eq(self.age > settings.max_age)]
        m.d.sync += [in_step.eq(taken), self.o_valid.eq(in_step)]
        found = {"range": [], "slew": [], "invalid": []}
        for n, joint in enumerate(self.joints):
            m.submodules[f"joint_{n}"] = joint
            m.d.comb += [
                joint.limit.eq(getattr(settings, f"limit_{n}")),
                joint.step.eq(getattr(settings, f"step_{n}")),
                joint.valid.eq(taken),
                joint.zero.eq(old | self.stop),
                joint.torque.eq(self.torque[n]),
                self.released[n].eq(joint.released),
            ]
            found["range"].append(joint.beyond_range)
            found["slew"].append(joint.beyond_slew)
            found["invalid"].append(joint.invalid)
        m.d.comb += [latch.raised[name].eq(Cat(bits).any()) for name, bits in found.items()]
        m.d.comb += [
            latch.raised.stale.eq(taken & old),
            latch.raised.misuse.eq(settings.refused),
            latch.raised.settings.eq(settings.mismatch),
        ]
        return m
