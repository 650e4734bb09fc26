"""Windowed watchdog: a token a window, or a trip."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .faults import FaultLatch, fault_layout
from .settings import Settings

__all__ = ["Watchdog", "WatchdogFaults"]

#: Faults of the watchdog.
#:
#: ``early``, ``late``: a token before the window, or none in it. ``wrong``: not the token that is
#: due. ``replayed``: the one accepted last. ``misuse``: a second start, or a write after the first.
#: ``settings``: the copies of a setting do not agree.
WatchdogFaults = fault_layout("early", "late", "wrong", "replayed", "misuse", "settings")


class Watchdog(Macro):
    """Watchdog with a window, a clock of its own and a token that differs each time.

    It expects a token in each window of ``open`` to ``deadline`` cycles after the token before, or
    after the start. The token that is due is ``next(challenge) ^ path``: only a program that
    knows the challenge, and whose checkpoints since the last window add up to the signature
    ``path``, can make it. ``next`` is a step of a linear feedback shift register of maximal length,
    so no token comes again in 2**32 - 1 windows.

    Time in cycles: ``start`` in cycle t makes the count 0 in cycle t + 1; so does a token that is
    accepted. A token in a cycle with count c is in time if ``open <= c <= deadline``. A fault shows
    in the cycle after the one it belongs to: after the last cycle of the window if there was no
    token, so no later than ``deadline + 2`` after the token before (:attr:`LATENCY` after the
    window's end). Faults stay until reset.

    All settings are 0 after reset: started like that, the watchdog trips in its first cycle.

    The golden model is :class:`jepa_r_sim.golden.watchdog.Watchdog`. Measures: IEC 61508-7, A.9.2
    (separate time base and window) and A.9.4 (temporal and logical monitoring together). The
    polynomial is x^32 + x^22 + x^2 + x + 1.

    Parameters
    ----------
    width : :class:`int`, 2 to 32
        Bits W of the count.

    Members
    -------
    w_en, w_data : ``In(3)``, ``In(32)``
        Settings, in this order: ``open`` and ``deadline`` (W bits), ``path`` (32 bits). See
        :class:`~.settings.Settings`. They are frozen by ``start``.
    start : ``In(1)``
        Starts it, for one cycle. There is no way back but reset.
    kick, token : ``In(1)``, ``In(32)``
        A token. Each cycle with ``kick`` is one.
    challenge : ``Out(32)``
        What the next token is made from.
    running : ``Out(1)``
        It has been started.
    open, deadline, path : ``Out``
        Settings, as they are.
    faults, first, alert_p, alert_n : ``Out``
        See :class:`~.faults.FaultLatch`; the layout is :data:`WatchdogFaults`.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is not from 2 to 32.
    """

    #: Cycles from the last cycle of a window without a token to the alert.
    LATENCY = 1

    #: Feedback of the shift register: a bit for each power of the polynomial but the constant.
    TAPS = 0x80200003

    #: First challenge.
    SEED = 0x1D872B41

    def __init__(self, *, width=24):
        if not 2 <= width <= 32:
            raise ValueError(f"width is {width}; it must be from 2 to 32")
        self._fields = {"open": width, "deadline": width, "path": 32}
        self.settings = Settings(self._fields)
        self.count = Signal(width)
        self.last = Signal(32)
        super().__init__(
            {
                "w_en": In(len(self._fields)),
                "w_data": In(32),
                "start": In(1),
                "kick": In(1),
                "token": In(32),
                "challenge": Out(32, init=self.SEED),
                "running": Out(1),
                "faults": Out(WatchdogFaults),
                "first": Out(WatchdogFaults),
                "alert_p": Out(1),
                "alert_n": Out(1),
            }
            | {name: Out(bits) for name, bits in self._fields.items()},
            macro_name=f"watchdog_{width}",
        )

    def build(self, platform):
        m = Module()
        m.submodules.settings = settings = self.settings
        m.submodules.latch = latch = FaultLatch(WatchdogFaults)
        m.d.comb += [
            settings.w_en.eq(self.w_en),
            settings.w_data.eq(self.w_data),
            settings.lock.eq(self.start),
            # The lock is held twice, so no flipped bit stops a watchdog that runs.
            self.running.eq(settings.locked),
        ]
        m.d.comb += [getattr(self, name).eq(getattr(settings, name)) for name in self._fields]
        m.d.comb += [
            getattr(self, name).eq(getattr(latch, name))
            for name in ("faults", "first", "alert_p", "alert_n")
        ]

        due = Signal(32)
        following = Signal(32)
        kicked = Signal()
        raised = Signal(WatchdogFaults)
        accepted = Signal()
        m.d.comb += [
            following.eq(self.challenge[1:] ^ Mux(self.challenge[0], self.TAPS, 0)),
            due.eq(following ^ self.path),
            kicked.eq(self.running & self.kick),
            raised.early.eq(kicked & (self.count < self.open)),
            raised.late.eq(self.running & ~self.kick & (self.count >= self.deadline)),
            raised.wrong.eq(kicked & (self.token != due) & (self.token != self.last)),
            raised.replayed.eq(kicked & (self.token != due) & (self.token == self.last)),
            raised.misuse.eq((self.running & self.start) | settings.refused),
            raised.settings.eq(settings.mismatch),
            latch.raised.eq(raised),
            accepted.eq(kicked & (self.count >= self.open) & (self.token == due)),
        ]
        with m.If(accepted):
            m.d.sync += [self.challenge.eq(following), self.last.eq(self.token), self.count.eq(0)]
        with m.Elif(self.running & (self.count < self.deadline)):
            m.d.sync += self.count.eq(self.count + 1)
        return m
