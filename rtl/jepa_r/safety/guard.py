"""Address window guard: no byte of an accepted burst is outside its window."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .faults import FaultLatch, fault_layout
from .settings import Settings

__all__ = ["GuardFaults", "WindowGuard"]

#: Faults of the guard.
#:
#: ``outside``: a request that is not allowed. ``misuse``: a write after the lock. ``settings``: the
#: copies of a setting do not agree.
GuardFaults = fault_layout("outside", "misuse", "settings")


class WindowGuard(Macro):
    """Says of each burst of AXI, or of each store, whether all its bytes are in one window.

    Bytes of a burst of ``length + 1`` beats of ``2**size`` bytes are those from ``address`` to
    ``(address - address % 2**size) + (length + 1) * 2**size - 1``: only the first beat may begin
    within a beat. It is allowed if the settings are locked, it counts up (``burst`` is 1), its
    first and last byte are in [``base``, ``limit``] and in the same 4 KiB, and the last is below
    2**32. A store is a burst of one beat.

    No latency: ``allowed`` belongs to the inputs of its cycle. A request that is not allowed is a
    fault, which shows in the next cycle.

    Both settings are 0 after reset, and nothing is allowed until they are locked. So is a window
    whose ``limit`` is below its ``base``: it has no byte.

    Rules of bursts: AMBA AXI, IHI 0022, A3.4.1.

    Members
    -------
    w_en, w_data : ``In(2)``, ``In(32)``
        Settings, in this order: ``base`` and ``limit``, the addresses of the first and of the last
        byte (32 bits). See :class:`~.settings.Settings`.
    lock : ``In(1)``
        Freezes them.
    request : ``In(1)``
        The burst is asked for; without it, only ``allowed`` tells.
    address, length, size, burst : ``In(32)``, ``In(8)``, ``In(3)``, ``In(2)``
        Burst, in the coding of AXI.
    allowed : ``Out(1)``
        All of it is in the window.
    locked : ``Out(1)``
        The settings are frozen.
    base, limit : ``Out(32)``
        Settings, as they are.
    faults, first, alert_p, alert_n : ``Out``
        See :class:`~.faults.FaultLatch`; the layout is :data:`GuardFaults`.
    """

    #: Coding of AXI for bursts that count up.
    INCREMENTING = 1

    def __init__(self):
        self.fields = {"base": 32, "limit": 32}
        self.settings = Settings(self.fields)
        super().__init__(
            {
                "w_en": In(2),
                "w_data": In(32),
                "lock": In(1),
                "request": In(1),
                "address": In(32),
                "length": In(8),
                "size": In(3),
                "burst": In(2),
                "allowed": Out(1),
                "locked": Out(1),
                "base": Out(32),
                "limit": Out(32),
                "faults": Out(GuardFaults),
                "first": Out(GuardFaults),
                "alert_p": Out(1),
                "alert_n": Out(1),
            },
            macro_name="window_guard",
        )

    def build(self, platform):
        m = Module()
        m.submodules.settings = settings = self.settings
        m.submodules.latch = latch = FaultLatch(GuardFaults)
        m.d.comb += [
            settings.w_en.eq(self.w_en),
            settings.w_data.eq(self.w_data),
            settings.lock.eq(self.lock),
            self.locked.eq(settings.locked),
            self.base.eq(settings.base),
            self.limit.eq(settings.limit),
        ]
        m.d.comb += [
            getattr(self, name).eq(getattr(latch, name))
            for name in ("faults", "first", "alert_p", "alert_n")
        ]

        # A burst is at most 256 beats of 128 bytes: 2**15 bytes.
        size_bytes = Signal(8)
        aligned = Signal(32)
        last = Signal(33)
        inside = Signal()
        m.d.comb += [
            size_bytes.eq(1 << self.size),
            aligned.eq(self.address & ~(size_bytes - 1)),
            last.eq(aligned + (((self.length + 1) << self.size) - 1)),
            # What is above 32 bits is no address, so it is not below the limit either.
            inside.eq((self.address >= settings.base) & (last <= settings.limit)),
            self.allowed.eq(
                settings.locked
                & ~settings.mismatch
                & (self.burst == self.INCREMENTING)
                & inside
                & (self.address[12:] == last[12:])
            ),
            latch.raised.outside.eq(self.request & ~self.allowed),
            latch.raised.misuse.eq(settings.refused),
            latch.raised.settings.eq(settings.mismatch),
        ]
        return m
