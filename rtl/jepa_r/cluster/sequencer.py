"""The time-triggered sequencer."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ..memory.sram import Sram
from ..platform import Macro
from ..vector.layouts import NormProfileLayout
from .isa import (
    ADDS,
    ARGUMENTS,
    LAYOUTS,
    NO_CHECK,
    OPERANDS,
    POINTERS,
    WORD_BITS,
    Control,
    Engine,
    Fault,
)  # fmt: skip

__all__ = ["LOOP_DEPTH", "Sequencer"]

#: Loops that may be nested.
LOOP_DEPTH = 6

_ENGINES = {
    "tile": Engine.TILE,
    "vector": Engine.VECTOR,
    "read": Engine.READ,
    "move": Engine.MOVE,
}


class Sequencer(Macro):
    """Starts every operation of a program in the cycle that the compiler gave it.

    Decoding runs ahead of time: a word takes :attr:`WORD_CYCLES`, a jump :attr:`JUMP_CYCLES`, and
    each engine has a queue of operations that wait for their cycle. The start cycle of an operation
    is the sum of the waits before it, so decoding never shows in the timing; an operation that is
    met too late for its cycle is a fault. This differs from a bundle of one wide word in that
    operations of one cycle stand in separate words: programs are denser, and what starts together
    is still exact.

    Memory is the one thing outside the schedule. An operation may ask that at most ``in_flight``
    transfers from memory are under way when it starts. If more are, the run ends with
    ``Fault.DEADLINE``; with ``elastic`` set, time stands still instead and the wait is counted. The
    same holds for a transfer or a move that finds its engine's queue full: late memory holds it up.

    Parameters
    ----------
    program_words : :class:`int`
        Words of the program memory, which has a read latency of two cycles.
    queue : :class:`int`
        Operations that wait for each engine.

    Members
    -------
    start : ``In(1)``
        Begin at word 0; time 0 is the next cycle.
    arguments : ``In(data.ArrayLayout(32, 2))``
        With ``start``: what the pointers :data:`~jepa_r.cluster.isa.ARGUMENTS` begin with.
    elastic : ``In(1)``
        Wait for late data and count, for bring-up.
    stop : ``In(1)``
        A fault elsewhere: start nothing any more.
    program_en, program_addr, program_data
        Read port of the program memory.
    tile, vector, read, move : ``Out(LAYOUTS[...])``
        Operands of the operation that starts, pointers added.
    tile_start, vector_start, read_start, move_start : ``Out(1)``
        In the cycle of the operation's start.
    read_full, move_full : ``In(1)``
        The engine cannot take one more.
    read_completed : ``In(1)``
        A transfer from memory has been written where it belongs.
    moves_busy : ``In(1)``
        A move is under way.
    profiles : ``Out(data.ArrayLayout(NormProfileLayout(), 4))``
        Constants of LayerNorms.
    running : ``Out(1)``
        From time 0 to the program's end.
    done : ``Out(1)``
        The program ended, and everything it wrote has arrived; held until ``start``.
    cycles : ``Out(32)``
        Time since the start, standing still after the end.
    slipped : ``Out(32)``
        Cycles that an elastic run waited for memory.
    fault : ``Out(Fault)``
        For one cycle, what went wrong.
    """

    #: Cycles between two words, and between the two around an END that jumps back.
    WORD_CYCLES = 1 + Sram.READ_LATENCY
    JUMP_CYCLES = WORD_CYCLES + 3 + Sram.READ_LATENCY
    #: Time at which the first word is executed, and from there to the head of an engine's queue.
    FIRST_CYCLES = 3 + Sram.READ_LATENCY
    QUEUE_CYCLES = 2

    def __init__(self, *, program_words, queue):
        self._queue = queue
        super().__init__(
            {
                "start": In(1),
                "arguments": In(data.ArrayLayout(32, len(ARGUMENTS))),
                "elastic": In(1),
                "stop": In(1),
                "program_en": Out(1),
                "program_addr": Out(range(program_words)),
                "program_data": In(WORD_BITS),
                "read_full": In(1),
                "move_full": In(1),
                "read_completed": In(1),
                "moves_busy": In(1),
                "profiles": Out(data.ArrayLayout(NormProfileLayout(), 4)),
                "running": Out(1),
                "done": Out(1),
                "cycles": Out(32),
                "slipped": Out(32),
                "fault": Out(Fault),
            }
            | {name: Out(LAYOUTS[engine]) for name, engine in _ENGINES.items()}
            | {f"{name}_start": Out(1) for name in _ENGINES},
            macro_name=f"sequencer_{program_words}x{queue}",
        )

    def build(self, platform):
        m = Module()

        time = Signal(32)  # start of the last operation met
        due = Signal(32)
        word = Signal(WORD_BITS)
        pc = Signal.like(self.program_addr)
        pointers = Array(Signal(32, name=f"pointer_{n}") for n in range(POINTERS))

        header = data.View(LAYOUTS[Control.HALT], word[: LAYOUTS[Control.HALT].size])
        m.d.comb += due.eq(time + header.wait)

        # Time, and what may hold it.
        # Wide enough for the reader's queue and what it has ended but not yet told.
        in_flight = Signal(NO_CHECK.bit_length() + 2)
        hold = Signal()
        late = Signal()
        with m.If(self.running & ~self.stop & (self.fault == Fault.NONE)):
            with m.If(~hold):
                m.d.sync += self.cycles.eq(self.cycles + 1)
            with m.Else():
                m.d.sync += self.slipped.eq(self.slipped + 1)

        m.d.sync += in_flight.eq(in_flight + self.read_start - self.read_completed)

        def arrived(asked):
            """Whether no more transfers are under way than an operation allows."""
            return (asked == NO_CHECK) | (in_flight <= asked)

        # The queues: each fires on its own when its head's cycle has come.
        pushes = {}
        starved, missed, waiting = [], [], []
        late_data = Signal()
        full = {"read": self.read_full, "move": self.move_full}
        for name, engine in _ENGINES.items():
            layout = LAYOUTS[engine]
            fifo = SyncFIFOBuffered(width=32 + layout.size, depth=self._queue)
            m.submodules[f"{name}_queue"] = fifo
            operation = data.View(layout, fifo.r_data[32:])
            now = Signal(name=f"{name}_now")
            past = Signal(name=f"{name}_past")
            ready = Signal(name=f"{name}_ready")
            begin = getattr(self, f"{name}_start")
            m.d.comb += [
                now.eq(fifo.r_rdy & self.running & (fifo.r_data[:32] == self.cycles)),
                past.eq(fifo.r_rdy & self.running & (fifo.r_data[:32] - self.cycles)[31]),
                ready.eq(arrived(operation.in_flight) & ~full.get(name, C(0))),
                # Whatever starts in one cycle starts together, when time stands still as well.
                begin.eq(now & ~late_data & ~self.stop),
                fifo.r_en.eq(begin),
                getattr(self, name).eq(operation),
            ]  # fmt: skip
            starved.append(now & ~ready)
            missed.append(past)
            waiting.append(fifo.r_rdy)
            pushes[engine] = fifo

        # Words, with the next one read ahead.
        resolved = {
            engine: Signal(LAYOUTS[engine].size, name=f"resolved_{name}")
            for name, engine in _ENGINES.items()
        }
        addends = [Signal(32, name=f"addend_{n}") for n in range(4)]
        for engine, operands in OPERANDS.items():
            view = data.View(LAYOUTS[engine], word[: LAYOUTS[engine].size])
            out = data.View(LAYOUTS[engine], resolved[engine])
            m.d.comb += resolved[engine].eq(view.as_value())
            for (address, _pointer), addend in zip(operands, addends, strict=False):
                m.d.comb += out[address].eq(view[address] + addend)

        loop_start = Array(Signal.like(pc, name=f"loop_start_{n}") for n in range(LOOP_DEPTH))
        loop_count = Array(Signal(16, name=f"loop_count_{n}") for n in range(LOOP_DEPTH))
        depth = Signal(range(LOOP_DEPTH + 1))
        top = Signal(range(LOOP_DEPTH))
        m.d.comb += top.eq(depth - 1)

        ahead = Signal(WORD_BITS)  # the next word, if it came while this one waits
        ahead_valid = Signal()
        ahead_due = Signal(Sram.READ_LATENCY)  # one bit a cycle of it
        opcode_fault = Signal()
        unfinished = Signal()
        flush = Signal()
        m.d.sync += ahead_due.eq(Mux(flush, 0, Cat(self.program_en, ahead_due)))
        next_word = Signal(WORD_BITS)
        next_ready = Signal()
        m.d.comb += [
            next_word.eq(Mux(ahead_valid, ahead, self.program_data)),
            next_ready.eq(ahead_valid | ahead_due[-1]),
        ]
        with m.If(ahead_due[-1] & ~ahead_valid):
            m.d.sync += [ahead.eq(self.program_data), ahead_valid.eq(1)]

        def advance():
            """Take the word that was read ahead."""
            m.d.sync += [word.eq(next_word), ahead_valid.eq(0), pc.eq(pc + 1)]
            m.next = "POINT"

        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [
                        self.running.eq(1), self.done.eq(0), self.cycles.eq(0),
                        self.slipped.eq(0), time.eq(0), pc.eq(0), depth.eq(0), ahead_valid.eq(0),
                    ]  # fmt: skip
                    m.d.sync += [
                        pointer.eq(self.arguments[ARGUMENTS.index(n)] if n in ARGUMENTS else 0)
                        for n, pointer in enumerate(pointers)
                    ]
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [self.program_en.eq(1), self.program_addr.eq(pc)]
                m.next = "ARRIVE"
            with m.State("ARRIVE"):
                with m.If(next_ready):
                    m.d.sync += [word.eq(next_word), ahead_valid.eq(0)]
                    m.next = "POINT"
            with m.State("POINT"):
                # Only the engine's own operand fields can be pointers; which engine is known here.
                with m.Switch(header.engine):
                    for engine, operands in OPERANDS.items():
                        view = data.View(LAYOUTS[engine], word[: LAYOUTS[engine].size])
                        with m.Case(engine):
                            for (_address, pointer), addend in zip(operands, addends, strict=False):
                                m.d.sync += addend.eq(
                                    Mux(view[pointer] == 0, 0, pointers[view[pointer]])
                                )
                m.d.comb += [self.program_en.eq(1), self.program_addr.eq(pc + 1)]
                m.next = "EXECUTE"
            with m.State("EXECUTE"):
                with m.Switch(header.engine):
                    for engine, fifo in pushes.items():
                        with m.Case(engine):
                            m.d.comb += [
                                fifo.w_data.eq(Cat(due, resolved[engine])),
                                fifo.w_en.eq(next_ready),
                            ]
                            with m.If(fifo.w_rdy & next_ready):
                                m.d.sync += time.eq(due)
                                advance()
                    with m.Case(Engine.CONTROL):
                        self._control(
                            m, word, header, time, due, pointers, advance, next_ready,
                            (loop_start, loop_count, depth, top), pc, flush, ahead_valid,
                            opcode_fault,
                        )  # fmt: skip
                    with m.Default():
                        m.d.comb += opcode_fault.eq(1)
                        m.next = "STOPPED"
            with m.State("HALT"):
                # Everything asked for must have happened by the program's last cycle.
                past_end = Signal()
                m.d.comb += past_end.eq((due - self.cycles)[31])
                missed.append(past_end)
                with m.If((self.cycles == due) & ~self.stop):
                    with m.If(~self.moves_busy & (in_flight == 0) & ~Cat(waiting).any()):
                        m.d.sync += [self.running.eq(0), self.done.eq(1)]
                        m.next = "IDLE"
                    with m.Else():
                        m.d.comb += unfinished.eq(1)
            with m.State("STOPPED"):
                pass
        del fsm

        starving = Signal()
        m.d.comb += [
            late.eq(Cat(missed).any()),
            late_data.eq(Cat(starved).any()),
            starving.eq(late_data | unfinished),
            hold.eq(starving & self.elastic),
        ]
        with m.If(self.running & ~self.stop):
            with m.If(opcode_fault):
                m.d.comb += self.fault.eq(Fault.OPCODE)
            with m.Elif(late):
                m.d.comb += self.fault.eq(Fault.LATE)
            with m.Elif(starving & ~self.elastic):
                m.d.comb += self.fault.eq(Fault.DEADLINE)
        return m

    def _control(
        self, m, word, header, time, due, pointers, advance, next_ready, loop, pc, flush,
        ahead_valid, opcode_fault,
    ):  # fmt: skip
        """Words that start no engine."""
        loop_start, loop_count, depth, top = loop

        def view(control):
            return data.View(LAYOUTS[control], word[: LAYOUTS[control].size])

        with m.Switch(view(Control.HALT).control):
            with m.Case(Control.HALT):
                m.next = "HALT"
            with m.Case(Control.LOOP):
                with m.If((depth == LOOP_DEPTH) | (view(Control.LOOP).count == 0)):
                    m.d.comb += opcode_fault.eq(1)
                    m.next = "STOPPED"
                with m.Elif(next_ready):
                    m.d.sync += [
                        loop_start[depth].eq(pc + 1),
                        loop_count[depth].eq(view(Control.LOOP).count),
                        depth.eq(depth + 1),
                        time.eq(due),
                    ]
                    advance()
            with m.Case(Control.END):
                with m.If(depth == 0):
                    m.d.comb += opcode_fault.eq(1)
                    m.next = "STOPPED"
                with m.Elif(loop_count[top] == 1):
                    with m.If(next_ready):
                        m.d.sync += depth.eq(top)
                        advance()
                with m.Else():
                    m.d.comb += flush.eq(1)
                    m.d.sync += [
                        loop_count[top].eq(loop_count[top] - 1),
                        time.eq(due),
                        pc.eq(loop_start[top]),
                        ahead_valid.eq(0),
                    ]
                    m.next = "FETCH"
            with m.Case(Control.ADD):
                with m.If(next_ready):
                    adds = view(Control.ADD).adds
                    for n in range(1, POINTERS):
                        # The compiler names a pointer at most once in a word.
                        for i in range(ADDS):
                            with m.If(adds[i].ptr == n):
                                m.d.sync += pointers[n].eq(pointers[n] + adds[i].value)
                    advance()
            with m.Case(Control.PROFILE):
                with m.If(next_ready):
                    profile = view(Control.PROFILE)
                    with m.Switch(profile.index):
                        for n in range(4):
                            with m.Case(n):
                                m.d.sync += [
                                    self.profiles[n][key].eq(profile[key])
                                    for key in NormProfileLayout().members
                                ]
                    advance()
            with m.Default():
                m.d.comb += opcode_fault.eq(1)
                m.next = "STOPPED"
