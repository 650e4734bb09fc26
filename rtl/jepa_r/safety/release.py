"""Release: stores wait until it is known that both processors made them."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Release"]


class Release(wiring.Component):
    """Delay of every store, which only stores leave that both processors made.

    A store of main's cycle t leaves in cycle t + ``hold`` if the comparator is open in t + ``hold``
    - 1; with an alert from t + skew + 1 on, nothing of cycle t or later leaves for ``hold = skew +
    2``. That a store is there is held on two rails, the second inverted, which have no gate in
    common: the first begins with what main asks for, the second with what the checker does, skew
    cycles later. A flip or a stuck gate that makes or loses a store on one of them makes none and
    is a fault. What is stored is a code word, bound to its address (:mod:`jepa_r.safety.code`): a
    bit that flips in either is found where it arrives.

    Both rails began with main once, and of 9,604 stuck-at faults one was silent: a gate before the
    fork made stores of reads, and a processor that reads has a good code word of something on its
    bus.

    The golden function is :func:`jepa_r_sim.golden.lockstep.released`.

    Parameters
    ----------
    width : :class:`int`, positive
        Bits of a store.
    hold : :class:`int`, at least 3
        Cycles from a store to its release.

    Members
    -------
    en, store : ``In(1)``, ``In(width)``
        Main makes a store.
    refused : ``In(1)``
        The store of the previous cycle is refused by the bus: it does not leave.
    late_en, late_refused : ``In(1)``
        The same of the checker, ``hold`` - 2 cycles later.
    open_p, open_n : ``In(1)``
        From the comparator: open is ``(1, 0)``.
    w_en, w_en_n : ``Out(1)``
        A store leaves; the same, inverted. Without ``(1, 0)`` nothing may be written.
    w_store : ``Out(width)``
        The store, ``hold`` cycles later.
    empty : ``Out(1)``
        No store is on its way, and none comes in this cycle.
    fault : ``Out(1)``
        The two rails disagree on whether there is a store.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is not positive or ``hold`` is below 3.
    """

    def __init__(self, *, width, hold):
        if width < 1:
            raise ValueError(f"width is {width}; a store has at least one bit")
        if hold < 3:
            raise ValueError(f"hold is {hold}; it must be at least 3")
        self._hold = hold
        super().__init__({
            "en": In(1),
            "store": In(width),
            "refused": In(1),
            "late_en": In(1),
            "late_refused": In(1),
            "open_p": In(1),
            "open_n": In(1),
            "w_en": Out(1),
            "w_en_n": Out(1),
            "w_store": Out(width),
            "empty": Out(1),
            "fault": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        there = Signal(self._hold)
        # The checker's is as far as the last but one of main's when it comes.
        late_n, leaves_n = Signal(init=1), Signal(init=1)
        is_open, is_shut = Signal(), Signal()
        m.d.comb += [
            is_open.eq(self.open_p & ~self.open_n),
            is_shut.eq(~self.open_p | self.open_n),
        ]
        m.d.sync += [
            there.eq(Cat(self.en, there)),
            there[1].eq(there[0] & ~self.refused),
            there[-1].eq(there[-2] & is_open),
            late_n.eq(~self.late_en),
            leaves_n.eq(late_n | self.late_refused | is_shut),
        ]

        store = self.store
        for n in range(1, self._hold + 1):
            stage = Signal(len(store), reset_less=True, name=f"store_{n}")
            m.d.sync += stage.eq(store)
            store = stage

        m.d.comb += [
            self.w_en.eq(there[-1]),
            self.w_en_n.eq(leaves_n),
            self.w_store.eq(store),
            self.empty.eq(~self.en & ~there.any()),
            self.fault.eq((there[-2] == (late_n | self.late_refused)) | (there[-1] == leaves_n)),
        ]
        return m
