"""The time-triggered sequencer."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ..fabric.ring import after
from ..memory.sram import Sram
from ..platform import Macro
from ..vector.layouts import NormProfileLayout
from .isa import (
    ADDS,
    ARGUMENTS,
    LAYOUTS,
    NO_CHECK,
    OPERANDS,
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


#: Cycles from an address of the program memory to its word.
_READ = Sram.READ_LATENCY


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
        Words of the program memory, an :class:`~jepa_r.memory.sram.Sram`.
    queue : :class:`int`
        Operations that wait for each engine.
    pointers : :class:`int`
        Pointers that there are, a power of two. The last two are those of :data:`~.isa.ARGUMENTS`;
        words name them by all their bits, of which the lowest count.

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

    #: Cycles between two words: its pointers are chosen, added, and it is executed.
    WORD_CYCLES = 3
    #: Cycles between the two words around an END that jumps back.
    JUMP_CYCLES = 2 * WORD_CYCLES + _READ
    #: Time at which the first word is executed, and from there to the head of an engine's queue.
    FIRST_CYCLES = WORD_CYCLES + _READ
    QUEUE_CYCLES = 3

    #: Words asked for and not taken: the place of one is free in the cycle after it was taken.
    _AHEAD = -(-(_READ + 1) // WORD_CYCLES)

    def __init__(self, *, program_words, queue, pointers):
        self._queue = queue
        self._pointers = pointers
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
            macro_name=f"sequencer_{program_words}x{queue}_{pointers}",
        )

    def build(self, platform):
        m = Module()

        time = Signal(32)  # start of the last operation met
        due = Signal(32, reset_less=True)  # of the one being executed
        word = Signal(WORD_BITS)
        pc = Signal.like(self.program_addr)
        header = data.View(LAYOUTS[Control.HALT], word[: LAYOUTS[Control.HALT].size])

        # Time, and what may hold it.
        # Wide enough for the reader's queue and what it has ended but not yet told.
        in_flight = Signal(NO_CHECK.bit_length() + 2)
        hold = Signal()
        late = Signal()
        passes = Signal()
        following = Signal(32)  # the cycle after this one
        m.d.comb += passes.eq(self.running & ~self.stop & (self.fault == Fault.NONE))
        with m.If(passes):
            with m.If(~hold):
                m.d.sync += [self.cycles.eq(following), following.eq(following + 1)]
            with m.Else():
                m.d.sync += self.slipped.eq(self.slipped + 1)

        m.d.sync += in_flight.eq(in_flight + self.read_start - self.read_completed)

        # Whether what is due starts is known late in a cycle, so what the next one needs is made
        # for both cases, and chosen from there by a register.
        started = Signal()
        if_none = Signal.like(in_flight)
        if_started = Signal.like(in_flight)
        m.d.comb += if_none.eq(in_flight - self.read_completed)

        def arrived(asked, under_way):
            """Whether no more transfers are under way than an operation allows."""
            return (asked == NO_CHECK) | (under_way <= asked)

        # The queues: each fires on its own when its head's cycle has come. Behind each is the head,
        # which is compared with the time a cycle before it may start.
        pushes = {}
        starved, missed, waiting = [], [], []
        late_data = Signal()
        full = {"read": self.read_full, "move": self.move_full}
        for name, engine in _ENGINES.items():
            layout = LAYOUTS[engine]
            fifo = SyncFIFOBuffered(width=32 + layout.size, depth=self._queue - 1)
            m.submodules[f"{name}_queue"] = fifo
            head = Signal(32 + layout.size, reset_less=True, name=f"{name}_head")
            valid = Signal(name=f"{name}_valid")
            now = Signal(name=f"{name}_now")
            past = Signal(name=f"{name}_past")
            ready = Signal(name=f"{name}_ready")
            ready_if_none = Signal(name=f"{name}_ready_if_none")
            ready_if_started = Signal(name=f"{name}_ready_if_started")
            operation = data.View(layout, head[32:])
            behind = data.View(layout, fifo.r_data[32:])
            begin = getattr(self, f"{name}_start")
            if engine == Engine.READ:
                m.d.comb += if_started.eq(if_none + now)
            m.d.sync += [
                ready_if_none.eq(
                    arrived(Mux(valid, operation.in_flight, behind.in_flight), if_none)
                ),
                ready_if_started.eq(
                    arrived(Mux(valid & ~now, operation.in_flight, behind.in_flight), if_started)
                ),
            ]
            m.d.comb += [
                ready.eq(Mux(started, ready_if_started, ready_if_none) & ~full.get(name, C(0))),
                # Whatever starts in one cycle starts together, when time stands still as well.
                begin.eq(now & ~late_data & ~self.stop),
                fifo.r_en.eq(begin | ~valid),
                getattr(self, name).eq(operation),
            ]  # fmt: skip
            due_now, due_next = (
                Mux(
                    fifo.r_en,
                    fifo.r_rdy & (fifo.r_data[:32] == moment),
                    valid & (head[:32] == moment),
                )
                for moment in (self.cycles, following)
            )
            m.d.sync += [
                now.eq(self.running & Mux(passes & ~hold, due_next, due_now)),
                past.eq(valid & self.running & (head[:32] - self.cycles)[31]),
            ]
            with m.If(fifo.r_en):
                m.d.sync += [valid.eq(fifo.r_rdy), head.eq(fifo.r_data)]
            starved.append(now & ~ready)
            missed.append(past)
            waiting += [valid, fifo.r_rdy]
            pushes[engine] = fifo

        m.d.sync += started.eq(~late_data & ~self.stop)

        loop_start = Array(Signal.like(pc, name=f"loop_start_{n}") for n in range(LOOP_DEPTH))
        loop_count = Array(Signal(16, name=f"loop_count_{n}") for n in range(LOOP_DEPTH))
        depth = Signal(range(LOOP_DEPTH + 1))
        top = Signal(range(LOOP_DEPTH))
        m.d.comb += top.eq(depth - 1)

        opcode_fault = Signal()
        unfinished = Signal()
        idle, take, jump = Signal(), Signal(), Signal()
        # What an END needs; loops change when a word is executed, two cycles before the next.
        loops = data.StructLayout({"last": 1, "none": 1, "full": 1, "start": len(pc), "left": 16})
        loop = Signal(loops, reset_less=True)
        m.d.sync += [
            loop.last.eq(loop_count[top] == 1),
            loop.none.eq(depth == 0),
            loop.full.eq(depth == LOOP_DEPTH),
            loop.start.eq(loop_start[top]),
            loop.left.eq(loop_count[top] - 1),
        ]
        next_word, next_ready = self._read_ahead(m, idle, take, jump, loop.start)
        # Whether the next word may follow is one thing, and whether it is there another: both are
        # known late, and meet in one place.
        may_take = Signal()
        m.d.comb += take.eq(may_take & next_ready)
        with m.If(take):
            m.d.sync += word.eq(next_word)
        pointers, sums, names = self._point(m, word, header, time, due)

        def advance():
            """Take the word that was read ahead, if it is there."""
            m.d.comb += may_take.eq(1)
            with m.If(next_ready):
                m.d.sync += pc.eq(pc + 1)
                m.next = "POINT"

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                # All that nobody sees is ready for a start before it comes.
                m.d.sync += [time.eq(0), pc.eq(0), depth.eq(0)]
                m.d.sync += [pointer.eq(0) for pointer in pointers[1:]]
                for n, argument in zip(ARGUMENTS, self.arguments, strict=True):
                    m.d.sync += pointers[n % len(pointers)].eq(argument)
                with m.If(self.start):
                    m.d.sync += [
                        self.running.eq(1), self.done.eq(0), self.cycles.eq(0),
                        following.eq(1), self.slipped.eq(0),
                    ]  # fmt: skip
                    m.next = "ARRIVE"
            with m.State("ARRIVE"):
                m.d.comb += may_take.eq(1)
                with m.If(next_ready):
                    m.next = "POINT"
            with m.State("POINT"):
                m.next = "ADD"
            with m.State("ADD"):
                m.next = "EXECUTE"
            with m.State("EXECUTE"):
                with m.Switch(header.engine):
                    for engine, fifo in pushes.items():
                        layout = LAYOUTS[engine]
                        operation = Signal(layout, name=f"operation_{engine.name.lower()}")
                        m.d.comb += [
                            operation.eq(data.View(layout, word[: layout.size])),
                            *(
                                operation[address].eq(total)
                                for (address, _), total in zip(OPERANDS[engine], sums, strict=False)
                            ),
                            fifo.w_data.eq(Cat(due, operation)),
                        ]
                        with m.Case(engine):
                            m.d.comb += fifo.w_en.eq(next_ready)
                            with m.If(fifo.w_rdy):
                                with m.If(next_ready):
                                    m.d.sync += time.eq(due)
                                advance()
                    with m.Case(Engine.CONTROL):
                        self._control(
                            m, word, time, due, pointers, sums, names, advance, next_ready,
                            (loop_start, loop_count, depth, top), loop, pc, jump, opcode_fault,
                        )  # fmt: skip
                    with m.Default():
                        m.d.comb += opcode_fault.eq(1)
                        m.next = "STOPPED"
            with m.State("HALT"):
                # Everything asked for must have happened by the program's last cycle.
                past_end = Signal()
                m.d.sync += past_end.eq((due - self.cycles)[31])
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

    def _read_ahead(self, m, idle, take, jump, target):
        """Words in the program's order, asked for before they are taken.

        Returns the next one, and whether it is there. Enough are on their way that one is there
        :attr:`WORD_CYCLES` after the one before it. They wait in a ring, whose places are written
        whenever a word comes, without a look at what is taken in that cycle.
        """
        most = self._AHEAD
        asks = Signal.like(self.program_addr, name="ask_pc")
        places = Signal(range(most + 1))
        coming = Signal(_READ)
        level = Signal(range(most + 1), name="ahead_level")
        ahead = Array(Signal(WORD_BITS, reset_less=True, name=f"ahead_{n}") for n in range(most))
        first, free = Signal(range(most)), Signal(range(most))
        arrives = coming[-1]
        m.d.comb += [
            self.program_en.eq(self.running & (jump | (places != 0))),
            self.program_addr.eq(Mux(jump, target, asks)),
        ]
        m.d.sync += [
            coming.eq(Cat(self.program_en, coming[: _READ - 1] & ~jump.replicate(_READ - 1))),
            level.eq(level + arrives - take),
            places.eq(places - self.program_en + take),
        ]
        with m.If(self.program_en):
            m.d.sync += asks.eq(self.program_addr + 1)
        with m.If(arrives):
            m.d.sync += [ahead[free].eq(self.program_data), free.eq(after(free, most))]
        with m.If(take):
            m.d.sync += first.eq(after(first, most))
        with m.If(jump):
            m.d.sync += [level.eq(0), first.eq(0), free.eq(0), places.eq(most - 1)]
        with m.If(idle):
            m.d.sync += [
                level.eq(0), first.eq(0), free.eq(0), places.eq(most), coming.eq(0), asks.eq(0),
            ]  # fmt: skip
        there = level.any()
        return Mux(there, ahead[first], self.program_data), there | arrives

    def _point(self, m, word, header, time, due):
        """Pointers, and the sums of a word's operands and theirs.

        In the first cycle of a word the pointers are chosen, in the next they are added. A word
        that changes pointers has its new values from the same sums.
        """
        pointers = [
            C(0, 32),
            *(Signal(32, name=f"pointer_{n}") for n in range(1, self._pointers)),
        ]
        table = Array(pointers)
        pairs = {engine: self._operands(engine, word) for engine in OPERANDS}
        adds = data.View(LAYOUTS[Control.ADD], word[: LAYOUTS[Control.ADD].size]).adds
        pairs[Engine.CONTROL] = [(adds[n].value, adds[n].ptr) for n in range(ADDS)]
        sums = []
        for n in range(ADDS):
            which = Signal(range(self._pointers), name=f"which_{n}")
            given = Signal(32, name=f"given_{n}")
            addend = Signal(32, reset_less=True, name=f"addend_{n}")
            operand = Signal(32, reset_less=True, name=f"operand_{n}")
            total = Signal(32, reset_less=True, name=f"sum_{n}")
            with m.Switch(header.engine):
                for engine, operands in pairs.items():
                    if n < len(operands):
                        with m.Case(engine):
                            m.d.comb += [given.eq(operands[n][0]), which.eq(operands[n][1])]
            m.d.sync += [
                addend.eq(table[which]),
                operand.eq(given),
                total.eq(operand + addend),
            ]
            sums.append(total)
        m.d.sync += due.eq(time + header.wait)
        # Which of the sums are for each pointer, if the word is one that changes them.
        names = [Signal(ADDS, name=f"names_{n}") for n in range(1, len(pointers))]
        for n, named in enumerate(names, 1):
            m.d.sync += named.eq(Cat(add.ptr % len(pointers) == n for add in adds))
        return pointers, sums, names

    @staticmethod
    def _operands(engine, word):
        """Each operand of an engine's word that has a pointer, and the pointer's number."""
        view = data.View(LAYOUTS[engine], word[: LAYOUTS[engine].size])
        return [(view[address], view[pointer]) for address, pointer in OPERANDS[engine]]

    def _control(
        self, m, word, time, due, pointers, sums, names, advance, next_ready, loops, loop, pc,
        jump, opcode_fault,
    ):  # fmt: skip
        """Words that start no engine."""
        loop_start, loop_count, depth, top = loops

        def view(control):
            return data.View(LAYOUTS[control], word[: LAYOUTS[control].size])

        with m.Switch(view(Control.HALT).control):
            with m.Case(Control.HALT):
                m.next = "HALT"
            with m.Case(Control.LOOP):
                with m.If(loop.full | (view(Control.LOOP).count == 0)):
                    m.d.comb += opcode_fault.eq(1)
                    m.next = "STOPPED"
                with m.Else():
                    with m.If(next_ready):
                        m.d.sync += [
                            loop_start[depth].eq(pc + 1),
                            loop_count[depth].eq(view(Control.LOOP).count),
                            depth.eq(depth + 1),
                            time.eq(due),
                        ]
                    advance()
            with m.Case(Control.END):
                with m.If(loop.none):
                    m.d.comb += opcode_fault.eq(1)
                    m.next = "STOPPED"
                with m.Elif(loop.last):
                    with m.If(next_ready):
                        m.d.sync += depth.eq(top)
                    advance()
                with m.Else():
                    m.d.comb += jump.eq(1)
                    m.d.sync += [
                        loop_count[top].eq(loop.left),
                        time.eq(due),
                        pc.eq(loop.start),
                    ]
                    m.next = "ARRIVE"
            with m.Case(Control.ADD):
                with m.If(next_ready):
                    for pointer, named in zip(pointers[1:], names, strict=True):
                        # The compiler names a pointer at most once in a word.
                        for i in range(ADDS):
                            with m.If(named[i]):
                                m.d.sync += pointer.eq(sums[i])
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
