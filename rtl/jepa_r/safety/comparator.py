"""Comparator of two processors: two rails, of which one watches while the other is tested."""

import enum

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["Comparator", "Rail", "Side"]


class Side(enum.Enum):
    """Which of the compared values is falsified; in the self test, which of them is 1."""

    MAIN = 0
    CHECKER = 1


class _Step(enum.Enum):
    """Steps of the self test, for one rail and then for the other; the last only once."""

    QUIET = 0
    SWEEP = 1
    FORCE = 2
    SHOW = 3
    STAY = 4
    END = 5


class Rail(Macro):
    """One of the comparator's two rails: comparison, and two alerts that stay.

    Rails keep their hierarchy: synthesis would make one of the other. What goes to the alert unit
    and what goes to the release are registers of their own, of opposite polarity, so that they are
    not merged either.

    The golden model is :class:`jepa_r_sim.golden.lockstep.Comparator`.

    Parameters
    ----------
    width : :class:`int`, positive
        Signals compared.
    skew : :class:`int`
        Cycles after reset in which there is nothing to compare yet.
    inverted : :class:`bool`
        Whether all that the rail says is inverted.

    Members
    -------
    main, checker : ``In(width)``
        Values to compare.
    ignore : ``In(1)``
        Test: alerts do not take what is compared in this cycle.
    clear : ``In(1)``
        Test: alerts are taken back.
    fault : ``In(1)``
        Something else that is to be an alert.
    differs : ``Out(1)``
        Values differ, in this cycle (inverted rail: they are equal).
    alert : ``Out(1)``
        They differed, or there was a fault (inverted: they were equal always). To the alert unit.
    open : ``Out(1)``
        The same, inverted. To the release.
    """

    keep_hierarchy = True

    def __init__(self, *, width, skew, inverted):
        self._width = width
        self._inverted = inverted
        #: Last bit: there is something to compare.
        self.comparing = Signal(skew)
        super().__init__(
            {
                "main": In(width),
                "checker": In(width),
                "ignore": In(1),
                "clear": In(1),
                "fault": In(1),
                "differs": Out(1),
                "alert": Out(1, init=inverted),
                "open": Out(1, init=not inverted),
            },
            macro_name=f"lockstep_rail_{width}_{skew}{'_inverted' if inverted else ''}",
        )

    def build(self, platform):
        m = Module()
        comparing = self.comparing
        m.d.sync += comparing.eq(Cat(1, comparing))
        taken = Signal()
        if self._inverted:
            equal = (self.main ^ ~self.checker)[: self._width].all()
            m.d.comb += [
                self.differs.eq(equal | ~comparing[-1]),
                taken.eq((self.differs | self.ignore) & ~self.fault),
            ]
            m.d.sync += [
                self.alert.eq((self.alert | self.clear) & taken),
                self.open.eq(self.open & ~self.clear | ~taken),
            ]
        else:
            m.d.comb += [
                self.differs.eq((self.main ^ self.checker).any() & comparing[-1]),
                taken.eq(self.differs & ~self.ignore | self.fault),
            ]
            m.d.sync += [
                self.alert.eq(self.alert & ~self.clear | taken),
                self.open.eq((self.open | self.clear) & ~taken),
            ]
        return m


class Comparator(wiring.Component):
    """Comparator that tests itself.

    Every cycle two rails (:class:`Rail`) compare all bits. If any differs in cycle t, both alert
    from t + 1 on: ``(alert_p, alert_n)`` is ``(0, 1)`` without alert and ``(1, 0)`` with one, and
    anything but ``(0, 1)`` is an alert. So is ``(open_p, open_n)``, the second path: open is
    ``(1, 0)`` and nothing else. A rail whose paths say different things is an alert, too.

    **Self test.** It falsifies the rails' inputs, where the compared values still pass, so that no
    input is exchanged for a pattern and left so. The processors go on meanwhile, and one rail is
    tested while the other watches: there is no cycle without a comparison. For each rail: nothing
    falsified (must be quiet); each of the ``width`` bits as 1 on main's side and 0 on the
    checker's, then the other way round, one a cycle (``2 * width`` patterns; the rail must see each
    one and the other none); then error forcing: one more, which the rail's alerts take, must show
    on both paths and must keep, for two cycles. The release loses nothing by that: forcing waits
    until it is empty, so the processor stores little during a test. A test in which anything is not
    as it must be, that is not at its end after :attr:`deadline_cycles` cycles or in which
    ``test_allowed`` falls is a fault: it ends with ``test_good`` low and an alert that stays.

    A pattern falsifies one side, and the bit's value says which. If it did not, a stuck bit would
    pass while the processors' values hide it; so all that a rail is given is tested with both
    values, whatever the processors do. What is stuck before the place of falsification shows as
    soon as the processors make the other value.

    Parameters
    ----------
    width : :class:`int`, positive
        Bits compared.
    skew : :class:`int`, positive
        Cycles after reset in which there is nothing to compare yet.

    Members
    -------
    main, checker : ``In(width)``
        Values to compare, of the same cycle of both processors.
    fault : ``In(1)``
        Alert at once.
    alert_p, alert_n : ``Out(1)``
        To the alert unit.
    open_p, open_n : ``Out(1)``
        To the release.
    idle : ``In(1)``
        The release holds no store, and none is given to it in this cycle.
    test_allowed : ``In(1)``
        Nothing moves: tests may run.
    test_start, test_key : ``In(1)``, ``In(8)``
        Start a test, with :attr:`KEY`. Ignored without the key, during a test, with an alert, and
        while not allowed.
    test_done, test_good : ``Out(1)``
        The last test has ended; it was good. Low from the cycle after its start.
    test_forced : ``Out(1)``
        One of the four cycles of a test in which its alert is to be seen: it is no fault.
    inject : ``In(1)``
        Falsify one bit, on both rails, in this cycle: an alert that stays. Ignored while not
        allowed and during a test.
    inject_bit, inject_side : ``In(range(width))``, ``In(Side)``
        Which bit.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` or ``skew`` is not positive.
    """

    #: What a test is started with.
    KEY = 0xB4

    #: Cycles of a test that wait for the release, at most.
    WAIT_CYCLES = 64

    def __init__(self, *, width, skew):
        if width < 1:
            raise ValueError(f"width is {width}; there is at least one bit to compare")
        if skew < 1:
            raise ValueError(f"skew is {skew}; it must be at least 1")
        self._width = width
        self.rail_p = Rail(width=width, skew=skew, inverted=False)
        self.rail_n = Rail(width=width, skew=skew, inverted=True)
        #: A test runs; cycles until it is too late.
        self.testing = Signal()
        self.left = Signal(range(self.deadline_cycles))
        super().__init__({
            "main": In(width),
            "checker": In(width),
            "fault": In(1),
            "alert_p": Out(1),
            "alert_n": Out(1),
            "open_p": Out(1),
            "open_n": Out(1),
            "idle": In(1),
            "test_allowed": In(1),
            "test_start": In(1),
            "test_key": In(8),
            "test_done": Out(1),
            "test_good": Out(1),
            "test_forced": Out(1),
            "inject": In(1),
            "inject_bit": In(range(width)),
            "inject_side": In(Side),
        })

    @property
    def test_cycles(self):
        """Cycles from ``test_start`` to ``test_done`` if the release is empty."""
        return 2 * (2 * self._width + 4) + 2

    @property
    def deadline_cycles(self):
        """Cycles from ``test_start`` to ``test_done`` at most."""
        return self.test_cycles + self.WAIT_CYCLES

    def elaborate(self, platform):
        m = Module()
        m.submodules.rail_p = positive = self.rail_p
        m.submodules.rail_n = negative = self.rail_n
        m.d.comb += [
            self.alert_p.eq(positive.alert),
            self.alert_n.eq(negative.alert),
            self.open_p.eq(positive.open),
            self.open_n.eq(negative.open),
        ]

        bit = Signal(range(self._width))
        side, live = Signal(Side), Signal()
        falsify = Signal(2)
        failed = self._test(m, positive, negative, bit, side, falsify)

        injecting = Signal()
        m.d.comb += injecting.eq(self.inject & self.test_allowed & ~self.testing)
        place = Signal(range(self._width))
        wrong = Signal(self._width)
        on = Signal(Side)
        m.d.comb += [
            place.eq(Mux(self.testing, bit, self.inject_bit)),
            live.eq(self.main.bit_select(bit, 1)),
            on.eq(Mux(self.testing, side ^ live, self.inject_side)),
            wrong.eq(Cat(place == n for n in range(self._width))),
        ]
        # Whether a rail's two paths say different things: a bit of one of them flipped. Open would
        # stay shut for good, and nobody would be told.
        parted = Signal()
        m.d.comb += parted.eq((positive.alert == positive.open) | (negative.alert == negative.open))
        for number, rail in enumerate((positive, negative)):
            here = Signal(name=f"falsify_{'pn'[number]}")
            m.d.comb += [
                here.eq(injecting | falsify[number]),
                rail.main.eq(self.main ^ Mux(here & (on == Side.MAIN), wrong, 0)),
                rail.checker.eq(self.checker ^ Mux(here & (on == Side.CHECKER), wrong, 0)),
                rail.fault.eq(self.fault | failed | parted),
            ]
        return m

    def _test(self, m, positive, negative, bit, side, falsify):
        """Sequence of the self test; whether it fails in this cycle."""
        testing, left = self.testing, self.left
        differs, alerts, shut = Signal(2), Signal(2), Signal(2)
        m.d.comb += [
            differs.eq(Cat(positive.differs, ~negative.differs)),
            alerts.eq(Cat(positive.alert, ~negative.alert)),
            shut.eq(Cat(~positive.open, negative.open)),
        ]

        step, second = Signal(_Step), Signal()
        tested = Signal(2)
        # What the two rails must see, and show, in this cycle.
        seen, shown = Signal(2), Signal(2)
        ignore, clear = Signal(2), Signal(2)
        start, finished, failed = Signal(), Signal(), Signal()
        m.d.comb += [
            tested.eq(Mux(second, 0b10, 0b01)),
            Cat(positive.ignore, negative.ignore).eq(ignore),
            Cat(positive.clear, negative.clear).eq(clear),
            start.eq(
                self.test_start
                & (self.test_key == self.KEY)
                & self.test_allowed
                & ~testing
                & ~alerts.any()
                & ~shut.any()
            ),
        ]
        with m.If(start):
            m.d.sync += [step.eq(_Step.QUIET), second.eq(0)]
        # Whatever the step is, without a test it does nothing.
        with m.If(testing), m.Switch(step):
            with m.Case(_Step.QUIET):
                m.d.sync += [bit.eq(0), side.eq(Side.MAIN), step.eq(_Step.SWEEP)]
            with m.Case(_Step.SWEEP):
                m.d.comb += [falsify.eq(tested), ignore.eq(tested), seen.eq(tested)]
                with m.If(side == Side.MAIN):
                    m.d.sync += side.eq(Side.CHECKER)
                with m.Else():
                    m.d.sync += [side.eq(Side.MAIN), bit.eq(bit + 1)]
                    with m.If(bit == self._width - 1):
                        m.d.sync += [bit.eq(0), step.eq(_Step.FORCE)]
            with m.Case(_Step.FORCE):
                with m.If(self.idle):
                    m.d.comb += [falsify.eq(tested), seen.eq(tested)]
                    m.d.sync += step.eq(_Step.SHOW)
            with m.Case(_Step.SHOW):
                m.d.comb += [shown.eq(tested), self.test_forced.eq(1)]
                m.d.sync += step.eq(_Step.STAY)
            with m.Case(_Step.STAY):
                m.d.comb += [shown.eq(tested), self.test_forced.eq(1), clear.eq(tested)]
                m.d.sync += [second.eq(1), step.eq(Mux(second, _Step.END, _Step.QUIET))]
            with m.Case(_Step.END):
                m.d.comb += finished.eq(1)

        # The deadline is held by a counter that knows nothing of the steps.
        m.d.comb += failed.eq(
            testing
            & (
                (differs != seen)
                | (alerts != shown)
                | (shut != shown)
                | ~self.test_allowed
                | (left == 0)
            )
        )
        with m.If(start):
            m.d.sync += [testing.eq(1), self.test_done.eq(0), self.test_good.eq(0)]
            m.d.sync += left.eq(self.deadline_cycles - 2)
        with m.Elif(testing):
            m.d.sync += left.eq(left - 1)
            with m.If(failed | finished):
                m.d.sync += [testing.eq(0), self.test_done.eq(1), self.test_good.eq(~failed)]
        return failed
