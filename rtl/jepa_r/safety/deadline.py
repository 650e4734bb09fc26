"""Deadline monitor: an action of the right number in each window, from a plan that is not old."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .faults import FaultLatch, fault_layout
from .settings import Settings

__all__ = ["DeadlineFaults", "DeadlineMonitor"]

#: Faults of the monitor.
#:
#: ``check``: an action that its check found bad; nothing else of it is looked at. ``sequence``: one
#: of another number than expected; its time and age are not looked at. ``early``: one before its
#: window. ``stale``: one from a plan that is too old. ``late``: no good one until the deadline.
#: ``never``: none in the grace that follows either. ``misuse``: a second start, or a write after
#: the first. ``settings``: the copies of a setting do not agree.
DeadlineFaults = fault_layout(
    "check", "sequence", "early", "stale", "late", "never", "misuse", "settings"
)


class DeadlineMonitor(Macro):
    """Watches over the actions of the accelerator, without a processor.

    An action is good if its check is, its number is the one expected, it comes in its window and
    the plan it is from is at most ``max_age`` old. The window is ``open`` to ``deadline`` cycles
    after the last good action. After the start it is 0 to ``deadline`` for the first one: how the
    two sides lie to each other is not known then. An action that is not good is a fault of its own
    and does not end the window, so no old or broken action stands in for the one that is due.

    Time in cycles: ``start`` in cycle t makes the count 0 in cycle t + 1, and so does a good
    action. An action in a cycle with count c is in time if ``open <= c <= deadline``. A fault shows
    in the cycle after the one it belongs to (:attr:`LATENCY`): ``late`` in the cycle in which the
    count would be ``deadline + 1``, ``never`` ``grace + 1`` cycles later if no action with good
    check and right number has come by then. Faults stay until reset.

    All settings are 0 after reset: started like that, the monitor finds an action late at once.

    The golden model is :class:`jepa_r_sim.golden.deadline.DeadlineMonitor`. Measure: IEC 61508-7,
    A.9.4; the check, number and age of an action are those of an end-to-end protection (ISO
    26262-5:2018, D.2.7.6 to D.2.7.8).

    Parameters
    ----------
    width : :class:`int`, 2 to 32
        Bits W of times.

    Members
    -------
    w_en, w_data : ``In(5)``, ``In(32)``
        Settings, in this order: ``open``, ``deadline``, ``grace`` (cycles, W bits), ``max_age`` (in
        the unit of ``age``, 32 bits), ``first_sequence`` (number of the first action, 32 bits). See
        :class:`~.settings.Settings`. They are frozen by ``start``.
    start : ``In(1)``
        Starts it, for one cycle. There is no way back but reset.
    action, good : ``In(1)``
        An action was received; whether its check is right.
    sequence, age : ``In(32)``
        Its number, and the age of its plan.
    expected : ``Out(32)``
        Number of the action that is due.
    accepted : ``Out(1)``
        The action of this cycle is good.
    running : ``Out(1)``
        It has been started.
    open, deadline, grace, max_age, first_sequence : ``Out``
        Settings, as they are.
    faults, first, alert_p, alert_n : ``Out``
        See :class:`~.faults.FaultLatch`; the layout is :data:`DeadlineFaults`.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is not from 2 to 32.
    """

    #: Cycles from the last cycle of a window to the alert.
    LATENCY = 1

    def __init__(self, *, width=32):
        if not 2 <= width <= 32:
            raise ValueError(f"width is {width}; it must be from 2 to 32")
        self.fields = dict.fromkeys(("open", "deadline", "grace"), width) | {
            "max_age": 32, "first_sequence": 32,
        }  # fmt: skip
        self.settings = Settings(self.fields)
        # Cycles since the last good action, and then, when `overdue`, since the deadline.
        self.count = Signal(width)
        self.overdue = Signal()
        # The action that is overdue has come.
        self.came = Signal()
        # Good actions since the start.
        self.accepted_before = Signal()
        self.passed = Signal(32)
        super().__init__(
            {
                "w_en": In(len(self.fields)),
                "w_data": In(32),
                "start": In(1),
                "action": In(1),
                "good": In(1),
                "sequence": In(32),
                "age": In(32),
                "expected": Out(32),
                "accepted": Out(1),
                "running": Out(1),
                "faults": Out(DeadlineFaults),
                "first": Out(DeadlineFaults),
                "alert_p": Out(1),
                "alert_n": Out(1),
            }
            | {name: Out(bits) for name, bits in self.fields.items()},
            macro_name=f"deadline_monitor_{width}",
        )

    def build(self, platform):
        m = Module()
        m.submodules.settings = settings = self.settings
        m.submodules.latch = latch = FaultLatch(DeadlineFaults)
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

        received, due, too_early, at_end = Signal(), Signal(), Signal(), Signal()
        raised = Signal(DeadlineFaults)
        m.d.comb += [
            self.expected.eq(self.first_sequence + self.passed),
            received.eq(self.running & self.action),
            due.eq(received & self.good & (self.sequence == self.expected)),
            too_early.eq(~self.overdue & self.accepted_before & (self.count < self.open)),
            raised.check.eq(received & ~self.good),
            raised.sequence.eq(received & self.good & (self.sequence != self.expected)),
            raised.early.eq(due & too_early),
            raised.stale.eq(due & (self.age > self.max_age)),
            self.accepted.eq(due & ~raised.early & ~raised.stale & ~self.overdue),
            at_end.eq(self.count >= Mux(self.overdue, self.grace, self.deadline)),
            raised.late.eq(self.running & ~self.overdue & at_end & ~self.accepted),
            raised.never.eq(self.overdue & at_end & ~self.came & ~due),
            raised.misuse.eq((self.running & self.start) | settings.refused),
            raised.settings.eq(settings.mismatch),
            latch.raised.eq(raised),
        ]
        with m.If(self.accepted):
            m.d.sync += [self.passed.eq(self.passed + 1), self.accepted_before.eq(1)]
        with m.If(raised.late):
            m.d.sync += self.overdue.eq(1)
        with m.If(self.overdue & due):
            m.d.sync += self.came.eq(1)
        with m.If(self.accepted | raised.late):
            m.d.sync += self.count.eq(0)
        with m.Elif(self.running & ~at_end):
            m.d.sync += self.count.eq(self.count + 1)
        return m
