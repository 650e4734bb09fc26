"""Lockstep: two processors that must do the same, one some cycles later."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..platform import Macro
from .code import ADDRESS_BITS, CODE_BITS
from .comparator import Comparator, Side
from .core import Core
from .release import Release
from .replica import Replica

__all__ = ["Lockstep"]


class Lockstep(Macro):
    """Two replicas (:class:`~.replica.Replica`), their comparator and the release of stores.

    The first, *main*, has the bus. The second, the *checker*, has every input of main, reset
    included, ``skew`` cycles later, and its outputs go nowhere but to the comparator: all of them
    are compared in every cycle, as they are, whether or not they mean something. If main's output
    is wrong in cycle t, there is an alert from t + ``skew`` + 1 on; if the checker's is, from t + 1
    on. An alert stays until reset. Stores leave ``skew`` + 2 cycles after they are made, none of
    cycle t or later with them.

    Parameters
    ----------
    core : callable without arguments
        Makes the core, as for :class:`~.replica.Replica`: what is promised holds for any.
    skew : :class:`int`, 1 to 3
        Cycles between the two.

    Members
    -------
    r_en, r_fetch, r_addr : ``Out(1)``, ``Out(1)``, ``Out(32)``
        Main reads a word. Reads are not held back; nothing may change by a read.
    q_write : ``Out(1)``
        Main stores to ``r_addr``. The store comes later; now it is to be checked.
    q_data : ``Out(32)``
        What main stores: for the check alone.
    r_code, r_error : ``In(39)``, ``In(1)``
        One cycle after ``r_en``, the code word; after it or ``q_write``, that it is refused. A
        store that is refused, or whose address is above what the code covers, does not come.
    w_en, w_en_n, w_addr, w_code : ``Out(1)``, ``Out(1)``, ``Out(32)``, ``Out(39)``
        A store to be done, if ``(w_en, w_en_n)`` is ``(1, 0)``. Whoever takes it checks that the
        code word fits the address.
    irq_timer, irq_external : ``In(1)``
        Interrupts, if the core has them.
    trap, trap_cause : ``Out(1)``, ``Out(5)``
        Main's, if the core has them: for the log.
    corrected, uncorrectable : ``Out(1)``
        Main's: for the log, and for an alert.
    alert_p, alert_n : ``Out(1)``
        Alert, unless ``(0, 1)``.
    test_allowed, test_start, test_key, test_done, test_good, test_forced
        Self test of the comparator (:class:`~.comparator.Comparator`).
    inject, inject_bit, inject_side
        Its injection port. Bits are those of :attr:`compared`, the first lowest.

    Raises
    ------
    :exc:`ValueError`
        If ``skew`` is not 1, 2 or 3.
    """

    def __init__(self, *, core=Core, skew=2):
        if skew not in {1, 2, 3}:
            raise ValueError(f"skew is {skew}; it must be 1, 2 or 3")
        self._skew = skew
        self.main = Replica(core=core)
        self.checker = Replica(core=core)
        members = self.main.signature.members
        self._through = [
            name for name in members if not name.startswith(("bus_", "rvfi")) and name != "reset"
        ]
        width = sum(width for _name, width in self.compared)
        self.comparator = Comparator(width=width, skew=skew)
        self.release = Release(width=ADDRESS_BITS + CODE_BITS, hold=self.hold_cycles)
        super().__init__(
            {
                **{name: members[name] for name in self._through},
                "r_en": Out(1),
                "r_fetch": Out(1),
                "r_addr": Out(32),
                "q_write": Out(1),
                "q_data": Out(32),
                "r_code": In(CODE_BITS),
                "r_error": In(1),
                "w_en": Out(1),
                "w_en_n": Out(1),
                "w_addr": Out(32),
                "w_code": Out(CODE_BITS),
                "alert_p": Out(1),
                "alert_n": Out(1),
                "test_allowed": In(1),
                "test_start": In(1),
                "test_key": In(8),
                "test_done": Out(1),
                "test_good": Out(1),
                "test_forced": Out(1),
                "inject": In(1),
                "inject_bit": In(range(width)),
                "inject_side": In(Side),
            },
            macro_name=f"lockstep_{skew}",
        )

    @property
    def compared(self):
        """Names and bits of the outputs that are compared, in order."""
        return [
            (name, len(getattr(self.main, name)))
            for name, member in self.main.signature.members.items()
            if member.flow == Out and not name.startswith("rvfi")
        ]

    @property
    def skew(self):
        """Cycles between main and checker."""
        return self._skew

    @property
    def hold_cycles(self):
        """Cycles from a store to its release."""
        return self._skew + 2

    def build(self, platform):
        m = Module()
        m.submodules.main = main = self.main
        m.submodules.checker = checker = self.checker
        m.d.comb += [main.bus_rcode.eq(self.r_code), main.bus_error.eq(self.r_error)]
        for name in self._through:
            mine, its = getattr(self, name), getattr(main, name)
            m.d.comb += its.eq(mine) if main.signature.members[name].flow == In else mine.eq(its)
        self._delay_inputs(m, main, checker)
        self._compare(m, main, checker)
        self._release(m, main, checker)
        return m

    def _delay_inputs(self, m, main, checker):
        """Give the checker all that main is given, later."""
        late = Signal(self._skew, init=-1)
        m.d.sync += late.eq(Cat(0, late))
        m.d.comb += checker.reset.eq(late[-1])
        for name, member in main.signature.members.items():
            if member.flow == In and name != "reset":
                given = delay(m, getattr(main, name), self._skew, name=f"late_{name}")
                m.d.comb += getattr(checker, name).eq(given)

    def _compare(self, m, main, checker):
        """Compare all outputs, of the same cycle of both."""
        m.submodules.comparator = comparator = self.comparator
        names = [name for name, _width in self.compared]
        outputs = Signal(len(comparator.main))
        m.d.comb += [
            outputs.eq(Cat(getattr(main, name) for name in names)),
            comparator.main.eq(delay(m, outputs, self._skew, name="late_outputs")),
            comparator.checker.eq(Cat(getattr(checker, name) for name in names)),
            self.alert_p.eq(comparator.alert_p),
            self.alert_n.eq(comparator.alert_n),
        ]
        for name in ("test_allowed", "test_start", "test_key"):
            m.d.comb += getattr(comparator, name).eq(getattr(self, name))
        for name in ("test_done", "test_good", "test_forced"):
            m.d.comb += getattr(self, name).eq(getattr(comparator, name))
        for name in ("inject", "inject_bit", "inject_side"):
            m.d.comb += getattr(comparator, name).eq(getattr(self, name))

    def _release(self, m, main, checker):
        """Let reads pass at once and stores when they are known to be right."""
        m.submodules.release = release = self.release
        comparator = self.comparator
        m.d.comb += [
            self.r_en.eq(main.bus_en & ~main.bus_write),
            self.r_fetch.eq(main.bus_fetch),
            self.r_addr.eq(main.bus_addr),
            self.q_write.eq(main.bus_en & main.bus_write),
            self.q_data.eq(main.bus_wcode),
            release.en.eq(_stores(main)),
            release.store.eq(Cat(main.bus_addr[2 : 2 + ADDRESS_BITS], main.bus_wcode)),
            release.refused.eq(self.r_error),
            # Before it has begun, nothing is known of what it puts out.
            release.late_en.eq(_stores(checker) & ~checker.reset),
            release.late_refused.eq(checker.bus_error),
            release.open_p.eq(comparator.open_p),
            release.open_n.eq(comparator.open_n),
            self.w_en.eq(release.w_en),
            self.w_en_n.eq(release.w_en_n),
            self.w_addr.eq(Cat(C(0, 2), release.w_store[:ADDRESS_BITS])),
            self.w_code.eq(release.w_store[ADDRESS_BITS:]),
            comparator.idle.eq(release.empty),
            comparator.fault.eq(release.fault),
        ]


def _stores(replica):
    """Whether a replica stores where the code covers the address."""
    above = replica.bus_addr[2 + ADDRESS_BITS :]
    return replica.bus_en & replica.bus_write & ~above.any()
