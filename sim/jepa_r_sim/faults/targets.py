"""What ``jepa-r faults`` can hurt: the island's processor, alone and in lockstep."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from jepa_r.memory.secded import parities
from jepa_r.safety.code import CHECK_BITS, CODE_BITS, DATA_COLUMNS, binding
from jepa_r.safety.core import Core
from jepa_r.safety.lockstep import Lockstep
from jepa_r.safety.map import MEMORIES, REGISTERS

from .. import firmware
from ..golden.code import encode
from .subject import Memory, Region, Strobe, Subject
from .workload import DATA, impedance_data, impedance_program

__all__ = ["TARGETS", "lockstep", "self_test", "single", "untied"]

_CODE_WORDS, _DATA_WORDS = 1024, 512

#: Outputs of a core that are compared: all there are.
_OUTPUTS = {
    "bus_en": 1,
    "bus_fetch": 1,
    "bus_write": 1,
    "bus_addr": 32,
    "bus_wdata": 32,
    "trap": 1,
    "trap_cause": 5,
}


class _Single(wiring.Component):
    """A core, and its request for reading and for writing apart."""

    def __init__(self):
        super().__init__({
            "bus_rdata": In(32),
            "bus_error": In(1),
            "read": Out(1),
            "write": Out(1),
            **{name: Out(width) for name, width in _OUTPUTS.items()},
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = Core()
        m.d.comb += [
            core.bus_rdata.eq(self.bus_rdata),
            core.bus_error.eq(self.bus_error),
            self.read.eq(core.bus_en & ~core.bus_write),
            self.write.eq(core.bus_en & core.bus_write),
            *(getattr(self, name).eq(getattr(core, name)) for name in _OUTPUTS),
        ]
        return m


class _Pair(wiring.Component):
    """The lockstep pair, what both cores say, and what a memory makes of the stores.

    A memory takes the word that the code corrects to. It refuses one that does not fit its address,
    which is an alert.
    """

    def __init__(self):
        self._pair = Lockstep(core=Core)
        self._compared = self._pair.compared
        super().__init__({
            "r_code": In(CODE_BITS),
            "r_error": In(1),
            "r_en": Out(1),
            "r_fetch": Out(1),
            "r_addr": Out(32),
            "q_write": Out(1),
            "request": Out(1),
            "taken": Out(1),
            "refused": Out(1),
            "w_addr": Out(32),
            "w_code": Out(CODE_BITS),
            "w_data": Out(32),
            "alert_p": Out(1),
            "alert_n": Out(1),
            "uncorrectable": Out(1),
            **{
                f"{side}_{name}": Out(width)
                for side in ("main", "checker")
                for name, width in self._compared
            },
        })

    @property
    def skew(self):
        """Cycles between the two cores."""
        return self._pair.skew

    @property
    def compared(self):
        """Ports of all outputs that the comparator sees."""
        return tuple(f"{side}_{name}" for side in ("main", "checker") for name, _ in self._compared)

    def elaborate(self, platform):
        m = Module()
        m.submodules.pair = pair = self._pair
        stored, bad = Signal(), Signal()
        syndrome = Signal(CHECK_BITS)
        columns = (*DATA_COLUMNS, *(1 << row for row in range(CHECK_BITS)))
        m.d.comb += [
            pair.r_code.eq(self.r_code),
            pair.r_error.eq(self.r_error),
            *(
                getattr(self, name).eq(getattr(pair, name))
                for name in (
                    "r_en", "r_fetch", "r_addr", "q_write", "w_addr", "w_code", "alert_p",
                    "alert_n", "uncorrectable",
                )
            ),
            self.request.eq(pair.q_write),
            stored.eq(pair.w_en & ~pair.w_en_n),
            syndrome.eq(parities(pair.w_code, columns) ^ binding(pair.w_addr)),
            bad.eq(~Cat(syndrome == column for column in (0, *columns)).any()),
            self.taken.eq(stored & ~bad),
            self.refused.eq(stored & bad),
            self.w_data.eq(pair.w_code[:32] ^ Cat(syndrome == one for one in DATA_COLUMNS)),
            *(
                getattr(self, f"{side}_{name}").eq(getattr(replica, name))
                for side, replica in (("main", pair.main), ("checker", pair.checker))
                for name, _ in self._compared
            ),
        ]  # fmt: skip
        return m


def _words() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """What code and data hold at first."""
    code = np.zeros(_CODE_WORDS, np.uint32)
    program = impedance_program()
    code[: len(program)] = program
    return code, impedance_data(_DATA_WORDS)


def _coded(words: npt.NDArray[np.uint32], base: int) -> npt.NDArray[np.uint64]:
    return np.array([encode(int(word), base + 4 * n) for n, word in enumerate(words)], np.uint64)


def single() -> Subject:
    """One core, whose stores nobody checks."""
    code, data = _words()
    return _core(
        "single core",
        Region(base=0, words=code, store=False),
        Region(base=DATA, words=data, fetch=False),
    )


def self_test() -> Subject:
    """One core that runs the firmware from reset: its self test is what comes first."""
    image = np.frombuffer(firmware.shipped().code, "<u4")
    memories = {memory.name: memory for memory in MEMORIES}
    words = {name: np.zeros(memory.size // 4, np.uint32) for name, memory in memories.items()}
    words["CODE"][: len(image)] = image
    for register in REGISTERS:
        words["REGISTERS"][register.offset // 4] = register.reset
    return _core(
        "single core, firmware",
        *(
            Region(
                base=memory.base,
                words=words[name],
                fetch=memory.fetch,
                load=memory.load,
                store=memory.store,
            )
            for name, memory in memories.items()
        ),
    )


def _core(name: str, *regions: Region) -> Subject:
    store = Strobe(valid="write", payload=("bus_addr", "bus_wdata"))
    return Subject(
        name=name,
        design=_Single(),
        inside="core",
        released=(store,),
        requested=(store,),
        compared=tuple(_OUTPUTS),
        memory=Memory(
            regions=regions,
            read="read",
            address="bus_addr",
            fetch="bus_fetch",
            data="bus_rdata",
            error="bus_error",
            latency=Core.BUS_LATENCY,
            store="write",
            store_address="bus_addr",
            store_data="bus_wdata",
            check="write",
            check_address="bus_addr",
        ),
        baseline=True,
    )


def lockstep(*, name: str = "lockstep pair", ties: dict[str, int] | None = None) -> Subject:
    """Two cores, their comparator and the release of their stores."""
    design = _Pair()
    code, data = _words()
    return Subject(
        name=name,
        design=design,
        inside="pair",
        released=(Strobe(valid="taken", payload=("w_addr", "w_data")),),
        requested=(Strobe(valid="request", payload=("main_bus_addr", "main_bus_wcode")),),
        compared=design.compared,
        alerts={"alert_p": 0, "alert_n": 1, "uncorrectable": 0, "refused": 0},
        memory=Memory(
            regions=(
                Region(base=0, words=_coded(code, 0), store=False),
                Region(base=DATA, words=_coded(data, DATA), fetch=False),
            ),
            read="r_en",
            address="r_addr",
            fetch="r_fetch",
            data="r_code",
            error="r_error",
            latency=1,
            store="taken",
            store_address="w_addr",
            store_data="w_code",
            check="q_write",
            check_address="r_addr",
        ),
        ties=ties or {},
        bound=design.skew + 1,
        # Until then the checker is in reset, and there is nothing to compare.
        first=design.skew,
    )


def untied() -> Subject:
    """The pair, with a comparator that never sees a difference: it must let wrong values out."""
    rails = "pair.comparator.rail"
    return lockstep(
        name="pair without comparator", ties={f"{rails}_p.differs": 0, f"{rails}_n.differs": 1}
    )


#: By the name that the command takes.
TARGETS: dict[str, Callable[[], Subject]] = {
    "lockstep": lockstep,
    "self-test": self_test,
    "single": single,
    "untied": untied,
}
