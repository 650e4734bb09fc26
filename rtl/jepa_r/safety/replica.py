"""One of two equal processors: a core, and the codes of what it reads and writes."""

from amaranth import *
from amaranth.hdl import Fragment
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..platform import Macro
from .code import CODE_BITS, CodeDecoder, CodeEncoder

__all__ = ["Replica"]

#: What a core has, besides anything else: request, answer two cycles later.
_BUS = {
    "bus_en": Out(1),
    "bus_fetch": Out(1),
    "bus_write": Out(1),
    "bus_addr": Out(32),
    "bus_wdata": Out(32),
    "bus_rdata": In(32),
    "bus_error": In(1),
}


class _Plain(Elaboratable):
    """A component without macros in it, so that a reset from outside reaches all of it."""

    def __init__(self, component):
        self._component = component

    def elaborate(self, platform):
        return Fragment.get(self._component, None)


class Replica(Macro):
    """Core whose words come and go as code words.

    Every replica decodes for itself, so that the way of a word is covered up to where both
    processors have it. Memories and registers answer a request of cycle t with a code word in
    t + 1; the core has the word in t + 2, as it wants. A word that cannot be corrected is a bus
    error.

    Replicas keep their hierarchy, so that synthesis does not make one of two.

    Parameters
    ----------
    core : callable without arguments
        Makes the core: a component with at least ``bus_en``, ``bus_fetch``, ``bus_write``,
        ``bus_addr``, ``bus_wdata``, ``bus_rdata`` and ``bus_error``. It and what is in it are part
        of this macro.

    Members
    -------
    reset : ``In(1)``
        Reset of this replica alone.
    bus_wcode, bus_rcode : ``Out(39)``, ``In(39)``
        Instead of ``bus_wdata`` and ``bus_rdata``: code word of ``bus_wdata``, and the one that
        answers, a cycle after the request.
    bus_error : ``In(1)``
        The bus refuses the request of the cycle before.
    corrected, uncorrectable : ``Out(1)``
        For one cycle, that in which the core has it: the word had one wrong bit; had more, or is
        that of another address.

    All other members are the core's.

    Raises
    ------
    :exc:`TypeError`
        If the core lacks a member of the bus, or has it otherwise.
    """

    keep_hierarchy = True

    def __init__(self, *, core):
        self.core = core()
        members = dict(self.core.signature.members)
        for name, member in _BUS.items():
            if members.get(name) != member:
                raise TypeError(
                    f"member {name} of the core is {members.get(name)}; it must be {member}"
                )
        del members["bus_wdata"], members["bus_rdata"]
        super().__init__(
            {
                **members,
                "reset": In(1),
                "bus_wcode": Out(CODE_BITS),
                "bus_rcode": In(CODE_BITS),
                "corrected": Out(1),
                "uncorrectable": Out(1),
            },
            macro_name="replica",
        )

    def build(self, platform):
        m = Module()
        m.submodules.core = core = self.core
        m.submodules.encoder = encoder = CodeEncoder()
        m.submodules.decoder = decoder = CodeDecoder()
        for path, member, port in core.signature.flatten(core):
            if path[0] not in {"bus_wdata", "bus_rdata", "bus_error"}:
                mine = self
                for name in path:
                    mine = getattr(mine, name) if isinstance(name, str) else mine[name]
                m.d.comb += port.eq(mine) if member.flow == In else mine.eq(port)

        reads = delay(
            m, self.bus_en & ~self.bus_write, CodeDecoder.LATENCY, reset_less=False, name="reads"
        )
        error = delay(m, self.bus_error, 1, reset_less=False, name="error")
        answered = Signal()
        m.d.comb += [
            encoder.data.eq(core.bus_wdata),
            encoder.address.eq(core.bus_addr),
            self.bus_wcode.eq(encoder.code),
            decoder.address.eq(core.bus_addr),
            decoder.code.eq(self.bus_rcode),
            core.bus_rdata.eq(decoder.data),
            # Where the bus refuses, what it answers is no word.
            answered.eq(reads & ~error),
            self.corrected.eq(answered & decoder.corrected),
            self.uncorrectable.eq(answered & decoder.uncorrectable),
            core.bus_error.eq(error | self.uncorrectable),
        ]
        return ResetInserter(self.reset)(_Plain(m))
