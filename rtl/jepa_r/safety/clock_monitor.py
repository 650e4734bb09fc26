"""Clock monitor: another clock is counted against this one."""

import math

from amaranth import *
from amaranth.lib.wiring import In, Out
from attrs import frozen

from ..platform import Macro
from .faults import FaultLatch, fault_layout
from .settings import Settings

__all__ = ["ClockFaults", "ClockLimits", "ClockMonitor", "ClockToggle"]

#: Faults of the monitor.
#:
#: ``stopped``: no edge for too long. ``glitch``: two edges too close to each other. ``slow``,
#: ``fast``: too few or too many of them in a window. ``misuse``: a second start, or a write after
#: the first. ``settings``: the copies of a setting do not agree.
ClockFaults = fault_layout("stopped", "glitch", "slow", "fast", "misuse", "settings")


@frozen(kw_only=True)
class ClockLimits:
    """Settings of a :class:`ClockMonitor` for two clocks, and what they resolve.

    Edges of the nominal clock are ``S = divide * own_hz / other_hz`` cycles apart. Where a window
    of W cycles begins among them is not known, and the synchroniser catches each edge up to a cycle
    late. So a clock of relative speed r shows at least ``floor(r * (W - 1) / S)`` and at most
    ``ceil(r * (W + 1) / S)`` edges in it. Nothing is found wrong while r stays in [``quiet_low``,
    ``quiet_high``]; a clock below ``sure_low`` or above ``sure_high`` is found for sure in two
    windows, of which it fills one. Between the two it depends on the phase.

    Attributes
    ----------
    window, low, high, stop, gap : :class:`int`
        Settings.
    quiet_low, quiet_high, sure_low, sure_high : :class:`float`
        Speeds, relative to the nominal one. Of a quartz with ``p`` ppm, take ``p`` off either side.
    """

    window: int
    low: int
    high: int
    stop: int
    gap: int
    quiet_low: float
    quiet_high: float
    sure_low: float
    sure_high: float

    @classmethod
    def of(cls, *, own_hz, other_hz, divide, tolerance=0.05, edges=400):
        """Limits that let a clock be ``tolerance`` off, with a window of about ``edges`` edges.

        Raises
        ------
        :exc:`ValueError`
            If less than four cycles of the own clock are between two edges: the synchroniser
            would lose some.
        """
        spacing = divide * own_hz / other_hz
        if spacing * (1 - tolerance) < 4:
            raise ValueError(
                f"divide is {divide}; edges come every {spacing:.2f} cycles, and at least 4 are "
                f"needed even if the clock is {tolerance:.0%} fast"
            )
        window = round(edges * spacing)
        nominal = window / spacing
        low = math.floor(nominal * (1 - tolerance))
        high = math.ceil(nominal * (1 + tolerance))
        return cls(
            window=window,
            low=low,
            high=high,
            # One more on each side: the cycle of the synchroniser.
            stop=math.ceil(spacing / (1 - tolerance)) + 1,
            gap=math.floor(spacing / (1 + tolerance)) - 1,
            quiet_low=low * spacing / (window - 1),
            quiet_high=high * spacing / (window + 1),
            sure_low=(low - 1) * spacing / (window + 1),
            sure_high=(high + 1) * spacing / (window - 1),
        )


class ClockToggle(Macro):
    """Level that changes every ``divide`` cycles of the clock that is watched.

    Parameters
    ----------
    divide : :class:`int`, positive
        Cycles between two edges.

    Members
    -------
    toggle : ``Out(1)``
        For the other side, through a synchroniser.

    Raises
    ------
    :exc:`ValueError`
        If ``divide`` is not positive.
    """

    def __init__(self, *, divide):
        if divide < 1:
            raise ValueError(f"divide is {divide}; it must be at least 1")
        self._divide = divide
        super().__init__({"toggle": Out(1)}, macro_name=f"clock_toggle_{divide}")

    def build(self, platform):
        m = Module()
        left = Signal(range(self._divide))
        with m.If(left == 0):
            m.d.sync += [left.eq(self._divide - 1), self.toggle.eq(~self.toggle)]
        with m.Else():
            m.d.sync += left.eq(left - 1)
        return m


class ClockMonitor(Macro):
    """Watches another clock from this one: stopped, with glitches, slow, or fast.

    The other clock sends a level that changes every few cycles of its own (:class:`ClockToggle`);
    here, behind the synchroniser, its edges are counted in one window after the other. Two
    monitors, one on each side, watch each other's clock. What both clocks have in common, a supply
    or a quartz, they do not see; oscillators and their supervision are outside of this.

    Time in cycles: ``start`` in cycle t makes t + 1 the first cycle of the first window. An edge
    belongs to the cycle in which ``toggle`` first has its new value. A fault shows one cycle after
    the one it belongs to:

    * ``stopped``: ``stop`` cycles have passed since the cycle of the last edge, or since the start,
      and this one has no edge. With a synchroniser of two stages it is found at most
      :attr:`STOP_LATENCY` cycles after that bound.
    * ``glitch``: an edge comes less than ``gap`` cycles after the one before.
    * ``slow``: a window of ``window`` cycles ends with less than ``low`` edges.
    * ``fast``: an edge comes, and there are more than ``high`` in the window.

    :class:`ClockLimits` chooses the settings, and says what they resolve. All are 0 after reset:
    started like that, the monitor finds the clock stopped at once.

    The golden model is :class:`jepa_r_sim.golden.clock_monitor.ClockMonitor`. Measure: IEC 61508-7,
    A.9.2 and A.12.1 (monitoring of the clock by a second time base).

    Members
    -------
    w_en, w_data : ``In(5)``, ``In(32)``
        Settings, in this order: ``window`` (24 bits), ``low``, ``high``, ``stop``, ``gap`` (16 bits
        each). See :class:`~.settings.Settings`. They are frozen by ``start``.
    start : ``In(1)``
        Starts it, for one cycle. There is no way back but reset.
    toggle : ``In(1)``
        Level from the other clock, behind its synchroniser.
    running : ``Out(1)``
        It has been started.
    window, low, high, stop, gap : ``Out``
        Settings, as they are.
    faults, first, alert_p, alert_n : ``Out``
        See :class:`~.faults.FaultLatch`; the layout is :data:`ClockFaults`.
    """

    #: Cycles from the bound of a stop to the alert, with two stages of synchroniser before it.
    STOP_LATENCY = 3

    def __init__(self):
        self.fields = {"window": 24} | dict.fromkeys(("low", "high", "stop", "gap"), 16)
        self.settings = Settings(self.fields)
        self.before = Signal()
        # Cycles since the last edge: 0 in the cycle after it.
        self.since = Signal(16)
        self.any_edge = Signal()
        self.position = Signal(24)
        self.edges = Signal(16)
        super().__init__(
            {
                "w_en": In(len(self.fields)),
                "w_data": In(32),
                "start": In(1),
                "toggle": In(1),
                "running": Out(1),
                "faults": Out(ClockFaults),
                "first": Out(ClockFaults),
                "alert_p": Out(1),
                "alert_n": Out(1),
            }
            | {name: Out(bits) for name, bits in self.fields.items()},
            macro_name="clock_monitor",
        )

    def build(self, platform):
        m = Module()
        m.submodules.settings = settings = self.settings
        m.submodules.latch = latch = FaultLatch(ClockFaults)
        m.d.comb += [
            settings.w_en.eq(self.w_en),
            settings.w_data.eq(self.w_data),
            settings.lock.eq(self.start),
            # The lock is held twice, so no flipped bit stops a monitor that runs.
            self.running.eq(settings.locked),
        ]
        m.d.comb += [getattr(self, name).eq(getattr(settings, name)) for name in self.fields]
        m.d.comb += [
            getattr(self, name).eq(getattr(latch, name))
            for name in ("faults", "first", "alert_p", "alert_n")
        ]

        edge, waited, at_end = Signal(), Signal(), Signal()
        raised = Signal(ClockFaults)
        m.d.sync += self.before.eq(self.toggle)
        m.d.comb += [
            edge.eq(self.running & (self.toggle != self.before)),
            waited.eq(self.since + 1 >= self.stop),
            at_end.eq(self.position + 1 >= self.window),
            raised.stopped.eq(self.running & ~edge & waited),
            raised.glitch.eq(edge & self.any_edge & (self.since + 1 < self.gap)),
            raised.slow.eq(self.running & at_end & (self.edges + edge < self.low)),
            raised.fast.eq(edge & (self.edges >= self.high)),
            raised.misuse.eq((self.running & self.start) | settings.refused),
            raised.settings.eq(settings.mismatch),
            latch.raised.eq(raised),
        ]
        with m.If(edge):
            m.d.sync += [self.since.eq(0), self.any_edge.eq(1)]
        with m.Elif(self.running & ~waited):
            m.d.sync += self.since.eq(self.since + 1)
        with m.If(self.running & at_end):
            m.d.sync += [self.position.eq(0), self.edges.eq(0)]
        with m.Elif(self.running):
            m.d.sync += self.position.eq(self.position + 1)
            with m.If(edge & ~raised.fast):
                m.d.sync += self.edges.eq(self.edges + 1)
        return m
