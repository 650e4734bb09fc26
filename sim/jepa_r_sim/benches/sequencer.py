"""cocotb bench of :class:`jepa_r.cluster.sequencer.Sequencer`: plays programs and notes the starts.

Parameters: ``runs``, each with ``words`` (the program), ``limit`` (most cycles) and, if wanted,
``elastic``, ``arrivals`` (cycles since the start, however long time stands still, in which a
transfer is complete) and ``moves`` (pairs of cycles between which a move is under way). Reports for
each run: ``starts`` as (time, name of the engine, operands by name), ``faults`` as (time, name),
``done``, ``cycles``, ``slipped`` and the ``profiles`` at its end.
"""

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from jepa_r.cluster.isa import LAYOUTS, WORD_BITS, Engine, Fault
from jepa_r.memory.sram import Sram
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start

#: Cycles from an address to a word of the program memory.
READ_LATENCY = Sram.READ_LATENCY

#: What the program memory gives when nothing was asked for.
NOTHING = (1 << WORD_BITS) - 1

ENGINES = {
    "tile": Engine.TILE,
    "vector": Engine.VECTOR,
    "read": Engine.READ,
    "move": Engine.MOVE,
}  # fmt: skip


def operands(layout, word):
    """Fields of an operation, without those that the sequencer itself uses up."""
    return {
        name: word >> slot.offset & (1 << slot.width) - 1
        for name, slot in layout
        if name not in ("engine", "wait", "in_flight") and not name.endswith("_ptr")
    }


async def play(dut, words, limit, *, elastic=False, arrivals=(), moves=()):
    """Run a program from reset to its end, a fault, or the limit."""
    for port in (dut.start, dut.stop, dut.read_full, dut.move_full, dut.read_completed,
                 dut.moves_busy, dut.program_data):  # fmt: skip
        port.value = 0
    dut.elastic.value = elastic
    dut.arguments.value = 0
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0

    starts, faults, coming, held = [], [], [None] * (READ_LATENCY - 1), None
    begins = {name: getattr(dut, f"{name}_start") for name in ENGINES}
    due, busy = set(arrivals), {n for first, last in moves for n in range(first, last)}
    completed = moving = stopped = False
    for cycle in range(limit):
        # Few ports change, and each access takes time: only changes are written.
        if (cycle in due) != completed:
            completed = not completed
            dut.read_completed.value = completed
        if (cycle in busy) != moving:
            moving = not moving
            dut.moves_busy.value = moving
        await ReadOnly()
        for name, begin in begins.items():
            if begin.value:
                word = getattr(dut, name).value.to_unsigned()
                layout = LAYOUTS[ENGINES[name]]
                starts.append((int(dut.cycles.value), name, operands(layout, word)))
        if fault := int(dut.fault.value):
            faults.append((int(dut.cycles.value), Fault(fault).name))
        coming.append(int(dut.program_addr.value) if dut.program_en.value else None)
        if not dut.running.value:
            break
        await FallingEdge(dut.clk)
        if faults and not stopped:
            stopped = True
            dut.stop.value = 1
        if (address := coming.pop(0)) != held:
            held = address
            # Past the cycle in which it is due, a word is gone.
            dut.program_data.value = NOTHING if address is None else words[address % len(words)]
    return {
        "starts": starts,
        "faults": faults,
        "done": bool(dut.done.value),
        "cycles": int(dut.cycles.value),
        "slipped": int(dut.slipped.value),
        "profiles": dut.profiles.value.to_unsigned(),
    }


@cocotb.test()
async def programs(dut):
    """Play everything that is asked for; the caller judges."""
    dut.start.value = 0
    await start(dut)
    results = []
    for run in parameters()["runs"]:
        results.append(await play(dut, **run))
        await FallingEdge(dut.clk)
    report(runs=results)
