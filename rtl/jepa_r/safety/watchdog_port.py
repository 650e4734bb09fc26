"""The watchdog, its start, and dry runs of it before."""

from amaranth import *
from amaranth.hdl import Fragment
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .map import DRY_DEADLINE, DRY_OPEN, WATCHDOG_BITS
from .watchdog import Watchdog

__all__ = ["WatchdogPort"]


class WatchdogPort(Macro):
    """Hold the watchdog in reset until it is to run, dry or for good.

    A dry run has a window from :data:`~.map.DRY_OPEN` to :data:`~.map.DRY_DEADLINE` cycles and ends
    with the first token or the end of the window. It is the same watchdog that trips later, but for
    its alert, which does not leave. Runs begin with the same challenge. Once it runs for good,
    only ``restart`` and reset end that.

    Members
    -------
    begin, open, deadline : ``In(1)``, ``In(24)``, ``In(24)``
        Run for good, with this window, which stays as it is.
    test : ``In(1)``
        Begin a dry run; nothing, if it runs.
    restart : ``In(1)``
        Back to the beginning.
    kick, token : ``In(1)``, ``In(32)``
        A token.
    challenge : ``Out(32)``
        What the next token is made from.
    is_open, dry, served, early, late, wrong : ``Out(1)``
        A token may come; a dry run goes on; how the last dry run ended, known a cycle before
        ``dry`` falls.
    alert_p, alert_n : ``Out(1)``
        Quiet is (0, 1), and nothing else is.
    """

    def __init__(self):
        super().__init__(
            {
                "begin": In(1),
                "open": In(WATCHDOG_BITS),
                "deadline": In(WATCHDOG_BITS),
                "test": In(1),
                "restart": In(1),
                "kick": In(1),
                "token": In(32),
                "challenge": Out(32),
                "is_open": Out(1),
                "dry": Out(1),
                "served": Out(1),
                "early": Out(1),
                "late": Out(1),
                "wrong": Out(1),
                "alert_p": Out(1),
                "alert_n": Out(1),
            },
            macro_name="watchdog_port",
        )

    def build(self, platform):
        m = Module()
        watchdog = Watchdog(width=WATCHDOG_BITS)
        # Part of this macro, so that it can be reset alone.
        held = Signal(init=1)
        m.submodules.watchdog = ResetInserter(held)(Fragment.get(watchdog, None))

        step, dry = Signal(3), Signal()
        # Twice, once inverted: a bit that flips must not silence the watchdog.
        live = Signal(attrs={"keep": True})
        sleeps = Signal(init=1, attrs={"keep": True})
        first, last = Signal(WATCHDOG_BITS), Signal(WATCHDOG_BITS)
        m.d.comb += [
            first.eq(Mux(dry, DRY_OPEN, self.open)),
            last.eq(Mux(dry, DRY_DEADLINE, self.deadline)),
            watchdog.w_en.eq(step[:2]),
            watchdog.w_data.eq(Mux(step[0], first, last)),
            watchdog.start.eq(step[2]),
            watchdog.kick.eq(self.kick),
            watchdog.token.eq(self.token),
            self.challenge.eq(watchdog.challenge),
            self.alert_p.eq((live & watchdog.alert_p) | (live == sleeps)),
            self.alert_n.eq(~((live & ~watchdog.alert_n) | (live == sleeps))),
        ]

        # How long ago the last token was: only for the firmware to see the window.
        count, before = Signal(WATCHDOG_BITS), Signal(32)
        accepted = Signal()
        m.d.sync += [
            before.eq(watchdog.challenge),
            count.eq(Mux(accepted | ~watchdog.running, 0, count + ~count.all())),
            self.is_open.eq(watchdog.running & ~accepted & (count >= first)),
        ]
        m.d.comb += accepted.eq(watchdog.running & (watchdog.challenge != before))

        faults, ended, ends = watchdog.faults, Signal(), Signal()
        m.d.comb += ended.eq(self.dry & (accepted | faults.as_value().any()))
        m.d.sync += [step.eq(Cat(0, step)), ends.eq(ended)]
        with m.If(self.restart):
            m.d.sync += [
                held.eq(1), step.eq(0), dry.eq(0), self.dry.eq(0), live.eq(0), sleeps.eq(1),
            ]  # fmt: skip
        with m.Elif(self.begin & ~live & sleeps):
            m.d.sync += [
                held.eq(0), step.eq(1), dry.eq(0), self.dry.eq(0), live.eq(1), sleeps.eq(0),
            ]  # fmt: skip
        with m.Elif(self.test & held):
            m.d.sync += [held.eq(0), step.eq(1), dry.eq(1), self.dry.eq(1)]
            m.d.sync += Cat(self.served, self.early, self.late, self.wrong).eq(0)
        with m.Elif(ended & ~ends):
            m.d.sync += [
                self.served.eq(accepted),
                self.early.eq(faults.early),
                self.late.eq(faults.late),
                self.wrong.eq(faults.wrong | faults.replayed),
            ]
        with m.Elif(ends):
            m.d.sync += [held.eq(1), dry.eq(0), self.dry.eq(0)]
        return m
