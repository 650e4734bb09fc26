"""Trip machine: channel B, which takes the energy away without any processor."""

from amaranth import *
from amaranth.lib import enum
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .faults import fault_layout

__all__ = ["REARM_KEYS", "TripCause", "TripMachine", "TripState"]

#: Keys of the two steps of a re-arm.
REARM_KEYS = (0xA6, 0x39)

#: Why the machine tripped, besides the sources.
#:
#: ``stop``: the emergency stop. ``discrepancy``: its two contacts do not agree. ``feedback_a``,
#: ``feedback_b``: a drive does not do what it is told, or fails its test. ``heartbeat``: the alert
#: unit shows no life. ``state``: the state is none.
TripCause = fault_layout("stop", "discrepancy", "feedback_a", "feedback_b", "heartbeat", "state")


class TripState(enum.Enum, shape=10):
    """States: any two differ in six bits, and in five from all zeros and all ones."""

    SAFE = 0b1010010110
    REQUESTED = 0b0011011001
    LIVE = 0b0101110010


class TripMachine(Macro):
    """De-energises in the cycle after anything is not as it should be.

    Energy is there (state ``LIVE``) only while all of this holds: every source is quiet, the
    emergency stop is released, both drives read back as they are told, the alert unit's heartbeat
    goes on, and the state is a state. Anything else leads to ``SAFE`` with all outputs low in the
    next cycle (:attr:`LATENCY`); so does a state that is none, whatever flipped it.

    Back to ``LIVE`` there is one way, in two steps. In ``SAFE``, with everything as it should be,
    the cause read (``cause_read``) since the machine came there, and the emergency stop seen
    pressed after a discrepancy: the first key leads to ``REQUESTED``. There the second key leads to
    ``LIVE``, if it comes ``rearm_min`` to ``rearm_max`` cycles after the first. A wrong key, a key
    too early, or none in time leads back to ``SAFE``, and the cause must be read again.

    The emergency stop has two antivalent contacts: (1, 0) is released, and nothing else is. Equal
    levels for more than ``discrepancy`` cycles are a fault of the contacts.

    There are two pairs of outputs: ``energise_a`` and ``energise_b`` for the gate, and ``drive_a``
    and ``drive_b`` for the switches of the energy. Drives are tested while they are on: every
    ``test_period`` cycles one of them goes low for ``test_cycles``, which is too short for the
    actuator to notice, and its read-back must follow; half a period later the other one. A
    read-back that differs from its drive for more than ``follow`` cycles is a fault, in all states.

    All inputs are in this domain, behind synchronisers. Timing is by parameters, not by registers:
    nothing that could be written wrongly or flip. Measures: ISO 13850 (emergency stop), IEC
    60204-1, 9.2.2 (stop category 0), IEC 61800-5-2, 4.2.2.2 (safe torque off), ISO 13849-1,
    5.2.2 (manual reset).

    Parameters
    ----------
    sources : :class:`int`, positive
        Alerts N.
    test_period, test_cycles, follow, discrepancy, rearm_min, rearm_max, heartbeat : :class:`int`
        Times in cycles, see above; ``heartbeat``: longest time between two edges of ``heartbeat``.

    Members
    -------
    alert_p, alert_n : ``In(N)``
        Alerts: quiet is (0, 1), and nothing else is.
    stop_a, stop_b : ``In(1)``
        Emergency stop: released is (1, 0).
    feedback_a, feedback_b : ``In(1)``
        Drives, read back.
    heartbeat : ``In(1)``
        Level of the alert unit that changes again and again.
    cause_read : ``In(1)``
        The cause is being read.
    rearm, key : ``In(1)``, ``In(8)``
        A step of a re-arm.
    energise_a, energise_b : ``Out(1)``
        For the gate. Low is safe.
    drive_a, drive_b : ``Out(1)``
        For the switches of the energy; low for tests, too. Low is safe.
    live : ``Out(1)``
        The state is ``LIVE``.
    rearmed : ``Out(1)``
        For a cycle: the second key was right.
    sources : ``Out(N)``
        Sources that were not quiet in the cycle that tripped the machine.
    cause : ``Out(TripCause)``
        What else was not as it should be in that cycle. Both are 0 after reset, and stay from a
        trip until the next re-arm is complete.

    Raises
    ------
    :exc:`ValueError`
        If a time or the number of sources is not positive, or a test is too short for its fault to
        be found, or the tests of both outputs could meet, or ``rearm_max`` is less than
        ``rearm_min``.
    """

    #: Cycles from an input that is not as it should be to all outputs low.
    LATENCY = 1

    def __init__(
        self,
        *,
        sources,
        test_period,
        test_cycles,
        follow,
        discrepancy,
        rearm_min,
        rearm_max,
        heartbeat,
    ):
        times = {
            "test_period": test_period, "test_cycles": test_cycles, "follow": follow,
            "discrepancy": discrepancy, "rearm_min": rearm_min, "rearm_max": rearm_max,
            "heartbeat": heartbeat,
        }  # fmt: skip
        for name, value in {"sources": sources, **times}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if test_cycles <= follow:
            raise ValueError(
                f"test_cycles is {test_cycles}; it must be more than follow, which is {follow}: "
                "a drive that ignores its test would not be found"
            )
        if test_period < 4 * test_cycles:
            raise ValueError(
                f"test_period is {test_period}; it must be at least 4 * test_cycles, which is "
                f"{4 * test_cycles}"
            )
        if rearm_max < rearm_min:
            raise ValueError(f"rearm_max is {rearm_max}; it must be at least {rearm_min}")
        self.times = times
        # The state is a plain signal: it may hold what is no state.
        self.state = Signal(10, init=TripState.SAFE.value)
        self.was_read = Signal()
        # Cycles since the first key.
        self.waited = Signal(range(rearm_max + 1))
        # Cycles for which contacts are equal, and read-backs differ.
        self.equal = Signal(range(discrepancy + 1))
        self.discrepant = Signal()
        self.differs = {x: Signal(range(follow + 1), name=f"differs_{x}") for x in "ab"}
        self.silent = Signal(range(heartbeat + 1))
        self.beat = Signal()
        self.position = Signal(range(test_period))
        super().__init__(
            {
                "alert_p": In(sources),
                "alert_n": In(sources),
                "stop_a": In(1),
                "stop_b": In(1),
                "feedback_a": In(1),
                "feedback_b": In(1),
                "heartbeat": In(1),
                "cause_read": In(1),
                "rearm": In(1),
                "key": In(8),
                "energise_a": Out(1),
                "energise_b": Out(1),
                "drive_a": Out(1),
                "drive_b": Out(1),
                "live": Out(1),
                "rearmed": Out(1),
                "sources": Out(sources),
                "cause": Out(TripCause),
            },
            macro_name=f"trip_machine_{sources}",
        )

    def build(self, platform):
        m = Module()
        wrong = Signal(TripCause)
        sources = Signal(len(self.sources))
        good = Signal()
        m.d.comb += [
            sources.eq(self.alert_p | ~self.alert_n),
            good.eq(~sources.any() & ~wrong.as_value().any()),
        ]
        self._stop(m, wrong)
        self._feedback(m, wrong)
        self._heartbeat(m, wrong)
        self._state(m, wrong, sources, good)
        self._outputs(m, good)
        return m

    def _stop(self, m, wrong):
        equal, most = self.stop_a == self.stop_b, self.times["discrepancy"]
        pressed = ~self.stop_a & self.stop_b
        m.d.comb += [
            wrong.stop.eq(~(self.stop_a & ~self.stop_b)),
            wrong.discrepancy.eq(self.discrepant | (equal & (self.equal == most))),
        ]
        with m.If(~equal):
            m.d.sync += self.equal.eq(0)
        with m.Elif(self.equal != most):
            m.d.sync += self.equal.eq(self.equal + 1)
        # Pressing it shows that both contacts move.
        with m.If(pressed):
            m.d.sync += self.discrepant.eq(0)
        with m.Elif(wrong.discrepancy):
            m.d.sync += self.discrepant.eq(1)

    def _feedback(self, m, wrong):
        most = self.times["follow"]
        for x, count in self.differs.items():
            differs = getattr(self, f"feedback_{x}") != getattr(self, f"drive_{x}")
            m.d.comb += wrong[f"feedback_{x}"].eq(differs & (count == most))
            with m.If(~differs):
                m.d.sync += count.eq(0)
            with m.Elif(count != most):
                m.d.sync += count.eq(count + 1)

    def _heartbeat(self, m, wrong):
        most = self.times["heartbeat"]
        m.d.sync += self.beat.eq(self.heartbeat)
        m.d.comb += wrong.heartbeat.eq((self.silent == most) & (self.heartbeat == self.beat))
        with m.If(self.heartbeat != self.beat):
            m.d.sync += self.silent.eq(0)
        with m.Elif(self.silent != most):
            m.d.sync += self.silent.eq(self.silent + 1)

    def _state(self, m, wrong, sources, good):
        first, second = REARM_KEYS
        in_time = Signal()
        m.d.comb += in_time.eq(
            (self.waited >= self.times["rearm_min"] - 1) & (self.waited < self.times["rearm_max"])
        )
        tripped, illegal = Signal(), Signal()
        m.d.comb += wrong.state.eq(illegal)
        m.d.sync += self.rearmed.eq(0)
        with m.Switch(self.state):
            with m.Case(TripState.SAFE):
                m.d.sync += [self.was_read.eq(self.was_read | self.cause_read), self.waited.eq(0)]
                with m.If(self.rearm):
                    m.d.sync += self.was_read.eq(0)
                    with m.If((self.key == first) & self.was_read & good):
                        m.d.sync += self.state.eq(TripState.REQUESTED)
            with m.Case(TripState.REQUESTED):
                m.d.sync += self.waited.eq(self.waited + 1)
                with m.If(self.rearm & (self.key == second) & in_time & good):
                    m.d.sync += [
                        self.state.eq(TripState.LIVE),
                        self.rearmed.eq(1),
                        self.sources.eq(0),
                        self.cause.as_value().eq(0),
                    ]
                with m.Elif(self.rearm | ~good | (self.waited == self.times["rearm_max"])):
                    m.d.sync += self.state.eq(TripState.SAFE)
            with m.Case(TripState.LIVE):
                m.d.comb += tripped.eq(~good)
            with m.Default():
                m.d.comb += [illegal.eq(1), tripped.eq(1)]
        with m.If(tripped):
            m.d.sync += [
                self.state.eq(TripState.SAFE),
                self.was_read.eq(0),
                self.sources.eq(sources),
                self.cause.eq(wrong),
            ]

    def _outputs(self, m, good):
        period, cycles = self.times["test_period"], self.times["test_cycles"]
        live = Signal()
        m.d.comb += [
            live.eq((self.state == TripState.LIVE.value) & good),
            self.live.eq(self.state == TripState.LIVE.value),
        ]
        with m.If(~live | (self.position == period - 1)):
            m.d.sync += self.position.eq(0)
        with m.Else():
            m.d.sync += self.position.eq(self.position + 1)
        half = period // 2
        tested = {
            "a": (self.position >= half - cycles) & (self.position < half),
            "b": self.position >= period - cycles,
        }
        for x, test in tested.items():
            energise, drive = getattr(self, f"energise_{x}"), getattr(self, f"drive_{x}")
            # The two halves of a pair are equal, but for tests; synthesis is not to join them.
            energise.attrs["keep"] = drive.attrs["keep"] = True
            m.d.sync += [energise.eq(live), drive.eq(live & ~test)]
        return m
