"""State of channel A: what it may do now, and what ends that."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .map import State

__all__ = ["RESET", "StateMachine"]

#: State before the code is loaded, as far from all others as they are from each other. The
#: processor never sees it.
RESET = 0x5A5A

#: States in which torques may leave.
_OPEN = (State.RUN, State.FALLBACK)

#: Requests of the firmware, in the order of :attr:`StateMachine.allowed`.
REQUESTS = ("locked", "run", "fallback", "stop", "trip", "restart")


class StateMachine(Macro):
    """RESET, SELFTEST, LOCKED, RUN, FALLBACK, STOP and TRIP.

    .. code-block:: text

        RESET ─► SELFTEST ─► LOCKED ─► RUN ─► FALLBACK ─► STOP     any ─► TRIP
                    ▲           └───────┴────────────────►  │
                    └───────────────────────────────────────┘

    The state is a word any two of which differ in eight bits; what is none of them is TRIP in the
    next cycle. ``trip`` goes before everything else. TRIP is left by ``rearm`` alone, which the
    second channel gives.

    The golden model is :func:`jepa_r_sim.golden.state.following`.

    Members
    -------
    loaded, load_failed : ``In(1)``
        The image is in its place; there will be none, which is TRIP.
    request : ``In(6)``
        For one cycle: the firmware asks for ``locked``, ``run``, ``fallback``, ``stop``, ``trip``,
        ``restart``. Not obeyed unless allowed.
    allowed : ``Out(6)``
        What may be asked for now.
    settings_locked, comparator_good, estop_released : ``In(1)``
        Conditions of LOCKED, and of RUN.
    fallback, trip : ``In(1)``
        Alerts of these classes. With the former RUN becomes FALLBACK, and is not allowed.
    period : ``In(1)``
        A control period begins.
    limit : ``In(32)``
        Periods that may begin in FALLBACK; with the next one it is STOP.
    rearm : ``In(1)``
        Leave TRIP.
    state : ``Out(16)``
        :class:`~.map.State`, or :data:`RESET`.
    selftest, running : ``Out(1)``
        It is SELFTEST; it is RUN.
    hold : ``Out(1)``
        Everything that a session begins anew is to be held in reset, processors first: in RESET,
        and for :attr:`HOLD` cycles at the beginning of SELFTEST, so that the second channel sees
        it, too.
    interrupt : ``Out(1)``
        FALLBACK was entered, and the firmware has not asked for it since.
    enable_p, enable_n : ``Out(1)``
        Torques may leave if ``(1, 0)``. Two registers.
    open : ``Out(1)``
        The first cycle of RUN: the gate is to open.
    """

    #: Cycles from an alert to the state, and to ``enable_p`` and ``enable_n``.
    LATENCY = 1

    #: Cycles of ``hold`` in SELFTEST.
    HOLD = 64

    def __init__(self):
        super().__init__(
            {
                "loaded": In(1),
                "load_failed": In(1),
                "request": In(len(REQUESTS)),
                "allowed": Out(len(REQUESTS)),
                "settings_locked": In(1),
                "comparator_good": In(1),
                "estop_released": In(1),
                "fallback": In(1),
                "trip": In(1),
                "period": In(1),
                "limit": In(32),
                "rearm": In(1),
                "state": Out(16, init=RESET),
                "selftest": Out(1),
                "running": Out(1),
                "hold": Out(1, init=1),
                "interrupt": Out(1),
                "enable_p": Out(1),
                "enable_n": Out(1, init=1),
                "open": Out(1),
            },
            macro_name="state_machine",
        )
        #: Periods that have begun in FALLBACK; cycles for which SELFTEST has been held in reset.
        self.periods = Signal(32)
        self.held = Signal(range(self.HOLD + 1))

    def build(self, platform):
        m = Module()
        asked = {}
        for n, name in enumerate(REQUESTS):
            asked[name] = Signal(name=f"asked_{name}")
            m.d.comb += asked[name].eq(self.request[n] & self.allowed[n])
        locked, run, fallback, stop, trip, restart = (self.allowed[n] for n in range(len(REQUESTS)))

        following = Signal(16, init=RESET)
        periods, held, enters = self.periods, self.held, Signal()
        with m.Switch(self.state):
            with m.Case(RESET):
                m.d.comb += following.eq(Mux(self.loaded, State.SELFTEST, RESET))
                with m.If(self.load_failed):
                    m.d.comb += following.eq(State.TRIP)
            with m.Case(State.SELFTEST):
                m.d.comb += [
                    locked.eq(self.settings_locked & self.comparator_good & ~self.hold),
                    following.eq(Mux(asked["locked"], State.LOCKED, State.SELFTEST)),
                ]
            with m.Case(State.LOCKED):
                m.d.comb += [
                    run.eq(self.estop_released & ~self.fallback),
                    stop.eq(1),
                    following.eq(Mux(asked["run"], State.RUN, State.LOCKED)),
                ]
            with m.Case(State.RUN):
                m.d.comb += [
                    fallback.eq(1),
                    stop.eq(1),
                    enters.eq(asked["fallback"] | self.fallback),
                    following.eq(Mux(enters, State.FALLBACK, State.RUN)),
                ]
            with m.Case(State.FALLBACK):
                m.d.comb += [
                    # Asked for where it is already, it is confirmed.
                    fallback.eq(1),
                    stop.eq(1),
                    following.eq(State.FALLBACK),
                ]
                with m.If(self.period & (periods == self.limit)):
                    m.d.comb += following.eq(State.STOP)
            with m.Case(State.STOP):
                m.d.comb += [
                    restart.eq(1),
                    following.eq(Mux(asked["restart"], State.SELFTEST, State.STOP)),
                ]
            with m.Case(State.TRIP):
                m.d.comb += following.eq(Mux(self.rearm, State.SELFTEST, State.TRIP))
            with m.Default():
                m.d.comb += following.eq(State.TRIP)
        m.d.comb += trip.eq(self.state != RESET)

        whole = Signal(16)
        m.d.comb += whole.eq(following)
        with m.If(self.trip | asked["trip"]):
            m.d.comb += whole.eq(State.TRIP)
        with m.Elif(asked["stop"]):
            m.d.comb += whole.eq(State.STOP)

        for rail in (self.enable_p, self.enable_n):
            # Synthesis would make one register of the two.
            rail.attrs["keep"] = True
        opens = Signal()
        m.d.comb += opens.eq(Cat(whole == state for state in _OPEN).any())
        m.d.sync += [
            self.state.eq(whole),
            self.enable_p.eq(opens),
            self.enable_n.eq(~opens),
            self.open.eq((whole == State.RUN) & ~self.running),
            self.hold.eq((whole == RESET) | ((whole == State.SELFTEST) & (held != self.HOLD))),
            held.eq(Mux(whole != State.SELFTEST, 0, Mux(held == self.HOLD, held, held + 1))),
            self.interrupt.eq(
                (whole == State.FALLBACK) & (self.running | (self.interrupt & ~asked["fallback"]))
            ),
        ]
        with m.If(whole != State.FALLBACK):
            m.d.sync += periods.eq(0)
        with m.Elif(self.period & ~self.running):
            m.d.sync += periods.eq(periods + 1)
        m.d.comb += [
            self.selftest.eq(self.state == State.SELFTEST),
            self.running.eq(self.state == State.RUN),
        ]
        return m
