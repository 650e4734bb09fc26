"""cocotb bench of :class:`jepa_r.cluster.cluster.Cluster`: programs from a memory image.

Parameters: ``contract`` (fields of the memory contract), ``image`` (file with the memory's contents
from address 0), ``program`` (address), ``limit`` (most cycles of a run), ``output`` (first address
and length of what is kept), and ``runs``: for each a ``mode`` of the memory as constructor calls,
``patches`` (bytes, in hexadecimal, by address), ``elastic``, ``windows`` (pairs of the first
address that may be used and the one behind the last) and ``inject`` (bits to flip, first cycle of
the run, number of cycles), ``arguments``, ``feed`` (mask of tiles, address, word in hexadecimal),
``load`` (fetch the program first, then feed and run it) and ``again`` (feed and run what the run
before fetched, without a reset). ``progress``, if it is there, is a file and a number of cycles
after which the cycles of the run are written to it, again and again. Each run leaves
``output_<n>.bin``, ``stored_<n>.json`` (what it moved to the latent store, by address) and a line
of the report.
"""

import json
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer, ValueChange
from cocotb.utils import get_sim_time

from jepa_r.cluster.isa import Fault
from jepa_r.config import MemoryContract
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.memory import Memory, Mode

#: Period of the clock, in nanoseconds.
PERIOD = 10


def pack_windows(pairs):
    """Value of the ``windows`` port: each has its base in the low half."""
    return sum((base | limit << 32) << (64 * n) for n, (base, limit) in enumerate(pairs))


async def flip_bits(dut, bits, first, cycles):
    """Flip bits of what is written to activation memories in some cycles of the run."""
    await RisingEdge(dut.running)
    for value, wait in ((bits, first), (0, cycles)):
        if wait:
            await Timer(wait * PERIOD, "ns")
        await FallingEdge(dut.clk)
        dut.inject.value = value


async def collect(dut, stored):
    """Note what is moved to the latent store."""
    while True:
        await RisingEdge(dut.latent_en)
        while True:
            await FallingEdge(dut.clk)
            if not dut.latent_en.value:
                break
            stored[dut.latent_addr.value.to_unsigned()] = hex(dut.latent_data.value.to_unsigned())


async def tell(dut, path, every):
    """Write now and then how many cycles of the run have passed."""
    if not dut.running.value:
        await RisingEdge(dut.running)
    cycles = 0
    while True:
        await Timer(every * PERIOD, "ns")
        cycles += every
        Path(path).write_text(str(cycles))


async def feed(dut, words):
    """Write words of ACT, one a cycle."""
    for tiles, address, word in words:
        dut.feed_en.value = 1
        dut.feed_tiles.value = tiles
        dut.feed_addr.value = address
        dut.feed_data.value = int(word, 16)
        await FallingEdge(dut.clk)
    dut.feed_en.value = 0


async def prepare(dut, memory, given, run):
    """Reset the cluster; returns when it is ready."""
    dut.rst.value = 1
    for port in (dut.start, dut.load, dut.again, dut.arguments, dut.feed_en, dut.feed_tiles,
                 dut.feed_addr, dut.feed_data):  # fmt: skip
        port.value = 0
    dut.elastic.value = int(run.get("elastic", False))
    dut.inject.value = 0
    dut.program_address.value = given["program"]
    dut.windows.value = pack_windows(run.get("windows", [(0, (1 << 32) - 1)]))
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    memory.restart(mode=Mode.made_by(run.get("mode", [["worst"]])))
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    if not dut.ready.value:
        await RisingEdge(dut.ready)
    await FallingEdge(dut.clk)


async def run_once(dut, memory, given, run):
    """Boot and run, or run again; returns what the cluster says at the end."""
    if run.get("again"):
        memory.restart(mode=Mode.made_by(run.get("mode", [["worst"]])))
        await FallingEdge(dut.clk)
    else:
        await prepare(dut, memory, given, run)
    first, second = run.get("arguments", (0, 0))
    dut.arguments.value = first | second << 32
    begin = dut.again if run.get("again") else dut.start
    if run.get("load"):
        # Fetch first, so that feeding and running are apart from it.
        dut.load.value = 1
        await FallingEdge(dut.clk)
        dut.load.value = 0
        await First(RisingEdge(dut.loaded), ValueChange(dut.fault))
        begin = dut.again
        await FallingEdge(dut.clk)
    await feed(dut, run.get("feed", ()))
    begin.value = 1
    await FallingEdge(dut.clk)
    begin.value = 0

    injecting = cocotb.start_soon(flip_bits(dut, *run.get("inject", (0, 0, 0))))
    telling = cocotb.start_soon(tell(dut, *given["progress"])) if "progress" in given else None
    limit = Timer(given["limit"] * PERIOD, "ns")
    # A program that is there already runs from the clock edge before this one on.
    began = get_sim_time("ns") - PERIOD // 2 if dut.running.value else None
    while True:
        event = await First(ValueChange(dut.running), ValueChange(dut.fault), limit)
        now = get_sim_time("ns")
        if event is limit or dut.fault.value.to_unsigned():
            break
        if dut.running.value:
            began = now
        else:
            break
    cycles = 0 if began is None else round((now - began) / PERIOD)
    injecting.cancel()
    if telling is not None:
        telling.cancel()
    dut.inject.value = 0
    return {
        "done": bool(dut.done.value),
        "fault": Fault(dut.fault.value.to_unsigned()).name,
        "cycles": cycles,
        "slipped": dut.slipped.value.to_unsigned(),
        "corrected": dut.corrected.value.to_unsigned(),
        "distances": dut.distances.value.to_unsigned(),
        "read_bursts": len(memory.read_bursts),
        "read_bytes": sum(count for _cycle, _address, count in memory.read_bursts),
    }


@cocotb.test()
async def programs(dut):
    """Run everything that is asked for; the caller judges."""
    given = parameters()
    image = Path(given["image"]).read_bytes()
    contents = bytearray(image)
    dut.rst.value = 1
    dut.start.value = 0
    Clock(dut.clk, PERIOD, "ns").start()
    memory = Memory(
        dut, "axi_", contract=MemoryContract(**given["contract"]), regions={0: contents},
        writes=True, period_ns=PERIOD,
    )  # fmt: skip
    first, length = given["output"]
    results = []
    stored = {}
    cocotb.start_soon(collect(dut, stored))
    for n, run in enumerate(given["runs"]):
        stored.clear()
        contents[:] = image
        for address, patch in run.get("patches", {}).items():
            raw = bytes.fromhex(patch)
            contents[int(address) : int(address) + len(raw)] = raw
        results.append(await run_once(dut, memory, given, run))
        Path(f"output_{n}.bin").write_bytes(contents[first : first + length])
        Path(f"stored_{n}.json").write_text(json.dumps(stored))
    report(runs=results)
