"""Clock domains, their resets, and every path from one clock to another.

:data:`CROSSINGS` is the one description: :func:`cross` builds the hardware of a crossing from it by
name, and constraints are written from it. :data:`RESETS` are those of the accelerator beside the
island. A path that is in neither list is a defect; a test looks for such paths in the netlist.

Registers that see another clock are in two kinds of modules and nowhere else: the first stage of a
:class:`Synchroniser`, and a :class:`Capture`, which is loaded only while the other side holds still
what it takes. Both are macros, so that a technology can replace them by cells made for it.
"""

import enum

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2
from attrs import field, frozen

from .platform import Macro

__all__ = [
    "ACCELERATOR", "ACTING", "AI", "CROSSINGS", "GUARD", "PIN", "RESETS", "SAFE", "Capture",
    "Crossing", "Endpoint", "Kind", "Queue", "ResetCrossing", "Synchroniser", "WordCrossing",
    "add_domains", "add_held", "cross",
]  # fmt: skip

#: Domains: the island's processor and channel A; channel B; the accelerator.
SAFE, GUARD, AI = "safe", "guard", "ai"

#: Domains of the accelerator's clock that the island holds in reset: all of it, and what acts.
ACCELERATOR, ACTING = "accelerator", "acting"

#: Words of a queue.
QUEUE_DEPTH = 8

#: Source of what comes from outside and follows no clock.
PIN = "pin"


class Kind(enum.Enum):
    """How a value crosses."""

    LEVEL = "level"
    WORD = "word"
    QUEUE = "queue"
    #: Straight to gates before outputs; no register is behind them.
    GATES = "gates"
    #: To a reset, which begins without a clock.
    RESET = "reset"


@frozen(kw_only=True)
class Endpoint:
    """Module that holds the first registers behind a crossing.

    Attributes
    ----------
    path : :class:`str`
        Where it is below the top, with ``/`` between names of instances.
    source, target : :class:`str`
        Domain that its inputs come from, and its own.
    together : :class:`bool`
        Whether its bits belong together, so that their delays must not differ by more than a
        period of either clock.
    pins : :class:`tuple` of :class:`str`
        Its inputs that cross, with ``[*]`` if they are vectors.
    """

    path: str
    source: str
    target: str
    together: bool
    pins: tuple[str, ...]


@frozen(kw_only=True)
class Crossing:
    """A path from one clock domain to another.

    Attributes
    ----------
    name : :class:`str`
        Name of the instance below the top, which is the island, unless ``/`` is in it.
    source, target : :class:`str`
        Domains; the source may be :data:`PIN`.
    kind : :class:`Kind`
        How it crosses.
    bits : :class:`int`
        Width.
    init : :class:`int`
        What is seen in reset, of levels.
    why : :class:`str`
        What crosses, and why it may cross this way.
    """

    name: str
    source: str
    target: str
    kind: Kind
    bits: int = field(default=1)
    init: int = field(default=0)
    why: str

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Modules whose inputs come from another clock."""

        def end(part: str, source: str, target: str, bits: int, *, together: bool) -> Endpoint:
            return Endpoint(
                path=f"{self.name}/{part}" if part else self.name,
                source=source,
                target=target,
                together=together,
                pins=("i[*]" if bits > 1 else "i",),
            )

        source, target, bits = self.source, self.target, self.bits
        if self.kind is Kind.LEVEL:
            return (end("", source, target, bits, together=False),)
        if self.kind is Kind.GATES:
            pins = ("energise_a", "energise_b")
            return (
                Endpoint(path=self.name, source=source, target=target, together=False, pins=pins),
            )
        if self.kind is Kind.RESET:
            return (end("", source, target, 1, together=False),)
        if self.kind is Kind.WORD:
            return (
                end("requested", source, target, 1, together=False),
                end("acknowledged", target, source, 1, together=False),
                end("word", source, target, bits, together=True),
            )
        pointer = exact_log2(QUEUE_DEPTH) + 1
        return (
            end("written", source, target, pointer, together=True),
            end("read", target, source, pointer, together=True),
            end("taken", source, target, bits, together=True),
        )


def _pair(name: str, source: str, target: str, why: str) -> Crossing:
    """An alert on two rails, an alert in reset; what is not exactly quiet counts as one."""
    return Crossing(
        name=name, source=source, target=target, kind=Kind.LEVEL, bits=2, init=0b01, why=why
    )


def _level(name: str, source: str, target: str, why: str, bits: int = 1) -> Crossing:
    return Crossing(name=name, source=source, target=target, kind=Kind.LEVEL, bits=bits, why=why)


def _words(name: str, source: str, target: str, bits: int, why: str) -> Crossing:
    return Crossing(name=name, source=source, target=target, kind=Kind.WORD, bits=bits, why=why)


#: Every crossing of the island, by name.
CROSSINGS: dict[str, Crossing] = {
    crossing.name: crossing
    for crossing in (
        Crossing(
            name="command_queue",
            source=AI,
            target=SAFE,
            kind=Kind.QUEUE,
            bits=33,
            why="words of command packets; a packet counts only with its length and its CRC-32, so "
            "whatever a wrong clock makes of it is refused",
        ),
        _level("ai_image", AI, SAFE, "verdict on the accelerator's image, set once; read twice", 2),
        _level("ai_beat", AI, SAFE, "level that the island's monitor counts the edges of"),
        _level("guard_beat", GUARD, SAFE, "level that the island's monitor counts the edges of"),
        _level("safe_beat", SAFE, GUARD, "level that channel B's monitor counts the edges of"),
        _words("tokens", SAFE, GUARD, 33, "the processor's tokens, and its start of dry runs"),
        _words("window", SAFE, GUARD, 48, "the watchdog's window, once, when it is locked"),
        _words(
            "next_challenge", GUARD, SAFE, 32, "the watchdog's challenge, for the processor to read"
        ),
        _level(
            "dry_run",
            GUARD,
            SAFE,
            "state of the watchdog, for the processor to read; what a dry run found is there "
            "before its end is",
            6,
        ),
        _level("session_begin", SAFE, GUARD, "a session begins anew; held for 64 cycles"),
        _words("panel_keys", SAFE, GUARD, 9, "the operator's keys, which re-arm channel B"),
        _level("alert_heartbeat", SAFE, GUARD, "the alert unit is alive, if this goes on changing"),
        _pair("safe_trip", SAFE, GUARD, "the alert unit wants a trip"),
        _pair("safe_lockstep", SAFE, GUARD, "the processors differ, past the alert unit"),
        _pair("safe_stop", SAFE, GUARD, "channel A is in a state without energy"),
        _pair("guard_watchdog", GUARD, SAFE, "the watchdog's alert, for the log"),
        _level("energised", GUARD, SAFE, "channel B's pair, for the gate's registers", 2),
        Crossing(
            name="gate",
            source=GUARD,
            target=SAFE,
            kind=Kind.GATES,
            bits=2,
            why="channel B's pair closes the gate without a clock, by gates before the motors",
        ),
        _level(
            "safe_estop",
            PIN,
            SAFE,
            "pair of the emergency stop; released is (1, 0), and nothing else is",
            2,
        ),
        _level("guard_estop", PIN, GUARD, "the same pair, seen by channel B alone", 2),
        _level("operator", PIN, SAFE, "wishes of the operator, each a level of its own", 2),
        _level("feedback", PIN, GUARD, "read-back of the two drives, each a level of its own", 2),
    )
}

#: How the island holds the accelerator, where both are below one top; by name.
RESETS: dict[str, Crossing] = {
    crossing.name: crossing
    for crossing in (
        Crossing(
            name=f"{ACCELERATOR}_reset",
            source=SAFE,
            target=AI,
            kind=Kind.RESET,
            why="a session of the island begins, or the island is in reset: so is the accelerator, "
            "with or without its clock",
        ),
        Crossing(
            name=f"{ACTING}_reset",
            source=SAFE,
            target=AI,
            kind=Kind.RESET,
            why="the firmware has not released the accelerator: what acts is in reset",
        ),
    )
}


def cross(m, name):
    """Build a crossing in its two domains.

    Parameters
    ----------
    m : :class:`amaranth.hdl.Module`
        The island.
    name : :class:`str`
        Which one, of :data:`CROSSINGS`.

    Returns
    -------
    :class:`Synchroniser`, :class:`WordCrossing` or :class:`Queue`
        Its two ends, ``i`` in the source's domain and ``o`` in the target's.
    """
    crossing = CROSSINGS[name]
    if crossing.kind is Kind.LEVEL:
        unit = Synchroniser(width=crossing.bits, init=crossing.init)
        m.submodules[name] = DomainRenamer(crossing.target)(unit)
    else:
        kind = WordCrossing if crossing.kind is Kind.WORD else Queue
        unit = kind(width=crossing.bits)
        domains = {"source": crossing.source, "target": crossing.target}
        m.submodules[name] = DomainRenamer(domains)(unit)
    return unit


def add_domains(m, clocks):
    """Declare domains and synchronise the ends of their resets.

    Resets begin without a clock and end with two edges of it. All registers of ``safe`` and
    ``guard`` are reset by their clocks' edges, so a reset is held for 16 cycles; those few of
    ``ai``, the near ends of the crossings, without.

    Parameters
    ----------
    m : :class:`amaranth.hdl.Module`
        The top.
    clocks : :class:`dict`
        Domain to its clock and its asynchronous reset.
    """
    for name, (clock, reset) in clocks.items():
        domain = ClockDomain(name, async_reset=name == AI)
        # The very signal, not a copy of it: copies of clocks change at another time in simulators.
        domain.clk = clock
        m.domains += domain
        m.submodules[f"{name}_reset"] = ResetSynchronizer(reset, domain=name)


def add_held(m, domain, *, clock, release):
    """Declare a domain of the accelerator that the island holds in reset.

    Parameters
    ----------
    m : :class:`amaranth.hdl.Module`
        The top.
    domain : :class:`str`
        :data:`ACCELERATOR` or :data:`ACTING`; its crossing is in :data:`RESETS`.
    clock : :class:`amaranth.hdl.Signal`
        The accelerator's clock.
    release : value-like
        It may leave reset. From registers or pins that change alone: a sum of several could end a
        reset for a moment.
    """
    crossing = RESETS[f"{domain}_reset"]
    held = ClockDomain(domain)
    held.clk = clock
    m.domains += held
    unit = ResetCrossing()
    m.submodules[crossing.name] = DomainRenamer(domain)(unit)
    m.d.comb += [unit.i.eq(release), ResetSignal(domain).eq(unit.o)]


class ResetCrossing(wiring.Component):
    """A reset that begins without a clock, and ends after :attr:`STAGES` edges of it.

    So many edges are a whole reset: registers that are reset by their clock's edges, pipelines of
    the reset itself included, are so also if the clock stood still as long as the reset was asked
    for.

    Members
    -------
    i : ``In(1)``
        Low begins the reset. From another clock.
    o : ``Out(1)``
        The reset.
    """

    #: Edges of the clock between a high ``i`` and the end of the reset.
    STAGES = 16

    def __init__(self):
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        held = ClockDomain("held", async_reset=True, local=True)
        m.domains += held
        stages = Signal(self.STAGES, init=-1)
        m.d.held += stages.eq(stages << 1)
        m.d.comb += [
            ClockSignal("held").eq(ClockSignal()),
            ResetSignal("held").eq(~self.i),
            self.o.eq(stages[-1]),
        ]
        return m


class Synchroniser(Macro):
    """Registers in a row, the first of which may see its input change at any time.

    Every bit crosses alone: bits that change together may arrive a cycle apart. The registers have
    a reset, so that a value is known before the first edge that counts.

    Parameters
    ----------
    width : :class:`int`, positive
        Bits.
    stages : :class:`int`, at least 2
        Registers in a row.
    init : :class:`int`
        What is seen in reset.

    Members
    -------
    i : ``In(width)``
        From another clock, straight from registers or pins: a sum of several registers could show
        what none of them ever meant.
    o : ``Out(width)``
        The same, ``stages`` cycles later.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is not positive or ``stages`` is below 2.
    """

    def __init__(self, *, width=1, stages=2, init=0):
        _check_width(width)
        if stages < 2:
            raise ValueError(f"stages is {stages}; a register needs a cycle to settle: 2 or more")
        self._stages = stages
        self._init = init
        super().__init__(
            {"i": In(width), "o": Out(width, init=init)},
            macro_name=f"synchroniser_{width}x{stages}" + (f"_{init:x}" if init else ""),
        )

    def build(self, platform):
        m = Module()
        value = self.i
        for n in range(self._stages - 1):
            stage = Signal(len(self.i), init=self._init, name=f"stage_{n}")
            m.d.sync += stage.eq(value)
            value = stage
        m.d.sync += self.o.eq(value)
        return m


class Capture(Macro):
    """Register for a word that another clock holds still while it is taken.

    Parameters
    ----------
    width : :class:`int`, positive
        Bits.

    Members
    -------
    take : ``In(1)``
        From the register's own clock: ``i`` is stable, and has been for a period of either clock.
    i, o : ``In(width)``, ``Out(width)``
        The word; ``o`` from the cycle after ``take`` on.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is not positive.
    """

    def __init__(self, *, width):
        _check_width(width)
        super().__init__(
            {"take": In(1), "i": In(width), "o": Out(width)}, macro_name=f"capture_{width}"
        )

    def build(self, platform):
        m = Module()
        with m.If(self.take):
            m.d.sync += self.o.eq(self.i)
        return m


class WordCrossing(wiring.Component):
    """A word at a time from one clock to another, with four phases.

    The source holds the word and raises a request until it sees it acknowledged, then lowers it
    until the acknowledgement has gone. The request is a level, so a reset of either side alone can
    repeat the word under way, or lose it, but makes no word of its own.

    Domains are ``source`` and ``target``; the parent renames them.

    Parameters
    ----------
    width : :class:`int`, positive
        Bits of a word.

    Members
    -------
    i : ``In(stream.Signature(width))``
        Words, in the source's domain. Not ready while one is under way: at most
        ``6 + 6 * target period / source period`` cycles.
    o : ``Out(width)``
        The last word that arrived.
    arrived : ``Out(1)``
        For one cycle of the target: ``o`` is a new one.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is not positive.
    """

    #: Cycles of the target from a request's change to ``arrived``, at most: two registers of the
    #: synchroniser, of which the first may miss the change by a moment, and the word's own.
    LATENCY = 4

    def __init__(self, *, width):
        _check_width(width)
        super().__init__({
            "i": In(stream.Signature(width)),
            "o": Out(width),
            "arrived": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        requested, acknowledged = Synchroniser(), Synchroniser()
        word = Capture(width=len(self.o))
        m.submodules.requested = DomainRenamer("target")(requested)
        m.submodules.acknowledged = DomainRenamer("source")(acknowledged)
        m.submodules.word = DomainRenamer("target")(word)

        request, answer = Signal(), Signal()
        held = Signal(len(self.o), reset_less=True)
        m.d.comb += [
            requested.i.eq(request),
            acknowledged.i.eq(answer),
            self.i.ready.eq(~request & ~acknowledged.o),
            word.i.eq(held),
            word.take.eq(requested.o & ~answer),
            self.o.eq(word.o),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.source += [held.eq(self.i.payload), request.eq(1)]
        with m.Elif(acknowledged.o):
            m.d.source += request.eq(0)
        m.d.target += [answer.eq(requested.o), self.arrived.eq(word.take)]
        return m


class Queue(wiring.Component):
    """First in, first out, from one clock to another; pointers cross in Gray code.

    After C. E. Cummings, "Simulation and Synthesis Techniques for Asynchronous FIFO Design", SNUG
    2002, style 1. Both sides are to be reset together, by the target's reset, and the source's side
    without its clock: then a source whose clock stands still has no words, and a reset of the
    source's own logic moves no pointer.

    Domains are ``source`` and ``target``; the parent renames them.

    Parameters
    ----------
    width : :class:`int`, positive
        Bits of a word.
    depth : :class:`int`, power of two, at least 4
        Words.

    Members
    -------
    i : ``In(stream.Signature(width))``
        Words, in the source's domain.
    o : ``Out(stream.Signature(width))``
        The same words in the same order, in the target's domain; at most one in two cycles.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is not positive or ``depth`` is no power of two, or less than 4.
    """

    #: Cycles of the target from a pointer's change to the word on ``o``, at most.
    LATENCY = 4

    def __init__(self, *, width, depth=QUEUE_DEPTH):
        _check_width(width)
        if depth < 4 or depth & (depth - 1):
            raise ValueError(f"depth is {depth}; it must be a power of two, and 4 or more")
        self._width = width
        self._depth = depth
        super().__init__({
            "i": In(stream.Signature(width)),
            "o": Out(stream.Signature(width)),
        })

    def elaborate(self, platform):
        m = Module()
        bits = exact_log2(self._depth) + 1
        written, read = Synchroniser(width=bits), Synchroniser(width=bits)
        taken = Capture(width=self._width)
        m.submodules.written = DomainRenamer("target")(written)
        m.submodules.read = DomainRenamer("source")(read)
        m.submodules.taken = DomainRenamer("target")(taken)
        m.submodules.rows = rows = Memory(shape=self._width, depth=self._depth, init=[])
        row_in = rows.write_port(domain="source")
        row_out = rows.read_port(domain="comb")

        head, head_gray = Signal(bits), Signal(bits)
        next_head = Signal(bits)
        m.d.comb += [
            # Full: the pointers are all rows apart, which in Gray code is the two top bits.
            self.i.ready.eq(head_gray != (read.o ^ (0b11 << bits - 2))),
            row_in.en.eq(self.i.valid & self.i.ready),
            row_in.addr.eq(head),
            row_in.data.eq(self.i.payload),
            next_head.eq(head + row_in.en),
            written.i.eq(head_gray),
        ]
        m.d.source += [head.eq(next_head), head_gray.eq(next_head ^ next_head >> 1)]

        tail, tail_gray = Signal(bits), Signal(bits)
        next_tail = Signal(bits)
        m.d.comb += [
            taken.take.eq((written.o != tail_gray) & ~self.o.valid),
            row_out.addr.eq(tail),
            taken.i.eq(row_out.data),
            next_tail.eq(tail + taken.take),
            read.i.eq(tail_gray),
            self.o.payload.eq(taken.o),
        ]
        m.d.target += [tail.eq(next_tail), tail_gray.eq(next_tail ^ next_tail >> 1)]
        with m.If(taken.take):
            m.d.target += self.o.valid.eq(1)
        with m.Elif(self.o.ready):
            m.d.target += self.o.valid.eq(0)
        return m


def _check_width(width):
    if width < 1:
        raise ValueError(f"width is {width}; there is at least one bit to cross")
