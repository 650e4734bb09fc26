"""A small component with a core's bus: all it is ever told shows in what it does."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

#: Cycles from fetch to fetch: fetch, load, store, and rest.
PERIOD = 12


class StandIn(wiring.Component):
    """Stand-in for a core: in every period a fetch, a load of the word before, and a store.

    ``mix`` takes in everything that arrives, in the cycle it does, and its low bits are always on
    ``trap_cause``. ``fault`` falsifies registers for one cycle: it is for tests to set.
    """

    def __init__(self):
        super().__init__({
            "bus_en": Out(1),
            "bus_fetch": Out(1),
            "bus_write": Out(1),
            "bus_addr": Out(32),
            "bus_wdata": Out(32),
            "bus_rdata": In(32),
            "bus_error": In(1),
            "irq_timer": In(1),
            "irq_external": In(1),
            "trap": Out(1),
            "trap_cause": Out(5),
        })
        self.phase = Signal(range(PERIOD))
        self.count = Signal(8)
        self.mix = Signal(32, init=0x1234_5678)
        self.fault = Signal(len(self.state))

    @property
    def registers(self):
        return [
            self.phase, self.count, self.mix, self.bus_en, self.bus_fetch, self.bus_write,
            self.bus_addr, self.bus_wdata, self.trap,
        ]  # fmt: skip

    @property
    def state(self):
        return Cat(self.registers)

    def elaborate(self, platform):
        m = Module()
        following = {id(register): register for register in self.registers}
        last = self.phase == PERIOD - 1
        following[id(self.phase)] = Mux(last, 0, self.phase + 1)
        following[id(self.count)] = self.count + last
        told = Cat(self.irq_timer, self.irq_external, self.bus_error)
        answer = Signal()
        m.d.comb += [answer.eq((self.phase == 2) | (self.phase == 4)), self.trap_cause.eq(self.mix)]
        following[id(self.mix)] = self.mix.rotate_left(1) ^ told ^ Mux(answer, self.bus_rdata, 0)
        fetch, load, store = (self.phase == n for n in (PERIOD - 1, 1, 4))
        following[id(self.bus_en)] = fetch | load | store
        following[id(self.bus_fetch)] = fetch
        following[id(self.bus_write)] = store
        place = Cat(C(0, 2), Mux(fetch, self.count + 1, Mux(store, self.count, self.count - 1)))
        busy = Signal()
        m.d.comb += busy.eq(fetch | load | store)
        following[id(self.bus_addr)] = Mux(
            busy, place | Mux(fetch, 0, 0x1_0000), self.bus_addr
        )  # fmt: skip
        following[id(self.bus_wdata)] = Mux(store, self.mix, self.bus_wdata)
        following[id(self.trap)] = self.bus_error
        at = 0
        for register in self.registers:
            width = len(register)
            flips = self.fault[at : at + width]
            m.d.sync += register.eq(Value.cast(following[id(register)])[:width] ^ flips)
            at += width
        return m
