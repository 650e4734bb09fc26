"""Release: stores wait until it is known that both processors made them."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Release"]


class Release(wiring.Component):
    """Delay of every store, which only stores leave of whose cycle both processors agree.

    A store of cycle t leaves in cycle t + ``hold`` if the comparator is open in t + ``hold`` - 1;
    with an alert from t + skew + 1 on, nothing of cycle t or later leaves for ``hold = skew + 2``.
    That a store is there is held twice, once inverted, all the way: a bit that flips makes no store
    and loses none unseen. What is stored is a code word, bound to its address
    (:mod:`jepa_r.safety.code`): a bit that flips in either is found where it arrives.

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
        A store.
    refused : ``In(1)``
        The store of the previous cycle is refused by the bus: it does not leave.
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
        there_n = Signal(self._hold, init=-1)
        is_open, is_shut = Signal(), Signal()
        m.d.comb += [
            is_open.eq(self.open_p & ~self.open_n),
            is_shut.eq(~self.open_p | self.open_n),
        ]
        m.d.sync += [
            there.eq(Cat(self.en, there)),
            there_n.eq(Cat(~self.en, there_n)),
            there[1].eq(there[0] & ~self.refused),
            there_n[1].eq(there_n[0] | self.refused),
            there[-1].eq(there[-2] & is_open),
            there_n[-1].eq(there_n[-2] | is_shut),
        ]

        store = self.store
        for n in range(1, self._hold + 1):
            stage = Signal(len(store), reset_less=True, name=f"store_{n}")
            m.d.sync += stage.eq(store)
            store = stage

        m.d.comb += [
            self.w_en.eq(there[-1]),
            self.w_en_n.eq(there_n[-1]),
            self.w_store.eq(store),
            self.empty.eq(~self.en & ~there.any()),
            self.fault.eq((there ^ ~there_n)[: self._hold].any()),
        ]
        return m
