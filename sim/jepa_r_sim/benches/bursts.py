"""cocotb bench of :class:`jepa_r.dma.bursts.BurstPlanner`.

Parameters: ``beats_width`` of the blocks; ``runs``, each with ``blocks`` (fields in their order),
``windows`` (base and limit of each), ``bursts`` (how many must come), ``fault`` (whether it must
then stop) and ``pause`` (probabilities that blocks and bursts wait a cycle). Reports for each
run the ``bursts`` as (address, beats), and ``taken``, the cycles in which they were, counted from
the first block.
"""

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from jepa_r.dma.bursts import Block, Burst
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import StreamSink, StreamSource, pack, start
from jepa_r_sim.drivers.stream import randomly

#: Cycles in which nothing must follow.
QUIET = 60


async def note_transfers(dut, name, cycles):
    """Append the cycles in which a stream transfers something."""
    valid, ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
    cycle = 0
    while True:
        await RisingEdge(dut.clk)
        if valid.value and ready.value:
            cycles.append(cycle)
        cycle += 1


async def plan(dut, widths, run):
    """Reset, plan all blocks, and see that nothing follows."""
    dut.windows.value = pack([edge for window in run["windows"] for edge in window], [32] * 8)
    source = StreamSource(dut, "i", pause=randomly(run["pause"][0], seed=1))
    sink = StreamSink(dut, "o", pause=randomly(run["pause"][1], seed=2))
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    taken, came = [], []
    tasks = [
        cocotb.start_soon(note_transfers(dut, "i", taken)),
        cocotb.start_soon(note_transfers(dut, "o", came)),
        cocotb.start_soon(source.send(pack(block, widths) for block in run["blocks"])),
    ]
    words = await sink.receive(run["bursts"])
    dut.o__ready.value = 1
    for cycle in range(QUIET):
        await FallingEdge(dut.clk)
        assert not dut.o__valid.value, f"burst {run['bursts']} was not asked for"
        assert bool(dut.fault.value) <= run["fault"], "fault without a reason"
        if run["fault"] and cycle > QUIET // 2:
            assert dut.fault.value, "the fault did not come, or did not stay"
            assert not dut.i__ready.value, "a block was taken after a fault"
    assert run["fault"] or len(taken) == len(run["blocks"])
    for task in tasks:
        task.cancel()
    layout = Burst()
    fields = [(slot.offset, (1 << slot.width) - 1) for _name, slot in layout]
    return {
        "bursts": [[word >> offset & mask for offset, mask in fields] for word in words],
        "taken": [cycle - taken[0] for cycle in came],
    }


@cocotb.test()
async def blocks(dut):
    """Plan everything that is asked for; the caller judges."""
    given = parameters()
    widths = [slot.width for _name, slot in Block(beats_width=given["beats_width"])]
    dut.i__valid.value = dut.o__ready.value = 0
    await start(dut)
    report(runs=[await plan(dut, widths, run) for run in given["runs"]])
