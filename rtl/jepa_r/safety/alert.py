"""Alert unit: what the checkers say becomes a log entry, the fallback, or a trip."""

from amaranth import *
from amaranth.lib import data, enum
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .settings import Settings

__all__ = ["AlertClass", "AlertSender", "AlertUnit", "alert_cause"]


class AlertClass(enum.Enum, shape=2):
    """What an alert leads to. Code 3 is as ``TRIP``."""

    TRIP = 0
    FALLBACK = 1
    LOG = 2


def alert_cause(inputs):
    """Layout of a cause: inputs with an alert, those with equal rails, and own settings."""
    return data.StructLayout({"alerts": inputs, "broken": inputs, "settings": 1})


class AlertSender(Macro):
    """End of an alert's wires at its checker.

    Each rail has a register: ``p = alert_p ^ ping`` and ``n = alert_n ^ ping``, one cycle later. So
    a ping turns both wires over, alert or not, and the unit hears an alert in every cycle.

    Members
    -------
    alert_p, alert_n : ``In(1)``
        Alert of the checker: quiet is (0, 1).
    ping : ``In(1)``
        From the unit.
    p, n : ``Out(1)``
        Wires to the unit.
    """

    #: Cycles from the checker, and from a ping, to the wires.
    LATENCY = 1

    def __init__(self):
        super().__init__(
            {
                "alert_p": In(1),
                "alert_n": In(1),
                "ping": In(1),
                "p": Out(1),
                "n": Out(1, init=1),
            },
            macro_name="alert_sender",
        )

    def build(self, platform):
        m = Module()
        for wire in (self.p, self.n):
            # Two registers, although one is the other's inverse.
            wire.attrs["keep"] = True
        m.d.sync += [self.p.eq(self.alert_p ^ self.ping), self.n.eq(self.alert_n ^ self.ping)]
        return m


class AlertUnit(Macro):
    """Listens to all checkers, tests the wires to them, and escalates.

    An input is quiet while its wires are what an :class:`AlertSender` without an alert makes of the
    unit's ping: (0, 1), and (1, 0) a cycle after a ping. All else is an alert, and equal wires are
    broken ones besides. Inputs are pinged one after the other, :attr:`PING` cycles each, every
    input once in ``round_cycles``; so a wire that is stuck is found within a round, and so are two
    that touch each other. ``heartbeat`` changes with every input's turn: it tells channel B that
    the unit is alive.

    An alert of class ``TRIP``, a broken wire, a write after the lock and settings whose copies do
    not agree trip at once; ``FALLBACK`` asks for the fallback, and trips when it has lasted more
    than ``fallback_cycles``; ``LOG`` is kept, and asks for the fallback if it is not acknowledged
    for more than ``log_cycles``. Neither trip nor fallback ends before reset.

    The cause is that of the first cycle with an alert that leads to more than the log: one of
    another class, a broken wire, wrong settings, or one of class ``LOG`` that has waited too long.
    It is all of that cycle, and is frozen then. It outlives a reset of this domain; only
    ``power_on`` clears it, or ``clear`` after it was read.

    Latency: alert, fallback and trip show one cycle after the wires (:attr:`LATENCY`), so two after
    the checker's own alert.

    Classes are ``TRIP`` after reset. Measures: ISO 26262-5:2018, D.2.1.1 (failure detection by
    on-line monitoring); IEC 61508-2, 7.4.8 (behaviour on detection of a fault).

    Parameters
    ----------
    inputs : :class:`int`, 1 to 16
        Checkers N.
    round_cycles : :class:`int`
        Cycles for one ping of each input; at least ``4 * PING`` an input. What is left over when it
        is divided by N is left out.

    Members
    -------
    w_en, w_data, lock : ``In(3)``, ``In(32)``, ``In(1)``
        Settings, in this order: ``classes`` (:class:`AlertClass`, two bits an input),
        ``log_cycles``, ``fallback_cycles`` (32 bits each). See :class:`~.settings.Settings`.
    p, n : ``In(N)``
        Wires from the senders.
    ping : ``Out(N)``
        To the senders.
    acknowledge : ``In(N)``
        An alert of class ``LOG`` was seen.
    cause_read, clear : ``In(1)``
        The cause is being read; it may go, if it was read.
    power_on : ``In(1)``
        Held while power comes up: the cause begins empty.
    alerts, broken : ``Out(N)``
        Inputs that had an alert, and equal wires, since reset.
    fallback_p, fallback_n, trip_p, trip_n : ``Out(1)``
        The fallback, and the trip, are not asked for: (0, 1).
    heartbeat : ``Out(1)``
        Changes N times in a round.
    cause : ``Out(alert_cause(N))``
        The first alert of consequence. Empty: there was none.
    was_read : ``Out(1)``
        The cause was read.

    Raises
    ------
    :exc:`ValueError`
        If ``inputs`` is not from 1 to 16, or ``round_cycles`` too short.
    """

    #: Cycles from the wires to the outputs.
    LATENCY = 1

    #: Cycles of a ping.
    PING = 4

    def __init__(self, *, inputs, round_cycles):
        if not 1 <= inputs <= 16:
            raise ValueError(f"inputs is {inputs}; it must be from 1 to 16")
        if round_cycles < 4 * self.PING * inputs:
            raise ValueError(
                f"round_cycles is {round_cycles}; it must be at least {4 * self.PING * inputs} for "
                f"{inputs} inputs"
            )
        self._inputs = inputs
        self.turn_cycles = round_cycles // inputs
        self.fields = {"classes": 2 * inputs, "log_cycles": 32, "fallback_cycles": 32}
        self.settings = Settings(self.fields)
        # Whose turn it is, and for how long it has been.
        self.turn = Signal(range(inputs))
        self.position = Signal(range(self.turn_cycles))
        self.expected = Signal(inputs)
        self.acknowledged = Signal(inputs)
        self.log_time = Signal(32)
        self.fallback_time = Signal(32)
        cause = alert_cause(inputs)
        super().__init__(
            {
                "w_en": In(3),
                "w_data": In(32),
                "lock": In(1),
                "p": In(inputs),
                "n": In(inputs),
                "ping": Out(inputs),
                "acknowledge": In(inputs),
                "cause_read": In(1),
                "clear": In(1),
                "power_on": In(1),
                "alerts": Out(inputs),
                "broken": Out(inputs),
                "fallback_p": Out(1),
                "fallback_n": Out(1, init=1),
                "trip_p": Out(1),
                "trip_n": Out(1, init=1),
                "heartbeat": Out(1),
                "cause": Out(cause),
                "was_read": Out(1),
            }
            | {name: Out(bits) for name, bits in self.fields.items()},
            macro_name=f"alert_unit_{inputs}_{round_cycles}",
        )

    def build(self, platform):
        m = Module()
        m.submodules.settings = settings = self.settings
        m.d.comb += [
            settings.w_en.eq(self.w_en),
            settings.w_data.eq(self.w_data),
            settings.lock.eq(self.lock),
        ]
        m.d.comb += [getattr(self, name).eq(getattr(settings, name)) for name in self.fields]
        now = Signal(alert_cause(self._inputs))
        m.d.comb += [
            now.alerts.eq((self.p ^ self.expected) | ~(self.n ^ self.expected)),
            now.broken.eq(~(self.p ^ self.n)),
            now.settings.eq(settings.mismatch | settings.refused),
        ]
        self._pings(m)
        self._cause(m, now, self._escalation(m, now))
        return m

    def _pings(self, m):
        with m.If(self.position == self.turn_cycles - 1):
            m.d.sync += [self.position.eq(0), self.heartbeat.eq(~self.heartbeat)]
            m.d.sync += self.turn.eq(Mux(self.turn == self._inputs - 1, 0, self.turn + 1))
        with m.Else():
            m.d.sync += self.position.eq(self.position + 1)
        for n, ping in enumerate(self.ping):
            m.d.sync += ping.eq((self.turn == n) & (self.position < self.PING))
        # As long as the way to the sender and back.
        m.d.sync += self.expected.eq(self.ping)

    def _escalation(self, m, now):
        """Fallback and trip; alerts of class ``LOG`` that have waited too long."""
        codes = [self.settings.classes.word_select(n, 2) for n in range(self._inputs)]
        logs = Cat(code == AlertClass.LOG.value for code in codes)
        falls = Cat(code == AlertClass.FALLBACK.value for code in codes)
        m.d.sync += [
            self.alerts.eq(self.alerts | now.alerts),
            self.broken.eq(self.broken | now.broken),
            self.acknowledged.eq(self.acknowledged | (self.acknowledge & self.alerts & logs)),
        ]
        waiting, fallback = Signal(self._inputs), Signal()
        m.d.comb += [
            waiting.eq(self.alerts & logs & ~self.acknowledged),
            fallback.eq(self.fallback_p | ~self.fallback_n),
        ]
        late = {}
        for name, runs in {"log": waiting.any(), "fallback": fallback}.items():
            time, most = getattr(self, f"{name}_time"), getattr(self.settings, f"{name}_cycles")
            late[name] = runs & (time >= most)
            with m.If(~runs):
                m.d.sync += time.eq(0)
            with m.Elif(time < most):
                m.d.sync += time.eq(time + 1)
        asks = {
            "fallback": (now.alerts & falls).any() | late["log"],
            "trip": (now.alerts & ~(falls | logs)).any()
            | now.broken.any()
            | now.settings
            | late["fallback"],
        }
        for name, ask in asks.items():
            first, second = getattr(self, f"{name}_p"), getattr(self, f"{name}_n")
            first.attrs["keep"] = second.attrs["keep"] = True
            with m.If(ask):
                m.d.sync += [first.eq(1), second.eq(0)]
        old, counts = Signal(self._inputs), Signal()
        m.d.comb += [
            old.eq(Mux(late["log"], waiting, 0)),
            counts.eq(((now.alerts & ~logs) | old | now.broken).any() | now.settings),
        ]
        return counts, old

    def _cause(self, m, now, consequence):
        counts, old = consequence
        # Registers that the domain's reset leaves alone.
        cause = Signal(self.cause.shape(), reset_less=True)
        was_read = Signal(reset_less=True)
        m.d.comb += [self.cause.eq(cause), self.was_read.eq(was_read)]
        with m.If(self.cause_read):
            m.d.sync += was_read.eq(1)
        with m.If(self.power_on | (self.clear & was_read)):
            m.d.sync += [cause.as_value().eq(0), was_read.eq(0)]
        with m.Elif(~cause.as_value().any() & counts):
            m.d.sync += [cause.eq(now), cause.alerts.eq(now.alerts | old), was_read.eq(0)]
