"""A processor of five instructions, alone and as a lockstep pair, for the engines to hurt."""

import numpy as np
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from jepa_r_sim.faults.subject import Memory, Region, Strobe, Subject

SKEW = 2

LOAD, ADD, STORE, JUMP, ADD_CONSTANT = range(5)

#: Two running sums that depend on each other, stored in every round.
PROGRAM = [
    LOAD << 28 | 0x100,
    ADD << 28 | 0x104,
    STORE << 28 | 0x100,
    ADD_CONSTANT << 28 | 3,
    STORE << 28 | 0x104,
    JUMP << 28 | 0,
]

BUS = {"en": 1, "fetch": 1, "write": 1, "addr": 28, "wdata": 32}


class Processor(wiring.Component):
    """Accumulator machine; six cycles an instruction, whatever it does."""

    def __init__(self):
        super().__init__({
            "rdata": In(32),
            **{name: Out(width) for name, width in BUS.items()},
        })

    def elaborate(self, platform):
        m = Module()
        pc = Signal(28)
        acc = Signal(32)
        ir = Signal(32)
        history = Signal(8)  # of what was loaded; nobody reads it
        m.d.comb += [self.wdata.eq(acc)]
        m.d.sync += [self.en.eq(0), self.write.eq(0)]
        with m.FSM():
            with m.State("fetch"):
                m.d.sync += [self.en.eq(1), self.fetch.eq(1), self.addr.eq(pc)]
                m.next = "wait"
            with m.State("wait"):
                m.next = "decode"
            with m.State("decode"):
                m.d.sync += [ir.eq(self.rdata), pc.eq(pc + 4)]
                m.next = "execute"
            with m.State("execute"):
                m.d.sync += [self.fetch.eq(0), self.addr.eq(ir[:28])]
                with m.Switch(ir[28:]):
                    with m.Case(LOAD, ADD):
                        m.d.sync += self.en.eq(1)
                    with m.Case(STORE):
                        m.d.sync += [self.en.eq(1), self.write.eq(1)]
                    with m.Case(JUMP):
                        m.d.sync += pc.eq(ir[:28])
                    with m.Case(ADD_CONSTANT):
                        m.d.sync += acc.eq(acc + ir[:28])
                m.next = "access"
            with m.State("access"):
                m.next = "finish"
            with m.State("finish"):
                with m.If(ir[28:] == LOAD):
                    m.d.sync += [acc.eq(self.rdata), history.eq(history ^ self.rdata[:8])]
                with m.If(ir[28:] == ADD):
                    m.d.sync += acc.eq(acc + self.rdata)
                m.next = "fetch"
        return m


class Single(wiring.Component):
    """One processor; its stores leave at once."""

    def __init__(self):
        super().__init__({
            "rdata": In(32),
            "error": In(1),
            "r_en": Out(1),
            "w_en": Out(1),
            **{f"main_{name}": Out(width) for name, width in BUS.items()},
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.main = main = Processor()
        m.d.comb += [
            main.rdata.eq(self.rdata),
            self.r_en.eq(main.en & ~main.write),
            self.w_en.eq(main.en & main.write),
            *(getattr(self, f"main_{name}").eq(getattr(main, name)) for name in BUS),
        ]
        return m


class Pair(wiring.Component):
    """Two processors, the second two cycles late; stores leave after four cycles."""

    def __init__(self, *, gated=True):
        self._gated = gated
        super().__init__({
            "rdata": In(32),
            "error": In(1),
            "r_en": Out(1),
            "w_request": Out(1),
            "w_en": Out(1),
            "w_addr": Out(28),
            "w_data": Out(32),
            "alert_p": Out(1),
            "alert_n": Out(1, init=1),
            **{f"main_{name}": Out(width) for name, width in BUS.items()},
            **{f"check_{name}": Out(width) for name, width in BUS.items()},
        })

    def elaborate(self, platform):
        m = Module()
        late_reset = self.delayed(m, ResetSignal(), init=1)
        m.submodules.main = main = Processor()
        other = Processor()
        m.submodules.check = ResetInserter(late_reset)(other)
        m.d.comb += [
            main.rdata.eq(self.rdata),
            other.rdata.eq(self.delayed(m, self.rdata)),
            self.r_en.eq(main.en & ~main.write),
            self.w_request.eq(main.en & main.write),
            *(getattr(self, f"main_{name}").eq(getattr(main, name)) for name in BUS),
            *(getattr(self, f"check_{name}").eq(getattr(other, name)) for name in BUS),
        ]
        differs = Signal()
        mine = Cat(getattr(main, name) for name in BUS)
        m.d.comb += differs.eq(self.delayed(m, mine) != Cat(getattr(other, n) for n in BUS))
        # Both requests are held, or a flip in the line would leave as a store of its own.
        held = self.delayed(m, self.request(main), cycles=SKEW + 2)
        twin = self.delayed(m, self.request(other), cycles=2)
        quiet = ~self.alert_p & self.alert_n & (held == twin) if self._gated else 1
        m.d.comb += [
            self.w_en.eq(held[0] & quiet),
            Cat(self.w_addr, self.w_data).eq(held[1:]),
        ]
        with m.If(differs | (held != twin)):
            m.d.sync += [self.alert_p.eq(1), self.alert_n.eq(0)]
        return m

    @staticmethod
    def request(processor):
        return Cat(processor.en & processor.write, processor.addr, processor.wdata)

    @staticmethod
    def delayed(m, value, *, cycles=SKEW, init=0):
        for _ in range(cycles):
            later = Signal(len(value), init=init, reset_less=True)
            m.d.sync += later.eq(value)
            value = later
        return value


def memory(*, program=PROGRAM, **ports):
    words = np.zeros(128, np.uint64)
    words[: len(program)] = program
    words[64:66] = 5, 7
    return Memory(
        regions=(
            Region(base=0, words=words[:64], store=False),
            Region(base=256, words=words[64:], fetch=False),
        ),
        read="r_en", address="main_addr", fetch="main_fetch", data="rdata", error="error",
        latency=1, **ports,
    )  # fmt: skip


def single(**changes):
    store = Strobe(valid="w_en", payload=("main_addr", "main_wdata"))
    settings = {
        "name": "toy, single",
        "design": Single(),
        "released": (store,),
        "requested": (store,),
        "compared": tuple(f"main_{name}" for name in BUS),
        "memory": memory(store="w_en", store_address="main_addr", store_data="main_wdata"),
        "baseline": True,
    }
    return Subject(**{**settings, **changes})


def pair(*, gated=True, **changes):
    settings = {
        "name": "toy, pair",
        "design": Pair(gated=gated),
        "released": (Strobe(valid="w_en", payload=("w_addr", "w_data")),),
        "requested": (Strobe(valid="w_request", payload=("main_addr", "main_wdata")),),
        "compared": tuple(f"{side}_{name}" for side in ("main", "check") for name in BUS),
        "alerts": {"alert_p": 0, "alert_n": 1},
        "memory": memory(store="w_en", store_address="w_addr", store_data="w_data"),
        "bound": SKEW + 1,
    }
    return Subject(**{**settings, **changes})


def untied():
    """The pair whose comparators never see a difference."""
    return pair(name="toy, untied", gated=False, ties={"alert_p": 0, "alert_n": 1})
